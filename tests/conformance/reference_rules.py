"""The evaluation with rules of the reference (AquaVM 0.62) that fluvial has on purpose done away with.

They are here to prove that a difference from the reference comes from exactly one of them and from nothing else:

- *errors*: ``:error:`` is one register for the whole script (AquaVM ``error_descriptor.rs``, ``xor.rs``, ``fail.rs``) instead of belonging to
  the handler around an instruction: the error that an outer handler shows is lost when an ``xor`` inside it succeeds;
- *sent*: a particle that was sent for a call whose arguments were not all known is never sent for it again, so that flows stand still;
- *generations*: a fold counts the generations of its stream, empty ones included, to know which it has visited, but skips that many
  non-empty ones: what a fold puts into a stream that was folded before is then visited a run late (AquaVM ``recursive_stream.rs``);
- *meetings*: a ``par`` of which one branch has failed sends nothing, so that nobody learns of all failures of branches on several peers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, TypeAlias
from unittest.mock import patch

from fluvial.air.data.content import Json
from fluvial.air.data.facts import Instance, Sent, Tetraplet
from fluvial.air.machine import errors
from fluvial.air.machine.errors import NO_ERROR, Catchable
from fluvial.air.machine.lambdas import part_of_error
from fluvial.air.machine.operands import Environment
from fluvial.air.machine.scopes import Scope
from fluvial.air.machine.values import Value
from fluvial.air.syntax import tree

from tests.reevaluating import evaluation, machine
from tests.reevaluating.evaluation import Evaluation
from tests.reevaluating.operands import Operands
from tests.reevaluating.streams import Entry, Stream, StreamMemory

Rule: TypeAlias = Literal["errors", "sent", "generations", "meetings"]


@contextmanager
def reference_rules(rules: Collection[Rule]) -> Iterator[None]:
    """Inside, every machine evaluates with these rules of the reference."""
    with ExitStack() as patches:
        if "errors" in rules:
            steps = {tree.Xor: GlobalErrorRegister._xor, tree.FailValue: GlobalErrorRegister._fail_value}
            patches.enter_context(patch.object(machine, "Evaluation", GlobalErrorRegister))
            patches.enter_context(patch.dict(evaluation._STEPS, steps))
        if "sent" in rules:
            patches.enter_context(patch.object(Evaluation, "_send", _send_once))
        if "generations" in rules:
            patches.enter_context(patch.object(evaluation, "Stream", CountedGenerations))
        if "meetings" in rules:
            patches.enter_context(patch.object(Evaluation, "_hand_on", lambda self: None))
        yield


def _send_once(self: Evaluation, instance: Instance, peer: str, *, complete: bool) -> None:
    """Whoever learns the last argument does not send again."""
    if self._act and self._knowledge.sent(instance) is None:
        self.findings.next_peers[peer] = None
        self._add(Sent(instance.frame, instance.node, complete))


class CountedGenerations(Stream):
    """A stream that is folded by counting generations: those of earlier runs and those of this run."""

    def __init__(self, name: str, memory: StreamMemory) -> None:
        super().__init__(name, memory)
        self._new_from = memory._generation
        earlier = sorted({generation for generation, _ in memory._places.values() if generation < self._new_from})
        self._ranks = {generation: rank for rank, generation in enumerate(earlier)}
        self._earlier: list[list[Entry]] = []
        self._new: list[list[Entry]] = []

    def append(self, writer: Instance, value: Value) -> None:
        super().append(writer, value)
        entry = next(entry for entry in self._entries if entry.writer == writer)
        if entry.generation >= self._new_from:
            self._new = self._new or [[]]
            self._new[-1].append(entry)
            return
        rank = self._ranks[entry.generation]
        self._earlier.extend([] for _ in range(len(self._earlier), rank + 1))
        self._earlier[rank].append(entry)

    def passes(self) -> Iterator[list[tuple[Entry, ...]]]:
        fresh, visited = self._beyond((0, 0)), self._counts()
        self._new.append([])
        while fresh:
            self._memory.begin_generation()
            yield fresh
            fresh = self._beyond(visited)
            if not self._new[-1]:
                self._new.pop()
            visited = self._counts()
            self._new.append([])
            self._memory.begin_generation()

    def _counts(self) -> tuple[int, int]:
        return len(self._earlier), len(self._new)

    def _beyond(self, visited: tuple[int, int]) -> list[tuple[Entry, ...]]:
        lists = zip((self._earlier, self._new), visited, strict=True)
        return [tuple(entry) for generations, skip in lists for entry in [g for g in generations if g][skip:]]


class RegisterOperands(Operands):
    """Operands that take ``:error:`` from a register.

    Attributes:
        error, origin: what ``:error:`` shows, and the tetraplet of the call that failed.
        caught: the error that the last handler caught while the register showed this object.
        unlocked: whether the next error is remembered.
    """

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.unlocked = True
        self.set_error(NO_ERROR, None)

    def set_error(self, error: Json, origin: Tetraplet | None) -> None:
        self.error, self.origin = error, origin
        self.caught: Catchable | None = None

    def value(self, operand: tree.Value, scope: Scope) -> Value:
        if not isinstance(operand, tree.Error):
            return super().value(operand, scope)
        value = self._error_value(self.error, self.origin)
        return value if operand.path is None else part_of_error(value, operand.path, scope)


class GlobalErrorRegister(Evaluation):
    """``:error:`` is a register that is run through in script order."""

    _operands: RegisterOperands

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._operands = RegisterOperands(self._environment)

    def _report(self, error: Catchable, node: tree.Instruction, call: Tetraplet | None) -> None:
        super()._report(error, node, call)
        if self._operands.unlocked:
            self._operands.set_error(error.report, error.origin)
        self._operands.unlocked = False

    def _xor(self, node: tree.Xor, frame: bytes, scope: Scope) -> None:
        register = self._operands
        caught = self._left(node, frame, scope)
        if caught is None:
            return
        register.caught = caught
        register.unlocked = True
        try:
            self._execute(node.right, frame, scope)
        finally:
            if register.unlocked:
                register.set_error(NO_ERROR, None)
        register.unlocked = True

    def _fail_value(self, node: tree.FailValue, frame: bytes, scope: Scope) -> None:
        if not isinstance(node.value, tree.Error) or node.value.path is not None:
            super()._fail_value(node, frame, scope)
            return
        register = self._operands
        value = register.value(node.value, scope)
        register.check_error_object(value.json)
        register.set_last_error(value.json, value.origins[0], always=True)
        self._complete = False
        register.unlocked = False
        raise register.caught or errors.failed_by_script(value.json)
