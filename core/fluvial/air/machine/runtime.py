"""The runtime of one particle: all that its instructions work with, and the loop that gives them their turns.

*Completeness* steers the flow. An activation is open while something in it is still to come; ``seq`` goes on when its part is complete,
``par`` is complete when one branch is. An instruction that needs a name without a value, or a fact that is not there, waits.

*Slices*: :meth:`Runtime.run` ends when a budget of steps or of time is used up, and goes on when it is called again. What was to begin then gets a turn
later, by the same rule by which it waits for something that stands before it; so slices change nothing in what happens, nor in its order.

*Waking*: whatever arrives puts the activations that wait for it on the agenda: a fact the call or canon with its instance, a value those
that need its name, an element the folds over its stream. When a turn changes the state of an activation, the activation around it has a
turn as well, and so on outwards, until a state does not change.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final, TypeAlias

from fluvial.air.data.facts import Closed, Fact
from fluvial.air.machine import errors
from fluvial.air.machine.activations import (
    FAILED,
    KEEP,
    MAKERS,
    OPEN,
    Activation,
    Completeness,
    ParActivation,
    StreamFoldActivation,
    XorActivation,
)
from fluvial.air.machine.agenda import Agenda
from fluvial.air.machine.errors import CHARACTERS_PER_STEP, Catchable, NameCleared, NameNotSet, Uncatchable
from fluvial.air.machine.findings import TAKEN, Findings, Observer
from fluvial.air.machine.knowledge import Knowledge
from fluvial.air.machine.last_error import LastErrorRegister
from fluvial.air.machine.operands import BYTES_PER_STEP, LINKS_PER_STEP, Environment, Operands
from fluvial.air.machine.plan import heads_of, plan_of
from fluvial.air.machine.positions import OUTSIDE, FramePosition, Key
from fluvial.air.machine.provenance import Provenance
from fluvial.air.machine.scopes import Bound, Scope, StreamKey
from fluvial.air.machine.slices import NO_CLOCK, SLICE_S, SLICE_STEPS, Clock
from fluvial.air.machine.streams import LocalStream
from fluvial.air.machine.values import Value
from fluvial.air.machine.waiters import Waiters
from fluvial.air.syntax import head, tree
from fluvial.few import EMPTY

WORK_MAX: Final = 1_000_000
"""Activations of one particle, arguments, elements of folds and calls in facts ``closed`` included: exponential scripts exist."""

NESTED_STARTS_MAX: Final = 100
"""Activations that are begun inside one another within one turn; the next one has a turn of its own.

