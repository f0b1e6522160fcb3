"""A connection between two peers of one process: two ends, each of which handles what arrives at it.

A message is charged its size and a fixed cost against the window of the receiver until it is handled, a request until its answer has
arrived; who has used the window up waits. Messages arrive in the order in which they were sent and are handled at the same time. The
end that closes says so behind everything that it has sent, and hears nothing any more.

::

    open ──close()──▶ closed (own requests fail at once; the other end: all that was sent, then "goodbye")
    open ──goodbye arrives──▶ closed          open ──apart for silence_max_s──▶ closed
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Final

import anyio
from anyio.abc import TaskGroup

from fluvial.addresses import Address
from fluvial.errors import FluvialError, RemoteProtocolError, ResourceLimit, Unreachable
from fluvial.identity import PeerId
from fluvial.memory.network import Memory, Transfer, TransferKind
from fluvial.memory.options import MemoryOptions
from fluvial.memory.window import ByteWindow, WindowClosed
from fluvial.seats import Receive

HEADER_BYTES: Final = 16
"""What a frame has besides protocol and payload; about as much as that of ``tcp``."""
MESSAGE_COST_BYTES: Final = 32_768
"""Charged per message besides its size, as ``tcp`` does: the window bounds the number of messages, too."""


class EndClosed(Exception):
    """The connection takes no more messages; this one was not sent."""


@dataclass(slots=True)
class _Letter:
    """A message under way; ``kind`` is None for the goodbye."""

    due_s: float
    kind: TransferKind | None
    number: int = 0
    protocol: str = ""
    payload: bytes = b""
    charge: int = 0


@dataclass(slots=True)
class _Question:
    """A request of this end: what it takes of the window, and its answer; nothing and none if either of them was lost on the way."""

    charge: int
    lost: bool = False
    abandoned: bool = False
    answered: anyio.Event = field(default_factory=anyio.Event)
    answer: bytes = b""
    error: FluvialError | None = None


class ConnectionEnd:
    """What one peer has of a connection.

    Args:
        network: decides on delays, losses and partitions.
        own: whose end it is.
        peer: who is at the other end.
        addresses: what that peer announced.
        options: the limits of this end.
        frame_bytes_max: what both ends allow.
        window_bytes: that of the other end.
        receive: handles what arrives.
        on_closed: called once with the reason when the connection ends.
    """

    def __init__(
        self,
        network: Memory,
        *,
        own: PeerId,
        peer: PeerId,
        addresses: tuple[Address, ...],
        options: MemoryOptions,
        frame_bytes_max: int,
        window_bytes: int,
        receive: Receive,
        on_closed: Callable[[str], None],
    ) -> None:
        self.own = own
        self.peer = peer
        self.addresses: Final = addresses
        self.frame_bytes_max: Final = frame_bytes_max
        self.closed: Final = anyio.Event()
        self._network = network
        self._options = options
        self._receive = receive
        self._on_closed = on_closed
        self._window = ByteWindow(window_bytes)
        self._other: ConnectionEnd | None = None
        self._arriving: deque[_Letter] = deque()
        self._last_due_s = 0.0
        self._stir = anyio.Event()
        self._numbers = count(1)
        self._questions: dict[int, _Question] = {}

    def join(self, other: ConnectionEnd) -> None:
        """Make two ends one connection."""
        self._other, other._other = other, self

    # --- sending

    async def request(self, protocol: str, payload: bytes, *, size: int) -> bytes:
        """Send and wait for the answer; the caller sets the deadline.

        Args:
            protocol: what the message is about.
            payload: what to send.
            size: of the frame, in bytes.

        Raises:
            EndClosed: nothing was sent.
            RemoteProtocolError: the answer is an error.
            Unreachable: the connection broke before the answer.
        """
        charge = await self._admitted(size)
        number = next(self._numbers)
        question = self._questions[number] = _Question(charge)
        self._put("request", number, protocol, payload, charge)
        try:
            await question.answered.wait()
        finally:
            question.abandoned = True
            if question.lost:
                self._questions.pop(number, None)
        if question.error is not None:
            raise question.error
        return question.answer

    async def send(self, protocol: str, payload: bytes, *, size: int) -> None:
        """Send without waiting for an answer; arguments and deadline as for :meth:`request`.

        Raises:
            EndClosed: nothing was sent.
        """
        charge = await self._admitted(size)
        self._put("one_way", 0, protocol, payload, charge)

    def close(self, reason: str) -> None:
        """End the connection; the other end hears of it when all that was sent has arrived. Without effect if it has ended."""
        if self.closed.is_set():
            return
        self.closed.set()
        self._stir.set()
        self._network.remove(self)
        self._window.close()
        for question in self._questions.values():
            question.error = Unreachable(f"{self.peer}: the connection ended before the answer: {reason}")
            question.answered.set()
        self._questions.clear()
        self._arriving.clear()
        if reason != "lost":
            self._post(_Letter(0.0, None))
        self._on_closed(reason)

    def look(self) -> None:
        """Partitions have changed."""
        self._stir.set()

    async def _admitted(self, size: int) -> int:
        charge = MESSAGE_COST_BYTES + size
        try:
            await self._window.take(charge)
        except WindowClosed:
            raise EndClosed from None
        return charge

    def _put(self, kind: TransferKind, number: int, protocol: str, payload: bytes, charge: int = 0) -> None:
        if self.closed.is_set():
            return  # a handler took longer than its connection
        network = self._network
        lost = network.loses(self.own, self.peer)
        network.report(
            Transfer(
                at_s=anyio.current_time(),
                source=self.own,
                target=self.peer,
                kind=kind,
                protocol=protocol,
                payload=payload,
                lost=lost,
            )
        )
        if not lost:
            self._post(_Letter(0.0, kind, number, protocol, payload, charge))
        elif kind == "one_way":
            self._window.give(charge)
        elif (asker := self if kind == "request" else self._other) is not None:
            asker._forgo(number)

    def _post(self, letter: _Letter) -> None:
        """Put a letter on its way, behind those that are."""
        if (other := self._other) is None or other.closed.is_set():
            return
        due_s = anyio.current_time() + self._network.delay_s(self.own, self.peer)
        letter.due_s = other._last_due_s = max(due_s, other._last_due_s)
        other._arriving.append(letter)
        other._stir.set()

    def _forgo(self, number: int) -> None:
        """A request or its answer is lost: who asks waits in vain, but the window is free again."""
        if (question := self._questions.get(number)) is not None:
            self._window.give(question.charge)
            question.lost = True
            if question.abandoned:
                del self._questions[number]

    # --- receiving

    async def run(self) -> None:
        """Handle what arrives until the connection ends, and then until everything that has arrived is handled."""
        async with anyio.create_task_group() as handlers:
            while not self.closed.is_set():
                self._stir = anyio.Event()
                if self._network.apart(self.own, self.peer):
                    await self._wait_for_healing()
                elif not self._arriving:
                    await self._stir.wait()
                elif (wait_s := self._arriving[0].due_s - anyio.current_time()) > 0:
                    with anyio.move_on_after(wait_s):
                        await self._stir.wait()
                else:
                    self._take(self._arriving.popleft(), handlers)

    async def _wait_for_healing(self) -> None:
        with anyio.move_on_after(self._options.silence_max_s):
            while self._network.apart(self.own, self.peer) and not self.closed.is_set():
                await self._stir.wait()
                self._stir = anyio.Event()
            return
        self.close("silent")

    def _take(self, letter: _Letter, handlers: TaskGroup) -> None:
        match letter.kind:
            case "request" | "one_way":
                handlers.start_soon(self._handle, letter)
            case "answer":
                self._settle(letter.number, letter.payload, None)
            case "error":
                text = letter.payload.decode()
                self._settle(
                    letter.number,
                    b"",
                    RemoteProtocolError(f"{self.peer} answered {letter.protocol} with {text}"),
                )
            case None:
                self.close("goodbye")

    def _settle(self, number: int, answer: bytes, error: FluvialError | None) -> None:
        if (question := self._questions.pop(number, None)) is not None:
            question.answer, question.error = answer, error
            question.answered.set()
            self._window.give(question.charge)

    async def _handle(self, letter: _Letter) -> None:
        try:
            with anyio.fail_after(self._options.handling_timeout_s):
                body = await self._receive(self.peer, letter.protocol, letter.payload)
            if len(body) + HEADER_BYTES > self.frame_bytes_max:
                raise ResourceLimit(f"the answer of {len(body)} bytes is larger than a frame may be")
        except FluvialError as error:
            reply: tuple[TransferKind, bytes] = ("error", f"{error.code}: {error.message}".encode())
        except TimeoutError:
            reply = ("error", f"{ResourceLimit.code}: not done within {self._options.handling_timeout_s:g} s".encode())
        else:
            reply = ("answer", body)
        if letter.kind == "request":
            self._put(reply[0], letter.number, letter.protocol, reply[1])
        elif self._other is not None and not self._other.closed.is_set():
            self._other._window.give(letter.charge)
