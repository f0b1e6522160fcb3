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

from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec
from fluvial.errors import RemoteProtocolError, Unreachable
from fluvial.identity import PeerId
from fluvial.timer_wheel import TimerWheel, WheelTimer

from fluvial_transport_tcp.framing import Kind, Message

_ID_MAX: Final = 2**32 - 1


Found: TypeAlias = bytes | Exception
"""The answer's payload, or why there is none."""


class Pending(msgspec.Struct, eq=False):
    """One request.

    Attributes:
        id: its id.
        peer: who is asked, for messages.
        protocol: its label.
        charge: the share of the other side's window that it takes until it is answered.
        teller: called once with what was found: RemoteProtocolError if the other side answers with an error, Unreachable if no answer will come.
        timer: gives it up.
        abandoned: nobody waits for it any more.
    """

    id: int
    peer: PeerId
    protocol: str
    charge: int
    teller: Callable[[Found], object] | None
    timer: WheelTimer | None = None
    abandoned: bool = False

    def expire_at(self, wheel: TimerWheel, until: float, expire: Callable[[], None]) -> None:
        """Call ``expire`` at a time of the loop's clock, unless somebody is told before."""
        self.timer = wheel.at(until, expire)

    def answer(self, answer: Message) -> None:
        """The answer is here."""
        if answer.kind is Kind.ERROR:
            text = answer.body.decode(errors="replace")
            self.tell(RemoteProtocolError(f"{self.peer} answered {self.protocol} with {answer.label}: {text}"))
        else:
            self.tell(answer.body)

    def fail(self, why: str) -> None:
        """No answer will come."""
        self.tell(Unreachable(f"{self.peer}: no answer to {self.protocol}: {why}"))

    def tell(self, found: Found | None) -> None:
        """Tell whoever waits, once; nobody, if it is None, and nobody later."""
        tell, self.teller = self.teller, None
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if tell is not None and found is not None:
            tell(found)


def not_made(number: int) -> RemoteProtocolError:
    """What is wrong with an answer to a request that does not wait for one."""
    return RemoteProtocolError(f"it answers request {number}, which was not made")


class Requests:
    """All pending requests of a connection, by id."""

    __slots__ = ("_last_id", "_pending", "_waiting")

    def __init__(self) -> None:
        self._pending: dict[int, Pending] = {}
        self._last_id = 0
        self._waiting = 0

    def __contains__(self, number: int) -> bool:
        """Whether the answer to a request with this id is still to come."""
        return number in self._pending

    @property
    def waiting(self) -> int:
        """How many somebody waits for."""
        return self._waiting

    def open(self, peer: PeerId, protocol: str, charge: int, tell: Callable[[Found], object]) -> Pending:
        """A new request with an id that no other pending one has; arguments as for :class:`Pending`."""
        self._last_id = self._last_id % _ID_MAX + 1
        while self._last_id in self._pending:
            self._last_id = self._last_id % _ID_MAX + 1
        pending = self._pending[self._last_id] = Pending(self._last_id, peer, protocol, charge, tell)
        self._waiting += 1
        return pending

    def abandon(self, pending: Pending, found: Found | None = None) -> None:
        """Nobody waits for it any more, which whoever does is told if there is something to tell; it stays known, for its answer is still to come and frees its share of the window."""
        if self._pending.get(pending.id) is pending and not pending.abandoned:
            pending.abandoned = True
            self._waiting -= 1
            pending.tell(found)

    def settle(self, answer: Message) -> Pending:
        """Hand an answer to whom it is for.

        Raises:
            RemoteProtocolError: there is no such request.
        """
        pending = self._pending.pop(answer.id, None)
        if pending is None:
            raise not_made(answer.id)
        if not pending.abandoned:
            self._waiting -= 1
            pending.answer(answer)
        return pending

    def fail_all(self, why: str) -> None:
        """The connection is no more."""
        pending, self._pending, self._waiting = self._pending, {}, 0
        for one in pending.values():
            one.fail(why)
