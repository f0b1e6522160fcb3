"""What names mean where: the chain of scopes in which an instruction is evaluated.

A scope is the script's outermost one, one iteration of a fold, the inside of a ``new`` (which holds only its name), or the right part of an
``xor`` (which holds only ``:error:``). An iteration's parent is the scope *of the fold*, not of the iteration before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from fluvial.air.data.facts import Instance
from fluvial.air.machine.errors import Catchable, Waiting, already_set, cleared_by_new, iterator_shadowed
from fluvial.air.machine.instances import Inst, Key
from fluvial.air.machine.values import CanonMapValue, CanonStreamValue, Value
from fluvial.air.syntax.tree import Fold

Bound: TypeAlias = Value | CanonStreamValue | CanonMapValue
StreamKey: TypeAlias = str | Instance
"""A stream is named by its name, one made by ``new`` by the instance of the ``new``."""


@dataclass(frozen=True, slots=True)
class Iteration:
    """One iteration of a fold.

    Attributes:
        fold: the fold.
        elements: what it runs over, each with the name that goes into the iteration's frame.
        index: which element this one is for.
        base: the frame in which the fold, or the ``next`` that began this iteration, stands.
        frame: the frame of this iteration.
        chain: where the chain of iterations that this one belongs to begins, as a position.
        scope: the scope of the fold.
        of_stream: whether it runs over a stream or stream map.
    """

    fold: Fold
    elements: Sequence[tuple[bytes, Value]]
    index: int
    base: bytes
    frame: bytes
    chain: Key
    scope: Scope
    of_stream: bool

    @property
    def value(self) -> Value:
        """The element."""
        return self.elements[self.index][1]


class Scope:
    """One link of the chain; made by the root constructor and the methods that open a scope inside it."""

    __slots__ = ("_awaited", "_bound", "_caught", "_claims", "_in_fold", "_iteration", "_only", "_parent", "_stream")

    def __init__(self, parent: Scope | None = None) -> None:
        self._parent: Final = parent
        self._bound: Final[dict[str, Bound]] = {}
        self._in_fold: bool = parent is not None and parent._in_fold
        self._only: str | None = None
        self._stream: Instance | None = None
        self._iteration: Iteration | None = None
        self._caught: Catchable | None = None
        self._awaited: dict[str, list[Inst]] | None = None
        self._claims: dict[str, tuple[Key, Key | None]] | None = None

    # --- opening scopes

    def iterate(self, iteration: Iteration) -> Scope:
        """The scope of a fold's iteration; called on the scope of the fold."""
        scope = Scope(self)
        scope._in_fold = True
        scope._iteration = iteration
        return scope

    def renew(self, name: str, instance: Instance) -> Scope:
        """The inside of a ``new``."""
        scope = Scope(self)
        scope._only = name
        scope._stream = instance
        return scope

    def handle(self, caught: Catchable) -> Scope:
        """The right part of an ``xor`` that caught an error."""
        scope = Scope(self)
        scope._caught = caught
        scope._only = ":error:"
        return scope

    # --- looking up

    def lookup(self, name: str) -> Bound:
        """What a name means here.

        Raises:
            Waiting: it has no value yet. Catchable: 10009, it was cleared by ``new``.
        """
        scope: Scope | None = self
        while scope is not None:
            if (bound := scope._bound.get(name)) is not None:
                return bound
            if scope._only == name:
                raise cleared_by_new(name)
            if scope._iteration is not None and scope._iteration.fold.iterator == name:
                return scope._iteration.value
            scope = scope._parent
        raise Waiting(name)

    def scalar(self, name: str) -> Value:
        """The value of a scalar or iterator; raises as :meth:`lookup`."""
        bound = self.lookup(name)
        assert isinstance(bound, Value), "sigils keep the kinds of names apart"
        return bound

    def iteration(self, iterator: str) -> Iteration:
        """The innermost iteration of the fold with this iterator; the static checks see to it that there is one."""
        found = self.find_iteration(iterator)
        assert found is not None, f"next {iterator} outside of its fold passed the static checks"
        return found

    def find_iteration(self, iterator: str) -> Iteration | None:
        """As :meth:`iteration`; None outside of such folds."""
        scope: Scope | None = self
        while scope is not None:
            if scope._iteration is not None and scope._iteration.fold.iterator == iterator:
                return scope._iteration
            scope = scope._parent
        return None

    def is_iterator(self, name: str) -> bool:
        """Whether the name is the iterator of a fold around, and not hidden."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope._bound or scope._only == name:
                return False
            if scope._iteration is not None and scope._iteration.fold.iterator == name:
                return True
            scope = scope._parent
        return False

    def stream(self, name: str) -> StreamKey:
        """Which stream or stream map a name means: the innermost ``new`` of it around, else the global one."""
        scope: Scope | None = self
        while scope is not None:
            if scope._only == name and scope._stream is not None:
                return scope._stream
            scope = scope._parent
        return name

    @property
    def caught(self) -> Catchable | None:
        """The error that the innermost handler around has caught."""
        scope: Scope | None = self
        while scope is not None:
            if scope._caught is not None:
                return scope._caught
            scope = scope._parent
        return None

    # --- setting

    def check_settable(self, name: str) -> None:
        """Raise Uncatchable 20004 or 20007 if a name may not be set here."""
        if self.is_iterator(name):
            raise iterator_shadowed(name)
        if name in self._holder(name)._bound and not self._in_fold:
            raise already_set(name)

    def claim(self, name: str, key: Key) -> None:
        """A call at a position is going to set a name; raises as :meth:`check_settable` if one that stands before it has set it.

        Outside of folds nothing that stands before it may set the name from now on, whatever becomes of the call.
        """
        if self.is_iterator(name):
            raise iterator_shadowed(name)
        if not self._in_fold:
            self._holder(name)._note(name, key, writes=False)

    def set(self, name: str, bound: Bound, key: Key | None = None) -> list[Inst]:
        """Give a name a value here.

        Args:
            name: which one.
            bound: what it means from now on.
            key: the position of the instruction that does it; None where one walk through the script goes by positions anyway.

        Returns:
            The instances that waited for it and stand behind this one; those before it go on waiting.

        Raises:
            Uncatchable: 20004 or 20007, as :meth:`check_settable`, or as :meth:`claim` says.
        """
        if self.is_iterator(name):
            raise iterator_shadowed(name)
        holder = self._holder(name)
        if not self._in_fold:
            if name in holder._bound:
                raise already_set(name)
            if key is not None:
                holder._note(name, key, writes=True)
        holder._bound[name] = bound
        if not holder._awaited or name not in holder._awaited:
            return []
        waiting = holder._awaited.pop(name)
        if key is None:
            return waiting
        if before := [inst for inst in waiting if inst.key < key]:
            holder._awaited[name] = before
        return [inst for inst in waiting if inst.key > key]

    def _note(self, name: str, key: Key, *, writes: bool) -> None:
        """Keep who claims and who writes a name; raise 20007 if a claim stands behind a writer."""
        if self._claims is None:
            self._claims = {}
        last, first_write = self._claims.get(name, (key, None))
        if last > key if writes else first_write is not None and first_write < key:
            raise already_set(name)
        self._claims[name] = max(last, key), key if writes else first_write

    def await_name(self, name: str, waiting: Inst) -> None:
        """Be told by :meth:`set` when the name gets a value, in whichever scope of the chain."""
        scope: Scope | None = self
        while scope is not None:
            if scope._only is None:
                if scope._awaited is None:
                    scope._awaited = {}
                scope._awaited.setdefault(name, []).append(waiting)
            scope = scope._parent

    def _holder(self, name: str) -> Scope:
        """The scope in which a value set here is kept: the ``new`` of the name, the iteration, or the outermost."""
        scope = self
        while scope._parent is not None and scope._iteration is None and scope._only != name:
            scope = scope._parent
        return scope
