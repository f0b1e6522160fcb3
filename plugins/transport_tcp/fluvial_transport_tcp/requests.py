"""The requests of this side that wait for their answers.

========= ============================= ==================================================
state     event                         next
========= ============================= ==================================================
waiting   its answer comes              answered; whoever waits has it
waiting   nobody waits any more         abandoned; its share of the other side's window stays in use
waiting   the connection ends           failed; whoever waits hears why
abandoned its answer comes              answered too late: the share is given back, the answer dropped
abandoned the connection ends           gone
========= ============================= ==================================================

An answer to anything else is an error of the other side.
"""

from __future__ import annotations

from typing import Final

from fluvial.errors import RemoteProtocolError, Unreachable
from fluvial.waiting import Event

from fluvial_transport_tcp.framing import Kind, Message

_ID_MAX: Final = 2**32 - 1


class Pending:
    """One request; ``charge`` is the share of the other side's window that it takes until it is answered."""

    __slots__ = ("_answer", "_broken", "_done", "abandoned", "charge", "id", "protocol")

    def __init__(self, request_id: int, protocol: str, charge: int) -> None:
        self.id = request_id
        self.protocol = protocol
        self.charge = charge
        self.abandoned = False
        self._answer: Message | None = None
        self._broken = ""
        self._done = Event()

    def settle(self, answer: Message) -> None:
        """The answer is here."""
        self._answer = answer
        self._done.set()

    def fail(self, why: str) -> None:
        """No answer will come."""
        self._broken = why
        self._done.set()

    async def wait(self, peer: str) -> bytes:
        """The answer's payload.

        Raises:
            RemoteProtocolError: the other side answered with an error.
            Unreachable: no answer will come.
        """
        await self._done.wait()
        if self._answer is None:
            raise Unreachable(f"{peer}: no answer to {self.protocol}: {self._broken}")
        if self._answer.kind is Kind.ERROR:
            text = self._answer.body.decode(errors="replace")
            raise RemoteProtocolError(f"{peer} answered {self.protocol} with {self._answer.label}: {text}")
        return self._answer.body


class Requests:
    """All pending requests of a connection, by id."""

    def __init__(self) -> None:
        self._pending: dict[int, Pending] = {}
        self._last_id = 0
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """How many somebody waits for."""
        return self._waiting

    def open(self, protocol: str, charge: int) -> Pending:
        """A new request with an id that no other pending one has."""
        self._last_id = self._last_id % _ID_MAX + 1
        while self._last_id in self._pending:
            self._last_id = self._last_id % _ID_MAX + 1
        pending = self._pending[self._last_id] = Pending(self._last_id, protocol, charge)
        self._waiting += 1
        return pending

    def abandon(self, pending: Pending) -> None:
        """Nobody waits for it any more; it stays known, for its answer is still to come and frees its share of the window."""
        if self._pending.get(pending.id) is pending and not pending.abandoned:
            pending.abandoned = True
            self._waiting -= 1

    def settle(self, answer: Message) -> Pending:
        """Hand an answer to whom it is for.

        Raises:
            RemoteProtocolError: there is no such request.
        """
        pending = self._pending.pop(answer.id, None)
        if pending is None:
            raise RemoteProtocolError(f"it answers request {answer.id}, which was not made")
        if not pending.abandoned:
            self._waiting -= 1
            pending.settle(answer)
        return pending

    def fail_all(self, why: str) -> None:
        """The connection is no more."""
        for pending in self._pending.values():
            pending.fail(why)
        self._pending.clear()
        self._waiting = 0
