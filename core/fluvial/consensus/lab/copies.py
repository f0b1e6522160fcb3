"""One copy of a node: a replica with its simulated disk, timers and clock. Correct nodes have one copy, twins have two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from fluvial.consensus.effects import MessageClass
from fluvial.consensus.lab.disk import SimulatedDisk
from fluvial.consensus.lab.network import is_meant
from fluvial.consensus.lab.pruning import begun_with
from fluvial.consensus.lab.roles import LyingCopy, Outgoing
from fluvial.consensus.lab.schedule import ClockFault
from fluvial.consensus.outputs import (
    Alarmed,
    Append,
    BlockFinal,
    BlockProven,
    Convicted,
    EpochBegan,
    Misled,
    Output,
    SnapshotDue,
    SnapshotFetched,
    StartTimer,
    StateInstalled,
    StopTimer,
    Sync,
    Transmit,
)
from fluvial.consensus.replica import Replica
from fluvial.errors import Refused, RemoteProtocolError
from fluvial.identity import PeerId
from fluvial.ledger.blocks import LedgerBlock


class World(Protocol):
    """What a copy needs of the run it is in."""

    now_us: int

    def later(self, at_us: int, happen: Callable[[], None]) -> None:
        """Do something at a time."""
        ...

    def post(self, sender: NodeCopy, to: PeerId | None, data: bytes, kind: MessageClass) -> None:
        """Send a message; None means all."""
        ...

    def block_final(self, copy: NodeCopy, final: BlockFinal) -> None:
        """A copy has committed a block."""
        ...


@dataclass(frozen=True, slots=True)
class Committed:
    """A block as one copy committed it, and when."""

    block: LedgerBlock
    at_us: int


@dataclass(slots=True)
class CopyFindings:
    """What was seen of one copy.

    Attributes:
        commits: by height, the first time each.
        evidence: by the offender's key: (name of the offence, when in µs).
        taken_back: a height at which it committed two different blocks.
        fork_seen: whether it reported one.
        failure: what went wrong in its engine; None if nothing.
        view_max: the newest view it was in.
        alarms: (word, details, when in µs).
        installed: heights of the snapshots that it went on from without a restart.
        misled_by: peers that it caught at sending wrong parts of snapshots.
    """

    commits: list[Committed] = field(default_factory=list)
    evidence: dict[bytes, tuple[str, int]] = field(default_factory=dict)
    taken_back: int | None = None
    fork_seen: bool = False
    failure: str | None = None
    view_max: int = 0
    alarms: list[tuple[str, str, int]] = field(default_factory=list)
    installed: list[int] = field(default_factory=list)
    misled_by: list[PeerId] = field(default_factory=list)


class NodeCopy:
    """A running or crashed copy of a node.

    Args:
        node: its number.
        label: ``"3"``, or ``"3b"`` for the second copy of a twin.
        peer: whose key it has.
        make: makes its replica anew at each start.
        world: the run.
        clocks: faults of its clock.
        fsync_us: how long a sync takes.
        lag_us: how late it hears everything.
        liar: what its messages become, if it is Byzantine.
    """

    def __init__(
        self,
        node: int,
        label: str,
        peer: PeerId,
        make: Callable[[NodeCopy], Replica],
        world: World,
        clocks: list[ClockFault],
        *,
        fsync_us: int,
        lag_us: int = 0,
        liar: LyingCopy | None = None,
        ahead_ms: int = 0,
    ) -> None:
        self.node, self.label, self.peer, self.liar = node, label, peer, liar
        self.lag_us: Final = lag_us
        self.disk = SimulatedDisk()
        self.findings = CopyFindings()
        self.replica: Replica | None = None
        self.lives = 0
        self._make, self._world, self._fsync_us, self._ahead_ms = make, world, fsync_us, ahead_ms
        self._clocks = [one for one in clocks if is_meant(one.node, node, label)]
        self._started_us = 0
        self._timers: dict[str, int] = {}
        self._timer_numbers = 0

    @property
    def name(self) -> tuple[int, str]:
        """Number and label."""
        return (self.node, self.label)

    def start(self) -> None:
        """Begin with what is on the disk."""
        self.lives += 1
        self._timers.clear()
        self._started_us = self._world.now_us
        self.replica = self._make(self)
        self._guarded(lambda replica: replica.start(self.disk.read(), 0, self.wall_ms()))
        self._find_untold()

    def _find_untold(self) -> None:
        """Blocks that were on the disk already when it crashed, and that it had not told yet."""
        if self.replica is None:
            return
        commits, chain = self.findings.commits, self.replica.chain
        while len(commits) < chain.tip.height and chain.store.has(len(commits) + 1):
            commits.append(Committed(chain.store.block(len(commits) + 1), self._world.now_us))

    def stop(self) -> None:
        """Crash: everything in memory is gone."""
        self.lives += 1
        self._timers.clear()
        self.replica = None

    def hear(self, sender: PeerId, data: bytes) -> None:
        """A message arrives."""
        self._guarded(lambda replica: replica.receive(sender, data, self._now(), self.wall_ms()))

    def submit(self, transaction: bytes) -> None:
        """A client brings a transaction."""
        self._guarded(lambda replica: replica.submit(transaction, self._now(), self.wall_ms()))

    def wall_ms(self) -> int:
        """Its wall clock."""
        rate, offset_ms = self._clock()
        return max(0, int(self._world.now_us / 1000 * rate + offset_ms)) + self._ahead_ms

    def _now(self) -> int:
        return (self._world.now_us - self._started_us) // 1000

    def _clock(self) -> tuple[float, float]:
        at_ms = self._world.now_us / 1000
        for one in self._clocks:
            if one.at_ms <= at_ms and (one.until_ms is None or at_ms < one.until_ms):
                return one.rate, one.offset_ms
        return 1.0, 0.0

    def _guarded(self, step: Callable[[Replica], Any]) -> None:
        """Take a step of the replica; whatever an engine raises is its failure, and the node stops there."""
        if self.replica is None:
            return
        try:
            outputs = step(self.replica)
        except (RemoteProtocolError, Refused):
            return  # what was sent or submitted is no good
        except Exception as error:  # noqa: BLE001 - a broken engine must not end the run, but fail it
            self.findings.failure = f"{type(error).__name__}: {error}"
            self.stop()
            return
        for output in outputs:
            self._carry_out(output)

    def _carry_out(self, output: Output) -> None:
        world, life = self._world, self.lives
        match output:
            case Append(entry):
                self.disk.append(entry, world.now_us)
            case Sync(number):
                length = self.disk.length
                if self._fsync_us:
                    world.later(world.now_us + self._fsync_us, lambda: self._synced(number, length, life))
                else:
                    self._synced(number, length, life)
            case Transmit(to, data, kind):
                world.post(self, to, data, kind)
            case StartTimer(name, after_ms):
                rate, _ = self._clock()
                self._timer_numbers += 1
                number = self._timers[name] = self._timer_numbers
                world.later(
                    world.now_us + max(0, round(after_ms * 1000 / rate)), lambda: self._fire(name, number, life)
                )
            case StopTimer(name):
                self._timers.pop(name, None)
            case BlockFinal():
                self._block_final(output)
            case Convicted(evidence):
                self.findings.evidence.setdefault(evidence.offender, (evidence.offence, world.now_us))
            case Alarmed(what, details):
                self.findings.fork_seen = self.findings.fork_seen or what in ("fork", "checkpoint")
                self.findings.alarms.append((what, details, self._world.now_us))
                if what == "execution":
                    self.findings.failure = details
            case SnapshotFetched(snapshot):
                self.disk.rewrite(begun_with(snapshot, self.disk.read()))
                self._guarded(lambda replica: replica.installed(snapshot, self._now(), self.wall_ms()))
            case SnapshotDue(snapshot):
                self.disk.rewrite(begun_with(snapshot, self.disk.read()))
                if self.replica is not None:
                    self.replica.chain.base = snapshot.header.height
            case StateInstalled(snapshot):
                self.findings.installed.append(snapshot.header.height)
            case Misled(sender):
                self.findings.misled_by.append(sender)
            case BlockProven() | EpochBegan():
                pass

    def _synced(self, number: int, length: int, life: int) -> None:
        if life == self.lives:
            self.disk.make_durable(length)
            self._guarded(lambda replica: replica.synced(number))

    def _fire(self, name: str, number: int, life: int) -> None:
        if life == self.lives and self._timers.get(name) == number:
            del self._timers[name]
            self._guarded(lambda replica: replica.fired(name, self._now(), self.wall_ms()))

    def _block_final(self, final: BlockFinal) -> None:
        header = final.block.header
        commits = self.findings.commits
        if header.height <= len(commits):
            if commits[header.height - 1].block.id != header.id:
                self.findings.taken_back = header.height
            return
        commits.append(Committed(final.block, self._world.now_us))
        self._world.block_final(self, final)


def outgoing(
    copy: NodeCopy, targets: list[tuple[int, str]], data: bytes, kind: MessageClass, at_ms: float
) -> list[Outgoing]:
    """What really leaves a copy, for each target."""
    messages = [Outgoing(to, data, kind) for to in targets]
    if copy.liar is None:
        return messages
    return [twisted for message in messages for twisted in copy.liar.twist(message, at_ms)]
