"""How much memory the run of a script takes: an upper bound that costs nothing, and a count when that bound says too much.

What a machine holds is what can be reached from the activations that are open: an instruction that has ended is forgotten with all inside
of it, as soon as the one around it goes on. So what was made is only a bound for what is held: :data:`STEP_BYTES` for each step since the
last *census*. A census goes through all that is there, in slices. The constants are measured (CPython 3.11, 64 bits) and rounded up.

The figures are this peer's own affair: another peer may hold the same flow in more or less memory, and allow more or less. So they decide
nothing but whether this peer goes on.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from itertools import chain
from sys import getsizeof
from typing import Final

from fluvial.air.data.pace import SlicePace
from fluvial.air.machine.activations import (
    Activation,
    BodyActivation,
    CallActivation,
    CanonActivation,
    FoldActivation,
    StreamFoldActivation,
)
from fluvial.air.machine.positions import Key
from fluvial.air.machine.runtime import STEP_BYTES, Runtime
from fluvial.air.machine.scopes import Scope
from fluvial.air.machine.streams import LocalStream
from fluvial.air.machine.values import Composite, Value
from fluvial.air.machine.waiters import NAME_BYTES

MACHINE_BYTES: Final = 12_000
"""A machine that has done nothing, with the session and actor around it."""
HEADER_BYTES: Final = 16
"""What the garbage collector keeps of an object."""
WAITING_BYTES: Final = 600
"""A call or canon that waits: its entries, and what was asked of a service."""
VALUE_BYTES: Final = 300
"""A value with its origin."""
TURN_BYTES: Final = 200
"""An entry of the agenda."""
ERROR_BYTES: Final = 700
"""An error and its report, without the text; or the value of an error register."""

VISITS_PER_SLICE: Final = 1_000
"""Activations that are looked at without handing control back."""
UNCOUNTED_MAX: Final = 4_194_304
"""Bytes that may have been taken since the last census before there is another one."""

CHILDREN: Final = ("child", "left", "right", "changed")
"""The fields that hold the activations inside of one."""


class MemoryMeter:
    """What one runtime holds.

    Args:
        runtime: which; nothing was done with it yet.
    """

    __slots__ = ("_counted", "_runtime", "_steps")

    def __init__(self, runtime: Runtime) -> None:
        self._runtime: Final = runtime
        self._counted = 0
        self._steps = 0

    @property
    def held(self) -> int:
        """At most so many bytes, about."""
        runtime = self._runtime
        fixed = MACHINE_BYTES + runtime.knowledge.held + runtime.waiters.held + runtime.operands.held
        return self._counted + fixed + runtime.grown + STEP_BYTES * (runtime.work - self._steps)

    def due(self, most: int) -> bool:
        """Whether there should be a census: much has been done since the last one, or there seems to be more than ``most``."""
        runtime = self._runtime
        grown = runtime.grown + STEP_BYTES * (runtime.work - self._steps)
        return grown > max(UNCOUNTED_MAX, self._counted) or (grown > most // 16 and self.held > most)

    def census(self) -> Iterator[None]:
        """Count what is there, in slices."""
        runtime = self._runtime
        counted = yield from _census(runtime)
        self._counted, self._steps = counted, runtime.work
        runtime.grown = 0
        runtime.waiters.held = 0


def _census(runtime: Runtime) -> Generator[None, None, int]:
    waiters = runtime.waiters
    size = sum(len(waiting) for waiting in waiters.names.values()) * NAME_BYTES
    size += WAITING_BYTES * len(waiters.facts) + sum(map(_turn, runtime.agenda.turns))
    size += runtime.last_error.held
    scopes: set[Scope] = set()
    errors: dict[int, object] = {}
    pace = SlicePace(VISITS_PER_SLICE)
    for found in reachable(runtime, set()):
        values: Iterable[Value] = ()
        if isinstance(found, LocalStream):
            size += found.held
            values = found.values()
        elif found is not None:
            size += _activation(found)
            if type(found) is CallActivation:
                values = found.arguments or found.read or ()
            if found.scope not in scopes:
                scopes.add(found.scope)
                size += _scope(found.scope)
                values = chain(values, found.scope.values())
        for value in values:
            if value.volatile:
                size += _error_texts(value, errors)
            if pace.over():
                yield
        if pace.over():
            yield
    return size


def _turn(turn: tuple[Key, int, Activation]) -> int:
    """What an entry of the agenda takes; most stand at the position of their activation."""
    key, _, activation = turn
    return TURN_BYTES if key is activation.key else TURN_BYTES + getsizeof(key)


def _error_texts(value: Value, known: dict[int, object]) -> int:
    """What a value from an error register takes, which nobody else holds: the text of the error, above all. Counted once for all who have it."""
    size, roots = 0, [value.root]
    while roots:
        root = roots.pop()
        if type(root) is Composite:
            roots += [member.root for member in root.members if member.volatile]
        elif isinstance(error := root.content, dict) and id(error) not in known:
            known[id(error)] = error
            size += ERROR_BYTES
            if id(text := error.get("message")) not in known:
                known[id(text)] = text
                size += getsizeof(text)
    return size


def reachable(
    runtime: Runtime, seen: set[Activation]
) -> Iterator[Activation | LocalStream[StreamFoldActivation] | None]:
    """Every activation and stream that is there, once; and None where the way leads to what was there before, so that slices can end.

    Args:
        runtime: where.
        seen: gets the activations.
    """
    for begin in _roots(runtime):
        if isinstance(begin, LocalStream):
            yield begin
            continue
        if begin in seen:
            yield None
            continue
        stack: list[Activation | None] = [begin]
        while stack:
            activation = stack.pop()
            if activation is None or activation in seen:
                continue
            seen.add(activation)
            stack.append(activation.parent)
            for name in CHILDREN:
                if (child := getattr(activation, name, None)) is not None:
                    stack.append(child)
            yield activation


def _roots(runtime: Runtime) -> Iterator[Activation | LocalStream[StreamFoldActivation] | None]:
    """All streams, and activations from which all others can be reached."""
    waiters = runtime.waiters
    yield runtime.root
    yield from waiters.waiting()
    yield from waiters.postponed
    yield from waiters.cleared
    yield from [activation for _, _, activation in runtime.agenda.turns]
    yield from runtime.half_failed
    for waiting in waiters.names.values():
        yield from waiting
    for stream in runtime.streams.values():
        yield stream
        yield from stream.folds()


def _activation(activation: Activation) -> int:
    size = getsizeof(activation) + getsizeof(activation.key) + 2 * HEADER_BYTES
    if type(activation) is CallActivation and activation.arguments is not None:
        size += VALUE_BYTES * len(activation.arguments)
    elif type(activation) is FoldActivation and activation.elements is not None:
        size += VALUE_BYTES * len(activation.elements)
    elif type(activation) is StreamFoldActivation:
        size += VALUE_BYTES
    if activation.error is not None:
        size += ERROR_BYTES
        if activation.error.instruction is activation.node:  # not one of those around it, which have the same error
            size += getsizeof(activation.error.message)
    # Its place in the frame, of which it has a part.
    return size + (getsizeof(activation.place.before) + getsizeof(activation.place.after)) // 2


def _scope(scope: Scope) -> int:
    return scope.held + HEADER_BYTES


def dismantle(runtime: Runtime) -> Iterator[None]:
    """Undo the circles in which activations refer to each other, in slices: so their memory is there at once.

    The runtime cannot be used any more.
    """
    seen: set[Activation] = set()
    for visited, found in enumerate(reachable(runtime, seen)):
        if isinstance(found, Activation):
            _undo(found)
        if visited % VISITS_PER_SLICE == VISITS_PER_SLICE - 1:
            yield
    while runtime.agenda.turns:
        del runtime.agenda.turns[-VISITS_PER_SLICE:]
        if runtime.agenda.turns:
            yield
    for stream in runtime.streams.values():
        stream.forget()
    runtime.streams.clear()
    yield from runtime.waiters.clearing()
    yield from runtime.knowledge.forgetting()
    while seen:  # by now nobody else has them
        for _ in range(min(VISITS_PER_SLICE, len(seen))):
            seen.pop()
        if seen:
            yield
    runtime.half_failed.clear()


def _undo(activation: Activation) -> None:
    activation.parent = None
    activation.error = None
    if isinstance(activation, CanonActivation | CallActivation | BodyActivation):
        activation.work = None
    for name in CHILDREN:
        if getattr(activation, name, None) is not None:
            setattr(activation, name, None)
