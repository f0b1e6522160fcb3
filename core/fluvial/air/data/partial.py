"""Values of which not everything is here: what nobody reads any more travels as a hash, what is read in part as that part with its proof.

A :class:`Partial` has the id of the whole value. Of a large array or object it may also show parts: some leaves of the value's Merkle
tree (``data.content``), with hashes in place of all subtrees that are not shown. Number of parts and hashes give the id, so that nobody has
to be believed. Two partial values of one id heal each other (``data.healing``).

A tree may be thirty forks deep, and values a hundred levels: what goes through trees calls itself for a level, never for a fork.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from enum import IntEnum
from operator import itemgetter
from typing import Final, NamedTuple, TypeAlias, TypeVar

import msgspec

from fluvial.air.data.content import (
    ContentId,
    Json,
    content_id,
    fork_hash,
    is_large,
    leaf_hash,
    leaves_of,
    merkle_root,
    node_id,
)
from fluvial.air.data.pace import Found, SlicePace, finished
from fluvial.encoding import encode

Step: TypeAlias = str | int
ResultT = TypeVar("ResultT")

PART_BYTES: Final = 36
"""What showing a part costs at least: a hash beside it. Values of many small parts travel whole if many of these are asked for."""


class Absent(LookupError):
    """A part that was asked for is not shown."""


class Leaf(NamedTuple):
    """A part that is shown: the field's name in an object, and the value."""

    key: str | None
    value: Content


class Fork(NamedTuple):
    """Two subtrees, of which something is shown."""

    left: Tree
    right: Tree


Tree: TypeAlias = bytes | Leaf | Fork
"""A subtree; 32 bytes are the hash of one of which nothing is shown."""


class Partial(msgspec.Struct, frozen=True, eq=False):
    """See the module's docstring.

    Attributes:
        id: content id of the whole value; None if it is not known, of a value put together from partial ones.
        tree: what is shown of an array or object; None of a value of which there is nothing but the id.
        size: how many parts it has.
        is_object: whether it is an object.
    """

    id: ContentId | None
    tree: Tree | None = None
    size: int = 0
    is_object: bool = False

    @classmethod
    def of_tree(cls, tree: Tree, size: int, *, is_object: bool) -> Partial:
        """The array or object with this tree, in which fields are in the order of their names; its id follows."""
        return cls(node_id(size, _hash(tree, size), of_object=is_object), tree, size, is_object)

    def part(self, step: Step) -> Content:
        """A field or element.

        Raises:
            Absent: it is not shown, or there is none.
        """
        if isinstance(step, str) is not self.is_object or self.tree is None:
            raise Absent
        leaf = _named(self.tree, step) if isinstance(step, str) else _placed(self.tree, self.size, step)
        return leaf.value

    def shown(self) -> Iterator[tuple[Step, Content]]:
        """The parts that are shown, in order, each with its field's name or its index."""
        if self.tree is not None:
            for place, leaf in leaves_in(self.tree, self.size):
                yield place if leaf.key is None else leaf.key, leaf.value


Content: TypeAlias = Json | Partial
"""What is known of a value: all of it, or not."""


def id_of(content: Content) -> ContentId:
    """The content id; raises Absent if it is not known."""
    if type(content) is not Partial:
        return content_id(content)
    if content.id is not None:
        return content.id
    if content.tree is None:
        raise Absent
    root = _hash(content.tree, content.size)
    return node_id(content.size, root, of_object=content.is_object)  # only large values are partial


def split(size: int) -> int:
    """How many leaves the left subtree of a tree has: the greatest power of two below ``size``. Source: RFC 6962 §2.1."""
    return 1 << (size - 1).bit_length() - 1


# --- asking for parts


class Level(IntEnum):
    """How much of a part is asked for: that it is there; and for an array or object how many parts it has; or all of it."""

    EXISTENCE = 0
    SIZE = 1
    WHOLE = 2


