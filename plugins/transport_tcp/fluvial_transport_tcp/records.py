"""TLS records in what came from the wire, before anything is decrypted; no I/O.

The headers of records are in clear (RFC 8446 5.1, 5.2). So TLS can be given a few whole records at a time, and what comes out is compared with what went in.
"""

from __future__ import annotations

from typing import Final

HEADER_BYTES: Final = 5
BODY_BYTES_MAX: Final = 16_384 + 256
"""RFC 8446 5.2."""
KINDS: Final = range(20, 24)
"""Content types: change_cipher_spec, alert, handshake, application_data."""
ENCRYPTED: Final = 23
"""The outer content type of every record that is encrypted."""


class RecordQueue:
    """Bytes from the wire that TLS has not been given yet."""

    __slots__ = ("_chunk_bytes", "_data")

    def __init__(self) -> None:
        self._data = memoryview(b"")
        self._chunk_bytes = 0  # of which that is the rest

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes from the wire."""
        self._data = memoryview(b"".join((self._data, data)) if self._data else data)
        self._chunk_bytes = len(self._data)

    def discard(self) -> None:
        """Hold nothing more."""
        self._data = memoryview(b"")

    def take(self, count_max: int, bytes_max: int) -> tuple[memoryview, int]:
        """The next whole records, and how many: one if it is complete, however long, and those behind it up to both limits.

        From where the bytes are no record on, all are handed on as one: TLS says what is wrong with them.
        """
        data, end, count = self._data, 0, 0
        size = len(data)
        while count < count_max and end + HEADER_BYTES <= size:
            body_bytes = data[end + 3] << 8 | data[end + 4]
            if data[end] not in KINDS or data[end + 1] != 3 or body_bytes > BODY_BYTES_MAX:
                end, count = size, count + 1
                break
            after = end + HEADER_BYTES + body_bytes
            if after > size or (count and after > bytes_max):
                break
            end, count = after, count + 1
        if count:
            self._data = data[end:] if end < size else memoryview(b"")
        elif size < self._chunk_bytes:  # the beginning of a record must not keep a long chunk in memory
            self._data = memoryview(bytes(data))
            self._chunk_bytes = size
        return data[:end], count