Each takes up to five Python calls, so that together they stay within Python's default limit of 1,000 nested calls.
"""

STEP_BYTES: Final = 640
"""Memory that a step takes at most, as far as it is known; measured."""

Performer: TypeAlias = Callable[["Runtime", Any], None]
"""Gives an activation of one kind its turn. Raises NameNotSet, Catchable or Uncatchable as the instruction does."""


PAUSE_BYTES: Final = BYTES_PER_STEP * SLICE_STEPS // 2
"""What a slice of hashing or checking counts: half a slice of the machine."""


class Runtime:
    """See the module's docstring.

    Args:
        script: the checked script.
        environment, knowledge: what the script may know.
        in_flight: the calls that the services of this peer work on; kept by the owner.
        performers: for each kind of instruction what its activations do in a turn.
        observer: is shown every call and canon that is reached, and every failure that is reported to another peer.

    Attributes:
        root: the activation of the whole script.
        acting: whether calls may be requested, canons fixed and peers named now.
        findings: the result of the present step.
        half_failed: the activations of ``par`` of which one branch was found failed and the other one open since this was last emptied.
        grown: bytes of memory that were taken since this was last set to 0, besides those that go with the steps (``memory``).
    """

    __slots__ = (
        "_began",
        "_clock",
        "_nested",
        "_performers",
        "_stop",
        "_turns",
        "_unsettled",
        "_until",
        "_work",
        "acting",
        "agenda",
        "findings",
        "grown",
        "half_failed",
        "in_flight",
        "initiator",
        "knowledge",
        "last_error",
        "me",
        "observer",
        "operands",
        "plan",
        "root",
        "script",
        "step",
        "streams",
        "waiters",
    )

    def __init__(
        self,
        script: tree.Script,
        environment: Environment,
        knowledge: Knowledge,
        in_flight: Collection[tuple[bytes, int]],
        performers: Mapping[type[tree.Instruction], Performer],
        observer: Observer | None = None,
    ) -> None:
        self.script: Final = script
        self.plan: Final = plan_of(script)
        self.me: Final = environment.me
        self.initiator: Final = environment.initiator
        self.knowledge: Final = knowledge
        self.in_flight: Final = in_flight
        self.observer: Final = observer
        self.last_error: Final = LastErrorRegister(used=self.plan.reads_last_error)
        self.operands: Final = Operands(environment, self.last_error)
        self.agenda: Final = Agenda()
        self.waiters: Final = Waiters()
        self.streams: dict[StreamKey, LocalStream[StreamFoldActivation]] = EMPTY
        self.half_failed: dict[ParActivation, None] = EMPTY
        self.findings = Findings()
        self.acting = False
        self.step = 0
        self.grown = 0
        root = script.root
        self.root: Final = MAKERS[type(root)](OUTSIDE.key(root.number), Scope(), root, OUTSIDE, None)
        self._performers: Final = performers
        self._turns: Final = self.agenda.turns
        self._work = 0
        self._began = self._stop = 0
        self._clock, self._until = NO_CLOCK, SLICE_S
        self._nested = 0
        self._unsettled: Activation | None = None

    # --- turns

    @property
    def work(self) -> int:
        """What has been done so far, of at most WORK_MAX."""
        return self._work

    def begin_step(self, *, act: bool) -> None:
        """Begin a step; ``act``: calls may be requested, canons fixed and peers named in it. Raises as :meth:`spend`."""
        self.step += 1
        self._work += 1
        if self._work > WORK_MAX:
            raise errors.too_much("executed instructions", WORK_MAX)
        self.acting = act
        if act or self.findings is TAKEN or self.findings.requests:
            self.findings = Findings()
        if act and self.waiters.postponed:
            for postponed in self.waiters.take_postponed():
                self.agenda.push(postponed)

    def take(self, facts: Iterable[Fact], signer: str) -> None:
        """Take in facts of a signer, and wake who waits for them; raises as :meth:`spend`."""
        waiting = self.waiters.facts
        for fact in facts:
            if type(fact) is Closed:
                self.spend(len(fact.nodes))
            for known in self.knowledge.add(fact, signer):
                if (activation := waiting.get(known)) is not None:
                    self.agenda.push(activation)

    def allow(self, steps: int, clock: Clock = NO_CLOCK) -> None:
        """Begin a slice of so many steps: activations that begin or have a turn, arguments, elements, facts; of :data:`SLICE_S` at most."""
        self._began = self._work
        stop = self._work + steps
        self._stop = stop if stop < WORK_MAX else WORK_MAX
        self._clock = clock
        self._until = clock() + SLICE_S

    @property
    def paused(self) -> bool:
        """Whether the slice is over."""
        return self._work >= self._stop or self._clock() >= self._until

    def charge(self, steps: int) -> bool:
        """Count steps of the slice that are no work of the particle; whether the slice is over."""
        self._stop -= steps
        self.grown += steps * STEP_BYTES
        return self._work >= self._stop or self._clock() >= self._until

    def spend_time(self, steps: int) -> None:
        """Count work that takes no memory; raises as :meth:`spend`."""
        self.grown -= steps * STEP_BYTES
        self.spend(steps)

    def take_time(self, size: int) -> None:
        """A value of so many bytes was gone through: it counts as steps of the slice, for the time that it took."""
        self._stop -= size // BYTES_PER_STEP

    def run(self) -> bool:
        """Give all turns on the agenda, and those that follow from them, until the slice is over.

        Returns:
            Whether nothing is left to do. If something is, begin a new slice and call this again.

        Raises:
            Uncatchable: the runtime cannot be used any more; what came must be undone.
        """
        if (unsettled := self._unsettled) is not None:
            self._unsettled = None
            self._settle(unsettled)
        elif self._turns:
            self._settle(self.agenda.pop())
        pop = self.agenda.pop
        while self._turns:
            if self._work >= self._stop or self._clock() >= self._until:
                return False
            self._settle(pop())
        return self._unsettled is None

    def _settle(self, activation: Activation) -> None:
        """Give an activation its turn, and those around it as long as a state changes."""
        now: Activation | None = activation
        while now is not None:
            before = now.status
            if before is OPEN or type(now) is StreamFoldActivation:
                self._advance(now)
            if now.status is before:
                return
            parent = now.parent
            if type(parent) is StreamFoldActivation:
                parent.changed = now
            now = parent
            self._stop -= 1
            if self._work >= self._stop:
                self._unsettled = now
                return

    def _advance(self, activation: Activation) -> None:
        try:
            if self.operands.links >= LINKS_PER_STEP:
                self.pay_links()
            self._performers[type(activation.node)](self, activation)
            if self.waiters.missing:
                self.waiters.misses_nothing(activation)
        except NameNotSet as missing:
            self.waiters.await_name(activation, missing.name)
        except Catchable as error:
            self.fail(activation, error)
        except Uncatchable as error:
            if error.instruction is None:
                error.instruction = activation.node
            raise

    def start(
        self,
        parent: Activation,
        node: tree.Instruction,
        place: FramePosition | None = None,
        scope: Scope | None = None,
    ) -> Activation | None:
        """Begin an instruction inside another one.

        Returns:
            Its activation. None if something that stands before it has a turn to come, or the slice is over; then ``parent`` has another turn
            for it.
        """
        if place is None:
            place = parent.place
        number = node.number
        key = (*(place.before if number <= place.next_number else place.after), number)
        turns = self._turns
        waits = turns and turns[0][0] < key
        # Whatever the clock says, one instruction begins in each slice: else the flow would stand still.
        over = self._work >= self._stop or (self._clock() >= self._until and self._work > self._began)
        if waits or over or self._nested >= NESTED_STARTS_MAX:
            if self._work >= WORK_MAX and not waits:
                raise errors.too_much("executed instructions", WORK_MAX)
            self.agenda.push_later(parent, key)
            return None
        self._work += 1
        self._nested += 1
        activation = MAKERS[type(node)](key, scope or parent.scope, node, place, parent)
        self._advance(activation)
        self._nested -= 1
        return activation

    def spend(self, more: int) -> None:
        """Count work; raises Uncatchable 20100 when it is too much for one particle."""
        self._work += more
        if self._work > WORK_MAX:
            raise errors.too_much("executed instructions", WORK_MAX)

    def pay_links(self) -> None:
        """Count as work what operands have taken, which is looked up without a step for each link of their scopes; raises as :meth:`spend`."""
        links, self.operands.links = self.operands.links, 0
        self.spend_time(links // LINKS_PER_STEP)

    def fail(
        self, activation: Activation, error: Catchable, flag: Completeness = KEEP, call: Provenance | None = None
    ) -> None:
        """End an activation with an error. The innermost one notes on the error what ``:error:`` and ``%last_error%`` show.

        Args:
            activation: which.
            error: why.
            flag: how it leaves the completeness flag.
            call: for a call whose peer, service and function were known.
        """
        if error.instruction is None:
            error.instruction = activation.node
            error.__traceback__ = error.__context__ = None  # they would keep everything alive that stood on the stack
            error.peer = self.me if call is None else call.peer
            if steps := error.steps:
                self.grown += len(error.message)
                self.spend_time(steps)
            error.origin = call
            if self.plan.reads_errors:
                error.head = self.head(activation.node)
            if self.plan.reads_last_error and error.code not in (10001, 10002):
                self.last_error.set(activation.key, error.report(with_peer=True), call)
            if type(error) is NameCleared:
                self.waiters.await_cleared(activation, error.name)
        activation.fail(error, flag)

    def head(self, node: tree.Instruction) -> str:
        """The text of an instruction, as errors show it; made once for each."""
        heads = heads_of(self.script)
        if (found := heads.get(node.number)) is None:
            found = heads[node.number] = head(node)
            self.take_time(len(found) * BYTES_PER_STEP // CHARACTERS_PER_STEP)
        return found

    # --- names and streams

    def claim(self, activation: Activation, name: str) -> None:
        """An activation that was reached is going to set a name; raises as :meth:`Scope.claim`."""
        if name in self.plan.contested:
            activation.scope.claim(name, activation.key)

    def set(self, activation: Activation, name: str, bound: Bound) -> None:
        """Give a name a value where an activation stands, and wake who waits for it; raises as :meth:`Scope.set_at`."""
        scope, waiters, key = activation.scope, self.waiters, activation.key
        if name in self.plan.contested:
            woken = waiters.named_after(scope.set_at(name, bound, key), name, key)
        else:
            holder = scope.set(name, bound)
            if not waiters.names:
                return
            woken = waiters.named(holder, name)
        for waiting in woken:
            if waiting.status is OPEN or (waiting in self.waiters.cleared and self._reopen(waiting)):
                self.agenda.push(waiting)

    def _reopen(self, reader: Activation) -> bool:
        """Open an activation again that has failed since a name was cleared by ``new``, now that the name is set.

        With it those around it are opened that have failed because of it. Nothing is opened if a handler has begun for the failure: what has been
        caught stays so.

        Returns:
            Whether it is open now.
        """
        del self.waiters.cleared[reader]
        failed, now, parent = [reader], reader, reader.parent
        while parent is not None:
            if type(parent) is XorActivation and parent.left is now:
                return False
            if parent.status is not FAILED:
                break
            failed.append(parent)
            now, parent = parent, parent.parent
        self.last_error.forget(reader.key)
        for activation in failed:
            activation.status = OPEN
            activation.error = None
            if type(activation) is ParActivation:
                self.last_error.unlock(self.end_of(activation))
        return True

    def end_of(self, activation: Activation) -> Key:
        """The position after all that is in an activation."""
        return activation.place.key(self.plan.ends[activation.node.number] + 0.5)

    def append(self, activation: Activation, target: tree.Stream | tree.StreamMap, value: Value) -> None:
        """Append to a stream, and wake the folds that see it."""
        key = activation.key
        stream_key = activation.scope.stream(target.name)
        stream = self.stream(stream_key, target.name)
        stream.append(self.step, activation.id, key, value)
        if self.waiters.elements:
            for canon in self.waiters.written(stream_key, activation.id):
                self.agenda.push(canon)
        self.charge(stream.watched)
        for visit, fold in stream.watchers(key):
            self.agenda.push_later(fold, visit)

    def stream(self, key: StreamKey, name: str) -> LocalStream[StreamFoldActivation]:
        """The stream or stream map that a key names."""
        if (found := self.streams.get(key)) is None:
            if self.streams is EMPTY:
                self.streams = {}
            found = self.streams[key] = LocalStream(name)
        return found
