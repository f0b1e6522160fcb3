"""The messages between two peers as bytes, without I/O.

A frame is a fixed header, a short label and a body; all numbers are big-endian::

    size  4 bytes   label and body together
    kind  1 byte    see :class:`Kind`
    label length    1 byte
    id    4 bytes
    label           UTF-8
    body

A fixed header rather than MessagePack around the body: the body, up to megabytes, is written from where it lies instead of being
copied into an encoding (for 1 KB both cost the same microsecond, for 8 MB the copy costs milliseconds).
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NamedTuple

import msgspec
from fluvial.errors import RemoteProtocolError

_HEADER: Final = struct.Struct(">IBBI")
HEADER_BYTES: Final = _HEADER.size
LABEL_BYTES_MAX: Final = 255
TEXT_BYTES_MAX: Final = 1024
"""Of an error or a goodbye: more would be read, decoded and logged of whoever was asked something."""
JOINED_BYTES_MAX: Final = 16_384
"""A body up to this size is copied behind its header, so that both leave in one TLS record (16 KiB, RFC 8446 5.1)."""


class Kind(IntEnum):
    """What a frame is; the values are part of the wire format."""

    HELLO = 1  # body: the sender's Hello; the first message of each side, and never again
    REQUEST = 2  # id: chosen by the sender; label: protocol; body: payload
    ANSWER = 3  # id: of the request; body: payload
    ERROR = 4  # id: of the request; label: error code; body: text
    ONE_WAY = 5  # label: protocol; body: payload
    CREDIT = 6  # id: bytes of handled one-way messages that the other side may send anew
    PING = 7  # id: any number
    PONG = 8  # id: the ping's
    GOODBYE = 9  # label: reason; body: text for people; the sender will begin nothing new


class Message(msgspec.Struct, frozen=True, gc=False):
    """One message; fields that its kind does not use are empty."""

    kind: Kind
    id: int = 0
    label: str = ""
    body: bytes = b""


class _Uses(NamedTuple):
    id: bool = False
    label: bool = False
    body: bool = False
    text: bool = False  # which the body is


_ALL: Final = _Uses(id=True, label=True, body=True)
_USES: Final = {
    Kind.HELLO: _Uses(body=True),
    Kind.REQUEST: _ALL,
    Kind.ANSWER: _Uses(id=True, body=True),
    Kind.ERROR: _Uses(id=True, label=True, body=True, text=True),
    Kind.ONE_WAY: _Uses(label=True, body=True),
    Kind.CREDIT: _Uses(id=True),
    Kind.PING: _Uses(id=True),
    Kind.PONG: _Uses(id=True),
    Kind.GOODBYE: _Uses(label=True, body=True, text=True),
}
_KINDS: Final = {int(kind): kind for kind in Kind}


def frame_bytes(label: str, body: bytes) -> int:
    """Size of a message as a frame, before encryption."""
    return HEADER_BYTES + len(label if label.isascii() else label.encode()) + len(body)


def encode_frame(message: Message) -> tuple[bytes, ...]:
    """The frame of a message in one piece, or in two if its body is too long to be copied.

    Raises:
        ValueError: the label has more than 255 bytes.
    """
    label, body = message.label.encode(), message.body
    label_bytes, body_bytes = len(label), len(body)
    if label_bytes > LABEL_BYTES_MAX:
        raise ValueError(f"a label has at most {LABEL_BYTES_MAX} bytes, not {label_bytes}")
    head = _HEADER.pack(label_bytes + body_bytes, message.kind, label_bytes, message.id) + label
    return (head + body,) if body_bytes <= JOINED_BYTES_MAX else (head, body)


class FrameHead(NamedTuple):
    """The header of a frame; ``frame_bytes`` is the size of all of it."""

    kind: Kind
    id: int
    label_bytes: int
    frame_bytes: int


LONG_BYTES: Final = 65_536
"""A longer frame that arrives in parts gets a buffer of its own, as large as it will be: one that grows would be moved again and again."""


class Decoder:
    """Takes bytes as they come and yields messages.

    Alternate :meth:`feed` and :meth:`next_message` until it returns None; then never more than one frame and one feed are held. Nothing
    is held when all of it was made into messages.

    Args:
        frame_bytes_max: a frame that says to be larger is refused as soon as its header is here; may be changed between messages.
    """

    def __init__(self, frame_bytes_max: int) -> None:
        self.frame_bytes_max = frame_bytes_max
        self._buffer = bytearray()
        self._start = 0
        self._head: FrameHead | None = None
        self._long: bytearray | None = None
        self._filled = 0  # of the long one

    @property
    def buffered(self) -> int:
        """Bytes held that no message has been made of yet."""
        return len(self._buffer) - self._start + self._filled

    def feed(self, data: bytes) -> None:
        """Add bytes from the other side."""
        if self._start:
            del self._buffer[: self._start]
            self._start = 0
        if self._head is None or self._head.frame_bytes <= LONG_BYTES:
            self._buffer += data
            return
        if self._long is None:
            self._long = bytearray(self._head.frame_bytes)
            begun, self._buffer = self._buffer, bytearray()
            self._fill(begun)
        self._fill(data)

    def discard(self) -> None:
        """Give back what is held; the decoder is of no use afterwards."""
        self._buffer = bytearray()
        self._start = self._filled = 0
        self._long = None

    def _fill(self, data: bytes | bytearray) -> None:
        """Add bytes to the long frame, and what is behind it to the rest."""
        assert self._long is not None
        taken = min(len(data), len(self._long) - self._filled)
        with memoryview(data) as view:
            self._long[self._filled : self._filled + taken] = view[:taken]
            self._buffer += view[taken:]
        self._filled += taken

    @property
    def head(self) -> FrameHead | None:
        """The header of a frame that is not complete, as of the last :meth:`next_message`; None if not even that is here."""
        return self._head

    def next_message(self) -> Message | None:
        """The next complete message, or None if more bytes are needed.

        Raises:
            RemoteProtocolError: the bytes are no frame, or the frame is too large; the decoder is of no use afterwards.
        """
        if self._long is not None:
            return self._long_message(self._long)
        buffer, start = self._buffer, self._start
        here = len(buffer) - start
        if self._head is not None:
            kind, message_id, label_bytes, size = self._head
            if here < size:
                return None
            self._head = None
        else:
            if here < HEADER_BYTES:
                return None
            size, number, label_bytes, message_id = _HEADER.unpack_from(buffer, start)
            kind = self._checked(number, message_id, label_bytes, size)
            size += HEADER_BYTES
            if here < size:
                self._head = FrameHead(kind, message_id, label_bytes, size)
                return None
        message = _message(buffer, start, kind, message_id, label_bytes, size)
        if here == size:
            buffer.clear()  # gives the memory of a long frame back
            self._start = 0
        else:
            self._start = start + size
        return message

    def _long_message(self, frame: bytearray) -> Message | None:
        assert self._head is not None
        if self._filled < len(frame):
            return None
        head, self._head, self._long, self._filled = self._head, None, None, 0
        return _message(frame, 0, head.kind, head.id, head.label_bytes, head.frame_bytes)

    def _checked(self, number: int, message_id: int, label_bytes: int, size: int) -> Kind:
        kind = _KINDS.get(number)
        if kind is None:
            raise RemoteProtocolError(f"there is no message of kind {number}")
        if HEADER_BYTES + size > self.frame_bytes_max:
            raise RemoteProtocolError(
                f"a frame of {HEADER_BYTES + size} bytes is larger than the {self.frame_bytes_max} that are allowed here"
            )
        if label_bytes > size:
            raise RemoteProtocolError("a label is longer than its frame")
        uses = _USES[kind]
        if uses is not _ALL:
            _check_uses(kind, uses, message_id, label_bytes, size - label_bytes)
        return kind


def _check_uses(kind: Kind, uses: _Uses, message_id: int, label_bytes: int, body_bytes: int) -> None:
    if (message_id and not uses.id) or (label_bytes and not uses.label) or (body_bytes and not uses.body):
        raise RemoteProtocolError(f"a {kind.name} has a field that it should not have")
    if uses.text and body_bytes > TEXT_BYTES_MAX:
        raise RemoteProtocolError(f"the text of a {kind.name} has more than {TEXT_BYTES_MAX} bytes")


def _message(buffer: bytearray, start: int, kind: Kind, message_id: int, label_bytes: int, size: int) -> Message:
    label_at, end = start + HEADER_BYTES, start + size
    body_at = label_at + label_bytes
    try:
        label = buffer[label_at:body_at].decode() if label_bytes else ""
        if size <= JOINED_BYTES_MAX:  # to copy it twice takes less time than a view of it
            return Message(kind, message_id, label, bytes(buffer[body_at:end]))
        with memoryview(buffer) as view:
            return Message(kind, message_id, label, bytes(view[body_at:end]))
    except UnicodeDecodeError as error:
        raise RemoteProtocolError(f"the label of a {kind.name} is no UTF-8") from error


class SendQueue:
    """Frames that wait to be written, in order; ``size`` is theirs in bytes, and the bound is the user's."""

    __slots__ = ("_pieces", "size")

    def __init__(self) -> None:
        self._pieces: deque[bytes | memoryview] | None = (
            None  # made anew when something waits: most connections are idle
        )
        self.size = 0

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def put(self, pieces: Sequence[bytes]) -> None:
        """Add a message as :func:`encode_frame` gives it."""
        if self._pieces is None:
            self._pieces = deque()
        self._pieces += pieces
        self.size += sum(map(len, pieces))

    def take(self, bytes_max: int) -> bytes | memoryview:
        """The next bytes: small pieces together, a long one slice by slice and never copied; empty if there are none."""
        pieces = self._pieces
        if not pieces:
            self._pieces = None
            return b""
        if self.size <= bytes_max:
            self._pieces, self.size = None, 0
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        parts: list[bytes | memoryview] = []
        room = bytes_max
        while pieces and room:
            piece = pieces.popleft()
            if len(piece) > room:
                if parts:
                    pieces.appendleft(piece)
                    break
                view = memoryview(piece)
                pieces.appendleft(view[room:])
                piece = view[:room]
            parts.append(piece)
            room -= len(piece)
        self.size -= bytes_max - room
        return parts[0] if len(parts) == 1 else b"".join(parts)
