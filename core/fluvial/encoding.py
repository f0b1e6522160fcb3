"""The canonical binary encoding of everything that is signed, hashed or sent.

MessagePack, restricted to one byte string per value: every integer, string, array and map header in its shortest form, floats always
64 bit, the keys of maps text in ascending UTF-8 order, records as arrays of their fields. :func:`decode` refuses any other
form, so bytes that were hashed or signed need not be kept: encoding the value again gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from fluvial.errors import RemoteProtocolError

T = TypeVar("T")

_encoder = msgspec.msgpack.Encoder(order="deterministic")


def encode(value: Any) -> bytes:
    """The canonical bytes of a record or a JSON value.

    Raises:
        OverflowError: an integer is outside of -2**63 … 2**64 - 1.
        TypeError, ValueError: the value cannot be encoded.
    """
    return _encoder.encode(value)


@lru_cache(maxsize=64)
def _decoder(kind: Hashable) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(kind)


def decode(data: bytes, kind: type[T], *, what: str) -> T:
    """The record of a type that canonical bytes stand for.

    Args:
        data: what was received.
        kind: the expected type.
        what: the name of the record in errors, such as ``"particle"``.

    Raises:
        RemoteProtocolError: the bytes are no canonical encoding of such a record.
    """
    try:
        value: T = _decoder(kind).decode(data)  # type: ignore[arg-type]  # types are hashable
        again = _encoder.encode(value)
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise RemoteProtocolError(f"this is no {what}: {error}") from error
    if again != data:
        raise RemoteProtocolError(f"this {what} is not in the canonical encoding")
    return value
