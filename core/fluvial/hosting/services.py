"""Services ``ledger`` and ``name``: what flows can ask the ledger of the peer that they are at."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final, Protocol

import msgspec

from fluvial.consensus.replica import Replica
from fluvial.effectors import U64, Effector, EffectorError, NoConfig, function
from fluvial.encoding import encode
from fluvial.errors import Refused
from fluvial.hosting.certified import CertifiedStates
from fluvial.identity import PeerId
from fluvial.ledger.genesis import ACCOUNTS, Account
from fluvial.ledger.light_client import prove_fact
from fluvial.ledger.names import NameRecord, resolve
from fluvial.ledger.state import Changes
from fluvial.ledger.transactions import TRANSACTION_BYTES_MAX, transaction_id
from fluvial.ports import View

IMPOSSIBLE: Final = 100
"""The status of a call whose arguments cannot be used."""
NOT_READY: Final = 101
"""The status of a call that came before the ledger has started, or before it has a block with a proof."""
REFUSED: Final = 102
"""The status of a transaction that the ledger does not take."""
TEXT_MAX: Final = 4 * (TRANSACTION_BYTES_MAX // 3 + 1)
"""Of a transaction in base64."""
UNKNOWN: Final = 404
"""The status of a name that nobody has."""


class LedgerHolder(Protocol):
    """What the services ask."""

    @property
    def replica(self) -> Replica | None:
        """Consensus and ledger; None before the start."""
        ...

    @property
    def certified(self) -> CertifiedStates:
        """States with proofs."""
        ...

    @property
    def outcomes(self) -> Mapping[bytes, tuple[int, str]]:
        """What became of transactions lately, by their ids: height, and why there was no effect."""
        ...

    def view(self) -> View:
        """The newest state."""
        ...

    async def submit(self, transaction: bytes) -> None:
        """Let a transaction wait for a block; raises Refused."""
        ...

    def inspect(self) -> dict[str, Any]:
        """Where it stands."""
        ...


class ValidatorView(msgspec.Struct, frozen=True):
    """Who decides, and with how many votes."""

    peer: str
    power: U64


class AccountView(msgspec.Struct, frozen=True):
    """What belongs to a key: the nonce of its next transaction, and its units."""

    nonce: U64
    balance: U64


class OutcomeView(msgspec.Struct, frozen=True):
    """What became of a transaction: the height of its block, and why its body had no effect, if so."""

    height: U64
    failed: str


class OffenceView(msgspec.Struct, frozen=True):
    """A validator that has cheated, and the evidence with its two signatures."""

    validator: str
    offence: str
    epoch: U64
    slot: U64
    evidence: str


class LedgerService(Effector[NoConfig]):
    """The ledger, as this peer holds it.

    Args:
        host: holds it.
    """

    service_id = "ledger"

    def __init__(self, host: LedgerHolder) -> None:
        super().__init__()
        self._host = host

    @function(inline=True)
    def status(self) -> dict[str, Any]:
        """Where the ledger of this peer stands.

        ``role`` is ``validator``, ``follower`` or ``silent``; ``transactions`` counts those executed since the start; ``block_ms`` is the median of how long the
        last blocks took from their proposal until they were final and durable here; ``alarmed`` says why the peer signs nothing any more;
        ``votes_from_epoch`` is the epoch in which a silent peer votes again.
        """
        _ready(self._host)
        return self._host.inspect()

    @function(inline=True)
    def validators(self) -> list[ValidatorView]:
        """Who decides about the next block."""
        return [ValidatorView(one.peer, one.power) for one in _ready(self._host).validators.members]

    @function(inline=True)
    def account(self, peer: PeerId) -> AccountView:
        """Units of a key, and the nonce of its next transaction, those that wait here included."""
        replica = _ready(self._host)
        found = Changes(replica.state).read(ACCOUNTS, peer.public_key, Account) or Account()
        return AccountView(replica.pool.next_nonce(peer.public_key, found.nonce), found.balance)

    @function(inline=True)
    def get(self, module: str, key: str) -> str | None:
        """The value of a key (hexadecimal) in base64; None if there is none."""
        _ready(self._host)
        value = self._host.view().get(module, _hex(key))
        return None if value is None else _text(value)

    @function(inline=True)
    def prove(self, module: str, key: str) -> str:
        """The value of a key (hexadecimal), or its absence, with all that convinces a stranger: a ``ProvenFact`` of ``fluvial.ledger.light_client``, base64."""
        _ready(self._host)
        found = self._host.certified.newest
        if found is None:
            raise EffectorError(NOT_READY, "the ledger has no block with a proof yet")
        return _text(encode(prove_fact(found.state, found.header, found.proof, module, _hex(key))))

    @function(inline=True)
    def epochs(self, first: U64) -> list[str]:
        """The steps from an epoch to later ones, at most 16: each a ``ProvenFact`` (base64) of who validates after that epoch, for ``LightClient.follow``."""
        return [_text(encode(one)) for one in _ready(self._host).shelf.steps_from(first)]

    @function(inline=True)
    def outcome(self, transaction: str) -> OutcomeView | None:
        """What became of a transaction, by its id (hexadecimal); None if it is not in one of the last blocks that were executed here."""
        found = self._host.outcomes.get(_hex(transaction))
        return None if found is None else OutcomeView(*found)

    @function
    async def submit(self, transaction: str) -> str:
        """Let a signed transaction (base64) wait for a block; returns its id, hexadecimal. It is no promise that it comes into one."""
        if len(transaction) > TEXT_MAX:  # megabytes would be decoded in one piece
            raise EffectorError(REFUSED, f"a transaction has at most {TRANSACTION_BYTES_MAX:,} bytes")
        try:
            data = base64.b64decode(transaction, validate=True)
        except binascii.Error as error:
            raise EffectorError(IMPOSSIBLE, f"this is no base64: {error}") from error
        try:
            await self._host.submit(data)
        except Refused as error:
            raise EffectorError(REFUSED, error.message) from error
        return transaction_id(data).hex()

    @function(inline=True)
    def offences(self) -> list[OffenceView]:
        """The validators that were caught, each with the evidence."""
        return [
            OffenceView(PeerId.from_public_key(one.offender), one.offence, one.epoch, one.slot, _text(encode(one)))
            for one in _ready(self._host).evidence.values()
        ]


class NameService(Effector[NoConfig]):
    """Global names.

    Args:
        host: holds the ledger.
    """

    service_id = "name"

    def __init__(self, host: LedgerHolder) -> None:
        super().__init__()
        self._host = host

    @function(inline=True)
    def resolve(self, name: str) -> str:
        """What a name stands for: a peer, a service, a flow, a key of the DHT; status 404 if nobody has it."""
        return self._record(name).target

    @function(inline=True)
    def owner(self, name: str) -> PeerId:
        """Whose name it is; status 404 if nobody has it."""
        return PeerId.from_public_key(self._record(name).owner)

    def _record(self, name: str) -> NameRecord:
        replica = _ready(self._host)
        record = resolve(replica.state, name, replica.chain.tip.height)
        if record is None:
            raise EffectorError(UNKNOWN, f"nobody has the name {name[:80]!r}")
        return record


def _ready(host: LedgerHolder) -> Replica:
    if host.replica is None:
        raise EffectorError(NOT_READY, "the ledger has not started yet")
    return host.replica


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise EffectorError(IMPOSSIBLE, f"{text[:80]!r} is not hexadecimal") from error


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
