"""Reading the log back: a snapshot, if there is one, then blocks, proofs, evidence and the engine's records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from fluvial.consensus.block_chain import BlockChain
from fluvial.consensus.executor import Executor
from fluvial.consensus.snapshot_shelf import ProvenState, SnapshotShelf
from fluvial.consensus.wire import (
    BlockEntry,
    EpochEntry,
    EvidenceEntry,
    ForgetEntry,
    ProofEntry,
    RecordEntry,
    SnapshotEntry,
    decode_entry,
)
from fluvial.errors import RemoteProtocolError
from fluvial.ledger.blocks import BlockHeader, FinalityProof
from fluvial.ledger.snapshots import CHUNK_BYTES_MAX, StateAssembly, chunk_at
from fluvial.ledger.state import State
from fluvial.ledger.statements import Evidence


class LogReplay:
    """Takes the entries of a log in order.

    Args:
        chain: of the replica, as it is at the genesis.
        executor: of the replica.
        shelf: what others are handed out.

    Attributes:
        records: of engines.
        evidence: by the offender's key.
    """

    def __init__(self, chain: BlockChain, executor: Executor, shelf: SnapshotShelf) -> None:
        self.records: list[RecordEntry] = []
        self.evidence: dict[bytes, Evidence] = {}
        self._chain, self._executor, self._shelf = chain, executor, shelf
        self._snapshot: tuple[BlockHeader, StateAssembly] | None = None

    def take(self, data: bytes) -> None:
        """The next entry.

        Raises:
            RemoteProtocolError: it is of another version or another ledger, or does not fit to those before.
        """
        entry = decode_entry(data)
        match entry:
            case SnapshotEntry():
                self._restore(entry)
            case EpochEntry(step):
                self._shelf.steps[step.header.epoch] = step
            case RecordEntry():
                if entry.fresh:
                    self.records.clear()
                self.records.append(entry)
            case ForgetEntry(keep=keep):
                del self.records[: max(0, len(self.records) - keep)]
            case BlockEntry(block, proof):
                if block.header.height > self._chain.tip.height:
                    done = self._executor.replay(block)
                    self._shelf.note(block, done.state, terminal=done.terminal)
                if proof is not None:
                    self._prove(block.header.height, proof)
            case ProofEntry(height, proof):
                self._prove(height, proof)
            case EvidenceEntry(evidence):
                self.evidence[evidence.offender] = evidence

    def _prove(self, height: int, proof: FinalityProof) -> None:
        self._chain.store.put_proof(height, proof)
        if self._chain.store.has(height):
            self._shelf.prove(height, proof)

    def finish(self) -> None:
        """There are no more entries.

        Raises:
            RemoteProtocolError: the end of a snapshot is missing.
        """
        if self._snapshot is not None:
            raise RemoteProtocolError("the log's snapshot has no end")

    def _restore(self, entry: SnapshotEntry) -> None:
        if self._snapshot is None:
            if self._chain.tip.height or entry.header.chain != self._chain.id:
                raise RemoteProtocolError("a snapshot stands at the beginning of a log, and is of its ledger")
            self._snapshot = entry.header, StateAssembly(entry.header.state)
        header, assembly = self._snapshot
        if entry.header != header:
            raise RemoteProtocolError("two snapshots are mixed in the log")
        assembly.add(entry.chunk)
        if assembly.missing is None:
            self._snapshot = None
            self._chain.restore(header, entry.proof)
            self._executor.state = assembly.state
            self._shelf.put(ProvenState(header, entry.proof, assembly.state))


def snapshot_entries(
    header: BlockHeader, proof: FinalityProof, state: State, *, bytes_max: int = CHUNK_BYTES_MAX
) -> Iterator[SnapshotEntry]:
    """The entries with which a log begins in place of all blocks up to one.

    Args:
        header: of a final block of the ledger.
        proof: shows that it is final.
        state: after it.
        bytes_max: of a chunk.
    """
    assembly = StateAssembly(header.state)
    while (start := assembly.missing) is not None:
        chunk = chunk_at(state, start, bytes_max=bytes_max)
        assembly.skip(chunk)
        yield SnapshotEntry(header, proof, chunk)


def replayed(log: Iterable[bytes], chain: BlockChain, executor: Executor, shelf: SnapshotShelf) -> LogReplay:
    """A log that was read to its end; chain, executor and shelf are as they were when it was written."""
    replay: Final = LogReplay(chain, executor, shelf)
    for data in log:
        replay.take(data)
    replay.finish()
    return replay
