"""Peers of the DHT that run a modified routing: what they answer in place of the truth.

As a plugin of a process (``from tests.support.dht_lies import fluvial_register``) the liar looks at each request into the file ``lie`` of its folder for the
name of the lie, and perhaps an argument; the plugin of a test, :class:`Liars`, is given the lie.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any, Final, TypeAlias

import anyio
from fluvial.addresses import Address, Contact
from fluvial.hooks import hookimpl
from fluvial.identity import KeyPair, PeerId
from fluvial.offers import Registry
from fluvial.ports import Context
from fluvial_dht_kademlia import wire
from fluvial_dht_kademlia.machine import messages
from fluvial_dht_kademlia.machine.challenges import Challenge, open_challenge
from fluvial_dht_kademlia.machine.keyspace import Key, key_bytes, peer_key
from fluvial_dht_kademlia.machine.messages import DhtAnswer, DhtRequest
from fluvial_dht_kademlia.machine.records import ProviderRecord, RecordFields, sign_record
from fluvial_dht_kademlia.plugin import TABLES
from fluvial_dht_kademlia.shell.options import KademliaOptions
from fluvial_dht_kademlia.shell.routing import KademliaRouting

HOUR_MS: Final = 3_600_000
SLOW_S: Final = 2.5
"""Below the time-out of a request: a slow answer is an answer."""
INVENTED: Final = 30
FOREIGN: Final = open_challenge("topic:another")

Lie: TypeAlias = Callable[[DhtRequest, "LyingRouting"], Awaitable[DhtAnswer | None]]
"""The answer of a liar; None for silence."""


class LyingRouting(KademliaRouting):
    """Joins as everybody does, and lies in its answers.

    Attributes:
        argument: of the lie.
        honest: what its machine has answered.
        first: the first record that it was offered of each provider at each key.
        accomplices: where the others are, if it knows any.
    """

    def __init__(self, context: Context, options: KademliaOptions, choose: Callable[[], tuple[Lie, str]]) -> None:
        super().__init__(context, options)
        self._choose = choose
        self.argument = ""
        self.honest: DhtAnswer = messages.Pong()
        self.first: dict[tuple[bytes, PeerId], ProviderRecord] = {}
        self.accomplices: list[Contact] = []
        self.rng = Random(7)
        self.keys: Final = context.keys
        self.network: Final = context.network

    @property
    def now_ms(self) -> int:
        return self._clock.now_ms()

    async def _answer(self, sender: PeerId, payload: bytes) -> bytes:
        honest = wire.decode_answer(await super()._answer(sender, payload))
        request = wire.decode_request(payload)
        if isinstance(request, messages.AddProvider):
            record = request.record
            self.first.setdefault((record.fields.key, record.provider), record)
        lie, self.argument = self._choose()
        self.honest = honest
        answer = await lie(request, self)
        if answer is None:
            await anyio.sleep_forever()
        assert answer is not None
        return wire.encode_answer(answer)


class Liars:
    """The plugin of a test that offers them as the routing ``liar``; they know each other."""

    def __init__(self, lie: Lie) -> None:
        self._lie = lie
        self.accomplices: list[Contact] = []

    @hookimpl
    def fluvial_register(self, registry: Registry) -> None:
        registry.routing("liar", self._build, options=KademliaOptions, tables=TABLES)

    def _build(self, context: Context, options: KademliaOptions) -> LyingRouting:
        routing = LyingRouting(context, options, lambda: (self._lie, ""))
        routing.accomplices = self.accomplices
        return routing


@hookimpl
def fluvial_register(registry: Registry) -> None:
    """Offer the liar of a process of its own."""
    registry.routing("liar", _told_by_file, options=KademliaOptions, tables=TABLES)


def _told_by_file(context: Context, options: KademliaOptions) -> LyingRouting:
    def choose() -> tuple[Lie, str]:
        name, _, argument = (context.base_dir / "lie").read_text().partition(" ")
        return LIES[name], argument

    return LyingRouting(context, options, choose)


def tell(folder: Path, lie: str) -> None:
    """Let the liar of a folder tell this from now on; the file is there as a whole or not at all."""
    fresh = folder / "lie.new"
    fresh.write_text(lie)
    fresh.rename(folder / "lie")


def fields(provider: PeerId, challenge: Challenge, at: int, **more: Any) -> RecordFields:
    """A record's fields, good for an hour from a moment on."""
    return RecordFields(
        key=key_bytes(challenge.key),
        provider=str(provider),
        sequence=at,
        issued_at_ms=at,
        expires_at_ms=at + HOUR_MS,
        **more,
    )


