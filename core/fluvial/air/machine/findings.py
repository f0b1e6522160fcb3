"""What an evaluation comes to: new facts, calls to make, peers to go to, instructions that wait."""

from __future__ import annotations

from dataclasses import dataclass, field

from fluvial.air.data.content import ContentId, Json
from fluvial.air.data.facts import Argument, Canon, Instance, Sent, Taken, Tetraplet
from fluvial.air.syntax import tree


@dataclass(frozen=True, slots=True)
class Request:
    """A call that this peer's services have to answer.

    Attributes:
        number: names the request towards the machine.
        instance: the call's instance.
        at: where the call stands in the script.
        service, function: what to call.
        arguments, tetraplets: the arguments as JSON values, and for each where it comes from.
        names: how facts name the arguments.
    """

    number: int
    instance: Instance
    at: tree.Position
    service: str
    function: str
    arguments: tuple[Json, ...]
    tetraplets: tuple[tuple[Tetraplet, ...], ...]
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


@dataclass(frozen=True, slots=True)
class Met:
    """A call or canon that an evaluation came to.

    Attributes:
        instruction: which.
        call: peer, service and function; only the peer for a canon.
        arguments: JSON values; None while one of them is not known.
    """

    instruction: tree.Call | tree.Canon
    call: Tetraplet
    arguments: tuple[Json, ...] | None = ()


@dataclass(slots=True)
class Findings:
    """What an evaluation came to.

    Attributes:
        facts: new facts of this peer, in the order in which they were found.
        contents: the values that new canons speak of.
        requests: calls for this peer that nobody is at work on.
        next_peers: where the particle must go, without repetitions.
        waits: instructions that wait.
        visits: executed instructions, arguments and elements of folds included.
    """

    facts: list[Canon | Sent | Taken] = field(default_factory=list)
    contents: dict[ContentId, Json] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    next_peers: dict[str, None] = field(default_factory=dict)
    waits: list[Wait] = field(default_factory=list)
    visits: int = 0
