"""Brings each message that the transport receives to the part that answers its protocol, with places per protocol that its senders share.

::

    state     a message is                              begins when
    --------  ----------------------------------------  ------------------------------
    waiting   held until the gate opens                 the protocol is connected
    open      answered                                  its part has started
    closing   held until its connection goes            its part is going to stop
    gone      refused: nobody speaks the protocol       the part is set aside, or over

Held messages count against the limits like those that are being answered. A message that is held for a part that stops is never answered: its
sender has to try again, and then finds out that the peer is away or has restarted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import anyio
import msgspec
from prometheus_client import CollectorRegistry

from fluvial.errors import (
    LocalProtocolError,
    PluginError,
    Refused,
    RemoteProtocolError,
    ResourceLimit,
    Unreachable,
)
from fluvial.fairness import SharedPlaces
from fluvial.guard.guard import Guard
from fluvial.identity import PeerId
from fluvial.outcome_counts import OutcomeCounts
from fluvial.seats import Answer

DRAIN_S: Final = 5.0
"""How long answers in progress may take when their part is going to stop, in seconds."""
PROTOCOL_BYTES_MAX: Final = 64
ANSWER_ERRORS: Final = (Refused, RemoteProtocolError, LocalProtocolError, ResourceLimit, Unreachable)
"""What an answer may raise on purpose: the sender sees code and text. The texts of others, such as StorageError, are the operator's."""


class _ProtocolQueue(msgspec.Struct, eq=False):
    """A protocol and the messages that are held or answered now."""

    answer: Answer
    owner: str
    plugin: str
    foreign: bool
    places: SharedPlaces[PeerId]
    is_open: bool = False
    opened: anyio.Event = msgspec.field(default_factory=anyio.Event)
    quiet: anyio.Event = msgspec.field(default_factory=anyio.Event)
    closing: bool = False
    answering: int = 0

    def answered(self) -> None:
        """One that was being answered no longer is."""
        self.answering -= 1
        if self.closing and not self.answering:
            self.quiet.set()


