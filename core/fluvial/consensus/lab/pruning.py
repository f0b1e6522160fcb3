"""Logs of the laboratory that begin with a snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fluvial.consensus.replay import snapshot_entries
from fluvial.consensus.snapshot_shelf import ProvenState
from fluvial.consensus.wire import BlockEntry, ProofEntry, SnapshotEntry, decode_entry
from fluvial.encoding import encode


def begun_with(snapshot: ProvenState, log: Iterable[bytes]) -> Sequence[bytes]:
    """A log with a snapshot in place of all blocks up to its own."""
    first = [encode(one) for one in snapshot_entries(snapshot.header, snapshot.proof, snapshot.state)]
    return [*first, *(data for data in log if not _is_before(data, snapshot.header.height))]


def _is_before(data: bytes, height: int) -> bool:
    entry = decode_entry(data)
    match entry:
        case SnapshotEntry():
            return True
        case BlockEntry(block):
            return block.header.height <= height
        case ProofEntry(at):
            return at <= height
    return False
