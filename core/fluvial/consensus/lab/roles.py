"""Byzantine roles: what a liar's messages become at the edge of the engine. Works for every algorithm."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from random import Random
from typing import Final

from fluvial.consensus.effects import MessageClass
from fluvial.consensus.engine import EngineTraits
from fluvial.consensus.lab.network import is_meant
from fluvial.consensus.lab.schedule import Role
from fluvial.consensus.wire import EngineMessage, decode_message
from fluvial.encoding import encode
from fluvial.errors import RemoteProtocolError
from fluvial.identity import KeyPair
from fluvial.ledger.execution import Executed
from fluvial.ledger.pool import TransactionPool
from fluvial.ledger.rules import LedgerRules
from fluvial.ledger.state import State
from fluvial.ledger.transactions import TransferUnits, decode_payload, encode_payload, parse, sign_transaction

_SIGNATURE_MARK: Final = b"\xc4\x40"
"""How 64 bytes begin in MessagePack."""
OLD_MESSAGES: Final = 256


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message that a node wants to send to one other copy."""

    to: tuple[int, str]
    data: bytes
    kind: MessageClass
    extra_us: int = 0


class LyingCopy:
    """The messages of one copy of a Byzantine node.

    Args:
        roles: of its node, without those that concern its program or disk.
        label: of the copy.
        traits: of the algorithm.
        validators: how many there are.
        rng: of the adversary.
    """

    def __init__(self, roles: Sequence[Role], label: str, traits: EngineTraits, validators: int, rng: Random) -> None:
        self._roles = [role for role in roles if role.role in _BY_ROLE]
        self._label, self._traits, self._validators, self._rng = label, traits, validators, rng
        self._made: dict[bytes, None] = {}
        self._old: deque[Outgoing] = deque(maxlen=OLD_MESSAGES)

    def signing(self, sign: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
        """A signing function whose signatures are remembered, so that they can be broken in messages."""

        def remembering(message: bytes) -> bytes:
            signature = sign(message)
            self._made[signature] = None
            while len(self._made) > 8192:
                del self._made[next(iter(self._made))]
            return signature

        return remembering

    def twist(self, message: Outgoing, at_ms: float) -> list[Outgoing]:
        """What is sent in place of a message."""
        messages = [message]
        for role in self._roles:
            if role.during(at_ms):
                messages = [new for one in messages for new in _BY_ROLE[role.role](self, role, one)]
        self._old.append(message)
        return messages

    def _silent(self, role: Role, message: Outgoing) -> list[Outgoing]:
        return []

    def _withhold(self, role: Role, message: Outgoing) -> list[Outgoing]:
        meant = role.to in (None, "all") or any(is_meant(one, *message.to) for one in role.to or ())
        return [] if meant and _of_class(role, message) else [message]

    def _delay(self, role: Role, message: Outgoing) -> list[Outgoing]:
        low, high = role.ms if isinstance(role.ms, tuple) else (role.ms, role.ms)
        if not _of_class(role, message):
            return [message]
        extra_us = self._rng.randint(round(low * 1000), round(high * 1000))
        return [replace(message, extra_us=message.extra_us + extra_us)]

    def _equivocate(self, role: Role, message: Outgoing) -> list[Outgoing]:
        halves = role.split or [[], []]
        mine = halves[1 if self._label.endswith("b") else 0]
        return [message] if any(is_meant(one, *message.to) for one in mine) else []

    def _bad_signature(self, role: Role, message: Outgoing) -> list[Outgoing]:
        if not _of_class(role, message) or self._rng.random() >= role.probability:
            return [message]
        data = bytearray(message.data)
        at = data.find(_SIGNATURE_MARK)
        while at >= 0:
            if bytes(data[at + 2 : at + 66]) in self._made:
                data[at + 2 + self._rng.randrange(64)] ^= 1 << self._rng.randrange(8)
                at += 64
            at = data.find(_SIGNATURE_MARK, at + 2)
        return [replace(message, data=bytes(data))]

    def _impersonate(self, role: Role, message: Outgoing) -> list[Outgoing]:
        inner = _engine_message(message.data)
        if inner is None or self._traits.reseal is None:
            return [message]
        others = (self._traits.reseal(inner.data, index) for index in range(self._validators))
        forged = [encode(EngineMessage(inner.epoch, one)) for one in others if one is not None]
        return [message, *(replace(message, data=one) for one in forged if one != message.data)]

    def _flood(self, role: Role, message: Outgoing) -> list[Outgoing]:
        return [message] * role.copies

    def _replay(self, role: Role, message: Outgoing) -> list[Outgoing]:
        if not self._old or self._rng.random() >= role.probability:
            return [message]
        return [message, replace(self._old[self._rng.randrange(len(self._old))], to=message.to)]

    def _garbage(self, role: Role, message: Outgoing) -> list[Outgoing]:
        return [message, replace(message, data=self._rng.randbytes(role.size), kind="other")]


_BY_ROLE: Final[dict[str, Callable[[LyingCopy, Role, Outgoing], list[Outgoing]]]] = {
    "silent": LyingCopy._silent,
    "withhold": LyingCopy._withhold,
    "delay": LyingCopy._delay,
    "equivocate": LyingCopy._equivocate,
    "bad_signature": LyingCopy._bad_signature,
    "impersonate": LyingCopy._impersonate,
    "flood": LyingCopy._flood,
    "replay": LyingCopy._replay,
    "garbage": LyingCopy._garbage,
}


class LyingRules(LedgerRules):
    """A ledger that says what is not so.

    Args:
        honest: the rules that it pretends to keep to.
        roles: which lies.
        now_ms: the time.
        junk: a transaction that must not be anywhere.
    """

    def __init__(self, honest: LedgerRules, roles: Iterable[Role], now_ms: Callable[[], float], junk: bytes) -> None:
        super().__init__(honest.chain, honest.limits)
        self._roles, self._now_ms, self._junk = list(roles), now_ms, junk

    def root(self, state: State) -> bytes:
        """A wrong root, if that is the role."""
        return sha256(state.root).digest() if self._plays("wrong_state_root") else state.root

    def build(self, state: State, pool: TransactionPool, *, height: int, time_ms: int) -> tuple[bytes, Executed]:
        """A payload with a transaction that must not be there, if that is the role."""
        payload, done = super().build(state, pool, height=height, time_ms=time_ms)
        return self._spoilt(payload), done

    def gather(
        self, state: State, pool: TransactionPool, without: Container[bytes], bytes_max: int, *, height: int
    ) -> tuple[bytes, tuple[bytes, ...]]:
        """The same for engines that order first."""
        payload, transactions = super().gather(state, pool, without, bytes_max, height=height)
        return self._spoilt(payload), transactions

    def _spoilt(self, payload: bytes) -> bytes:
        return encode_payload([*decode_payload(payload), self._junk]) if self._plays("invalid_payload") else payload

    def _plays(self, role: str) -> bool:
        return any(one.role == role and one.during(self._now_ms()) for one in self._roles)


class CensoringPool(TransactionPool):
    """A pool that does not know the transactions of some keys."""

    def __init__(self, chain: bytes, *, per_sender: int, banned: Iterable[bytes]) -> None:
        super().__init__(chain, per_sender=per_sender)
        self._banned = frozenset(banned)

    def add(self, transaction: bytes, state: State, height: int) -> None:
        """Let a transaction wait, unless its sender is censored."""
        if getattr(parse(transaction), "sender", b"") not in self._banned:
            super().add(transaction, state, height)


def junk_transaction(keys: KeyPair, chain: bytes) -> bytes:
    """A transaction whose signature is wrong."""
    good = sign_transaction(keys, chain, 0, TransferUnits(keys.public_key, 1))
    return good[:-1] + bytes([good[-1] ^ 1])


def _of_class(role: Role, message: Outgoing) -> bool:
    return role.classes is None or message.kind in role.classes


def _engine_message(data: bytes) -> EngineMessage | None:
    try:
        message = decode_message(data)
    except RemoteProtocolError:
        return None
    return message if isinstance(message, EngineMessage) else None
