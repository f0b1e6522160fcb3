"""Messages to other peers: a bounded queue for each, several messages in a frame. Delivery is best effort: engines repeat themselves."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Final, cast

import anyio
import msgspec
from anyio.abc import TaskGroup

from fluvial import waiting
from fluvial.consensus.wire import tag_of
from fluvial.encoding import decode, encode
from fluvial.errors import LocalProtocolError, RemoteProtocolError, Unreachable
from fluvial.identity import PeerId
from fluvial.ports import Peers

FRAME_BYTES: Final = 262_144
"""A frame takes no further message once it is as large."""
FRAME_BYTES_MAX: Final = 4 << 20
"""What is taken of others: a history, or a proposal with what justifies it."""
FRAME_MESSAGES_MAX: Final = 256
STRANGERS_MESSAGES_MAX: Final = 16
"""Of a frame of somebody who is no validator."""
VALIDATORS_TAGS: Final = frozenset({b"engine", b"checkpoint"})
"""Messages that only validators have something to say with."""
ANSWERS_TAGS: Final = frozenset({b"history", b"part"})
"""Answers: up to a whole frame each, which is read and written again before it can be judged."""
WAITING_MAX: Final = 1_024
WAITING_BYTES_MAX: Final = 8 << 20
STRANGERS_BYTES_MAX: Final = 32 << 20
"""What waits for all who are no validators, together, with what is being sent to them; whoever has not read for longest gives way."""
_FRAME: Final = cast("type[list[bytes]]", Annotated[list[bytes], msgspec.Meta(max_length=FRAME_MESSAGES_MAX)])
"""Counted before anything of it is built: megabytes can be millions of messages of two bytes."""
PAUSE_MIN_S: Final = 0.05
PAUSE_MAX_S: Final = 1.0


class _Held:
    """Bytes that several queues hold."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0


class _Queue:
    """What waits for one peer; the oldest goes if there is no room.

    Args:
        held: counts what this queue and others hold.

    Attributes:
        sending: whether a task empties it, since something has to be waited for.
        pause_s: how long that task waits after the next failure.
    """

    __slots__ = ("_flight", "_flying", "bytes", "held", "messages", "pause_s", "sending")

    def __init__(self, held: _Held) -> None:
        self.messages: deque[bytes] = deque()
        self.bytes = 0
        self.held = held
        self.sending = False
        self.pause_s = PAUSE_MIN_S
        self._flying = 0
        self._flight: anyio.CancelScope | None = None

    def put(self, message: bytes) -> None:
        while self.messages and (len(self.messages) >= WAITING_MAX or self.bytes + len(message) > WAITING_BYTES_MAX):
            self.drop(1)
        self.messages.append(message)
        self._grow(len(message))

    def frame(self) -> Sequence[bytes]:
        """The messages that go next, which stay until they are dropped."""
        taken: list[bytes] = []
        size = 0
        for message in self.messages:
            size += len(message)
            if taken and (len(taken) >= FRAME_MESSAGES_MAX or size > FRAME_BYTES):
                break
            taken.append(message)
        return taken

    def drop(self, count: int) -> None:
        """Some of the oldest were sent."""
        for _ in range(min(count, len(self.messages))):
            self._grow(-len(self.messages.popleft()))

    def clear(self) -> None:
        self.messages.clear()
        self._grow(-self.bytes)

    def take_off(self, frame: Sequence[bytes], flight: anyio.CancelScope) -> None:
        """These oldest messages are being sent; they count until they have landed."""
        self._flight, self._flying = flight, sum(map(len, frame))
        self.held.bytes += self._flying
        self.drop(len(frame))

    def land(self) -> None:
        """What was being sent is sent, or given up."""
        self.held.bytes -= self._flying
        self._flight, self._flying = None, 0

    def give_way(self) -> None:
        """Give up all that waits, and what is being sent."""
        flight = self._flight
        self.clear()
        self.land()
        if flight is not None:
            flight.cancel()

    def _grow(self, size: int) -> None:
        self.bytes += size
        self.held.bytes += size