class Mask(msgspec.Struct):
    """Which parts of a value are asked for; grows."""

    level: Level = Level.EXISTENCE
    parts: dict[Step, Mask] = msgspec.field(default_factory=dict)

    def add(self, path: tuple[Step, ...], level: Level) -> int:
        """Ask for the part to which a path leads; how many masks that has taken more."""
        mask, more = self, 0
        for step in path:
            if mask.level is Level.WHOLE:
                return more
            if (part := mask.parts.get(step)) is None:
                part = mask.parts[step] = Mask()
                more += 1
            mask = part
        if level > mask.level:
            mask.level = level
        if level is Level.WHOLE:
            mask.parts.clear()
        return more

    def copying(self, pace: SlicePace) -> Found[Mask]:
        """One that grows by itself; in slices."""
        if pace.over():
            yield
        parts: dict[Step, Mask] = {}
        for step, part in self.parts.items():
            parts[step] = yield from part.copying(pace)
        return Mask(self.level, parts)


def cut(content: Content, mask: Mask) -> Content:
    """What a mask asks for; of that, what is known."""
    if mask.level is Level.WHOLE:
        return content
    if isinstance(content, Partial):
        return _narrowed(content, mask)
    if not is_large(content):
        return content
    if not (mask.parts or mask.level):
        return Partial(content_id(content))
    if not isinstance(content, list | dict) or len(encode(content)) <= PART_BYTES * len(mask.parts):
        return content
    wanted = _wanted(content, mask)
    if len(wanted) == len(content) and not any(isinstance(leaf.value, Partial) for leaf in wanted.values()):
        return content
    leaves = leaves_of(content)
    tree = _grown(leaves, 0, len(leaves), sorted(wanted.items()))
    return Partial.of_tree(tree, len(leaves), is_object=isinstance(content, dict))


def covers(content: Content, mask: Mask) -> bool:
    """Whether all is known that a mask asks for."""
    return finished(covering(content, mask, SlicePace()))


def covering(content: Content, mask: Mask, pace: SlicePace) -> Found[bool]:
    """As :func:`covers`, in slices."""
    if pace.over():
        yield
    if type(content) is not Partial:
        return True
    if mask.level is Level.WHOLE or (mask.level and content.tree is None):
        return False
    for step, part in mask.parts.items():
        try:
            shown = content.part(step)
        except Absent:
            return False
        if not (yield from covering(shown, part, pace)):
            return False
    return True


def _wanted(value: list[Json] | dict[str, Json], mask: Mask) -> dict[int, Leaf]:
    """The leaves to show, by place."""
    if isinstance(value, list):
        places = ((i, part) for i, part in mask.parts.items() if isinstance(i, int) and i < len(value))
        return {i: Leaf(None, cut(value[i], part)) for i, part in places}
    keys = sorted(value)
    return {place: Leaf(key, cut(value[key], mask.parts[key])) for place, key in enumerate(keys) if key in mask.parts}


def _grown(leaves: list[bytes], start: int, stop: int, wanted: list[tuple[int, Leaf]]) -> Tree:
    """The tree over some leaves, of which those at the wanted places are shown."""
    if not wanted:
        return merkle_root(leaves[start:stop])
    if stop - start == 1:
        return wanted[0][1]
    middle = start + split(stop - start)
    first = bisect_left(wanted, middle, key=itemgetter(0))
    return Fork(_grown(leaves, start, middle, wanted[:first]), _grown(leaves, middle, stop, wanted[first:]))


def _narrowed(content: Partial, mask: Mask) -> Partial:
    if content.tree is None or not (mask.parts or mask.level):
        return Partial(content.id)

    def narrow(part: bytes | Leaf, place: int) -> Tree:
        if isinstance(part, bytes):
            return part
        mask_of_it = mask.parts.get(place if part.key is None else part.key)
        return leaf_root(part) if mask_of_it is None else Leaf(part.key, cut(part.value, mask_of_it))

    tree = _folded(content.tree, content.size, narrow, _fork)
    return Partial(content.id, tree, content.size, content.is_object)


# --- trees


