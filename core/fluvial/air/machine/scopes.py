"""What names mean where: the chain of scopes in which an instruction is evaluated.

A scope is one of these:

- the outermost scope of the script;
- one iteration of a fold. Its parent is the scope *of the fold*, not of the iteration before;
- the inside of a ``new``, which holds only the name of the ``new``;
- the right part of an ``xor``, which holds only ``:error:``.

Most names are set by one instruction, and all who read the name stand after it. They have one value in their scope. A *contested* name
(``plan``) keeps every value with the position at which it was set: a reader sees the last value that was set before the reader's position,
in whichever order the values were found.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from sys import getsizeof
from typing import Final, TypeAlias

import msgspec

from fluvial.air.data.facts import Instance
from fluvial.air.machine.canon_values import CanonMapValue, CanonStreamValue
from fluvial.air.machine.errors import Catchable, NameCleared, NameNotSet, already_set, iterator_shadowed
from fluvial.air.machine.positions import ANYTIME, Key
from fluvial.air.machine.values import Value
from fluvial.air.syntax.tree import Fold

Bound: TypeAlias = Value | CanonStreamValue | CanonMapValue
StreamKey: TypeAlias = str | Instance
"""What names a stream: its name, or for a stream made by ``new`` the instance of the ``new``."""


class Traversal(msgspec.Struct, frozen=True, gc=False):
    """One run of a fold over elements: a chain of iterations, each inside the ``next`` of the one before.

    Attributes:
        fold: the fold.
        elements: the elements.
        names: for each element the name that goes into the frame of its iteration; None for the index of the element.
        base: the frame of the fold, or of the ``next`` that began the run.
        key: the position at which it begins.
        scope: the scope of the fold.
    """

    fold: Fold
    elements: Sequence[Value]
    names: Sequence[bytes] | None
    base: bytes
    key: Key
    scope: Scope

    @property
    def of_stream(self) -> bool:
        """Whether it runs over a stream or stream map."""
        return self.names is not None


class Iteration(msgspec.Struct, frozen=True, gc=False):
    """One iteration of a fold.

    Attributes:
        iterator: the iterator of the fold.
        value: the element.
        traversal, index: the run to which it belongs, and the index of the element in it.
        frame: its frame.
    """

    iterator: str
    value: Value
    traversal: Traversal
    index: int
    frame: bytes


class _History:
    """The values of a contested name in one scope, in the order of the positions at which they were set."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: list[tuple[Key, Bound]] = []

    def add(self, key: Key, bound: Bound) -> None:
        insort(self._values, (key, bound), key=_position)

    def before(self, key: Key) -> Bound | None:
        place = bisect_left(self._values, key, key=_position)
        return self._values[place - 1][1] if place else None

    def all(self) -> Iterator[Bound]:
        return (bound for _, bound in self._values)

    @property
    def positions_bytes(self) -> int:
        return sum(getsizeof(key) for key, _ in self._values)


_position = itemgetter(0)


_SCOPE_BYTES, _ITERATION_BYTES, _BOUND_BYTES, _ELEMENT_BYTES, _PAIR_BYTES = 200, 500, 300, 300, 550
"""Memory of a link, of one of an iteration with its frame, of a value with its origin, of an element of a canon, and of a pair."""


