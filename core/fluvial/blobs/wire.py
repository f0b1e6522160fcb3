"""The messages of ``/fluvial/blob/1``: a request for a piece of a block, and the plain bytes that answer it.

A block is named by the blob and its number in it (``fluvial.blobs.layout``), not by a hash of its own: so a peer needs no index of all
its chunks, and it knows which blob is asked for. The answer has as many bytes as were asked for, or fewer if the block ends before; none
if the piece begins behind its end.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from fluvial.blob_id import ID_CHARACTERS, BlobId
from fluvial.blobs.layout import CHUNK_BYTES
from fluvial.encoding import decode, encode
from fluvial.errors import RemoteProtocolError

PROTOCOL: Final = "/fluvial/blob/1"
PIECE_BYTES_MAX: Final = 49_152
"""48 KiB: with its header it fits into 64 KiB, the only size of message that every peer takes."""

REQUEST_BYTES_MAX: Final = 128
"""The largest request has 79 bytes."""


class PieceRequest(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True):
    """Asks for a piece of a block.

    Attributes:
        blob: the id of the blob.
        block: the number of the block in it; 0 is the root.
        offset: where in the block the piece begins.
        length: the most bytes that may be answered.
    """

    blob: Annotated[str, Meta(min_length=ID_CHARACTERS, max_length=ID_CHARACTERS)]
    block: Annotated[int, Meta(ge=0, lt=2**40)]
    offset: Annotated[int, Meta(ge=0, le=CHUNK_BYTES)]
    length: Annotated[int, Meta(ge=1, le=PIECE_BYTES_MAX)]

    def encoded(self) -> bytes:
        """The bytes of the request."""
        return encode(self)


def decode_request(payload: bytes) -> tuple[BlobId, PieceRequest]:
    """A request that came, with the blob's id in it checked.

    Raises:
        RemoteProtocolError: the bytes are no request.
    """
    request = decode(payload, PieceRequest, what="request for a piece of a blob")
    try:
        return BlobId.parse(request.blob), request
    except ValueError as error:
        raise RemoteProtocolError(f"this is no request for a piece of a blob: {error}") from error
