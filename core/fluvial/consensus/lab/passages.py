"""What a space-time diagram shows of a run: each message with its way through space and time, and each commit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fluvial.consensus.engine import MessageDescription
from fluvial.consensus.lab.run import LaboratoryRun, Passage
from fluvial.consensus.wire import CheckpointVote, EngineMessage, decode_message
from fluvial.errors import RemoteProtocolError


@dataclass(frozen=True, slots=True)
class DrawnMessage:
    """A message between two nodes.

    Attributes:
        kind: its class.
        what: the engine's word for it, and what it is about; the class if the engine does not say.
        value: id of the block or vertex; empty if there is none.
    """

    sender: int
    to: int
    sent_ms: float
    arrives_ms: float
    kind: str
    what: str
    value: bytes


@dataclass(frozen=True, slots=True)
class DrawnCommit:
    """A block that a node has committed; ``value`` is the engine's id for it."""

    node: int
    at_ms: float
    height: int
    value: bytes


class Passages:
    """Gathers what happens in the first milliseconds of a run.

    Args:
        end_ms: until when.
    """

    def __init__(self, end_ms: float) -> None:
        self.end_ms = end_ms
        self.nodes = 0
        self.messages: list[DrawnMessage] = []
        self.commits: list[DrawnCommit] = []
        self._raw: list[Passage] = []

    def note(self, passage: Passage) -> None:
        """A message that is on its way."""
        if passage.sent_us / 1000 < self.end_ms:
            self._raw.append(passage)

    def finish(self, run: LaboratoryRun) -> None:
        """Describe what was gathered, once the run is over."""
        describe = run.algorithm.traits.describe
        self.nodes = run.schedule.nodes
        for one in self._raw:
            about = _about(one.data, describe)
            what = one.kind if about is None else f"{about.kind} {about.slot}"
            value = about.value if about is not None else b""
            self.messages.append(
                DrawnMessage(one.sender, one.to, one.sent_us / 1000, one.arrives_us / 1000, one.kind, what, value)
            )
        self._raw.clear()
        for copy in run.copies:
            for height, commit in enumerate(copy.findings.commits, 1):
                value = run.references[commit.block.id]
                self.commits.append(DrawnCommit(copy.node, commit.at_us / 1000, height, value))


def _about(data: bytes, describe: Callable[[bytes], MessageDescription | None] | None) -> MessageDescription | None:
    try:
        message = decode_message(data)
    except RemoteProtocolError:
        return None
    if isinstance(message, CheckpointVote):
        return MessageDescription("checkpoint", message.epoch, message.height, message.signer)
    if describe is None or not isinstance(message, EngineMessage):
        return None
    return describe(message.data)