def _folded(
    tree: Tree,
    size: int,
    of_end: Callable[[bytes | Leaf, int], ResultT],
    of_fork: Callable[[ResultT, ResultT], ResultT],
) -> ResultT:
    """What comes of a tree, from its ends up.

    Args:
        tree: the tree.
        size: how many leaves it is over.
        of_end: what comes of a leaf at a place, or of the hash of a subtree that begins there.
        of_fork: what comes of a fork, from what has come of both sides.
    """
    todo: list[tuple[Tree, int, int] | None] = [(tree, 0, size)]
    done: list[ResultT] = []
    while todo:
        if (part := todo.pop()) is None:
            right = done.pop()
            done.append(of_fork(done.pop(), right))
            continue
        tree, start, size = part
        if isinstance(tree, Fork):
            half = split(size)
            todo += (None, (tree.right, start + half, size - half), (tree.left, start, half))
        else:
            done.append(of_end(tree, start))
    return done[0]


def _fork(left: Tree, right: Tree) -> Tree:
    if isinstance(left, bytes) and isinstance(right, bytes):
        return fork_hash(left, right)
    return Fork(left, right)


def _hash(tree: Tree, size: int) -> bytes:
    return _folded(tree, size, lambda end, _: end if isinstance(end, bytes) else leaf_root(end), fork_hash)


def leaf_root(leaf: Leaf) -> bytes:
    """The tree of one leaf."""
    key = b"" if leaf.key is None else content_id(leaf.key)
    return leaf_hash(key + id_of(leaf.value))


def leaves_in(tree: Tree, size: int) -> Iterator[tuple[int, Leaf]]:
    """The leaves that a tree shows, in order, each with its place; ``size``: how many the tree is over."""
    todo = [(tree, 0, size)]
    while todo:
        tree, start, size = todo.pop()
        if isinstance(tree, Leaf):
            yield start, tree
        elif isinstance(tree, Fork):
            half = split(size)
            todo += ((tree.right, start + half, size - half), (tree.left, start, half))


def _placed(tree: Tree, size: int, place: int) -> Leaf:
    if not 0 <= place < size:
        raise Absent
    while isinstance(tree, Fork):
        half = split(size)
        tree, size, place = (tree.left, half, place) if place < half else (tree.right, size - half, place - half)
    if isinstance(tree, bytes):
        raise Absent
    return tree


def _named(tree: Tree, key: str) -> Leaf:
    """The field with a name. Names are in order: so only the way that leads there is looked at."""
    while isinstance(tree, Fork):
        first = _first_name(tree.right)
        tree = tree.left if first is None or key < first else tree.right
    if isinstance(tree, bytes) or tree.key != key:
        raise Absent
    return tree


def _first_name(tree: Tree) -> str | None:
    """The first name that is shown; of every fork something is."""
    while isinstance(tree, Fork):
        tree = tree.right if isinstance(tree.left, bytes) else tree.left
    return None if isinstance(tree, bytes) else tree.key


# --- values put together from others, some of them partial

ABSENT: Final = Partial(None)
"""A value of which nothing is known."""


def together(parts: list[Content] | dict[str, Content]) -> Content:
    """An array or object of values of which some may be partial: if one is, it is so itself, and its id is not known."""
    values = parts if isinstance(parts, list) else parts.values()
    if not any(isinstance(value, Partial) for value in values):
        return parts
    is_object = isinstance(parts, dict)
    if isinstance(parts, dict):
        leaves = [Leaf(key, parts[key]) for key in sorted(parts)]
    else:
        leaves = [Leaf(None, value) for value in parts]
    return Partial(None, _balanced(leaves), len(leaves), is_object)


def outline(content: Content) -> Json:
    """A value for people: a text that begins with ``…`` stands for what is not here."""
    if not isinstance(content, Partial):
        return content
    if content.tree is None:
        return f"… not here: {content.id.hex()[:16]}" if content.id is not None else "… not here"
    parts = {step: outline(part) for step, part in content.shown()}
    hidden = content.size - len(parts)
    rest = f"… {hidden} not here"
    if content.is_object:
        return {**parts, **({"…": rest} if hidden else {})}
    return [*parts.values(), *([rest] if hidden else [])]


def _balanced(leaves: list[Leaf]) -> Tree:
    if len(leaves) == 1:
        return leaves[0]
    half = split(len(leaves))
    return Fork(_balanced(leaves[:half]), _balanced(leaves[half:]))
