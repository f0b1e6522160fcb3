"""How a connection ends, as a state machine without I/O.

Who wants to end a connection begins nothing new, waits for the answers it is owed, and says goodbye; the other side does the same, and
when both have, the connection is closed. So nothing under way is lost. After an error it is cut at once.

======= ======= ============== =========== =======================================================
phase   retire  hear a goodbye say goodbye what it means
======= ======= ============== =========== =======================================================
OPEN    LEAVING HEARD          not yet     takes messages
LEAVING LEAVING HEARD          SAID        begins nothing new, is still owed answers
HEARD   HEARD   error          DONE        the same, and the other side begins nothing new either
SAID    SAID    DONE           never again waits for the other side's goodbye
DONE    DONE    error          never again closes when all that came is handled and all that waits is written
ENDED   ENDED   ENDED          never again is closed
======= ======= ============== =========== =======================================================

From every phase a cut leads to ENDED.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from fluvial.errors import RemoteProtocolError


class ConnectionPhase(Enum):
    """Where a connection is between its begin and its end."""

    OPEN = auto()
    LEAVING = auto()
    HEARD = auto()
    SAID = auto()
    DONE = auto()
    ENDED = auto()


_RETIRED: Final = {ConnectionPhase.OPEN: ConnectionPhase.LEAVING}
_HEARD: Final = {
    ConnectionPhase.OPEN: ConnectionPhase.HEARD,
    ConnectionPhase.LEAVING: ConnectionPhase.HEARD,
    ConnectionPhase.SAID: ConnectionPhase.DONE,
    ConnectionPhase.ENDED: ConnectionPhase.ENDED,
}
_SAID: Final = {ConnectionPhase.LEAVING: ConnectionPhase.SAID, ConnectionPhase.HEARD: ConnectionPhase.DONE}


class Closing:
    """The phase of one connection."""

    __slots__ = ("phase",)

    def __init__(self) -> None:
        self.phase = ConnectionPhase.OPEN

    @property
    def usable(self) -> bool:
        """Whether new messages may be sent."""
        return self.phase is ConnectionPhase.OPEN

    @property
    def owes_goodbye(self) -> bool:
        """Whether this side says goodbye as soon as it is owed no answers."""
        return self.phase is ConnectionPhase.LEAVING or self.phase is ConnectionPhase.HEARD

    @property
    def goodbye_said(self) -> bool:
        """Whether this side has said goodbye."""
        return self.phase in (ConnectionPhase.SAID, ConnectionPhase.DONE)

    @property
    def goodbye_heard(self) -> bool:
        """Whether the other side has said goodbye, so that it may not begin anything new."""
        return self.phase in (ConnectionPhase.HEARD, ConnectionPhase.DONE)

    def retire(self) -> None:
        """This side wants to end the connection."""
        self.phase = _RETIRED.get(self.phase, self.phase)

    def hear(self) -> None:
        """The other side says goodbye.

        Raises:
            RemoteProtocolError: it has done so before.
        """
        after = _HEARD.get(self.phase)
        if after is None:
            raise RemoteProtocolError("it says goodbye again")
        self.phase = after

    def say(self) -> None:
        """This side says goodbye; only when :attr:`owes_goodbye`."""
        self.phase = _SAID[self.phase]

    def end(self) -> None:
        """The connection is cut, or closed after both goodbyes."""
        self.phase = ConnectionPhase.ENDED
