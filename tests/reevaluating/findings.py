"""What an evaluation comes to: new facts, calls to make, peers to go to, instructions that wait."""

from __future__ import annotations

from dataclasses import dataclass, field

from fluvial.air.data.content import ContentId, Json
from fluvial.air.data.facts import CanonFact, Sent, Taken
from fluvial.air.machine.findings import Request, Wait


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

    facts: list[CanonFact | Sent | Taken] = field(default_factory=list)
    contents: dict[ContentId, Json] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    next_peers: dict[str, None] = field(default_factory=dict)
    waits: list[Wait] = field(default_factory=list)
    visits: int = 0
