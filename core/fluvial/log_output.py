"""Where the lines of the log go: whatever becomes of the stream, the node goes on.

A full disk, a reader that has gone, a closed stream: such a line is lost, and counted; the next one that is written says how many were. A reader that is
slow, of a pipe or a terminal, does not hold up the event loop either: lines wait in memory, and a thread hands them on, as long as any wait. All lines
for a terminal go that way: whether it takes a whole line without waiting cannot be known.
"""

from __future__ import annotations

import atexit
import os
import select
import stat
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any, Final, TextIO

from structlog.typing import EventDict

from fluvial.findings import Finding

WAITING_BYTES_MAX: Final = 2**20
"""Lines that wait for a slow reader; further ones are lost."""
LAST_LINES_S: Final = 1.0
"""How long the end of the process waits for the reader of what waits, in seconds."""
AT_ONCE: Final = getattr(select, "PIPE_BUF", 512)
"""Bytes that a pipe takes without waiting if it can be written to at all. Source: POSIX, "write"."""
_THREAD: Final = "fluvial: log"
_MADE_TO_WAIT: Final = (stat.S_ISFIFO, stat.S_ISSOCK, stat.S_ISCHR)
"""Kinds of files that have a reader who may be slow."""


class LogOutput:
    """Takes lines; the file of a ``structlog`` logger. Used from any thread.

    Args:
        file: where to; None if there is no such stream, and all lines are lost.

    Attributes:
        lost: lines that were lost since the last one that was written.
        lost_in_all: lines that were lost since it was made.
        why: what went wrong with the last one that was lost.
        for_people: whether it is a terminal.
    """

    def __init__(self, file: TextIO | None) -> None:
        self.lost = 0
        self.lost_in_all = 0
        self.why = ""
        self._file = file
        self._handle = _handle(file)
        self._poll = _poll(self._handle)
        self.for_people: Final = self._handle is not None and os.isatty(self._handle)
        self._torn = False
        self._lock = threading.Lock()
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._busy = False
        if self._poll is not None:
            atexit.register(self._finish)

    def tell_lost(self, logger: object, method: str, fields: EventDict) -> EventDict:
        """A processor of structlog: a line says how many before it were lost, and why."""
        if self.lost:
            fields["lines_lost"], fields["lines_lost_because"] = self.lost, self.why
        return fields

    def health(self) -> Iterator[Finding]:
        """Lines that were lost."""
        if self.lost_in_all:
            now = "and they still are" if self.lost else "but they are written again"
            yield Finding(
                level="warn",
                subject="log",
                text=f"{self.lost_in_all:,} lines were lost, {now}: {self.why}",
                hint="see to the disk, or the program, to which the peer's stderr goes; the peer itself goes on",
            )

    def msg(self, message: str) -> None:
        """Write a line."""
        with self._lock:
            if self._handle is None:
                went_well = self._write_to_file(message)
            else:
                line = message.encode(errors="backslashreplace") + b"\n"
                went_well = self._write(line) if self._poll is None else self._hand_over(line)
            if went_well:
                self.lost = 0  # it has told how many

    log = debug = info = warn = warning = msg
    fatal = failure = err = error = critical = exception = msg

    def _write_to_file(self, message: str) -> bool:
        """To a stream that is no file of the system, such as a text in memory; whether that went well."""
        try:
            if self._file is None:
                raise OSError("there is no such stream")
            self._file.write(f"{message}\n")
            self._file.flush()
        except (OSError, ValueError) as error:  # ValueError: it is closed
            return self._lose(error)
        return True

    def _write(self, line: bytes) -> bool:
        """To a file; whether that went well. A line of which only a part was written ends there."""
        assert self._handle is not None
        whole = b"\n" + line if self._torn else line
        rest = memoryview(whole)
        try:
            while rest:
                rest = rest[os.write(self._handle, rest) :]
        except OSError as error:
            self._torn = self._torn or len(rest) < len(whole)
            return self._lose(error)
        self._torn = False
        return True

    def _hand_over(self, line: bytes) -> bool:
        """To a reader: as much as it takes at once, the rest by a thread; whether that went well."""
        rest = line
        while rest and not self._busy and self._takes_at_once():
            if not self._write(rest[:AT_ONCE]):
                self._torn = len(rest) < len(line)
                return False
            rest = rest[AT_ONCE:]
        if self._waiting_bytes + len(rest) > WAITING_BYTES_MAX:
            self._torn = len(rest) < len(line)
            return self._lose(OSError("whoever reads them is too slow"))
        if rest:
            self._waiting.append(rest)
            self._waiting_bytes += len(rest)
            if not self._busy:
                self._busy = True
                threading.Thread(target=self._catch_up, name=_THREAD, daemon=True).start()
        return True

    def _takes_at_once(self) -> bool:
        """Whether a part of :data:`AT_ONCE` bytes can be written now without waiting. A terminal may have room for a few of them, and then nobody reads on."""
        return not self.for_people and self._poll is not None and bool(self._poll.poll(0))

    def _catch_up(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._busy = False
                    return
                line = self._waiting.popleft()
            self._write(line)
            with self._lock:
                self._waiting_bytes -= len(line)

    def _lose(self, error: Exception) -> bool:
        self.lost += 1
        self.lost_in_all += 1
        self.why = str(error)
        return False

    def _finish(self) -> None:
        """The end of the process: give the reader a moment for the last lines."""
        writer = next((one for one in threading.enumerate() if one.name == _THREAD), None)
        if writer is not None:
            writer.join(LAST_LINES_S)


def _handle(file: TextIO | None) -> int | None:
    """The descriptor of a stream; None if it has none."""
    try:
        return None if file is None else file.fileno()
    except (OSError, ValueError):  # io.UnsupportedOperation is both; ValueError: it is closed
        return None


def _poll(handle: int | None) -> Any | None:
    """What says whether the stream can be written to at once; None if it always can."""
    if handle is None or not hasattr(select, "poll"):
        return None
    try:
        kind = os.fstat(handle).st_mode
    except OSError:
        return None
    if not any(is_one(kind) for is_one in _MADE_TO_WAIT):
        return None
    poll = select.poll()
    poll.register(handle, select.POLLOUT)
    return poll
