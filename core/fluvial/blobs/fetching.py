"""Asks a peer for one block: pieces at the same time, each answer no longer than what was asked for, all of it before a deadline."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import anyio
import msgspec

from fluvial.addresses import Contact
from fluvial.blob_id import BlobId
from fluvial.blobs.layout import CHUNK_BYTES
from fluvial.blobs.metrics import BlobMetrics
from fluvial.blobs.wire import PIECE_BYTES_MAX, PROTOCOL, PieceRequest
from fluvial.errors import FluvialError, RemoteProtocolError
from fluvial.identity import PeerId
from fluvial.ports import Peers

PIECE_TIMEOUT_S: Final = 20.0
BLOCK_TIMEOUT_S: Final = 60.0
"""A source that delivers less than a chunk in this time, 4 KiB a second, is too slow."""

PIECES_AT_ONCE: Final = 6
"""Requests to one peer at the same time, over all downloads: a whole chunk; a peer takes 8 from each sender."""


class _Places(msgspec.Struct):
    """The places for requests to one peer, while somebody uses them."""

    free: anyio.Semaphore = msgspec.field(default_factory=lambda: anyio.Semaphore(PIECES_AT_ONCE))
    users: int = 0


class BlockFetcher:
    """Asks other peers for blocks; one for all downloads of a node."""

    def __init__(self, peers: Peers, *, metrics: BlobMetrics) -> None:
        self._peers = peers
        self._received = metrics.received_bytes
        self._places: dict[PeerId, _Places] = {}

    async def fetch(self, source: PeerId | Contact, blob: BlobId, number: int, length: int | None) -> bytes:
        """What a peer says a block is; nothing is verified.

        Args:
            source: whom to ask.
            blob: the blob.
            number: of the block in it.
            length: how many bytes it has; None if that is not known yet.

        Raises:
            Unreachable: the peer cannot be reached or did not answer.
            RemoteProtocolError: it answered with an error, or with more than it was asked for.
            TimeoutError: it is too slow.
        """
        with anyio.fail_after(BLOCK_TIMEOUT_S):
            if length is not None:
                return b"".join(await self._pieces(source, blob, number, 0, length))
            head = await self._piece(source, blob, number, 0, PIECE_BYTES_MAX)
            if len(head) < PIECE_BYTES_MAX:
                return head
            return b"".join([head, *await self._pieces(source, blob, number, PIECE_BYTES_MAX, CHUNK_BYTES)])

    async def _pieces(
        self, source: PeerId | Contact, blob: BlobId, number: int, begin: int, end: int
    ) -> Sequence[bytes]:
        offsets = range(begin, end, PIECE_BYTES_MAX)
        answers = [b""] * len(offsets)
        errors: list[FluvialError] = []

        async def one(place: int, offset: int) -> None:
            try:
                length = min(PIECE_BYTES_MAX, end - offset)
                answers[place] = await self._piece(source, blob, number, offset, length)
            except FluvialError as error:
                errors.append(error)
                tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            for place, offset in enumerate(offsets):
                tasks.start_soon(one, place, offset)
        if errors:
            raise errors[0]
        return answers

    async def _piece(self, source: PeerId | Contact, blob: BlobId, number: int, offset: int, length: int) -> bytes:
        request = PieceRequest(blob=str(blob), block=number, offset=offset, length=length)
        async with self._place(source.peer if isinstance(source, Contact) else source):
            answer = await self._peers.request(source, PROTOCOL, request.encoded(), timeout_s=PIECE_TIMEOUT_S)
        self._received.inc(len(answer))
        if len(answer) > length:
            raise RemoteProtocolError(f"a piece of {length:,} bytes was answered with {len(answer):,}")
        return answer

    @asynccontextmanager
    async def _place(self, peer: PeerId) -> AsyncIterator[None]:
        places = self._places.setdefault(peer, _Places())
        places.users += 1
        try:
            async with places.free:
                yield
        finally:
            places.users -= 1
            if places.users == 0:
                del self._places[peer]
