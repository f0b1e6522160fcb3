"""The static checks: what names are known where, and how folds and their ``next`` fit.

The parser tells what it meets in text order and is stopped at the first thing that is wrong. Definitions count from their place
in the text onwards, whatever the flow: one in the other branch of a ``par`` or in another fold serves as well.
Source: AquaVM's validator; where it refuses by mistake (an iterator's name used in two folds one after the other), this does not.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import msgspec

from fluvial.air.syntax.errors import (
    AfterNext,
    IteratorInUse,
    NewOfIterator,
    NextOutsideFold,
    SecondNext,
    SourceText,
    UndefinedName,
    shown,
)
from fluvial.air.syntax.reader import Group, Node, Word
from fluvial.suggestions import did_you_mean

# comparing costs the product of the lengths; names beyond these are not typing errors
_NAMES_COMPARED_MAX = 500
_NAME_COMPARED_CHARS = 60


class _OpenFold(msgspec.Struct):
    """A fold whose body is being read."""

    start: int
    over_stream: bool
    next_at: int | None = None


class Checks:
    """What is known at a place of the text.

    Args:
        source: the script.
        nodes: its parts, to look for definitions that come too late.
    """

    def __init__(self, source: SourceText, nodes: list[Node]) -> None:
        self._source = source
        self._nodes = nodes
        self._defined: dict[str, int] = {}
        self._folds: dict[str, _OpenFold] = {}

    @property
    def mark(self) -> int:
        """How many names are defined; a later definition has this number or a greater one."""
        return len(self._defined)

    def define(self, name: str) -> None:
        """A call, ap, canon, new or fold gives a name a meaning."""
        self._defined.setdefault(name, len(self._defined))

    def is_defined(self, name: str) -> bool:
        """Whether anything before this place defines a name."""
        return name in self._defined

    def number_of(self, name: str) -> int:
        """The number of a name's first definition; -1 if there is none before this place."""
        return self._defined.get(name, -1)

    def use(self, name: str, word: Word) -> None:
        """A name is read."""
        if name in self._defined:
            return
        later = _definition_of(name, self._nodes)
        if later is not None and later.start > word.start:
            problem = f"{shown(name)} is read before anything defines it"
            hint = f"it is defined at {self._source.position(later.start)}, which comes later in the text"
        else:
            problem, hint = f"{shown(name)} is not defined", self._undefined_hint(name)
        at = max(0, word.text.find(name))
        error = self._source.error(UndefinedName, problem, word.start + at, len(name), hint=hint)
        error.undefined = name
        raise error

    def open_fold(self, iterator: Word, start: int, *, over_stream: bool) -> None:
        """A fold's body begins."""
        around = self._folds.get(iterator.text)
        if around is not None:
            hint = f"give it another name; the fold of {self._source.position(around.start)} has this one"
            problem = f"the iterator {shown(iterator.text)} is in use by a fold around this one"
            raise self._source.error(IteratorInUse, problem, iterator.start, len(iterator.text), hint=hint)
        self._folds[iterator.text] = _OpenFold(start, over_stream)
        self.define(iterator.text)

    def close_fold(self, iterator: str) -> None:
        """A fold ends."""
        del self._folds[iterator]

    def next(self, iterator: Word) -> None:
        """A ``next`` is met."""
        name = iterator.text
        fold = self._folds.get(name)
        if fold is None:
            hint = f"the folds around it have {_listed(self._folds)}" if self._folds else "it stands in no fold"
            problem = f"no fold around this `next` has the iterator {shown(name)}"
            raise self._source.error(NextOutsideFold, problem, iterator.start, len(name), hint=hint)
        if fold.next_at is not None:
            hint = f"the other one is at {self._source.position(fold.next_at)}; a fold may have one, in whatever branch"
            problem = f"this is the second `next` of {shown(name)} in its fold"
            raise self._source.error(SecondNext, problem, iterator.start, len(name), hint=hint)
        fold.next_at = iterator.start

    def new(self, name: Word) -> None:
        """A ``new`` is met."""
        fold = self._folds.get(name.text)
        if fold is not None:
            problem = f"{shown(name.text)} is the iterator of the fold of {self._source.position(fold.start)}"
            hint = "`new` cannot give an iterator a fresh meaning; choose another name"
            raise self._source.error(NewOfIterator, problem, name.start, len(name.text), hint=hint)
        self.define(name.text)

    def after_next(self, iterator: str, follower: Group) -> None:
        """An instruction follows another one that ends in ``next``."""
        if not self._folds[iterator].over_stream:
            return
        problem = f"nothing may follow `(next {iterator})` in a fold over a stream"
        hint = "put this before the `next`, or behind the body as the fold's last instruction"
        length = follower.end - follower.start
        raise self._source.error(AfterNext, problem, follower.start, length, hint=hint)

    def _undefined_hint(self, name: str) -> str:
        bare = name.lstrip("#$%")
        if name == bare and "$" + bare in self._defined:
            return f"`${bare}` is a stream; fix its content with `(canon PEER ${bare} #{bare})` and read `#{bare}`"
        recent = islice(reversed(self._defined), _NAMES_COMPARED_MAX if len(name) <= _NAME_COMPARED_CHARS else 0)
        return did_you_mean(name, recent) or "a call, ap, canon, new or fold before this place must define it"


def _definition_of(name: str, nodes: Iterable[Node]) -> Word | None:
    """The first word in text order that defines a name anywhere."""
    waiting = list(nodes)[::-1]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, Group):
            continue
        waiting += reversed(node.items)
        target = _target_of(node.items)
        if target is not None and target.text in (name, name.removeprefix("$") + "[]"):
            return target
    return None


def _target_of(items: list[Node]) -> Word | None:
    """The word that an instruction with these parts defines."""
    head = items[0] if items else None
    if not isinstance(head, Word) or len(items) < 3:
        return None
    at = {"call": max(4, len(items) - 1), "ap": 2, "canon": 3, "fold": 2, "new": 1}.get(head.text, len(items))
    target = items[at] if at < len(items) else None
    return target if isinstance(target, Word) else None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in islice(names, 5))
