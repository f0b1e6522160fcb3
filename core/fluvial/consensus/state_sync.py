"""Fetching the state instead of blocks that nobody has any more: from one peer at a time, each chunk verified against a state root that a quorum has signed.

::

    idle ── begin ──> asking ── part, more is missing ──> asking
                        │ ├──── the last part ───────────> installing ── installed ──> idle
                        │ └──── it has a later snapshot ─> asking, from the beginning of that one
                        ├─────── a lie ──────────────────> asking another peer; this one is never asked again
                        ├─────── no answer in time ──────> asking another peer
                        │        nobody is left ─────────> idle
                        └─────── little in its turn ─────> asking another peer

A peer has its turn for as long as an answer may take, and again if it has brought enough in it: who hands out one key at a time, just before it would be too late, keeps
nobody for long. A liar costs one message: what it says is believed only with signatures, and what was verified before stays. Another peer goes on where it has stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from fluvial.consensus.block_chain import BlockChain
from fluvial.consensus.outputs import Misled, Output, SnapshotFetched, StartTimer, StopTimer
from fluvial.consensus.snapshot_shelf import ProvenState, SnapshotShelf
from fluvial.consensus.wire import EpochEntry, HostMessage, SnapshotAnswer, SnapshotAsk
from fluvial.encoding import decode
from fluvial.errors import RemoteProtocolError
from fluvial.identity import PeerId
from fluvial.ledger.blocks import BlockHeader, FinalityProof
from fluvial.ledger.genesis import Genesis
from fluvial.ledger.light_client import LightClient
from fluvial.ledger.offences import OFFENCES
from fluvial.ledger.snapshots import CHUNK_BYTES_MAX, StateAssembly
from fluvial.ledger.statements import Evidence, ValidatorSet, Verify

PATIENCE: Final = 4
"""An answer may take so many Δ, and so long is a turn."""
ENOUGH_BYTES: Final = CHUNK_BYTES_MAX // 4
"""Of keys and values: who has brought as much in its turn has the next one as well."""
BEGINNINGS_MAX: Final = 8
"""How often later snapshots may replace what was fetched; then the next peer is asked."""
LIARS_MAX: Final = 1_024

TIMER: Final = "snapshot"


@dataclass(slots=True)
class _Fetching:
    """One fetch.

    Attributes:
        light: knows the validators of the epochs that were walked through.
        source: who is asked.
        tried: who has had a turn since the last progress.
        brought: bytes, in this turn.
    """

    light: LightClient
    source: PeerId
    tried: dict[PeerId, None] = field(default_factory=dict)
    header: BlockHeader | None = None
    proof: FinalityProof | None = None
    assembly: StateAssembly | None = None
    beginnings: int = 0
    brought: int = 0

    def is_late(self, answer: SnapshotAnswer) -> bool:
        """Whether an answer is to an earlier question, whose part came from somebody else meanwhile; that is no lie."""
        same = answer.header is not None and answer.header == self.header
        missing = self.assembly.missing if self.assembly is not None else None
        return same and answer.chunk is not None and answer.chunk.start != missing


class StateSync:
    """See the module's docstring.

    Args:
        me: this peer.
        genesis: of the ledger.
        chain: the final blocks here: they may catch up with the snapshot meanwhile, which is of no use then.
        verify: checks signatures.
        delta_ms: how long a message takes at most.
        shelf: gets what is proven on the way: who validated in each epoch.
        transmit: sends a message to a peer.
        put: gives an output to the shell, behind what must be durable before,
        put_now: or at once.
        write: appends to the log.
        convicted: hears of each offence that the ledger holds.
    """

    def __init__(
        self,
        me: PeerId,
        genesis: Genesis,
        chain: BlockChain,
        verify: Verify,
        delta_ms: int,
        shelf: SnapshotShelf,
        *,
        transmit: Callable[[PeerId, HostMessage], None],
        put: Callable[[Output], None],
        put_now: Callable[[Output], None],
        write: Callable[[EpochEntry], None],
        convicted: Callable[[Evidence], None],
    ) -> None:
        self._me, self._genesis, self._chain, self._verify, self._delta_ms = me, genesis, chain, verify, delta_ms
        self._shelf, self._transmit, self._convicted = shelf, transmit, convicted
        self._put, self._put_now, self._write = put, put_now, write
        self._fetching: _Fetching | None = None
        self._installing = False
        self._liars: dict[PeerId, None] = {}

    def begin(self, source: PeerId, epoch: int, validators: ValidatorSet) -> None:
        """Fetch a snapshot, unless that goes on already.

        Args:
            source: seems to have one.
            epoch: that goes on here.
            validators: of this epoch.
        """
        if self._fetching is None and not self._installing and source != self._me and source not in self._liars:
            light = LightClient(self._genesis, epoch=epoch, validators=validators)
            self._fetching = _Fetching(light, source)
            self._begin_turn(self._fetching, source)

    def is_asked(self, peer: PeerId) -> bool:
        """Whether a part of a snapshot is waited for from this peer."""
        return self._fetching is not None and self._fetching.source == peer

    def expired(self) -> None:
        """A turn is over."""
        fetching = self._fetching
        if fetching is None:
            return
        if not fetching.brought:
            self._turn(fetching)
        elif fetching.brought >= ENOUGH_BYTES:
            self._begin_turn(fetching, fetching.source)
        else:
            self._begin_turn(fetching, next(iter(self._candidates(fetching)), fetching.source))

    def take(self, sender: PeerId, answer: SnapshotAnswer) -> None:
        """Take a part of who was asked; after the last one the shell has the snapshot. If the sender lies, others are asked."""
        fetching = self._fetching
        if fetching is None or sender != fetching.source:
            return
        if fetching.header is not None and fetching.header.height <= self._chain.tip.height:
            self.end()
            return
        if fetching.is_late(answer):
            return
        try:
            advanced = self._take(fetching, answer)
        except RemoteProtocolError as error:
            self._put(Misled(sender, error.message))
            if len(self._liars) < LIARS_MAX:
                self._liars[sender] = None
            advanced = False
        if not advanced:
            self._turn(fetching)
            return
        fetching.tried.clear()
        leaves = answer.chunk.leaves if answer.chunk is not None else ()
        fetching.brought += 1 + sum(len(key) + len(value) for _, key, value in leaves)
        assembly = fetching.assembly
        if assembly is None or assembly.missing is not None:
            self._ask(fetching)
            return
        self.end()
        self._installing = True
        assert fetching.header is not None, "the assembly was made with it"
        assert fetching.proof is not None, "the header was proven with it"
        self._put(SnapshotFetched(ProvenState(fetching.header, fetching.proof, assembly.state)))

    def installed(self) -> None:
        """The shell is done with the snapshot that it got."""
        self._installing = False

    def end(self) -> None:
        """Fetch nothing any more."""
        self._fetching = None
        self._put_now(StopTimer(TIMER))

    def _take(self, fetching: _Fetching, answer: SnapshotAnswer) -> bool:
        """Take over what is proven; returns whether it leads any further."""
        light = fetching.light
        before = light.epoch
        for step in answer.steps:
            if step.header.epoch == light.epoch:
                light.follow(step, verify=self._verify)
                if step.header.epoch not in self._shelf.steps:
                    self._shelf.steps[step.header.epoch] = step
                    self._write(EpochEntry(step))
        header, proof, chunk = answer.header, answer.proof, answer.chunk
        if header is None or proof is None or chunk is None:
            return False
        validators = light.set_of(header.epoch)
        if validators is None:
            return light.epoch > before
        if header.height <= self._chain.tip.height:
            return False
        if header != fetching.header:
            if fetching.header is not None and header.height <= fetching.header.height:
                return False  # an older one: what is here already is better, and somebody else may go on with it
            if not proof.proves(header, self._genesis.chain, header.epoch, validators, self._verify):
                raise RemoteProtocolError("the block of this snapshot is not proven")
            fetching.beginnings += 1
            if fetching.beginnings > BEGINNINGS_MAX:
                fetching.beginnings = 0
                return False
            fetching.header, fetching.proof, fetching.assembly = header, proof, StateAssembly(header.state)
        assert fetching.assembly is not None, "it was made with the header"
        fetching.assembly.add(chunk)
        for module, _, value in chunk.leaves:
            if module == OFFENCES:
                self._convicted(decode(value, Evidence, what="evidence"))
        return True

    def _ask(self, fetching: _Fetching) -> None:
        header, assembly = fetching.header, fetching.assembly
        missing = assembly.missing if assembly is not None else None
        height = header.height if header is not None else 0
        self._transmit(fetching.source, SnapshotAsk(fetching.light.epoch, height, missing or bytes(32)))

    def _begin_turn(self, fetching: _Fetching, source: PeerId) -> None:
        """Ask a peer from now on."""
        fetching.source, fetching.brought = source, 0
        self._ask(fetching)
        self._put_now(StartTimer(TIMER, PATIENCE * self._delta_ms))

    def _turn(self, fetching: _Fetching) -> None:
        """Ask another validator of those that are known; if all had a turn in vain, fetch nothing any more."""
        fetching.tried[fetching.source] = None
        following = next(iter(self._candidates(fetching)), None)
        if following is None:
            self.end()
            return
        self._begin_turn(fetching, following)

    def _candidates(self, fetching: _Fetching) -> Iterable[PeerId]:
        validators = fetching.light.validators
        after = (validators.index(fetching.source) or 0) + 1
        for peer in (*validators.peers[after:], *validators.peers[:after]):
            if peer not in (self._me, fetching.source) and peer not in self._liars and peer not in fetching.tried:
                yield peer
