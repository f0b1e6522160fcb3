"""What an evaluation comes to: new facts, calls to make, peers to go to; and what people want to know of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import msgspec

from fluvial.air.data.content import ContentId, Json
from fluvial.air.data.facts import Argument, CanonFact, Instance, Sent, Taken
from fluvial.air.data.partial import Content
from fluvial.air.machine.provenance import Provenance
from fluvial.air.syntax import tree


class Request(msgspec.Struct, frozen=True, gc=False):
    """A call that this peer's services have to answer.

    Attributes:
        instance: the call's instance.
        at: where the call stands in the script.
        service, function: what to call.
        arguments, tetraplets: the arguments as JSON values, and for each where it comes from.
        names: how facts name the arguments.
    """

    instance: Instance
    at: tree.Position
    service: str
    function: str
    arguments: tuple[Json, ...]
    tetraplets: tuple[tuple[Provenance, ...], ...]
    names: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """An instruction that waits.

    Attributes:
        instruction, instance: which.
        reason: what for, for people.
        peer: the other peer that must do something; None if it is a name or this peer's own service that is waited for.
    """

    instruction: tree.Instruction
    instance: Instance
    reason: str
    peer: str | None = None


Waits: TypeAlias = Callable[[], Sequence[Wait]]
"""Says what waits now."""


@dataclass(frozen=True, slots=True)
class Visit:
    """A call or canon that was come to, or a ``par`` of which one branch has failed.

    Attributes:
        instruction: which.
        call: peer, service and function; only the peer for a canon; for a ``par`` the peer to which its failure is told.
        arguments: their values, as far as they are here; None while one of them has none yet.
    """

    instruction: tree.CallInstruction | tree.Canon | tree.Par
    call: Provenance
    arguments: tuple[Content, ...] | None = ()


Observer: TypeAlias = Callable[[tuple[bytes, int], Visit], None]
"""Told of every call and canon that is come to, and of failures to be told: the instance and what it is; again when more is known."""


class Findings:
    """What one step came to.

    Attributes:
        facts: new facts of this peer, in the order in which they were found.
        contents: the values that new canons speak of.
        requests: calls for this peer that nobody is at work on.
        next_peers: where the particle must go, without repetitions.
    """

    __slots__ = ("contents", "facts", "next_peers", "requests")

    def __init__(self) -> None:
        self.facts: list[CanonFact | Sent | Taken] = []
        self.contents: dict[ContentId, Content] = {}
        self.requests: list[Request] = []
        self.next_peers: dict[str, None] = {}


TAKEN: Final = Findings.__new__(Findings)
"""Stands where the results of a step were that somebody has taken: it has none, so that nobody adds to it by mistake."""
