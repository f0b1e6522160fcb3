"""A replica: an engine, a ledger and what lies between them, as one pure machine. The laboratory and a peer run the same one.

Inputs are messages, timers, transactions and "this much is durable"; outputs (``outputs.py``) are for a thin shell that has a disk, a network and a clock.
The replica keeps the two promises that engines rely on:

- *Effects in order, and Persist is a barrier*: what follows a ``Persist`` waits in a queue until the shell has said that the entry is durable, and
  so does everything of later events.
- *One event at a time*: what an event leads to (a payload built, a block checked) is handled after it, not inside of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from fluvial.consensus import payloads, state_sync
from fluvial.consensus.accusations import Accusations
from fluvial.consensus.barrier import OutputQueue
from fluvial.consensus.block_chain import BlockChain, beginning
from fluvial.consensus.checkpoints import CheckpointGathering
from fluvial.consensus.effects import (
    Accuse,
    Alarm,
    Broadcast,
    BuildPayload,
    CancelTimer,
    CheckPayload,
    Commit,
    Effect,
    Forget,
    MessageClass,
    NeedHistory,
    Order,
    Persist,
    Publish,
    Send,
    SetTimer,
)
from fluvial.consensus.engine import EngineSetup
from fluvial.consensus.epoch_engine import EpochEngine
from fluvial.consensus.events import (
    Event,
    OrderLost,
    PayloadOrdered,
    Synced,
    TimerFired,
)
from fluvial.consensus.executor import Executor
from fluvial.consensus.history import HistorySync
from fluvial.consensus.outputs import (
    Alarmed,
    BlockFinal,
    BlockProven,
    EpochBegan,
    Output,
    PublishEntry,
    SnapshotDue,
    StartTimer,
    StateInstalled,
    StopTimer,
    Transmit,
)
from fluvial.consensus.payloads import PayloadDesk
from fluvial.consensus.replay import replayed
from fluvial.consensus.replica_config import ReplicaConfig
from fluvial.consensus.snapshot_shelf import ProvenState, SnapshotShelf
from fluvial.consensus.state_sync import StateSync
from fluvial.consensus.wire import (
    BlockEntry,
    CheckpointVote,
    EngineMessage,
    EpochEntry,
    EvidenceMessage,
    ForgetEntry,
    HistoryAnswer,
    HistoryAsk,
    HostMessage,
    LedgerStatus,
    LogEntry,
    ProofEntry,
    RecordEntry,
    SnapshotAnswer,
    SnapshotAsk,
    decode_message,
)
from fluvial.encoding import encode
from fluvial.identity import PeerId
from fluvial.ledger.blocks import BlockHeader, FinalityProof, LedgerBlock
from fluvial.ledger.execution import Executed, Invalid, membership
from fluvial.ledger.state import State
from fluvial.ledger.statements import Evidence, ValidatorSet
from fluvial.ledger.transactions import (
    CarryRevocation,
    ReportOffence,
    SignedTransaction,
    parse,
)


class Replica:
    """One peer's consensus and ledger.

    Args:
        config: what it is made of.

    Attributes:
        chain_id: of the ledger.
        chain: the final blocks.
        state: after the last of them.
        validators: of the epoch that goes on.
        evidence: what is held against validators, by their key.
        shelf: what who is far behind is handed out.
        alarmed: why it signs nothing any more; empty if all is well.
    """

    def __init__(self, config: ReplicaConfig) -> None:
        self._config = config
        self.chain_id: Final = config.genesis.chain
        self.chain = BlockChain(config.genesis.anchor(), config.store(), config.genesis.chain)
        self._executor = Executor(self.chain, config.genesis.state(), config.rules, config.skew_ms)
        self.validators: ValidatorSet = ValidatorSet(config.genesis.validators)
        self.alarmed = ""
        self.pool = config.pool
        self._engine: Final = EpochEngine()
        self._outputs = OutputQueue()
        self._now = self._wall_ms = 0
        self._payloads = PayloadDesk(
            self._executor,
            config.pool,
            config.idle_ms,
            happened=self._engine.happened,
            put=self._outputs.put_now,
        )
        self._history = HistorySync(
            config.me,
            self.chain,
            config.delta_ms,
            lambda to, message: self._transmit(to, message, "sync"),
            self._outputs.put_now,
        )
        self._me, self._sign = config.me, config.sign
        self._accusations = Accusations(
            self.chain_id,
            config.verify,
            config.pool,
            write=self._write,
            broadcast=lambda message: self._transmit(None, message, "evidence"),
            put=self._outputs.put,
        )
        self.evidence: Final = self._accusations.held
        self._checkpoints = CheckpointGathering(
            self.chain_id, self.chain, config.verify, proven=self._proven, convict=self._convict, alarm=self._alarm
        )
        self.shelf: Final = SnapshotShelf(self.chain, config.snapshot_blocks)
        self._state_sync = StateSync(
            config.me,
            config.genesis,
            self.chain,
            config.verify,
            config.delta_ms,
            self.shelf,
            transmit=lambda to, message: self._transmit(to, message, "sync"),
            put=self._outputs.put,
            put_now=self._outputs.put_now,
            write=self._write,
            convicted=self._accusations.hold,
        )

    @property
    def state(self) -> State:
        """The state after the last final block."""
        return self._executor.state

    @property
    def epoch(self) -> int:
        """The epoch that goes on."""
        return self._engine.epoch

    @property
    def decides(self) -> bool:
        """Whether this peer's votes count in this epoch."""
        return self.validators.index(self._me) is not None

    def asked_for(self, peer: PeerId) -> frozenset[bytes]:
        """What is waited for from this peer: the tags of the answers."""
        waits = {b"history": self._history.is_asked(peer), b"part": self._state_sync.is_asked(peer)}
        return frozenset(tag for tag, is_waited_for in waits.items() if is_waited_for)

    # --- what the shell calls -------------------------------------------------------------------------------------------

    def start(self, log: Iterable[bytes], now: int, wall_ms: int) -> Sequence[Output]:
        """Begin, or go on with what an earlier run has written, in order.

        Raises:
            RemoteProtocolError: the log is of another version or another ledger, or does not lead to the states that it names.
        """
        self._now, self._wall_ms = now, wall_ms
        replay = replayed(log, self.chain, self._executor, self.shelf)
        self.evidence.update(replay.evidence)
        epoch = membership(self.state).epoch
        self._open_epoch([one.record for one in replay.records if one.epoch == epoch])
        return self._drain()

    def receive(self, sender: PeerId, data: bytes, now: int, wall_ms: int) -> Sequence[Output]:
        """A message came.

        Raises:
            RemoteProtocolError: it is none.
        """
        self._now, self._wall_ms = now, wall_ms
        message = decode_message(data)
        match message:
            case EngineMessage(epoch, inner):
                self._engine_message(sender, epoch, inner)
            case HistoryAsk(above):
                self._history.answer(sender, above, self._now)
            case HistoryAnswer():
                self._take_history(sender, message)
            case LedgerStatus(epoch, height):
                if epoch > self.epoch or height > self.chain.tip.height:
                    self._history.heard(sender, self.validators, now)
            case CheckpointVote():
                self._checkpoints.take(message)
            case EvidenceMessage(evidence):
                self._convict(evidence)
            case SnapshotAsk():
                self._transmit(sender, self.shelf.answer(message), "sync")
            case SnapshotAnswer():
                self._state_sync.take(sender, message)
        return self._drain()

    def fired(self, name: str, now: int, wall_ms: int) -> Sequence[Output]:
        """A timer ran out."""
        self._now, self._wall_ms = now, wall_ms
        if name == "history":
            self._history.expired(self.validators, now)
        elif name == state_sync.TIMER:
            self._state_sync.expired()
        elif name == payloads.TIMER:
            self._payloads.fired(now, wall_ms)
        else:
            epoch, _, inner = name.partition(":")
            if epoch == str(self.epoch):
                self._engine.happened(TimerFired(inner))
        return self._drain()

    def submit(self, transaction: bytes, now: int, wall_ms: int) -> Sequence[Output]:
        """Let a transaction wait for a block.

        Raises:
            Refused: it can never be in one, or there is no room.
        """
        self._now, self._wall_ms = now, wall_ms
        self.pool.add(transaction, self.state, self.chain.tip.height + 1)
        self._payloads.build(now, wall_ms)
        return self._drain()

    def ordered(self, position: int, data: bytes, now: int, wall_ms: int) -> Sequence[Output]:
        """The next entry of the ordering service's log; what the ledger holds already, for instance from history, is passed over."""
        event = PayloadOrdered(position, data) if position > self.chain.tip.slot else None
        return self._happened(event, now, wall_ms)

    def order_lost(self, now: int, wall_ms: int) -> Sequence[Output]:
        """The ordering service has dropped the entries that come next."""
        return self._happened(OrderLost(), now, wall_ms)

    def _happened(self, event: Event | None, now: int, wall_ms: int) -> Sequence[Output]:
        self._now, self._wall_ms = now, wall_ms
        if event is not None:
            self._engine.happened(event)
        return self._drain()

    def synced(self, number: int) -> Sequence[Output]:
        """All entries up to a ``Sync`` are durable."""
        self._outputs.durable(number)
        return self._drain()

    def inspect(self) -> dict[str, Any]:
        """For dashboards and tests."""
        return {
            "height": self.chain.tip.height,
            "epoch": self.epoch,
            "waiting": len(self.pool),
            "engine": self._engine.inspect(),
        }

    # --- outputs and the barrier ----------------------------------------------------------------------------------------

    def _transmit(self, to: PeerId | None, message: HostMessage, kind: MessageClass) -> None:
        self._outputs.put(Transmit(to, encode(message), kind))

    def _write(self, entry: LogEntry, *, barrier: bool = False) -> None:
        self._outputs.append(encode(entry), barrier=barrier)

    def _drain(self) -> Sequence[Output]:
        """Handle the events that are due, and hand out the outputs."""
        while (effects := self._engine.next_effects(self._now)) is not None:
            self._carry_out(effects)
        return self._outputs.taken()

    # --- the engine -----------------------------------------------------------------------------------------------------

    def _open_epoch(self, records: Sequence[bytes]) -> None:
        """Make the engine of the epoch that the state is in."""
        now = membership(self.state)
        epoch, self.validators = now.epoch, ValidatorSet(now.validators)
        tip = self.chain.tip
        fresh = tip.height == 0 or self.chain.header(tip.height).epoch != epoch
        if not self._config.certifies_state:
            self._checkpoints.open_epoch(epoch, self.validators)
        self._me, self._sign = self._config.name_in(epoch)
        self._outputs.put_now(EpochBegan(epoch, self.decides))
        setup = EngineSetup(
            me=self._me,
            sign=self._sign,
            verify=self._config.verify,
            chain=self.chain_id,
            epoch=epoch,
            validators=self.validators,
            anchor=msgspec.structs.replace(tip, slot=0) if fresh else tip,
            delta_ms=self._config.delta_ms,
            idle_ms=self._config.idle_ms,
        )
        self._executor.clear()
        self._payloads.clear()
        self._carry_out(self._engine.begin(epoch, self._config.make(setup), records, self._now))
        self._engine.hear_early()

    def _engine_message(self, sender: PeerId, epoch: int, data: bytes) -> None:
        if epoch < self.epoch:
            self._history.tell_behind(sender, self.epoch, self._now)
        elif not self._engine.hear(sender, epoch, data):
            self._history.heard(sender, self.validators, self._now)

    def _carry_out(self, effects: Iterable[Effect]) -> None:
        epoch = self.epoch
        for effect in effects:
            if self.epoch != epoch:
                return  # what its engine wanted is of no use any more
            match effect:
                case Persist(record, fresh):
                    self._write(RecordEntry(self.epoch, record, fresh), barrier=True)
                case Forget(keep):
                    self._write(ForgetEntry(self.epoch, keep))
                case Broadcast(data, kind):
                    self._say(None, data, kind)
                case Send(to, data, kind):
                    self._say(to, data, kind)
                case SetTimer(name, after_ms):
                    self._outputs.put_now(StartTimer(f"{self.epoch}:{name}", after_ms))
                case CancelTimer(name):
                    self._outputs.put_now(StopTimer(f"{self.epoch}:{name}"))
                case BuildPayload():
                    self._payloads.want(effect, self._now, self._wall_ms)
                case CheckPayload(block):
                    self._payloads.check(block, self._wall_ms)
                case Commit(blocks, proof):
                    self._commit(blocks, proof)
                case Order():
                    self._order(effect)
                case Publish(data):
                    self._outputs.put(PublishEntry(data))
                case Accuse(evidence):
                    self._convict(evidence)
                case NeedHistory(hint):
                    self._want_history(hint)
                case Alarm(what, details):
                    self._alarm(what, details)

    def _say(self, to: PeerId | None, data: bytes, kind: MessageClass) -> None:
        if not self.alarmed or kind not in ("proposal", "vote"):
            self._transmit(to, EngineMessage(self.epoch, data), kind)

    def _alarm(self, what: str, details: str) -> None:
        self.alarmed = self.alarmed or what
        self._outputs.put(Alarmed(what, details))

    # --- final blocks ---------------------------------------------------------------------------------------------------

    def _commit(self, blocks: Sequence[LedgerBlock], proof: FinalityProof | None) -> None:
        for number, block in enumerate(blocks, 1):
            header = block.header
            if header.height <= self.chain.tip.height:
                if self.chain.contradicts(header):
                    self._alarm("fork", f"two blocks are final at height {header.height}")
                    return
                continue
            if header.parent != self.chain.tip.id:
                self._alarm("fork", f"block {header.height} is final and does not stand on block {header.height - 1}")
                return
            try:
                done = self._executor.final(block)
            except Invalid as error:
                self._alarm("execution", f"block {header.height} is final and seems invalid here: {error}")
                return
            if self._add(block, done, proof if number == len(blocks) else None, header.id):
                return

    def _order(self, order: Order) -> None:
        me = self.validators.index(self._me)
        for number, payload in enumerate(order.payloads):
            if not order.authors or order.authors[number] == me:
                self._payloads.release(payload)
        tip = self.chain.tip
        if tip.slot >= order.slot and tip.height and self.chain.header(tip.height).epoch == self.epoch:
            return  # known already, from the log or from others
        block, done = self._executor.order(order, self.chain_id, self.epoch, self.validators)
        self._add(block, done, None, order.reference)

    def _add(self, block: LedgerBlock, done: Executed, proof: FinalityProof | None, reference: bytes) -> bool:
        """Add a final block; returns whether the epoch ended with it."""
        header = block.header
        self._write(BlockEntry(block, proof))
        self._executor.advance(block, done)
        if proof is not None:
            self.chain.store.put_proof(header.height, proof)
        paying = []
        for transaction in done.transactions:
            match parse(transaction):
                case SignedTransaction(sender=key) | CarryRevocation(payer=key):
                    paying.append(key)
                case ReportOffence(evidence):
                    self._accusations.hold(evidence)
        self.pool.forget(self.state, list(dict.fromkeys(paying)), header.height + 1)
        self._outputs.put(BlockFinal(block, done, reference))
        self.shelf.note(block, done.state, terminal=done.terminal)
        if proof is not None:
            self._tell_proven(header.height, proof)
        if not self._config.certifies_state:
            self._vote_checkpoint(header)
        if done.terminal:
            self._open_epoch([])
        return done.terminal

    # --- checkpoints ----------------------------------------------------------------------------------------------------

    def _vote_checkpoint(self, header: BlockHeader) -> None:
        signer = self.validators.index(self._me)
        if signer is not None and not self.alarmed:
            self._transmit(None, self._checkpoints.vote(header, signer, self._sign), "vote")
        self._checkpoints.certify(header.epoch, header.height)

    def _proven(self, height: int, proof: FinalityProof) -> None:
        self.chain.store.put_proof(height, proof)
        self._write(ProofEntry(height, proof))
        self._tell_proven(height, proof)

    def _tell_proven(self, height: int, proof: FinalityProof) -> None:
        steps, snapshots = self.shelf.prove(height, proof)
        for step in steps:
            self._write(EpochEntry(step))
        self._outputs.put(BlockProven(height, proof))
        for snapshot in snapshots:
            self._outputs.put(SnapshotDue(snapshot))

    def _convict(self, evidence: Evidence) -> None:
        self._accusations.convict(evidence, self.validators, self.state)

    # --- history --------------------------------------------------------------------------------------------------------

    def _want_history(self, hint: PeerId | None) -> None:
        self._history.want(hint, self.validators, self._now)

    def _take_history(self, sender: PeerId, answer: HistoryAnswer) -> None:
        before = (self.epoch, self.chain.tip.height)
        config = self._config
        is_validator = self.validators.index(sender) is not None  # nothing proves a base, and a fetch asks all of them
        if is_validator and self._history.is_asked(sender) and answer.base > self.chain.tip.height:
            self._state_sync.begin(sender, self.epoch, self.validators)
        if not self._history.accept(sender, answer, self.chain_id, self.epoch, self.validators, config.verify):
            return
        self._commit(*beginning(answer, self.chain.tip.height))
        if self.epoch == before[0] and self.chain.tip.height > before[1]:
            self._engine.happened(Synced(self.chain.tip))
        if (self.epoch, self.chain.tip.height) != before and answer.height > self.chain.tip.height:
            self._history.heard(sender, self.validators, self._now)

    # --- snapshots ------------------------------------------------------------------------------------------------------

    def installed(self, snapshot: ProvenState, now: int, wall_ms: int) -> Sequence[Output]:
        """A snapshot that was fetched is durable as the beginning of the log."""
        self._state_sync.installed()
        self._now, self._wall_ms = now, wall_ms
        if snapshot.header.height > self.chain.tip.height:
            self.chain.restore(snapshot.header, snapshot.proof)
            self._executor.clear()
            self._executor.state = snapshot.state
            self.shelf.put(snapshot)
            self.pool.renew(self.state, self.chain.tip.height + 1)
            self._outputs.put(StateInstalled(snapshot))
            if membership(self.state).epoch == self.epoch:
                self._engine.happened(Synced(self.chain.tip))
            else:
                self._open_epoch([])
            self._want_history(None)
        return self._drain()
