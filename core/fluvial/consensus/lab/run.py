"""One run of a schedule with an algorithm: an event heap in virtual time. The same seed gives the same run, on every machine."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import count
from random import Random
from typing import Any

from fluvial.consensus.effects import MessageClass
from fluvial.consensus.engine import ConsensusEngine, EngineSetup, EngineTraits, MakeEngine
from fluvial.consensus.lab.copies import NodeCopy, outgoing
from fluvial.consensus.lab.keys import keys_of, verify_once
from fluvial.consensus.lab.network import SimulatedNetwork, is_meant
from fluvial.consensus.lab.roles import CensoringPool, LyingCopy, LyingRules, junk_transaction
from fluvial.consensus.lab.schedule import Action, ClockFault, Crash, FaultSchedule, Load, Role
from fluvial.consensus.outputs import BlockFinal
from fluvial.consensus.replica import Replica
from fluvial.consensus.replica_config import ReplicaConfig
from fluvial.consensus.wire import EngineMessage, decode_message
from fluvial.errors import RemoteProtocolError
from fluvial.identity import PeerId
from fluvial.ledger.genesis import Genesis, Parameters
from fluvial.ledger.pool import TransactionPool
from fluvial.ledger.rules import LedgerRules, PayloadLimits
from fluvial.ledger.statements import Validator
from fluvial.ledger.transactions import TransferUnits, UpdateValidators, sign_transaction, transaction_id

BALANCE = 1_000
PER_SENDER = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """What is tried.

    Attributes:
        name: as it is offered.
        make: ``(setup, options) -> engine``.
        options: of the engine.
        traits: what is known of it.
    """

    name: str
    make: MakeEngine
    options: Any
    traits: EngineTraits


@dataclass(slots=True)
class Payment:
    """A payment of the workload.

    Attributes:
        committed_us: by label of a copy, when it was in a block there.
    """

    id: bytes
    account: int
    submitted_us: int
    committed_us: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Passage:
    """A message on its way from a node to another, for who draws a run.

    Attributes:
        sender, to: numbers of nodes.
        sent_us, arrives_us: when.
        data: its bytes.
        kind: its class.
    """

    sender: int
    to: int
    sent_us: int
    arrives_us: int
    data: bytes
    kind: str


class Impossible(Exception):
    """The algorithm cannot be run with this schedule; the text says why."""


class LaboratoryRun:
    """A whole run.

    Args:
        schedule: what happens.
        algorithm: what is tried.
        seed: of all randomness.
        watch: hears of each message that will arrive.
        snapshot_blocks: nodes make a snapshot every so many blocks, and forget those before; 0 for never.

    Attributes:
        copies: all copies of all nodes.
        payments: the workload, by transaction id.
        proposed_us: when each block's proposer made it, by the algorithm's id for it.
        references: the algorithm's id for each block.
        messages, bytes: by message class.

    Raises:
        Impossible: the algorithm lacks what the schedule asks for.
    """

    def __init__(
        self,
        schedule: FaultSchedule,
        algorithm: Algorithm,
        seed: int,
        *,
        watch: Callable[[Passage], None] | None = None,
        snapshot_blocks: int = 0,
    ) -> None:
        self.schedule, self.algorithm, self.seed = schedule, algorithm, seed
        self._watch, self._snapshot_blocks = watch, snapshot_blocks
        self.now_us = 0
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()
        self._network = SimulatedNetwork(schedule, seed)
        self._workload = Random(f"workload {seed}")  # noqa: S311 - no secret
        self.payments: dict[bytes, Payment] = {}
        self.proposed_us: dict[bytes, int] = {}
        self.references: dict[bytes, bytes] = {}
        self.messages: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.actions: dict[bytes, None] = {}
        self._trace = sha256()
        self._nonces: Counter[int] = Counter()
        self._accounts = [keys_of(f"account {number}") for number in range(schedule.accounts)]
        self._administrator = keys_of("administrator")
        self.peers = [keys_of(f"node {number}").peer_id for number in range(schedule.nodes)]
        self.genesis = self._genesis()
        self._junk = junk_transaction(keys_of("junk"), self.genesis.chain)
        self.copies = [copy for node in range(schedule.nodes) for copy in self._copies(node)]
        self._plan()

    @property
    def trace(self) -> str:
        """A hash over (node, virtual time, block) of all commits in order."""
        return self._trace.hexdigest()

    def play(self) -> None:
        """Run to the end."""
        end_us = round(self.schedule.end_ms * 1000)
        while self._heap and self._heap[0][0] <= end_us:
            self.now_us, _, happen = heapq.heappop(self._heap)
            happen()
        self.now_us = end_us
        for copy in self.copies:
            if copy.replica is not None:
                copy.findings.view_max = int(copy.replica.inspect()["engine"].get("view", 0))

    # --- World ----------------------------------------------------------------------------------------------------------

    def later(self, at_us: int, happen: Callable[[], None]) -> None:
        """Do something at a time; at the same time in the order in which it was asked for."""
        heapq.heappush(self._heap, (at_us, next(self._order), happen))

    def post(self, sender: NodeCopy, to: PeerId | None, data: bytes, kind: MessageClass) -> None:
        """Send a message to all other nodes, or to all copies of one."""
        self._note_proposal(data, kind)
        others = [one for one in self.copies if one.node != sender.node and to in (None, one.peer)]
        by_name = {one.name: one for one in others}
        for message in outgoing(sender, list(by_name), data, kind, self.now_us / 1000):
            self.messages[message.kind] += 1
            self.bytes[message.kind] += len(message.data)
            for at_us in self._network.arrivals(sender.name, message.to, self.now_us + message.extra_us):
                target = by_name[message.to]
                if self._watch is not None:
                    way = (sender.node, target.node, self.now_us, at_us + target.lag_us)
                    self._watch(Passage(*way, message.data, message.kind))
                self.later(at_us + target.lag_us, _delivery(target, sender.peer, message.data))

    def block_final(self, copy: NodeCopy, final: BlockFinal) -> None:
        """Note a commit."""
        self._trace.update(f"{copy.label} {self.now_us} {final.block.id.hex()}\n".encode())
        self.references[final.block.id] = final.reference
        for transaction in final.executed.transactions:
            payment = self.payments.get(transaction_id(transaction))
            if payment is not None:
                payment.committed_us.setdefault(copy.label, self.now_us)

    # --- making the nodes -----------------------------------------------------------------------------------------------

    def _genesis(self) -> Genesis:
        validators = tuple(Validator(str(peer)) for peer in self.peers[: self.schedule.validators])
        return Genesis(
            name=f"laboratory {self.schedule.name}",
            time_ms=0,
            validators=validators,
            balances=tuple((keys.public_key, BALANCE) for keys in self._accounts),
            parameters=Parameters(
                administrators=(self._administrator.public_key,),
                validators_min=1,
                remove_offenders=False,
                power_change_max=(1, 1),
            ),
        )

    def _copies(self, node: int) -> list[NodeCopy]:
        roles = [role for role in self.schedule.byzantine if role.node == node]
        doubled = next((role for role in roles if role.role in ("twin", "equivocate")), None)
        labels = [str(node), f"{node}b"] if doubled is not None else [str(node)]
        clocks = [one for one in self.schedule.faults if isinstance(one, ClockFault)]
        return [
            NodeCopy(
                node,
                label,
                self.peers[node],
                self._maker(roles, second=second),
                self,
                clocks,
                fsync_us=round(self.schedule.fsync_ms * 1000),
                lag_us=round(doubled.lag_ms * 1000) if doubled is not None and second else 0,
                liar=self._liar(roles, label) if roles else None,
                ahead_ms=second,
            )
            for second, label in enumerate(labels)
        ]

    def _liar(self, roles: list[Role], label: str) -> LyingCopy:
        traits = self.algorithm.traits
        if any(role.role == "impersonate" for role in roles) and traits.reseal is None:
            raise Impossible("the algorithm cannot put its messages under another name (traits.reseal)")
        rng = Random(f"adversary {self.seed} {label}")  # noqa: S311 - no secret
        return LyingCopy(roles, label, traits, self.schedule.validators, rng)

    def _maker(self, roles: list[Role], *, second: int) -> Callable[[NodeCopy], Replica]:
        """What makes the replica of one copy."""
        rebel = next((role for role in roles if role.role == "rebel"), None)
        make = self.algorithm.make
        if rebel is not None:
            if rebel.rebel not in self.algorithm.traits.rebels:
                raise Impossible(f"the algorithm has no rebel {rebel.rebel!r}")
            make = self.algorithm.traits.rebels[rebel.rebel]
        honest = LedgerRules(self.genesis.chain, PayloadLimits(transactions_max=self.schedule.max_block_txs))
        rules = honest
        if any(role.role in ("wrong_state_root", "invalid_payload") for role in roles):
            rules = LyingRules(honest, roles, lambda: self.now_us / 1000, self._junk)
        banned = [self._accounts[role.account or 0].public_key for role in roles if role.role == "censor"]

        def engine(setup: EngineSetup) -> ConsensusEngine:
            return make(setup, self.algorithm.options)

        def replica(copy: NodeCopy) -> Replica:
            keys = keys_of(f"node {copy.node}")
            pool = (
                CensoringPool(self.genesis.chain, per_sender=PER_SENDER, banned=banned)
                if banned
                else TransactionPool(self.genesis.chain, per_sender=PER_SENDER, newest_first=bool(second))
            )
            return Replica(
                ReplicaConfig(
                    me=keys.peer_id,
                    sign=copy.liar.signing(keys.sign) if copy.liar is not None else keys.sign,
                    verify=verify_once,
                    genesis=self.genesis,
                    make=engine,
                    certifies_state=self.algorithm.traits.certifies_state,
                    rules=rules,
                    pool=pool,
                    delta_ms=self.schedule.timeout_hint_ms or self.schedule.delta_ms,
                    skew_ms=self.schedule.max_clock_skew_ms,
                    snapshot_blocks=self._snapshot_blocks,
                )
            )

        return replica

    # --- what happens when ----------------------------------------------------------------------------------------------

    def _plan(self) -> None:
        for copy in self.copies:
            self.later(0, copy.start)
        for fault in self.schedule.faults:
            if isinstance(fault, Crash):
                self._plan_crash(fault)
        for role in self.schedule.byzantine:
            if role.role == "amnesia":
                self._plan_amnesia(role)
        for load in self.schedule.loads:
            self.later(round(load.from_ms * 1000), self._payer(load))
        for action in self.schedule.actions:
            self.later(round(action.at_ms * 1000), self._actor(action))

    def _plan_crash(self, crash: Crash) -> None:
        for copy in self.copies:
            if not is_meant(crash.node, copy.node, copy.label):
                continue

            def fall(copy: NodeCopy = copy) -> None:
                copy.stop()
                copy.disk.crash(crash.disk, self.now_us)

            self.later(round(crash.at_ms * 1000), fall)
            if crash.restart_ms is not None:
                self.later(round(crash.restart_ms * 1000), copy.start)

    def _plan_amnesia(self, role: Role) -> None:
        times = role.at_ms if isinstance(role.at_ms, list) else [role.at_ms]
        for copy in (one for one in self.copies if one.node == role.node):
            for at_ms in times:

                def forget(copy: NodeCopy = copy) -> None:
                    copy.stop()
                    copy.disk.wipe()

                self.later(round(at_ms * 1000), forget)
                self.later(round((at_ms + role.down_ms) * 1000), copy.start)

    def _payer(self, load: Load) -> Callable[[], None]:
        def pay() -> None:
            for _ in range(load.burst):
                self._pay(load)
            following = self.now_us + round(load.every_ms * 1000)
            if following < load.until_ms * 1000:
                self.later(following, pay)

        return pay if load.from_ms < load.until_ms else lambda: None

    def _pay(self, load: Load) -> None:
        account = self._workload.randrange(len(self._accounts)) if load.account is None else load.account
        other = self._workload.randrange(len(self._accounts) - 1)
        to = self._accounts[other + (other >= account)].public_key
        nonce = self._nonces[account]
        self._nonces[account] += 1
        transaction = sign_transaction(self._accounts[account], self.genesis.chain, nonce, TransferUnits(to, 1))
        self.payments[transaction_id(transaction)] = Payment(transaction_id(transaction), account, self.now_us)
        for copy in self.copies:
            if load.to == "all" or any(is_meant(one, copy.node, copy.label) for one in load.to):
                copy.submit(transaction)

    def _actor(self, action: Action) -> Callable[[], None]:
        def act() -> None:
            body = UpdateValidators(
                tuple(Validator(str(self.peers[node])) for node in action.add),
                tuple(str(self.peers[node]) for node in action.remove),
            )
            transaction = sign_transaction(self._administrator, self.genesis.chain, action.nonce, body)
            self.actions[transaction_id(transaction)] = None
            for copy in self.copies:
                copy.submit(transaction)

        return act

    def _note_proposal(self, data: bytes, kind: MessageClass) -> None:
        describe = self.algorithm.traits.describe
        if kind != "proposal" or describe is None:
            return
        try:
            message = decode_message(data)
        except RemoteProtocolError:
            return
        if isinstance(message, EngineMessage) and (about := describe(message.data)) is not None and about.value:
            self.proposed_us.setdefault(about.value, self.now_us)


def _delivery(target: NodeCopy, sender: PeerId, data: bytes) -> Callable[[], None]:
    return lambda: target.hear(sender, data)
