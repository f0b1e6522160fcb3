"""The blocks that are final at one peer, with their proofs, and what it tells others of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from fluvial.consensus.wire import HistoryAnswer
from fluvial.ledger.blocks import LINKS_MAX, Anchor, BlockHeader, FinalityProof, LedgerBlock
from fluvial.ledger.statements import ValidatorSet, Verify

ANSWER_BLOCKS_MAX: Final = 200
ANSWER_BYTES_MAX: Final = 1 << 18
"""Whoever asks executes an answer in one piece: a block or two that are full, some 0.1 s."""
UNPROVEN_BYTES_MAX: Final = 4 << 20
"""So far it is looked for a block with a proof: nobody takes a larger answer."""
RECENT_BYTES_MAX: Final = 96 << 20
"""Of payloads in memory: those of as many blocks as a proof may reach back, and as votes for checkpoints are gathered for, if each is as large as it may be."""


class BlockStore(Protocol):
    """Where final blocks lie, by height from 1 on."""

    def append(self, block: LedgerBlock) -> None:
        """Keep the next block."""
        ...

    def clear(self) -> None:
        """Forget all; the next block may have any height."""
        ...

    def has(self, height: int) -> bool:
        """Whether a block is there; old ones may be elsewhere."""
        ...

    def block(self, height: int) -> LedgerBlock:
        """A block that is there."""
        ...

    def put_proof(self, height: int, proof: FinalityProof) -> None:
        """Keep the proof of a block."""
        ...

    def proof(self, height: int) -> FinalityProof | None:
        """The proof of a block, if one is known."""
        ...


class BlocksInMemory:
    """All blocks in memory."""

    def __init__(self) -> None:
        self._blocks: dict[int, LedgerBlock] = {}
        self._proofs: dict[int, FinalityProof] = {}

    def append(self, block: LedgerBlock) -> None:
        """Keep the next block."""
        self._blocks[block.header.height] = block

    def clear(self) -> None:
        """Forget all."""
        self._blocks.clear()
        self._proofs.clear()

    def has(self, height: int) -> bool:
        """Whether a block is there."""
        return height in self._blocks

    def block(self, height: int) -> LedgerBlock:
        """A block that is there."""
        return self._blocks[height]

    def put_proof(self, height: int, proof: FinalityProof) -> None:
        """Keep the proof of a block."""
        self._proofs[height] = proof

    def proof(self, height: int) -> FinalityProof | None:
        """The proof of a block, if one is known."""
        return self._proofs.get(height)


class RecentBlocks:
    """The newest blocks in memory, for peers that keep the others elsewhere: so many, of so many bytes together, and the last one in any case.

    Args:
        count: how many.
    """

    def __init__(self, count: int) -> None:
        self._count: Final = count
        self._blocks: deque[LedgerBlock] = deque()
        self._bytes = 0
        self._proofs: dict[int, FinalityProof] = {}

    @property
    def first(self) -> int:
        """The lowest height that is here; 1 as long as nothing was ever dropped."""
        return self._blocks[0].header.height if self._blocks else 1

    def append(self, block: LedgerBlock) -> None:
        """Keep the next block, and drop the oldest if there is no room."""
        self._bytes += len(block.payload)
        while self._blocks and (len(self._blocks) >= self._count or self._bytes > RECENT_BYTES_MAX):
            self._proofs.pop(self.first, None)
            self._bytes -= len(self._blocks.popleft().payload)
        self._blocks.append(block)

    def clear(self) -> None:
        """Forget all."""
        self._blocks.clear()
        self._bytes = 0
        self._proofs.clear()

    def has(self, height: int) -> bool:
        """Whether a block is there."""
        return 0 <= height - self.first < len(self._blocks)

    def block(self, height: int) -> LedgerBlock:
        """A block that is there; raises KeyError for others."""
        if not self.has(height):
            raise KeyError(height)
        return self._blocks[height - self.first]

    def put_proof(self, height: int, proof: FinalityProof) -> None:
        """Keep the proof of a block, if that is there."""
        if self.has(height):
            self._proofs[height] = proof

    def proof(self, height: int) -> FinalityProof | None:
        """The proof of a block, if one is known."""
        return self._proofs.get(height)


class BlockChain:
    """The final blocks of one peer: a list without gaps.

    Args:
        genesis: where it begins.
        store: where the blocks lie.
        name: id of the ledger.

    Attributes:
        tip: the last block.
        base: the height up to which the blocks are not given to others: 0, or that of a snapshot.
    """

    def __init__(self, genesis: Anchor, store: BlockStore, name: bytes = b"") -> None:
        self.tip, self.id, self.base = genesis, name, 0
        self.store = store

    def restore(self, header: BlockHeader, proof: FinalityProof) -> None:
        """Go on behind a later block of whose state there is a snapshot; only its header is known."""
        assert header.height > self.tip.height, "a snapshot leads further"
        self.store.clear()
        self.store.append(LedgerBlock(header))
        self.store.put_proof(header.height, proof)
        self.base = header.height
        self.tip = Anchor(header.height, header.slot, header.id, header.state, header.time_ms)

    def append(self, block: LedgerBlock) -> None:
        """Add the next block; its parent must be the tip."""
        header = block.header
        assert header.parent == self.tip.id, "a block stands on the one before"
        assert header.height == self.tip.height + 1, "heights have no gaps"
        self.store.append(block)
        self.tip = Anchor(header.height, header.slot, header.id, header.state, header.time_ms)

    def header(self, height: int) -> BlockHeader:
        """The header at a height from 1 to the tip's."""
        return self.store.block(height).header

    def answer(self, above: int) -> HistoryAnswer:
        """The blocks above a height. None, if they are below a snapshot, or not in the store any more."""
        is_here = above >= self.base and self.store.has(above + 1)
        heights = range(above + 1, self.tip.height + 1) if is_here else range(0)
        found = ((self.store.block(one), self.store.proof(one)) for one in heights)
        return history_of(found, self.tip.height, self.base)

    def proof_by(self, height: int, later: int, proof: FinalityProof) -> FinalityProof | None:
        """The proof of a block that the proof of a later one gives; None if that is too far away, in another epoch, or not known."""
        if later - height > LINKS_MAX or not self.store.has(height):
            return None
        links = tuple(self.header(one) for one in range(height + 1, later + 1)) + proof.links
        epoch = self.header(height).epoch
        if len(links) > LINKS_MAX or any(one.epoch != epoch for one in links):
            return None
        return FinalityProof(proof.certificate, links)

    def contradicts(self, header: BlockHeader) -> bool:
        """Whether another block is final here at the height of this one, as far as the store reaches back."""
        known = header.height <= self.tip.height and self.store.has(header.height)
        return known and self.header(header.height).id != header.id


