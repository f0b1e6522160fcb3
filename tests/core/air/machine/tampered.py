"""Flows whose deliveries are tampered with: what is played, how, and what is compared."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from fluvial.air.data.batch import Batch, Known
from fluvial.air.data.content import ContentId, Json
from fluvial.air.data.evidence import Equivocation, equivocations
from fluvial.air.data.facts import Item
from fluvial.air.data.wire import decode_data
from fluvial.air.machine.machine import Effects
from fluvial.air.machine.outcomes import Failed
from fluvial.errors import RemoteProtocolError

from tests.core.air.machine.flows import Flow, Service

Calls = Counter[tuple[str, str, str]]
"""Peer, function and arguments of calls."""


@dataclass(frozen=True)
class Play:
    """A flow to play.

    Attributes:
        script: AIR, in which no peer decides by the order of a stream.
        services: as for ``Flow``.
        beyond: for a peer that lies, the functions that no lie of its own answers can reach.
    """

    script: str
    services: Mapping[str, Any] = field(default_factory=dict)
    beyond: Mapping[str, frozenset[str]] = field(default_factory=dict)


LONG = [{"name": "x" * 300, "size": 1}, "y" * 300]

PLAYS: Mapping[str, Play] = {
    "chain": Play(
        """(seq (call "@b" ("s" "f") ["in" 1] x) (seq (call "@c" ("s" "g") [x x.$.k] y) (call "@a" ("t" "show") [x y])))""",
        {"s.f": {"k": "v"}, "s.g": [1, 2]},
        {"c": frozenset({"s.f"})},
    ),
    "join": Play(
        """(seq (par (call "@b" ("s" "f") [] x) (call "@c" ("s" "g") [] y)) (call "@a" ("t" "show") [x y]))""",
        {"s.f": "from b", "s.g": "from c"},
        {"b": frozenset({"s.g"}), "c": frozenset({"s.f"})},
    ),
    "canon": Play(
        """
        (seq (call "@b" ("s" "f") [] $s) (seq (call "@c" ("s" "g") [] $s)
          (seq (canon "@c" $s #s) (seq (call "@b" ("s" "h") [#s.length] z) (call "@a" ("t" "show") [#s z])))))
        """,
        {"s.f": 1, "s.g": {"k": 2}, "s.h": "ok"},
        {"c": frozenset({"s.f"})},
    ),
    "fold": Play(
        """
        (seq (call "@b" ("s" "list") [] xs)
          (seq (fold xs x (seq (call "@c" ("s" "work") [x] $r) (next x)))
            (seq (canon "@b" $r #r) (call "@a" ("t" "show") [#r]))))
        """,
        {"s.list": [1, 2, 3], "s.work": lambda x: [x, "done"]},
        {"c": frozenset({"s.list"})},
    ),
    "stream": Play(
        """
        (seq (call "@a" ("s" "list") [] xs)
          (par (fold xs x (par (call x.$.peer ("s" "work") [x.$.n] $r) (next x)))
               (fold $r i (par (call "@a" ("t" "show") [i]) (next i)))))
        """,
        {
            "s.list": [{"peer": "@b", "n": 1}, {"peer": "@c", "n": 2}, {"peer": "@b", "n": 3}],
            "s.work": lambda n: n * 10,
        },
        {"b": frozenset({"s.list"}), "c": frozenset({"s.list"})},
    ),
    "failure": Play(
        """
        (seq (xor (call "@b" ("s" "bad") ["x"] x) (call "@c" ("s" "handle") [:error:.$.error_code] y))
             (call "@a" ("t" "show") [y]))
        """,
        {"s.bad": Failed(7, '"no"'), "s.handle": "handled"},
        {"c": frozenset({"s.bad"})},
    ),
    "map": Play(
        """
        (seq (seq (call "@b" ("s" "f") [] v) (ap ("k" v) %m))
          (seq (seq (call "@c" ("s" "g") [] w) (ap ("k" w) %m))
            (seq (canon "@b" %m #%m) (seq (canon "@c" %m o) (call "@a" ("t" "show") [#%m.$.k o])))))
        """,
        {"s.f": 1, "s.g": 2},
        {"c": frozenset({"s.f"})},
    ),
    "row": Play(
        """
        (seq (seq (call "@b" ("s" "f") [] x) (call "@b" ("s" "g") [x]))
          (seq (call "@c" ("s" "h") [1] y) (call "@a" ("t" "show") [y])))
        """,
        {"s.f": {"k": "v"}, "s.g": LONG, "s.h": 1},
        {"c": frozenset({"s.f", "s.g"})},
    ),
    "large": Play(
        """
        (seq (call "@b" ("s" "f") [] x)
          (seq (par (call "@c" ("s" "g") [x.$.[0].name x.$.[1]] y) (null)) (call "@a" ("t" "show") [x y])))
        """,
        {"s.f": LONG, "s.g": lambda name, other: [len(name), other]},
        {"c": frozenset({"s.f"})},
    ),
}


class Delivery(msgspec.Struct, frozen=True):
    """What arrived: from whom (empty at the beginning), at whom, and the data."""

    sender: str
    to: str
    data: bytes


class Played(Flow):
    """A flow in which, before one of its deliveries, other data arrive at the same peer.

    Args:
        name: of the play.
        before: number of that delivery; negative for none.
        data: what arrives then.

    Attributes:
        deliveries: all others, in order.
        refusal: why the other data were refused, if they were.
    """

    def __init__(self, name: str, before: int = -1, data: bytes = b"") -> None:
        services: dict[str, Service | Any] = dict(PLAYS[name].services)
        super().__init__(PLAYS[name].script, services)
        self.deliveries: list[Delivery] = []
        self.refusal: RemoteProtocolError | None = None
        self._before, self._data = before, data
        self._senders: list[str] = [""]

    def run(self) -> Played:
        super().run()
        return self

    def arrive(self, name: str, data: bytes) -> Effects:
        sender = self._senders.pop(0)
        if len(self.deliveries) == self._before:
            self._before = -1
            try:
                self._come(name, self._data)
            except RemoteProtocolError as error:
                self.refusal = error
        self.deliveries.append(Delivery(sender, name, data))
        return self._come(name, data)

    def _come(self, name: str, data: bytes) -> Effects:
        waiting = len(self.queue)
        effects = super().arrive(name, data)
        self._senders += [name] * (len(self.queue) - waiting)
        return effects

    def calls_of(self, *, without: str = "") -> Calls:
        """What services were asked for, but of one peer; elements of arrays in no order."""
        return Counter(
            (call.peer, call.function, json.dumps(_unordered(call.arguments)))
            for call in self.calls
            if call.peer != without
        )

    def evidence(self) -> list[Equivocation]:
        """Against whom there is evidence on some peer."""
        return [one for machine in self.machines.values() for one in equivocations(machine.batches())]


def _unordered(value: Json) -> Json:
    if isinstance(value, list):
        return sorted((_unordered(part) for part in value), key=json.dumps)
    return {key: _unordered(part) for key, part in value.items()} if isinstance(value, dict) else value


def altered(value: Any) -> Iterator[Any]:
    """A value with one thing changed: each number, flag, text and byte string, and each list's members and their order."""
    if isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            for other in altered(getattr(value, name)):
                yield msgspec.structs.replace(value, **{name: other})
    elif isinstance(value, tuple):
        for index, part in enumerate(value):
            for other in altered(part):
                changed = (*value[:index], other, *value[index + 1 :])
                yield type(value)(*changed) if hasattr(value, "_fields") else changed
        if not hasattr(value, "_fields"):
            yield from rearranged(value)
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield value + 1
    elif isinstance(value, str):
        yield value + "x"
    elif isinstance(value, bytes):
        yield flipped(value, 0) if value else b"x" * 16
        if value:
            yield flipped(value, len(value) - 1)


def rearranged(values: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """A list with one member dropped, repeated, or exchanged with the next one that differs."""
    for index, value in enumerate(values):
        yield (*values[:index], *values[index + 1 :])
        yield (*values[:index], value, *values[index:])
        if index + 1 < len(values) and value != values[index + 1]:
            yield (*values[:index], values[index + 1], value, *values[index + 2 :])


def flipped(data: bytes, at: int) -> bytes:
    """Bytes with one bit changed."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def forged(batch: Batch, items: Sequence[Item] | None = None, **fields: bytes) -> Batch:
    """A batch with other items, signer or signature, as somebody without its signer's key would change it."""
    changes: dict[str, Any] = dict(fields)
    if items is not None:
        changes["items"] = tuple(items)
    return Batch(batch.id, batch.signer, msgspec.structs.replace(batch.signed, **changes))


def known(flow: Flow, data: bytes) -> tuple[tuple[Batch, ...], Mapping[ContentId, Json]]:
    """Batches and contents of a delivery."""
    read: Known = decode_data(flow.particle.key, data)
    return read.batches, read.contents