class Switchboard:
    """See the module's docstring.

    Args:
        guard: calls the parts.
        metrics: gets ``fluvial_messages_total{protocol,outcome}``.
    """

    def __init__(self, *, guard: Guard, metrics: CollectorRegistry) -> None:
        self._guard = guard
        self._lines: dict[str, _ProtocolQueue] = {}
        self._outcomes = OutcomeCounts(
            "fluvial_messages",
            "Messages of other peers, by protocol and outcome",
            ["protocol", "outcome"],
            registry=metrics,
        )

    def connect(self, answers: Iterable[Answer], *, owner: str, plugin: str, foreign: bool = True) -> None:
        """Hold the messages of these protocols from now on.

        Args:
            answers: of one part.
            owner: the part's name, for messages and metrics.
            plugin: the plugin whose code it is, for log and metrics.
            foreign: whether the part is a plugin's, to be called through the guard; core's own rooms keep their own deadlines.

        Raises:
            PluginError: another part answers one of them, or it has an impossible name or limit; none is connected then.
        """
        answers = tuple(answers)
        for answer in answers:
            check_answer(answer, owner)
            if (taken := self._lines.get(answer.protocol)) is not None:
                raise PluginError(f"the protocol {answer.protocol!r} is answered by {taken.owner} and by {owner}")
        if len({answer.protocol for answer in answers}) < len(answers):
            raise PluginError(f"{owner} answers a protocol twice")
        for answer in answers:
            places = SharedPlaces[PeerId](answer.at_once, answer.per_sender)
            self._lines[answer.protocol] = _ProtocolQueue(answer, owner, plugin, foreign, places)

    def open(self, answers: Iterable[Answer]) -> None:
        """Their part has started: answer the messages that are held, and all further ones."""
        for answer in answers:
            line = self._lines[answer.protocol]
            line.is_open = not line.closing
            line.opened.set()

    async def close(self, answers: Iterable[Answer]) -> None:
        """Hold further messages, and wait at most five seconds for the answers in progress."""
        lines = [line for answer in answers if (line := self._lines.get(answer.protocol)) is not None]
        for line in lines:
            line.is_open, line.closing = False, True
        with anyio.move_on_after(DRAIN_S):
            for line in lines:
                if line.answering:
                    await line.quiet.wait()

    def disconnect(self, answers: Iterable[Answer]) -> None:
        """Their part is set aside: nobody speaks these protocols any more."""
        for answer in answers:
            if (line := self._lines.pop(answer.protocol, None)) is not None:
                line.is_open, line.closing = False, True
                line.opened.set()

    def protocols(self) -> tuple[str, ...]:
        """What this peer speaks now, sorted."""
        return tuple(sorted(self._lines))

    async def receive(self, sender: PeerId, protocol: str, payload: bytes) -> bytes:
        """The answer to a message.

        Raises:
            RemoteProtocolError: nobody here speaks the protocol, or the message is too large.
            Refused: ``busy``, too many of its messages are held or answered.
            FluvialError: one of ``ANSWER_ERRORS``, as the part raised it.
            PluginFailed: the part failed in another way.
        """
        if (line := self._lines.get(protocol)) is None:
            self._outcomes.count("unknown", "unknown")
            raise RemoteProtocolError(f"this peer does not speak {protocol[:80]!r}")
        outcome = "failed"
        try:
            self._admit(line, sender, payload)
            try:
                if not line.is_open:
                    await self._held(line)
                line.answering += 1
                try:
                    found = self._guarded(line, sender, payload) if line.foreign else line.answer.by(sender, payload)
                    answer = found if isinstance(found, bytes) else await found
                finally:
                    line.answered()
            finally:
                line.places.give(sender)
            outcome = "answered"
            return answer
        except (Refused, RemoteProtocolError):
            outcome = "refused"
            raise
        finally:
            self._outcomes.count(protocol, outcome)

    def _admit(self, line: _ProtocolQueue, sender: PeerId, payload: bytes) -> None:
        answer = line.answer
        if len(payload) > answer.bytes_max:
            raise RemoteProtocolError(f"{answer.protocol}: {len(payload)} bytes, {answer.bytes_max} are allowed")
        if not line.places.take(sender):
            mine = line.places.has(sender)
            whose = f"{mine} messages of yours" if mine else f"{line.places.taken} messages"
            raise Refused(f"{answer.protocol}: {whose} are being answered, try again", reason="busy")

    async def _guarded(self, line: _ProtocolQueue, sender: PeerId, payload: bytes) -> bytes:
        answer = line.answer
        value = await self._guard.answer(
            line.plugin,
            answer.protocol,
            lambda: answer.by(sender, payload),
            timeout_s=answer.timeout_s,
            passes=ANSWER_ERRORS,
        )
        if not isinstance(value, bytes):
            raise self._guard.wrong(line.plugin, answer.protocol, value)
        return value

    async def _held(self, line: _ProtocolQueue) -> None:
        """Until the line is open; raises RemoteProtocolError if it never will be."""
        await line.opened.wait()
        protocol = line.answer.protocol
        if self._lines.get(protocol) is not line:
            raise RemoteProtocolError(f"this peer does not speak {protocol!r} any more")
        if line.closing:
            await anyio.sleep_forever()  # until the connection goes


def check_answer(answer: Answer, owner: str) -> None:
    """Refuse a protocol with an impossible name or limit; raises PluginError, or TypeError for a value of another type."""
    if not 1 <= len(answer.protocol.encode()) <= PROTOCOL_BYTES_MAX or not answer.protocol.isprintable():
        raise PluginError(f"{owner}: {answer.protocol!r} is no name of a protocol")
    if min(answer.bytes_max, answer.at_once, answer.per_sender, answer.timeout_s) <= 0:
        raise PluginError(f"{owner}: the limits of {answer.protocol!r} must be above 0")
