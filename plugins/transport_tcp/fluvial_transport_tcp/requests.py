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
from fluvial.waiting import Future, at, future

from fluvial_transport_tcp.framing import Kind, Message

_ID_MAX: Final = 2**32 - 1


class Pending:
    """One request; ``charge`` is the share of the other side's window that it takes until it is answered."""

    __slots__ = ("_answer", "abandoned", "charge", "id", "protocol")

    def __init__(self, request_id: int, protocol: str, charge: int) -> None:
        self.id = request_id
        self.protocol = protocol
        self.charge = charge
        self.abandoned = False
        self._answer: Future[Message | Exception] = future()

    def settle(self, answer: Message | Exception) -> None:
        """The answer is here, or why there will be none."""
        if not self._answer.done():
            self._answer.set_result(answer)

    async def wait(self, peer: str, until: float) -> bytes:
        """The answer's payload.

        Args:
            peer: who is asked.
            until: the deadline, of the loop's clock.

        Raises:
            RemoteProtocolError: the other side answered with an error.
            Unreachable: no answer will come.
            TimeoutError: none came in time.
        """
        timer = at(until, self._expire)
        try:
            answer = await self._answer
        finally:
            timer.cancel()
        if isinstance(answer, Exception):
            raise answer
        if answer.kind is Kind.ERROR:
            text = answer.body.decode(errors="replace")
            raise RemoteProtocolError(f"{peer} answered {self.protocol} with {answer.label}: {text}")
        return answer.body

    def _expire(self) -> None:
        self.settle(TimeoutError())


class Requests:
    """All pending requests of a connection, by id."""

    __slots__ = ("_last_id", "_pending", "_waiting")

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

    def fail_all(self, peer: str, why: str) -> None:
        """The connection is no more."""
        for pending in self._pending.values():
            pending.settle(Unreachable(f"{peer}: no answer to {pending.protocol}: {why}"))
        self._pending.clear()
        self._waiting = 0