class Messenger:
    """Sends messages of one protocol.

    What is said in one turn of the event loop leaves at its end, without a task, over connections that have room. Where there is none, a task waits.

    Args:
        peers: the port.
        protocol: its name.
        tasks: runs a task for each peer that has to be waited for.
        peers_max: to so many different ones; messages to further peers are dropped, but not those to validators.
        known: whether a peer is a validator; all others share ``STRANGERS_BYTES_MAX``.
    """

    def __init__(
        self,
        peers: Peers,
        protocol: str,
        tasks: TaskGroup,
        *,
        peers_max: int,
        known: Callable[[PeerId], bool] = lambda _: True,
    ) -> None:
        self._peers, self._protocol, self._tasks = peers, protocol, tasks
        self._peers_max, self._known = peers_max, known
        self._of_validators, self._of_strangers = _Held(), _Held()
        self._flights: dict[PeerId, _Queue] = {}  # to strangers, the oldest first
        self._queues: dict[PeerId, _Queue] = {}
        self._due: dict[PeerId, _Queue] = {}

    def send(self, to: PeerId, message: bytes) -> None:
        """Send a message when its turn comes; returns at once."""
        queue = self._queues.get(to)
        held = self._of_validators if self._known(to) else self._of_strangers
        if held is self._of_strangers and not self._has_room(len(message)):
            return
        if queue is None:
            if len(self._queues) >= self._peers_max and not self._forget() and held is self._of_strangers:
                return
            queue = self._queues[to] = _Queue(held)
        elif queue.held is not held and not queue.messages and not queue.sending:
            queue.held = held  # it has become a validator, or is none any more
        queue.put(message)
        if not queue.sending:
            if not self._due:
                waiting.soon(self._post)
            self._due[to] = queue

    def broadcast(self, to: Iterable[PeerId], message: bytes) -> None:
        """Send a message to several peers."""
        for peer in to:
            self.send(peer, message)

    def is_idle(self, to: PeerId) -> bool:
        """Whether nothing waits for a peer, and nothing is being sent to it."""
        queue = self._queues.get(to)
        return queue is None or not (queue.messages or queue.sending)

    def _has_room(self, size: int) -> bool:
        """Whether so many bytes may wait for a stranger; whoever has not read for longest gives way to it."""
        while self._of_strangers.bytes + size > STRANGERS_BYTES_MAX and self._flights:
            self._flights.pop(next(iter(self._flights))).give_way()
        return self._of_strangers.bytes + size <= STRANGERS_BYTES_MAX

    def _forget(self) -> bool:
        """Make room for another peer; False if all are being sent to."""
        for peer, queue in self._queues.items():
            if not queue.messages and not queue.sending:
                del self._queues[peer]
                return True
        return False

    def _post(self) -> None:
        """Send what was said in this turn of the loop."""
        due, self._due = self._due, {}
        for to, queue in due.items():
            while queue.messages:
                frame = queue.frame()
                if not self._peers.post(to, self._protocol, encode(frame)):
                    queue.sending = True
                    self._tasks.start_soon(self._send, to, queue)
                    break
                queue.drop(len(frame))
                queue.pause_s = PAUSE_MIN_S

    async def _send(self, to: PeerId, queue: _Queue) -> None:
        """Empty a queue, and wait for what has to be waited for."""
        try:
            while queue.messages:
                frame = queue.frame()
                reached = True
                with anyio.CancelScope() as flight:
                    queue.take_off(frame, flight)
                    if queue.held is self._of_strangers:
                        self._flights[to] = queue
                    try:
                        await self._peers.send(to, self._protocol, encode(frame))
                    except (Unreachable, RemoteProtocolError, LocalProtocolError):
                        reached = False
                    finally:
                        queue.land()
                        self._flights.pop(to, None)
                if reached:
                    queue.pause_s = PAUSE_MIN_S
                    continue
                queue.clear()  # what is older than the peer's return is of no use to it: engines repeat what matters
                await anyio.sleep(queue.pause_s)
                queue.pause_s = min(2 * queue.pause_s, PAUSE_MAX_S)
        finally:
            queue.sending = False


def messages_of(payload: bytes) -> Sequence[bytes]:
    """The messages of a frame.

    Raises:
        RemoteProtocolError: it is none, or has too many.
    """
    return decode(payload, _FRAME, what="frame of the consensus")


def looked_at(messages: Sequence[bytes], *, known: bool, asked: frozenset[bytes]) -> Sequence[bytes]:
    """What is looked at of a frame: one answer of each kind, since nobody is asked two questions at a time.

    Of somebody who is no validator it is a few messages, and answers to what was asked alone.

    Args:
        messages: of the frame.
        known: whether a validator has sent it.
        asked: the tags of answers of the sender that this peer waits for.
    """
    found: list[bytes] = []
    answers: set[bytes] = set()
    unwelcome = VALIDATORS_TAGS | (ANSWERS_TAGS - asked)
    for one in messages:
        tag = tag_of(one)
        if tag in answers or (not known and tag in unwelcome):
            continue
        if tag in ANSWERS_TAGS:
            answers.add(tag)
        found.append(one)
    return found if known else found[:STRANGERS_MESSAGES_MAX]