def keys_near(place: Key, count: int, *, of: int) -> list[KeyPair]:
    """Key pairs whose peers lie nearest to a place, of so many that are made."""
    made = [KeyPair.generate() for _ in range(of)]
    return sorted(made, key=lambda keys: peer_key(keys.peer_id) ^ place)[:count]


# --- the lies


async def _lie(request: DhtRequest, contacts: tuple[Contact, ...], records: tuple[ProviderRecord, ...]) -> DhtAnswer:
    """Claims to keep what it is offered, and names these."""
    match request:
        case messages.FindPeers():
            return messages.PeersFound(contacts)
        case messages.FindProviders():
            return messages.ProvidersFound(records, contacts)
        case messages.AddProvider():
            return messages.RecordStored(True)
        case messages.Ping():
            return messages.Pong()


async def tells_the_truth(request: DhtRequest, liar: LyingRouting) -> DhtAnswer | None:
    return liar.honest


async def silent(request: DhtRequest, liar: LyingRouting) -> DhtAnswer | None:
    return None


async def slow(request: DhtRequest, liar: LyingRouting) -> DhtAnswer | None:
    honest = liar.honest
    await anyio.sleep(SLOW_S)
    return honest


async def withholds(request: DhtRequest, liar: LyingRouting) -> DhtAnswer | None:
    return await _lie(request, (), ())


async def invents(request: DhtRequest, liar: LyingRouting) -> DhtAnswer | None:
    """Names other peers that do not exist each time, at a port where nobody listens, or at that of a victim."""
    port = int(liar.argument or 1)
    at = Address(host_kind="ip4", host="127.0.0.1", port=port) if port > 1 else Address.parse("/dns/memory/tcp/1")
    peers = [PeerId.from_public_key(liar.rng.randbytes(32)) for _ in range(INVENTED)]
    return await _lie(request, tuple(Contact(peer, (at.with_peer(peer),)) for peer in peers), ())


async def names_accomplices(request: DhtRequest, liar: LyingRouting) -> DhtAnswer | None:
    """Names the others of its kind alone, and drops records."""
    return await _lie(request, tuple(liar.accomplices[:INVENTED]), ())


async def serves_stale(request: DhtRequest, liar: LyingRouting) -> DhtAnswer | None:
    """Serves the first record that it saw of each provider, whatever came later."""
    records: tuple[ProviderRecord, ...] = ()
    if isinstance(request, messages.FindProviders):
        records = tuple(one for (key, _), one in liar.first.items() if key == key_bytes(request.key))
    return await _lie(request, (), records)


async def serves_foreign(request: DhtRequest, liar: LyingRouting) -> DhtAnswer | None:
    """Serves a good record of its own for another key."""
    own = fields(liar.keys.peer_id, FOREIGN, liar.now_ms, value=b"another")
    return await _lie(request, (), (sign_record(liar.keys, liar.network, own),))


async def forges(request: DhtRequest, liar: LyingRouting) -> DhtAnswer | None:
    """Serves a newer record in the name of each provider that it knows of, signed by itself."""
    if not isinstance(request, messages.FindProviders):
        return await _lie(request, (), ())
    records = []
    for (key, provider), record in liar.first.items():
        if key == key_bytes(request.key):
            at = max(liar.now_ms, record.fields.sequence + 1)
            forged = RecordFields(
                key=key,
                provider=str(provider),
                sequence=at,
                issued_at_ms=liar.now_ms,
                expires_at_ms=liar.now_ms + HOUR_MS,
                value=b"forged",
            )
            records.append(sign_record(liar.keys, liar.network, forged))
    return await _lie(request, (), tuple(records))


LIES: Final[Mapping[str, Lie]] = {
    "truth": tells_the_truth,
    "silent": silent,
    "slow": slow,
    "withholds": withholds,
    "invents": invents,
    "accomplices": names_accomplices,
    "stale": serves_stale,
    "foreign": serves_foreign,
    "forges": forges,
}
