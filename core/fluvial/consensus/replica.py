"""A replica: an engine, a ledger and what lies between them, as one pure machine. The laboratory and a peer run the same one.

Inputs are messages, timers, transactions and "this much is durable"; outputs (``outputs.py``) are for a thin shell that has a disk, a network and a clock.
The replica keeps the two promises that engines rely on:

- *Effects in order, and Persist is a barrier*: what follows a ``Persist`` waits in a queue until the shell has said that the entry is durable, and
  so does everything of later events.
- *One event at a time*: what an event leads to (a payload built, a block checked) is handled after it, not inside of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fluvial.ledger.blocks import Block, FinalityProof, Header, payload_hash
from fluvial.consensus.chain import BlocksInMemory, BlockStore, Chain, is_history
from fluvial.consensus.checkpoints import CheckpointTally
from fluvial.consensus.effects import (
    Accuse,
    Alarm,
    Broadcast,
    BuildPayload,
    CancelTimer,
    CheckPayload,
    Commit,
    Effect,
    NeedHistory,
    Order,
    Persist,
    Send,
    SetTimer,
)
from fluvial.consensus.engine import ConsensusEngine, EngineSetup
from fluvial.consensus.events import Event, PayloadBuilt, PayloadChecked, Received, Synced, TimerFired
from fluvial.consensus.outputs import (
    Alarmed,
    Append,
    BlockFinal,
    BlockProven,
    Convicted,
    Output,
    StartTimer,
    StopTimer,
    Sync,
    Transmit,
)
from fluvial.ledger.statements import (
    CHECKPOINT,
    Evidence,
    Sign,
    ValidatorSet,
    Verify,
    signed_bytes,
)
from fluvial.consensus.wire import (
    BlockEntry,
    CheckpointVote,
    EngineMessage,
    EvidenceEntry,
    EvidenceMessage,
    HistoryAnswer,
    HistoryAsk,
    HostMessage,
    LogEntry,
    ProofEntry,
    RecordEntry,
    Status,
)
from fluvial.encoding import decode, encode
from fluvial.errors import RemoteProtocolError
from fluvial.identity import PeerId
from fluvial.ledger.execution import Executed, Invalid, membership
from fluvial.ledger.genesis import Genesis
from fluvial.ledger.pool import TransactionPool
from fluvial.ledger.rules import LedgerRules
from fluvial.ledger.state import State
from fluvial.ledger.transactions import (
    ReportOffence,
    SignedTransaction,
    decode_payload,
    encode_payload,
    parse,
    report,
    transaction_id,
)

EARLY_MAX: Final = 64
"""Messages of the next epoch that are kept for each sender until it begins here."""
TENTATIVE_MAX: Final = 256
"""Blocks that are executed and not final."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaConfig:
    """What a replica is made of.

    Attributes:
        me, sign: who it is.
        verify: checks signatures.
        genesis: of the ledger.
        make: makes an engine for an epoch.
        certifies_state: whether the engine commits blocks with roots, or orders payloads.
        rules: of the ledger.
        pool: what waits here.
        delta_ms: how long a message takes at most.
        skew_ms: how far a block's time may be ahead of the clock here.
        idle_ms: for how long a payload is held back while nothing waits.
    """

    me: PeerId
    sign: Sign
    verify: Verify
    genesis: Genesis
    make: Callable[[EngineSetup], ConsensusEngine]
    certifies_state: bool
    rules: LedgerRules
    pool: TransactionPool
    delta_ms: int
    skew_ms: int = 500
    idle_ms: int = 0
    store: Callable[[], BlockStore] = BlocksInMemory


@dataclass(slots=True)
class _Held:
    """Outputs that wait until an entry is durable."""

    number: int
    outputs: list[Output] = field(default_factory=list)