class Scope:
    """One link of the chain; made by the root constructor and the methods that open a scope inside it.

    Attributes:
        in_fold: whether it is an iteration of a fold, or inside of one.
        depth: how many links there are around it.
        links: how many of them can hold values.
    """

    __slots__ = (
        "_bound",
        "_caught",
        "_claims",
        "_iteration",
        "_only",
        "_outer",
        "_parent",
        "_stream",
        "depth",
        "in_fold",
        "links",
    )

    def __init__(
        self,
        parent: Scope | None = None,
        iteration: Iteration | None = None,
        only: str | None = None,
        stream: Instance | None = None,
        caught: Catchable | None = None,
    ) -> None:
        self._parent: Final[Scope | None] = parent
        self._bound: Final[dict[str, Bound | _History]] = {}
        self._iteration: Final = iteration
        self._only: Final[str | None] = only
        self._stream: Final = stream
        self._claims: dict[str, tuple[Key, Key | None]] | None = None
        # The next link that can hold values: a ``new`` of a stream and a handler hold none.
        self._outer: Scope | None = parent
        self._caught = caught
        self.in_fold = iteration is not None
        self.depth = self.links = 0
        if parent is not None:
            if (hides := parent._only) is not None and hides[0] in "$%:":
                self._outer, self.links = parent._outer, parent.links
            else:
                self.links = parent.links + 1
            self.depth = parent.depth + 1
            if parent.in_fold:
                self.in_fold = True
            if caught is None:
                self._caught = parent._caught

    # --- opening scopes

    def iterate(self, iteration: Iteration) -> Scope:
        """The scope of a fold's iteration; called on the scope of the fold."""
        return Scope(self, iteration)

    def renew(self, name: str, instance: Instance) -> Scope:
        """The inside of a ``new``."""
        return Scope(self, None, name, instance)

    def handle(self, caught: Catchable) -> Scope:
        """The right part of an ``xor`` that caught an error."""
        return Scope(self, None, ":error:", None, caught)

    # --- looking up

    def lookup(self, name: str, key: Key = ANYTIME) -> Bound:
        """What a name means at a position in this scope.

        Raises:
            Waiting: it has no value yet. Catchable: 10009, it was cleared by ``new``.
        """
        scope: Scope | None = self
        while scope is not None:
            bound = scope._bound.get(name)
            if bound is not None:
                if not isinstance(bound, _History):
                    return bound
                if (before := bound.before(key)) is not None:
                    return before
            if scope._only == name:
                raise NameCleared(name)
            if scope._iteration is not None and scope._iteration.iterator == name:
                return scope._iteration.value
            scope = scope._outer
        raise NameNotSet(name)

    def meanings(self, name: str) -> Iterator[Bound]:
        """All that a name can mean somewhere in this scope, as far as it is known by now."""
        scope: Scope | None = self
        while scope is not None:
            bound = scope._bound.get(name)
            if isinstance(bound, _History):
                yield from bound.all()
            elif bound is not None:
                yield bound
                return
            if scope._only == name:
                return
            if scope._iteration is not None and scope._iteration.iterator == name:
                yield scope._iteration.value
                return
            scope = scope._outer

    def scalar(self, name: str, key: Key = ANYTIME) -> Value:
        """The value of a scalar or iterator; raises as :meth:`lookup`."""
        bound = self.lookup(name, key)
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
            if scope._iteration is not None and scope._iteration.iterator == iterator:
                return scope._iteration
            scope = scope._outer
        return None

    def is_iterator(self, name: str, key: Key = ANYTIME) -> bool:
        """Whether the name is the iterator of a fold around, and not hidden at a position."""
        scope: Scope | None = self
        while scope is not None:
            bound = scope._bound.get(name)
            if bound is not None and (not isinstance(bound, _History) or bound.before(key) is not None):
                return False
            if scope._only == name:
                return False
            if scope._iteration is not None and scope._iteration.iterator == name:
                return True
            scope = scope._outer
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
        return self._caught

    @property
    def held(self) -> int:
        """How many bytes of memory this link takes, about, with the values that it holds; without the texts of errors."""
        size = _SCOPE_BYTES if self._iteration is None else _ITERATION_BYTES
        for bound in self._bound.values():
            size += _BOUND_BYTES
            if isinstance(bound, _History):
                size += bound.positions_bytes
            for one in bound.all() if isinstance(bound, _History) else (bound,):
                size += _BOUND_BYTES
                if isinstance(one, CanonStreamValue):
                    size += _ELEMENT_BYTES * len(one.elements)
                elif isinstance(one, CanonMapValue):
                    size += _PAIR_BYTES * len(one.pairs)
        return size

    def values(self) -> Iterator[Value]:
        """The values of scalars that this link holds."""
        for bound in self._bound.values():
            for one in bound.all() if isinstance(bound, _History) else (bound,):
                if isinstance(one, Value):
                    yield one

    # --- setting

    def set(self, name: str, bound: Bound) -> Scope:
        """Give a name the value that it keeps here; the scope that now holds it."""
        holder = self._holder(name)
        holder._bound[name] = bound
        return holder

    def check_settable(self, name: str) -> None:
        """Raise Uncatchable 20004 or 20007 if a contested name may not be set here."""
        if self.is_iterator(name):
            raise iterator_shadowed(name)
        if name in self._holder(name)._bound and not self.in_fold:
            raise already_set(name)

    def claim(self, name: str, key: Key) -> None:
        """A call at a position is going to set a contested name; raises as :meth:`check_settable` if one that stands before it has set it.

        Outside of folds nothing that stands before it may set the name from now on, whatever becomes of the call.
        """
        if self.is_iterator(name):
            raise iterator_shadowed(name)
        if not self.in_fold:
            self._holder(name)._note(name, key, writes=False)

    def set_at(self, name: str, bound: Bound, key: Key) -> Scope:
        """Give a contested name a value for what stands after a position; the scope that now holds it.

        Raises:
            Uncatchable: 20004 or 20007, as :meth:`check_settable`, or as :meth:`claim` says.
        """
        self.check_settable(name)
        holder = self._holder(name)
        if not self.in_fold:
            holder._note(name, key, writes=True)
        history = holder._bound.setdefault(name, _History())
        assert isinstance(history, _History), "a name is contested everywhere or nowhere"
        history.add(key, bound)
        return holder

    def _note(self, name: str, key: Key, *, writes: bool) -> None:
        """Keep who claims and who writes a name; raise 20007 if a claim stands behind a writer."""
        if self._claims is None:
            self._claims = {}
        last, first_write = self._claims.get(name, (key, None))
        if last > key if writes else first_write is not None and first_write < key:
            raise already_set(name)
        self._claims[name] = max(last, key), key if writes else first_write

    def holders(self, name: str) -> Iterator[Scope]:
        """The scopes, from here outwards, in which a value of a name can appear that is seen here: up to the ``new`` of the name."""
        scope: Scope | None = self
        while scope is not None:
            if scope._only is None:
                yield scope
            elif scope._only == name and scope._stream is not None:
                yield scope
                return
            scope = scope._outer

    def _holder(self, name: str) -> Scope:
        """The scope in which a value set here is kept: the ``new`` of the name, the iteration, or the outermost."""
        scope = self
        while scope._outer is not None and scope._iteration is None and scope._only != name:
            scope = scope._outer
        return scope


@dataclass(slots=True, eq=False)
class Viewpoint:
    """A position and a scope: they decide what an instruction sees when it reads a name.

    Attributes:
        key: its position.
        scope: what names mean there.
    """

    key: Key
    scope: Scope
