"""Which messages of this side may go into the queue of a connection: what the other side's window and the queue have room for."""

from __future__ import annotations

from fluvial_transport_tcp.credit import CreditClosed, CreditWindow
from fluvial_transport_tcp.handling import MESSAGE_COST_BYTES
from fluvial_transport_tcp.keepalive import KeepAlive
from fluvial_transport_tcp.waiting import Deadline, take_credit
from fluvial_transport_tcp.writing import FrameWriter


class NotSent(Exception):
    """The connection took no more messages before this one was in its queue: use another connection."""


class MessageAdmission:
    """The credit of one connection.

    Args:
        window_bytes: what the other side lets be under way.
        writer: has the queue.
        life: marked when a message goes.
    """

    __slots__ = ("_credit", "_life", "_writer")

    def __init__(self, window_bytes: int, writer: FrameWriter, life: KeepAlive) -> None:
        self._credit = CreditWindow(window_bytes)
        self._writer = writer
        self._life = life

    def at_once(self, size: int) -> int | None:
        """The charge of a frame, if there is credit for it and room in the queue; None if either has to be waited for.

        Raises:
            NotSent: the connection takes no more messages.
        """
        charge = MESSAGE_COST_BYTES + size
        try:
            if not self._credit.take(charge):
                return None
            if not self._writer.reserve_now(size):
                self._credit.give(charge)
                return None
        except CreditClosed:
            raise NotSent from None
        self._life.active = True
        return charge

    async def wait(self, size: int, deadline: Deadline | None = None) -> int:
        """The charge of a frame, once there is credit for it and room in the queue; raises as :meth:`at_once`, and TimeoutError."""
        charge = MESSAGE_COST_BYTES + size
        try:
            await take_credit(self._credit, charge, deadline)
            try:
                await self._writer.reserve(size, deadline)
            except BaseException:
                self._credit.give(charge)
                raise
        except CreditClosed:
            raise NotSent from None
        self._life.active = True
        return charge

    def give(self, charge: int) -> None:
        """A message is handled."""
        self._credit.give(charge)

    def close(self) -> None:
        """Admit nothing more."""
        self._credit.close()
