"""Messages to other peers: a bounded queue for each, emptied by one task, several messages in a frame. Delivery is best effort: engines repeat themselves."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

import anyio
from anyio.abc import TaskGroup

from fluvial.encoding import decode, encode
from fluvial.errors import LocalProtocolError, RemoteProtocolError, Unreachable
from fluvial.identity import PeerId
from fluvial.ports import Peers

FRAME_BYTES: Final = 262_144
"""A frame takes no further message once it is as large."""
FRAME_BYTES_MAX: Final = 4 << 20
"""What is taken of others: a history, or a proposal with what justifies it."""
FRAME_MESSAGES_MAX: Final = 256
WAITING_MAX: Final = 1_024
WAITING_BYTES_MAX: Final = 8 << 20
PAUSE_MIN_S: Final = 0.05
PAUSE_MAX_S: Final = 1.0


class _Queue:
    """What waits for one peer; the oldest goes if there is no room."""

    __slots__ = ("bytes", "messages", "wake")

    def __init__(self) -> None:
        self.messages: deque[bytes] = deque()
        self.bytes = 0
        self.wake = anyio.Event()

    def put(self, message: bytes) -> None:
        while self.messages and (len(self.messages) >= WAITING_MAX or self.bytes + len(message) > WAITING_BYTES_MAX):
            self.bytes -= len(self.messages.popleft())
        self.messages.append(message)
        self.bytes += len(message)
        self.wake.set()

    def frame(self) -> Sequence[bytes]:
        taken: list[bytes] = []
        size = 0
        while (
            self.messages
            and len(taken) < FRAME_MESSAGES_MAX
            and (not taken or size + len(self.messages[0]) <= FRAME_BYTES)
        ):
            taken.append(self.messages.popleft())
            size += len(taken[-1])
        self.bytes -= size
        return taken

    def clear(self) -> None:
        self.messages.clear()
        self.bytes = 0


class Messenger:
    """Sends messages of one protocol.

    Args:
        peers: the port.
        protocol: its name.
        tasks: runs a task for each peer that is sent to.
        peers_max: to so many different ones; messages to further peers are dropped.
    """

    def __init__(self, peers: Peers, protocol: str, tasks: TaskGroup, *, peers_max: int) -> None:
        self._peers, self._protocol, self._tasks = peers, protocol, tasks
        self._peers_max = peers_max
        self._queues: dict[PeerId, _Queue] = {}

    def send(self, to: PeerId, message: bytes) -> None:
        """Send a message when its turn comes; returns at once."""
        queue = self._queues.get(to)
        if queue is None:
            if len(self._queues) >= self._peers_max:
                return
            queue = self._queues[to] = _Queue()
            self._tasks.start_soon(self._empty, to, queue)
        queue.put(message)

    def broadcast(self, to: Iterable[PeerId], message: bytes) -> None:
        """Send a message to several peers."""
        for peer in to:
            self.send(peer, message)

    def is_idle(self, to: PeerId) -> bool:
        """Whether nothing waits for a peer."""
        queue = self._queues.get(to)
        return queue is None or not queue.messages

    async def _empty(self, to: PeerId, queue: _Queue) -> None:
        pause_s = PAUSE_MIN_S
        while True:
            with anyio.move_on_after(60.0):
                await queue.wake.wait()
            if not queue.messages:
                del self._queues[to]  # nothing for a minute: whoever is sent to again gets a new task
                return
            try:
                while queue.messages:
                    await self._peers.send(to, self._protocol, encode(list(queue.frame())))
                pause_s = PAUSE_MIN_S
            except (Unreachable, RemoteProtocolError, LocalProtocolError):
                queue.clear()  # what is older than the peer's return is of no use to it: engines repeat what matters
                await anyio.sleep(pause_s)
                pause_s = min(2 * pause_s, PAUSE_MAX_S)
            if not queue.messages:
                queue.wake = anyio.Event()


def messages_of(payload: bytes) -> Sequence[bytes]:
    """The messages of a frame.

    Raises:
        RemoteProtocolError: it is none, or has too many.
    """
    found = decode(payload, list[bytes], what="frame of the consensus")
    if len(found) > FRAME_MESSAGES_MAX:
        raise RemoteProtocolError(f"a frame has at most {FRAME_MESSAGES_MAX} messages")
    return found