class Replica:
    """One peer's consensus and ledger.

    Attributes:
        chain: the final blocks.
        state: after the last of them.
        validators: of the epoch that goes on.
        evidence: what is held against validators, by their key.
        alarmed: why it signs nothing any more; empty if all is well.
    """

    def __init__(self, config: ReplicaConfig) -> None:
        self._config = config
        self._chain_id: Final = config.genesis.chain
        self.chain = Chain(config.genesis.anchor(), config.store())
        self.state: State = config.genesis.state()
        self.epoch = 0
        self.validators: ValidatorSet = ValidatorSet(config.genesis.validators)
        self.evidence: dict[bytes, Evidence] = {}
        self.alarmed = ""
        self.pool = config.pool
        self._engine: ConsensusEngine | None = None
        self._events: deque[tuple[int, Event]] = deque()
        self._outputs: list[Output] = []
        self._held: deque[_Held] = deque()
        self._barriers = 0
        self._unsynced = False
        self._now = self._wall_ms = 0
        self._tentative: dict[tuple[bytes, bytes, int], Executed] = {}
        self._executed: dict[bytes, tuple[Header, Executed]] = {}
        self._in_flight: dict[bytes, None] = {}
        self._early: dict[PeerId, list[tuple[int, bytes]]] = {}
        self._waiting_build: BuildPayload | None = None
        self._built_at = -1
        self._asked: PeerId | None = None
        self._wanted = False
        self._turn = 0
        self._answered: dict[PeerId, int] = {}
        self._told: dict[PeerId, int] = {}
        self._tallies: list[CheckpointTally] = []

    # --- what the shell calls -------------------------------------------------------------------------------------------

    def start(self, log: Iterable[bytes], now: int, wall_ms: int) -> Sequence[Output]:
        """Begin, or go on with what an earlier run has written, in order.

        Raises:
            RemoteProtocolError: the log is of another version or another ledger.
        """
        self._now, self._wall_ms = now, wall_ms
        records: list[RecordEntry] = []
        for data in log:
            entry: LogEntry = decode(data, LogEntry, what="log entry")  # type: ignore[arg-type]  # a union
            match entry:
                case RecordEntry():
                    if entry.fresh:
                        records.clear()
                    records.append(entry)
                case BlockEntry(block, proof):
                    self._replay(block, proof)
                case ProofEntry(height, proof):
                    self.chain.store.put_proof(height, proof)
                case EvidenceEntry(evidence):
                    self.evidence[evidence.offender] = evidence
        self._open_epoch([one.record for one in records if one.epoch == self.epoch])
        return self._drain()

    def receive(self, sender: PeerId, data: bytes, now: int, wall_ms: int) -> Sequence[Output]:
        """A message came.

        Raises:
            RemoteProtocolError: it is none.
        """
        self._now, self._wall_ms = now, wall_ms
        message: HostMessage = decode(data, HostMessage, what="message of the consensus")  # type: ignore[arg-type]
        match message:
            case EngineMessage(epoch, inner):
                self._engine_message(sender, epoch, inner)
            case HistoryAsk(above):
                self._answer_history(sender, above)
            case HistoryAnswer():
                self._take_history(sender, message)
            case Status(epoch, height):
                if epoch > self.epoch or height > self.chain.tip.height:
                    self._want_history(sender)
            case CheckpointVote():
                self._take_checkpoint(message)
            case EvidenceMessage(evidence):
                self._convict(evidence)
        return self._drain()

    def fired(self, name: str, now: int, wall_ms: int) -> Sequence[Output]:
        """A timer ran out."""
        self._now, self._wall_ms = now, wall_ms
        if name == "history":
            self._asked = None
            if self._wanted:
                self._want_history(None)
        elif name == "build":
            self._build(due=True)
        else:
            epoch, _, inner = name.partition(":")
            if epoch == str(self.epoch):
                self._events.append((self.epoch, TimerFired(inner)))
        return self._drain()

    def submit(self, transaction: bytes, now: int, wall_ms: int) -> Sequence[Output]:
        """Let a transaction wait for a block.

        Raises:
            Refused: it can never be in one, or there is no room.
        """
        self._now, self._wall_ms = now, wall_ms
        self.pool.add(transaction, self.state, self.chain.tip.height + 1)
        if self._waiting_build is not None:
            self._build(due=False)
        return self._drain()

    def synced(self, number: int) -> Sequence[Output]:
        """All entries up to a ``Sync`` are durable."""
        while self._held and self._held[0].number <= number:
            self._outputs += self._held.popleft().outputs
        return self._drain()

    def inspect(self) -> dict[str, Any]:
        """For dashboards and tests."""
        return {
            "height": self.chain.tip.height,
            "epoch": self.epoch,
            "waiting": len(self.pool),
            "engine": dict(self._engine.inspect()) if self._engine is not None else {},
        }

    # --- outputs and the barrier ----------------------------------------------------------------------------------------

    def _put(self, output: Output) -> None:
        """An output that waits behind the last barrier, if one stands."""
        if self._unsynced:
            self._unsynced = False
            self._barriers += 1
            self._outputs.append(Sync(self._barriers))
            self._held.append(_Held(self._barriers))
        (self._held[-1].outputs if self._held else self._outputs).append(output)

    def _transmit(self, to: PeerId | None, message: HostMessage, kind: Any) -> None:
        self._put(Transmit(to, encode(message), kind))

    def _write(self, entry: LogEntry, *, barrier: bool = False) -> None:
        self._outputs.append(Append(encode(entry)))
        self._unsynced = self._unsynced or barrier

    def _drain(self) -> Sequence[Output]:
        """Handle the events that are due, and hand out the outputs."""
        while self._events:
            epoch, event = self._events.popleft()
            if epoch == self.epoch and self._engine is not None:
                self._carry_out(self._engine.handle(event, self._now))
        if self._unsynced:  # nothing follows yet; later events must wait all the same
            self._unsynced = False
            self._barriers += 1
            self._outputs.append(Sync(self._barriers))
            self._held.append(_Held(self._barriers))
        outputs, self._outputs = self._outputs, []
        return outputs

    # --- the engine -----------------------------------------------------------------------------------------------------

    def _open_epoch(self, records: Sequence[bytes]) -> None:
        """Make the engine of the epoch that the state is in."""
        now = membership(self.state)
        self.epoch, self.validators = now.epoch, ValidatorSet(now.validators)
        tip = self.chain.tip
        fresh = tip.height == 0 or self.chain.header(tip.height).epoch != self.epoch
        if not self._config.certifies_state:
            tally = CheckpointTally(self._chain_id, self.epoch, self.validators, self._config.verify)
            self._tallies = [*self._tallies[-1:], tally]
        setup = EngineSetup(
            me=self._config.me,
            sign=self._config.sign,
            verify=self._config.verify,
            chain=self._chain_id,
            epoch=self.epoch,
            validators=self.validators,
            anchor=_at_slot_0(tip) if fresh else tip,
            delta_ms=self._config.delta_ms,
            idle_ms=self._config.idle_ms,
        )
        self._executed.clear()
        self._tentative.clear()
        self._in_flight.clear()
        self._waiting_build = None
        self._engine = self._config.make(setup)
        self._carry_out(self._engine.start(records, self._now))
        early, self._early = self._early, {}
        for sender, messages in early.items():
            for epoch, data in messages:
                self._engine_message(sender, epoch, data)

    def _engine_message(self, sender: PeerId, epoch: int, data: bytes) -> None:
        if epoch == self.epoch:
            self._events.append((epoch, Received(sender, data)))
        elif epoch < self.epoch:
            if self._now - self._told.get(sender, -self._config.delta_ms) >= self._config.delta_ms:
                self._told[sender] = self._now
                self._transmit(sender, Status(self.epoch, self.chain.tip.height), "sync")
        else:
            kept = self._early.setdefault(sender, [])
            if epoch == self.epoch + 1 and len(kept) < EARLY_MAX:
                kept.append((epoch, data))
            self._want_history(sender)

    def _carry_out(self, effects: Iterable[Effect]) -> None:
        engine = self._engine
        for effect in effects:
            if self._engine is not engine:
                return  # the epoch is over
            match effect:
                case Persist(record, fresh):
                    self._write(RecordEntry(self.epoch, record, fresh), barrier=True)
                case Broadcast(data, kind):
                    self._say(None, data, kind)
                case Send(to, data, kind):
                    self._say(to, data, kind)
                case SetTimer(name, after_ms):
                    self._outputs.append(StartTimer(f"{self.epoch}:{name}", after_ms))
                case CancelTimer(name):
                    self._outputs.append(StopTimer(f"{self.epoch}:{name}"))
                case BuildPayload():
                    self._waiting_build = effect
                    self._build(due=False)
                case CheckPayload(block):
                    self._check(block)
                case Commit(blocks, proof):
                    self._commit(blocks, proof)
                case Order():
                    self._order(effect)
                case Accuse(evidence):
                    self._convict(evidence)
                case NeedHistory(hint):
                    self._want_history(hint)
                case Alarm(what, details):
                    self._alarm(what, details)

    def _say(self, to: PeerId | None, data: bytes, kind: Any) -> None:
        if not self.alarmed or kind not in ("proposal", "vote"):
            self._transmit(to, EngineMessage(self.epoch, data), kind)

    def _alarm(self, what: str, details: str) -> None:
        self.alarmed = self.alarmed or what
        self._put(Alarmed(what, details))

    # --- payloads -------------------------------------------------------------------------------------------------------

    def _build(self, *, due: bool) -> None:
        """Answer the engine's wish for a payload, at most once in a millisecond; an idle ledger waits for a transaction."""
        wish = self._waiting_build
        if wish is None:
            return
        if self._built_at == self._now:
            self._outputs.append(StartTimer("build", 1))
            return
        if not due and not len(self.pool) and self._config.idle_ms:
            self._outputs.append(StartTimer("build", self._config.idle_ms))
            return
        self._waiting_build = None
        self._built_at = self._now
        if wish.parent is None:
            payload, transactions = self._config.rules.gather(self.state, self.pool, self._in_flight)
            self._in_flight.update(dict.fromkeys(map(transaction_id, transactions)))
            self._events.append((self.epoch, PayloadBuilt(wish.request, payload, b"", self._wall_ms)))
            return
        height, time_ms, state = self._parent(wish.parent)
        time_ms = max(time_ms + 1, self._wall_ms)
        payload, done = self._config.rules.build(state, self.pool, height=height + 1, time_ms=time_ms)
        self._remember((wish.parent, payload, time_ms), done)
        root = self._config.rules.root(done.state)
        self._events.append((self.epoch, PayloadBuilt(wish.request, payload, root, time_ms, done.terminal)))

    def _parent(self, block: bytes) -> tuple[int, int, State]:
        """Height, time and state of a block that this engine has had checked, or of the tip."""
        if block == self.chain.tip.id:
            return self.chain.tip.height, self.chain.tip.time_ms, self.state
        header, done = self._executed[block]
        return header.height, header.time_ms, done.state

    def _remember(self, key: tuple[bytes, bytes, int], done: Executed) -> None:
        self._tentative[key] = done
        while len(self._tentative) > TENTATIVE_MAX:
            del self._tentative[next(iter(self._tentative))]

    def _check(self, block: Block) -> None:
        reason, terminal = "", False
        try:
            terminal = self._execute(block).terminal
        except (Invalid, KeyError) as error:
            reason = str(error) or "invalid"
        self._events.append((self.epoch, PayloadChecked(block.id, reason, terminal)))

    def _execute(self, block: Block) -> Executed:
        """Execute a proposed block and remember the result.

        Raises:
            Invalid: nobody should vote for it.
            KeyError: its parent was never checked.
        """
        header = block.header
        if header.id in self._executed:
            return self._executed[header.id][1]
        height, time_ms, state = self._parent(header.parent)
        if header.height != height + 1 or not block.is_whole():
            raise Invalid("malformed")
        if not time_ms < header.time_ms <= self._wall_ms + self._config.skew_ms:
            raise Invalid("time")
        return self._run_block(block, state)

    def _run_block(self, block: Block, state: State) -> Executed:
        header = block.header
        key = (header.parent, block.payload, header.time_ms)
        done = self._tentative.get(key)
        if done is None:
            done = self._config.rules.check(state, block.payload, height=header.height, time_ms=header.time_ms)
            self._remember(key, done)
        if self._config.rules.root(done.state) != header.state:
            raise Invalid("state root")
        self._executed[header.id] = (header, done)
        while len(self._executed) > TENTATIVE_MAX:
            del self._executed[next(iter(self._executed))]
        return done

    # --- final blocks ---------------------------------------------------------------------------------------------------

    def _replay(self, block: Block, proof: FinalityProof | None) -> None:
        """Execute a block of the log."""
        header = block.header
        done = self._config.rules.check(self.state, block.payload, height=header.height, time_ms=header.time_ms)
        if done.state.root != header.state:
            raise RemoteProtocolError(f"block {header.height} of the log does not lead to the state that it names")
        self.chain.append(block)
        self.state = done.state
        if proof is not None:
            self.chain.store.put_proof(header.height, proof)
        self.epoch = membership(self.state).epoch

    def _commit(self, blocks: Sequence[Block], proof: FinalityProof) -> None:
        for number, block in enumerate(blocks, 1):
            header = block.header
            if header.height <= self.chain.tip.height:
                if self.chain.header(header.height).id != header.id:
                    self._alarm("fork", f"two blocks are final at height {header.height}")
                    return
                continue
            if header.parent != self.chain.tip.id:
                self._alarm("fork", f"block {header.height} is final and does not stand on block {header.height - 1}")
                return
            try:
                known = self._executed.get(header.id)
                done = known[1] if known is not None else self._run_block(block, self.state)
            except Invalid as error:
                self._alarm("execution", f"block {header.height} is final and seems invalid here: {error}")
                return
            if self._add(block, done, proof if number == len(blocks) else None, header.id):
                return

    def _order(self, order: Order) -> None:
        tip = self.chain.tip
        if tip.slot >= order.slot and tip.height and self.chain.header(tip.height).epoch == self.epoch:
            return  # known already, from the log or from others
        time_ms = max(tip.time_ms + 1, order.time_ms)
        done = self._config.rules.order(self.state, order.payloads, height=tip.height + 1, time_ms=time_ms)
        payload = encode_payload(done.transactions)
        header = Header(
            chain=self._chain_id,
            epoch=self.epoch,
            slot=order.slot,
            height=tip.height + 1,
            parent=tip.id,
            payload=payload_hash(payload),
            state=self._config.rules.root(done.state),
            validators=self.validators.digest,
            proposer=order.proposer,
            time_ms=time_ms,
        )
        for skipped in order.payloads:
            self._release(skipped)
        self._add(Block(header, payload), done, None, order.reference)

    def _release(self, payload: bytes) -> None:
        """Transactions of an ordered payload may be proposed again, if they still wait."""
        try:
            for transaction in decode_payload(payload):
                self._in_flight.pop(transaction_id(transaction), None)
        except RemoteProtocolError:
            return  # of a validator that lies; the rules skip it, too

    def _add(self, block: Block, done: Executed, proof: FinalityProof | None, reference: bytes) -> bool:
        """Add a final block; returns whether the epoch ended with it."""
        header = block.header
        self._write(BlockEntry(block, proof))
        self.chain.append(block)
        self.state = done.state
        if proof is not None:
            self.chain.store.put_proof(header.height, proof)
        senders = []
        for transaction in done.transactions:
            match parse(transaction):
                case SignedTransaction(sender=sender):
                    senders.append(sender)
                case ReportOffence(evidence):
                    self._hold(evidence)
        self.pool.forget(self.state, list(dict.fromkeys(senders)))
        for old in [one for one, (known, _) in self._executed.items() if known.height <= header.height]:
            del self._executed[old]
        self._put(BlockFinal(block, done, reference))
        if proof is not None:
            self._put(BlockProven(header.height, proof))
        if not self._config.certifies_state:
            self._vote_checkpoint(header)
        if done.terminal:
            self._events.clear()
            self._open_epoch([])
        return done.terminal

    # --- checkpoints ----------------------------------------------------------------------------------------------------

    def _vote_checkpoint(self, header: Header) -> None:
        signer = self.validators.index(self._config.me)
        if signer is not None and not self.alarmed:
            message = signed_bytes(self._chain_id, CHECKPOINT, header.epoch, header.height, header.id)
            vote = CheckpointVote(header.epoch, header.height, header.id, signer, self._config.sign(message))
            self._transmit(None, vote, "vote")
            self._take_checkpoint(vote)
        self._certify(header.epoch, header.height)

    def _take_checkpoint(self, vote: CheckpointVote) -> None:
        for tally in self._tallies:
            if tally.epoch == vote.epoch:
                if (evidence := tally.add(vote, self.chain.tip.height)) is not None:
                    self._convict(evidence)
                self._certify(vote.epoch, vote.height)

    def _certify(self, epoch: int, height: int) -> None:
        if height > self.chain.tip.height or self.chain.store.proof(height) is not None:
            return
        header = self.chain.header(height)
        for tally in self._tallies:
            if tally.epoch == epoch == header.epoch and (proof := tally.certified(height)) is not None:
                if proof.certificate.digest != header.id:
                    self._alarm("checkpoint", f"a quorum has another block than this peer at height {height}")
                    return
                self.chain.store.put_proof(height, proof)
                self._write(ProofEntry(height, proof))
                self._put(BlockProven(height, proof))

    # --- evidence -------------------------------------------------------------------------------------------------------

    def _convict(self, evidence: Evidence) -> None:
        """Take evidence that an engine or a peer brings: keep it, pass it on, and bring it onto the ledger."""
        if evidence.offender in self.evidence or not self._may_offend(evidence):
            return
        if not evidence.convicts(self._chain_id, self._config.verify):
            return
        self._hold(evidence)
        self._transmit(None, EvidenceMessage(evidence), "evidence")
        self.pool.report(report(evidence), self.state)

    def _may_offend(self, evidence: Evidence) -> bool:
        return self.validators.index(PeerId.from_public_key(evidence.offender)) is not None

    def _hold(self, evidence: Evidence) -> None:
        if evidence.offender not in self.evidence:
            self.evidence[evidence.offender] = evidence
            self._write(EvidenceEntry(evidence))
            self._put(Convicted(evidence))

    # --- history --------------------------------------------------------------------------------------------------------

    def _want_history(self, hint: PeerId | None) -> None:
        """Ask somebody for the blocks above the tip, one peer at a time."""
        self._wanted = True
        if self._asked is not None:
            return
        others = [peer for peer in self.validators.peers if peer != self._config.me]
        if hint is None and others:
            self._turn += 1
            hint = others[self._turn % len(others)]
        if hint is not None:
            self._asked = hint
            self._transmit(hint, HistoryAsk(self.chain.tip.height), "sync")
            self._outputs.append(StartTimer("history", 2 * self._config.delta_ms))

    def _answer_history(self, sender: PeerId, above: int) -> None:
        if above >= self.chain.tip.height or self._now - self._answered.get(sender, -1_000_000) < ANSWER_PAUSE_MS:
            return
        self._answered[sender] = self._now
        self._transmit(sender, self.chain.answer(above), "sync")

    def _take_history(self, sender: PeerId, answer: HistoryAnswer) -> None:
        if sender != self._asked:
            return
        self._asked, self._wanted = None, False
        self._outputs.append(StopTimer("history"))
        before = (self.epoch, self.chain.tip.height)
        if not answer.blocks or answer.blocks[0].header.height > before[1] + 1:
            return
        if not is_history(answer, self._chain_id, self.epoch, self.validators, self._config.verify):
            return
        assert answer.proof is not None, "is_history has looked"
        self._commit(answer.blocks, answer.proof)
        if self.epoch == before[0] and self.chain.tip.height > before[1]:
            self._events.append((self.epoch, Synced(self.chain.tip)))
        if (self.epoch, self.chain.tip.height) != before and answer.height > self.chain.tip.height:
            self._want_history(sender)


ANSWER_PAUSE_MS: Final = 5
"""Shortest time between two histories for one peer."""


def _at_slot_0(tip: Any) -> Any:
    """The anchor of a new epoch."""
    return type(tip)(tip.height, 0, tip.id, tip.state, tip.time_ms)
