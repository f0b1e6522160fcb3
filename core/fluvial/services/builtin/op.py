"""``op``: the small operations that every script needs."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from fluvial.effectors import U8, Effector, NoConfig, function
from fluvial.errors import ServiceError
from fluvial.identity import base58_decode, base58_encode
from fluvial.services.builtin.pieces import bytes_of
from fluvial.services.status import Status

NOTHING: Final = ""
"""The result of functions that have nothing to return, as in the reference."""

BASE58_BYTES_MAX: Final = 4_096
"""The time of base58 grows faster than the length: 4 KiB take a millisecond or two."""

_SHA2_256: Final = bytes((0x12, 32))
"""Multihash prefix: code of SHA-256, length of the digest."""


class Op(Effector[NoConfig]):
    """Operations on arrays, strings and bytes."""

    service_id = "op"
    pure = True

    @function(inline=True)
    def noop(self, *values: Any) -> str:
        """Does nothing, with any arguments; gives the empty string."""
        return NOTHING

    @function(inline=True)
    def identity(self, value: Any = NOTHING) -> Any:
        """Its argument; without one the empty string."""
        return value

    @function(inline=True)
    def array(self, *values: Any) -> list[Any]:
        """All arguments as one array."""
        return list(values)

    @function(inline=True)
    def array_length(self, array: list[Any]) -> int:
        """How many elements an array has."""
        return len(array)

    @function(inline=True)
    def concat(self, *arrays: list[Any]) -> list[Any]:
        """The elements of all arrays in one."""
        return [element for array in arrays for element in array]

    @function(inline=True)
    def concat_strings(self, *strings: str) -> str:
        """All strings in one."""
        return "".join(strings)

    @function(inline=True)
    def string_to_b58(self, string: str) -> str:
        """The base58 text (Bitcoin's alphabet) of a string's UTF-8 bytes, of which there may be 4,096."""
        return _to_base58(string.encode())

    @function(inline=True)
    def string_from_b58(self, b58_string: str) -> str:
        """The string whose UTF-8 bytes a base58 text stands for."""
        try:
            return _from_base58(b58_string).decode()
        except UnicodeDecodeError as error:
            raise ServiceError(Status.NO_RESULT, f"the decoded bytes are no UTF-8 text: {error}") from error

    @function(inline=True)
    def bytes_to_b58(self, bytes_: list[U8]) -> str:
        """The base58 text (Bitcoin's alphabet) of bytes, of which there may be 4,096."""
        return _to_base58(bytes_of(bytes_))

    @function(inline=True)
    def bytes_from_b58(self, b58_string: str) -> list[U8]:
        """The bytes that a base58 text stands for."""
        return list(_from_base58(b58_string))

    @function(inline=True)
    def sha256_string(
        self, string: str, digest_only: bool | None = None, as_bytes: bool | None = None
    ) -> str | list[U8]:
        """SHA-256 of a string's UTF-8 bytes.

        By default the base58 text of the multihash (`12 20` and the digest). With `digest_only` without these two bytes; with
        `as_bytes` as an array of bytes.
        """
        # Deviation: the reference node wraps the string itself as if it were a digest and fails over 64 bytes; its own JavaScript
        # client and the documentation hash, and so do we.
        digest = hashlib.sha256(string.encode()).digest()
        result = digest if digest_only else _SHA2_256 + digest
        return list(result) if as_bytes else base58_encode(result)


def _to_base58(data: bytes) -> str:
    if len(data) > BASE58_BYTES_MAX:
        raise ServiceError(
            Status.NO_RESULT, f"{len(data):,} bytes are too many for base58: at most {BASE58_BYTES_MAX:,}"
        )
    return base58_encode(data)


def _from_base58(text: str) -> bytes:
    # Deviation: bounded, because base58 is slow and anybody may call; the reference has no limit.
    if len(text) > BASE58_BYTES_MAX * 3 // 2:
        raise ServiceError(
            Status.NO_RESULT, f"{len(text):,} characters of base58 are too many: at most {BASE58_BYTES_MAX * 3 // 2:,}"
        )
    try:
        return base58_decode(text)
    except ValueError as error:
        raise ServiceError(Status.NO_RESULT, f"this is no base58 text: {error}") from error
