"""The host: runs a replica in a peer, and is the peer's port ``ledger``.

The replica decides everything; here are its disk (``log_writer.py``), its network (``messenger.py``), its timers and its clock. All of it happens on the
event loop, one event at a time. A view is shown once its block is durable here. Transactions come in through ``transaction_desk.py``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, cast

import anyio
from anyio.abc import TaskGroup, TaskStatus
from prometheus_client import Counter, Gauge

from fluvial.consensus.block_chain import RecentBlocks
from fluvial.consensus.outputs import (
    Alarmed,
    Append,
    BlockFinal,
    BlockProven,
    Convicted,
    EpochBegan,
    Misled,
    Output,
    PublishEntry,
    SnapshotDue,
    SnapshotFetched,
    StartTimer,
    StateInstalled,
    StopTimer,
    Sync,
    Transmit,
)
from fluvial.consensus.replica import Replica
from fluvial.consensus.replica_config import ReplicaConfig
from fluvial.consensus.snapshot_shelf import ProvenState
from fluvial.consensus.wire import LedgerStatus, tag_of
from fluvial.errors import FluvialError, Refused, RemoteProtocolError
from fluvial.findings import Finding
from fluvial.hosting.certified import CertifiedStates
from fluvial.hosting.follower_news import FollowerNews
from fluvial.hosting.genesis_file import read_genesis
from fluvial.hosting.history_desk import FOLLOWERS_MAX, HistoryDesk
from fluvial.hosting.key_mark import NEVER, KeyMark, may_vote_from
from fluvial.hosting.log import ConsensusLog
from fluvial.hosting.log_writer import LogDatabase, LogWriter
from fluvial.hosting.messenger import FRAME_BYTES_MAX, Messenger, looked_at, messages_of
from fluvial.hosting.offer_lines import TRANSACTIONS
from fluvial.hosting.outside import OrderWork, OutsideLog
from fluvial.hosting.services import LedgerService, NameService
from fluvial.hosting.settings import HostPlan
from fluvial.hosting.shown import ShownLedger
from fluvial.hosting.snapshot_keeper import SnapshotKeeper
from fluvial.hosting.timers import ReplicaTimers
from fluvial.hosting.transaction_desk import TRANSACTIONS_BYTES_MAX, TransactionDesk
from fluvial.hosting.verifying import carried, verify_ahead
from fluvial.identity import KeyPair, PeerId, verify
from fluvial.ledger.genesis import Genesis
from fluvial.ledger.pool import TransactionPool
from fluvial.ledger.rules import LedgerRules, PayloadLimits
from fluvial.ledger.statements import VALIDATORS_MAX
from fluvial.ports import Context, View
from fluvial.prepared import Prepared, Transaction
from fluvial.seats import Answer, Consensus, Contributions, RefusingAnswer
from fluvial.waiting import now_s

PROTOCOL: Final = "/fluvial/consensus/1"
RECENT_BLOCKS: Final = 1_024
"""Blocks that are kept in memory; older ones are read from the database for who asks."""
TRANSACTIONS_AT_ONCE: Final = 256
"""Messages with transactions that are looked at in turns; who finds no place is refused."""
SILENT: Final = "the database of this key was lost, and with it what the key has signed"


class ConsensusHost(Consensus):
    """Takes the seat of consensus for an engine, or for a follower.

    Args:
        context: of the part.
        plan: what it runs.
    """

    def __init__(self, context: Context, plan: HostPlan) -> None:
        self._context, self._plan = context, plan
        self._log: Final = context.log
        self._shown: Final = ShownLedger()
        self._table: Final = ConsensusLog()
        # The database of a part of core is more than the port.
        self._writer: Final = LogWriter(cast("LogDatabase", context.database), self._table, self._on_durable)
        self._store = RecentBlocks(RECENT_BLOCKS)
        self._desk: Final = HistoryDesk(
            context.database, self._table, self._transmit, lambda: self.view().height, context.log
        )
        self._keeper: Final = SnapshotKeeper(
            context.database, plan.section.kept_blocks, plan.section.kept_bytes, context.log
        )
        self._mark: KeyMark | None = None
        self._timers: Final = ReplicaTimers(self._fired)
        self._failure: BaseException | None = None
        self._failed = anyio.Event()
        self._transactions: Final = TransactionDesk(
            context, gossips=plan.certifies_state, running=self._running, take=self._let_wait
        )
        self._began_s = 0.0
        self._stand_in: Final = KeyPair.generate()
        self._votes_from = 0
        self.replica: Replica | None = None
        self.genesis: Genesis | None = None
        self._messages: Messenger | None = None
        self._news: FollowerNews | None = None
        self._outside: OutsideLog | None = None
        self._tasks: TaskGroup | None = None
        self._measure(context)

    def _measure(self, context: Context) -> None:
        height = Gauge("fluvial_ledger_height", "Final blocks that this peer holds", registry=context.metrics)
        height.set_function(lambda: self.view().height)
        self._executed = Counter("fluvial_ledger_transactions", "Executed transactions", registry=context.metrics)
        waiting = Gauge("fluvial_ledger_waiting", "Transactions that wait for a block here", registry=context.metrics)
        waiting.set_function(lambda: len(self.replica.pool) if self.replica is not None else 0)

    # --- the port -------------------------------------------------------------------------------------------------------

    def view(self) -> View:
        """The state after the last block that is final and durable here."""
        return self._shown.view

    async def submit(self, transaction: bytes) -> None:
        """Let a transaction wait for a block, here and at the other validators; a follower hands it to several.

        Raises:
            Refused: it can never be in a block, or there is no room, or no validator can be reached.
        """
        await self._transactions.submit(transaction)

    # --- life -----------------------------------------------------------------------------------------------------------

    @property
    def is_validator(self) -> bool:
        """Whether this peer decides about blocks now."""
        replica = self.replica
        return replica is not None and replica.decides

    @property
    def silent(self) -> bool:
        """Whether the key may not vote in this epoch, since a lost database may have held votes of it."""
        return self.replica is not None and self.replica.epoch < self._votes_from

    @property
    def certified(self) -> CertifiedStates:
        """States with proofs."""
        return self._shown.certified

    @property
    def outcomes(self) -> Mapping[bytes, tuple[int, str]]:
        """What became of transactions lately, by their ids: height, and why there was no effect."""
        return self._shown.outcomes

    @property
    def plan(self) -> HostPlan:
        """What it runs."""
        return self._plan

    def contributions(self) -> Contributions:
        """Two protocols, the services ``ledger`` and ``name``, and its health."""
        return Contributions(
            answers=(
                Answer(protocol=PROTOCOL, by=self._received, bytes_max=FRAME_BYTES_MAX, at_once=512, per_sender=32),
                Answer(
                    protocol=TRANSACTIONS,
                    by=self._transactions.answer,
                    bytes_max=TRANSACTIONS_BYTES_MAX,
                    at_once=TRANSACTIONS_AT_ONCE,
                    per_sender=4,
                ),
            ),
            services=(LedgerService(self), NameService(self)),
            health=self._health,
        )

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Replay what is durable, then take part until cancelled.

        Raises:
            ConfigError: the genesis cannot be used, or the database or the key is in other use. StorageError: the log is damaged.
        """
        self.genesis = read_genesis(self._context.base_dir / self._plan.section.genesis)
        self._began_s = now_s()
        self._mark = mark = KeyMark(self._context.base_dir / self._plan.key_file)
        try:
            await self._take_up_key(mark, self.genesis.chain)
            outputs = await self._context.database.read(Prepared(self._begin, self._wall()))
            async with anyio.create_task_group() as tasks:
                peers = self._context.peers
                self._tasks = tasks
                self._messages = Messenger(
                    peers, PROTOCOL, tasks, peers_max=VALIDATORS_MAX + FOLLOWERS_MAX, known=self._is_known
                )
                self._news = FollowerNews(self._messages, lambda: self._desk.followers(peers.connected()), self._status)
                self._transactions.open(tasks)
                tasks.start_soon(self._writer.run)
                tasks.start_soon(self._keeper.run)
                tasks.start_soon(self._timers.run)
                if self._plan.ordering is not None:
                    self._outside = OutsideLog(self._plan.ordering(), self._order_step, self._log)
                    tasks.start_soon(self._outside.run)
                self._act(outputs)
                task_status.started()
                await self._failed.wait()
                assert self._failure is not None, "it is set before the event"
                raise self._failure
        finally:
            mark.close()
            self._desk.close()
            if self._news is not None:
                self._news.close()

    async def _take_up_key(self, mark: KeyMark, chain: bytes) -> None:
        """Find out whether this key may vote with this database."""
        database, me = self._context.database, self._context.keys.public_key
        # An engine that does not know what it has signed must not sign: before that epoch it works under a key that nobody counts.
        self._votes_from = await may_vote_from(mark, database, self._table, me, chain, self._plan.section.genesis)

    def _begin(self, transaction: Transaction, wall_ms: int) -> Sequence[Output]:
        """Make the replica and replay the log; runs where the database is read, which may be a thread of its own."""
        assert self.genesis is not None, "it is read before"
        plan, section, chain = self._plan, self._plan.section, self.genesis.chain
        self._store = RecentBlocks(RECENT_BLOCKS)
        self.replica = Replica(
            ReplicaConfig(
                me=self._context.keys.peer_id,
                sign=self._context.keys.sign,
                verify=verify,
                genesis=self.genesis,
                make=lambda setup: plan.make(setup, plan.options),
                certifies_state=plan.certifies_state,
                rules=LedgerRules(chain, PayloadLimits(transactions_max=section.block_transactions_max)),
                pool=TransactionPool(chain, state_bytes_max=section.state_bytes_max),
                delta_ms=section.delta_ms,
                idle_ms=section.idle_ms,
                store=lambda: self._store,
                snapshot_blocks=section.snapshot_blocks,
                votes_from=self._votes_from,
                stand_in=(self._stand_in.peer_id, self._stand_in.sign),
            )
        )
        outputs = self.replica.start(self._table.entries(transaction), 0, wall_ms)
        tip = self.replica.chain.tip
        header = self.replica.chain.header(tip.height) if tip.height else None
        self._shown.open(tip.height, self.replica.state, header, self._store.proof(tip.height))
        if self.silent:
            self._log.error("consensus_silent", why=SILENT, votes_from_epoch=self._votes_from)
        self._log.info("ledger_opened", height=tip.height, epoch=self.replica.epoch, chain=chain.hex()[:12])
        return outputs

    def _is_known(self, peer: PeerId) -> bool:
        return self.replica is not None and self.replica.validators.index(peer) is not None

    def _running(self) -> Replica:
        if self.replica is None or self._tasks is None:
            raise Refused("the ledger has not started yet", reason="starting")
        return self.replica

    # --- what the replica asks for --------------------------------------------------------------------------------------

    def _now(self) -> int:
        return int((now_s() - self._began_s) * 1000)

    def _wall(self) -> int:
        return self._context.clock.now_ms()

    def _step(self, work: Callable[[Replica], Sequence[Output]]) -> None:
        """Let the replica handle an event that nobody waits for; what must not happen ends the peer before it signs anything more."""
        if self.replica is None or self._failure is not None:
            return
        try:
            self._act(work(self.replica))
        except BaseException as error:  # noqa: BLE001 - a replica in an unknown state must not go on
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self._failed.set()

    def _let_wait(self, transaction: bytes) -> None:
        self._act(self._running().submit(transaction, self._now(), self._wall()))

    def _order_step(self, work: OrderWork) -> int:
        self._step(lambda replica: work(replica, self._now(), self._wall()))
        return self._running().chain.tip.slot

    def _on_durable(self, number: int) -> None:
        self._step(lambda replica: replica.synced(number))

    def _act(self, outputs: Iterable[Output]) -> None:
        for output in outputs:
            match output:
                case Append(entry):
                    self._writer.append(entry)
                case Sync(number):
                    self._writer.sync(number)
                case Transmit(to, data):
                    self._transmit(to, data)
                case PublishEntry(data) if self._outside is not None:
                    self._outside.publish(data)
                case StartTimer(name, after_ms):
                    self._timers.start(name, after_ms)
                case StopTimer(name):
                    self._timers.stop(name)
                case BlockFinal():
                    self._writer.then(partial(self._show, output, self._running().epoch))
                case BlockProven(height, proof):
                    self._writer.then(partial(self._shown.certified.prove, height, proof))
                    if self._news is not None:
                        self._news.tell()
                case Convicted(evidence):
                    offender = PeerId.from_public_key(evidence.offender)
                    self._log.warning(
                        "validator_convicted", validator=offender, offence=evidence.offence, slot=evidence.slot
                    )
                case Alarmed(what, details):
                    self._log.error("consensus_alarmed", what=what, error=details)
                case EpochBegan(epoch, votes):
                    if votes and self._mark is not None:
                        self._mark.note(self._running().chain_id, epoch)
                case SnapshotDue(snapshot):
                    self._writer.then(partial(self._keeper.due, snapshot))
                case SnapshotFetched(snapshot):
                    self._writer.then(partial(self._keeper.install, snapshot, partial(self._installed, snapshot)))
                case StateInstalled(snapshot):
                    header = snapshot.header
                    self._log.info("snapshot_installed", height=header.height, epoch=self._running().epoch)
                    self._writer.then(partial(self._shown.open, header.height, snapshot.state, header, snapshot.proof))
                case Misled(sender, why):
                    self._log.warning("snapshot_is_wrong", peer=sender, why=why)

    def _transmit(self, to: PeerId | None, data: bytes) -> None:
        assert self._messages is not None, "it is made before the first output"
        me = self._context.keys.peer_id
        if to is not None:
            if to != me and self._is_told(to):  # a silent peer does not count itself among the validators
                self._messages.send(to, data)
            return
        self._messages.broadcast((peer for peer in self._running().validators.peers if peer != me), data)

    def _is_told(self, peer: PeerId) -> bool:
        """Whether a peer is told something: others than validators only while they are connected, unless they are asked. Nobody has us look for them."""
        known = self._is_known(peer) or peer in self._context.peers.connected()
        return known or bool(self._running().asked_for(peer))

    def _installed(self, snapshot: ProvenState) -> None:
        self._step(lambda replica: replica.installed(snapshot, self._now(), self._wall()))

    def _fired(self, name: str) -> None:
        self._step(lambda replica: replica.fired(name, self._now(), self._wall()))

    def _show(self, final: BlockFinal, epoch: int) -> None:
        """A block is durable: show the state after it."""
        self._shown.show(final, self._wall())
        self._executed.inc(len(final.executed.transactions))
        if final.executed.terminal:
            self._log.info("epoch_began", epoch=epoch, height=final.block.header.height)

    def _status(self) -> LedgerStatus:
        replica = self._running()
        return LedgerStatus(replica.epoch, replica.chain.tip.height)

    # --- messages of others ---------------------------------------------------------------------------------------------

    def _received(self, sender: PeerId, payload: bytes) -> bytes | Awaitable[bytes]:
        replica, known = self._running(), self._is_known(sender)
        asked, height = replica.asked_for(sender), replica.chain.tip.height
        messages = looked_at(messages_of(payload), known=known, asked=asked)
        payloads = carried(messages, asked=asked, height=height, of_engine=self._plan.payloads if known else None)
        return self._read_later(sender, messages, payloads) if payloads else self._read(sender, messages)

    async def _read_later(self, sender: PeerId, messages: Sequence[bytes], payloads: Sequence[bytes]) -> bytes:
        """Let the replica handle messages once who has signed the transactions in them is verified."""
        await verify_ahead(payloads)
        return self._read(sender, messages)

    def _read(self, sender: PeerId, messages: Sequence[bytes]) -> bytes:
        replica = self._running()
        assert self._tasks is not None, "it runs"
        assert self._messages is not None, "it runs"
        useful = False
        for data in messages:
            known = self._is_known(sender)
            answer = partial(self._answer, sender, data)
            match tag_of(data):
                case b"ask" if not known and not self._messages.is_idle(sender):
                    continue  # it has not read what it was answered before
                case b"ask":
                    base = replica.chain.base
                    self._desk.ask_blocks(sender, data, self._store, self._tasks, answer, known=known, base=base)
                    useful = True
                case b"wants":
                    self._desk.ask_part(sender, data, answer, known=known)
                    useful = True
                case b"engine" | b"checkpoint" if not known:
                    continue  # of who was a validator, or will be one: it asks for history, or repeats itself
                case _:
                    useful |= self._take(replica, sender, data) or known
        return b"" if useful else RefusingAnswer()

    def _answer(self, sender: PeerId, question: bytes) -> None:
        """Let the replica answer a question whose turn it is."""
        self._step(lambda replica: replica.receive(sender, question, self._now(), self._wall()))

    def _take(self, replica: Replica, sender: PeerId, data: bytes) -> bool:
        """Let the replica handle a message; whether anything follows from it."""
        try:
            outputs = replica.receive(sender, data, self._now(), self._wall())
        except FluvialError:
            raise  # the sender's fault
        except BaseException as error:
            self._fail(error)
            raise
        self._act(outputs)
        for output in outputs:
            if isinstance(output, Misled) and output.sender == sender:
                raise RemoteProtocolError(f"this is no part of a snapshot: {output.why}")
        return bool(outputs)

    # --- health ---------------------------------------------------------------------------------------------------------

    def _health(self) -> Iterable[Finding]:
        replica = self.replica
        if replica is None:
            return
        subject, role = "ledger", "validator" if self.is_validator else "follower"
        what = f"{self._plan.algorithm or 'following'}, {role}, epoch {replica.epoch}, height {self.view().height:,}"
        if replica.alarmed:
            yield Finding(
                level="fail",
                subject=subject,
                text=f"{what}; it signs nothing any more: {replica.alarmed}",
                hint="more than a third of the validators have lied, or this peer is damaged: `fluvial consensus explain` shows what is known",
            )
        elif self.silent:
            yield Finding(
                level="warn",
                subject=subject,
                text=f"{what}; silent: {SILENT}; it votes again {self._again()}",
                hint="an administrator begins an epoch by changing the validators (`fluvial consensus submit validators`), or replaces this key by a new one",
            )
        else:
            yield Finding(level="ok", subject=subject, text=what)
        weight, most = replica.state.weight, self._plan.section.state_bytes_max
        if self.is_validator and weight > most:
            yield Finding(
                level="warn",
                subject=subject,
                text=f"its state takes {weight >> 20:,} MiB, and keys without units add nothing to it any more",
                hint="ask a fee (`fee_per_byte` of the parameters) and give units to those who may write; or raise `state_bytes_max` in [ledger] if there is memory",
            )
        if self._plan.fault_model != "byzantine":
            yield Finding(level="warn", subject=subject, text=f"{self._plan.algorithm} tolerates crashes, and no liars")

    def _again(self) -> str:
        """When a silent key votes again, for people."""
        if self._votes_from > NEVER:
            return "never: the mark beside it cannot be read"
        return f"once epoch {self._votes_from} begins"

    def inspect(self) -> dict[str, Any]:
        """What ``fluvial consensus status`` shows."""
        replica = self._running()
        return {
            "chain": replica.chain_id.hex(),
            "algorithm": self._plan.algorithm,
            "role": "silent" if self.silent else "validator" if self.is_validator else "follower",
            "height": self.view().height,
            "epoch": replica.epoch,
            "waiting": len(replica.pool),
            "transactions": self._shown.transactions,
            "block_ms": self._shown.block_ms,
            "alarmed": replica.alarmed,
            "votes_from_epoch": self._votes_from if self.silent else replica.epoch,
        }