def history_of(found: Iterable[tuple[LedgerBlock, FinalityProof | None]], height: int, base: int = 0) -> HistoryAnswer:
    """What one message may carry of blocks, up to one with a proof, all of one epoch.

    Args:
        found: blocks that follow each other, each with its proof if there is one; no more are taken than are needed.
        height: how many blocks there are in all.
        base: the height up to which there are none any more.
    """
    blocks: list[LedgerBlock] = []
    proven = 0
    size = 0
    proof = None
    for block, its_proof in found:
        size += len(block.payload) + 300
        too_much = len(blocks) >= ANSWER_BLOCKS_MAX or size > ANSWER_BYTES_MAX
        if (too_much and proven) or len(blocks) >= 256 or size > UNPROVEN_BYTES_MAX:
            break
        if blocks and block.header.epoch != blocks[0].header.epoch:
            break
        blocks.append(block)
        if its_proof is not None:
            proven, proof = len(blocks), its_proof
    return HistoryAnswer(tuple(blocks[:proven]), proof, height, base)


def beginning(answer: HistoryAnswer, height: int) -> tuple[Sequence[LedgerBlock], FinalityProof | None]:
    """The first blocks of an answer, with its proof if that is for the last of them: as many as are executed in one piece, whoever has sent more.

    Args:
        answer: was proven to be final.
        height: up to which blocks are here.
    """
    size = 0
    for number, block in enumerate(answer.blocks, 1):
        if block.header.height > height:
            size += len(block.payload)
        if size >= ANSWER_BYTES_MAX and number < len(answer.blocks):
            return answer.blocks[:number], None
    return answer.blocks, answer.proof


def is_history(answer: HistoryAnswer, chain: bytes, epoch: int, validators: ValidatorSet, verify: Verify) -> bool:
    """Whether blocks follow each other, carry the payloads that they name, and the last one is proven final by these validators."""
    previous: BlockHeader | None = None
    for block in answer.blocks:
        header = block.header
        follows = previous is None or (header.parent == previous.id and header.height == previous.height + 1)
        if not follows or header.epoch != epoch or header.chain != chain or header.filler or not block.is_whole():
            return False
        previous = header
    if previous is None or answer.proof is None:
        return False
    return answer.proof.proves(previous, chain, epoch, validators, verify)
