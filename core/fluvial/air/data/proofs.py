"""How partial values are encoded: the parts that are shown, and hashes that prove that they belong to the whole.

The tree of an array or object (``data.partial``) is a list of nodes in pre-order: null is a fork, 32 bytes are the hash of a subtree of
which nothing is shown, anything else is a leaf. Where a node stands tells how many leaves it is over.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import msgspec

from fluvial.air.data.content import JSON_DEPTH_MAX, ContentId, checking_json, content_id, fork_hash, leaf_hash, node_id
from fluvial.air.data.content_slices import sliced_content_id
from fluvial.air.data.healing import check_order
from fluvial.air.data.pace import Found, SlicePace, finished
from fluvial.air.data.partial import Content, Fork, Leaf, Partial, Tree, id_of, split
from fluvial.errors import RemoteProtocolError

SIZE_MAX = 2**32 - 1


class _Form(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Base of what is encoded."""


class WholePart(_Form, frozen=True, tag=0):
    """A value."""

    value: Any


class Hidden(_Form, frozen=True, tag=1):
    """A value of which only the id is shown."""

    id: bytes


class ArrayPart(_Form, frozen=True, tag=2):
    """An array of ``size`` elements; its leaves are elements."""

    size: int
    nodes: tuple[bytes | WholePart | Hidden | ArrayPart | ObjectPart | None, ...]


class ObjectPart(_Form, frozen=True, tag=3):
    """An object of ``size`` fields; its leaves are fields."""

    size: int
    nodes: tuple[bytes | FieldPart | None, ...]


class FieldPart(_Form, frozen=True, tag=4):
    """A field: its name, and its value."""

    name: str
    value: WholePart | Hidden | ArrayPart | ObjectPart


Form: TypeAlias = WholePart | Hidden | ArrayPart | ObjectPart
Proof: TypeAlias = ArrayPart | ObjectPart


def write_proof(partial: Partial) -> Proof:
    """What stands for a partial value that shows something."""
    return finished(writing_proof(partial, SlicePace()))


def writing_proof(partial: Partial, pace: SlicePace) -> Found[Proof]:
    """As :func:`write_proof`, in slices."""
    assert partial.tree is not None, "a mere id needs no proof"
    nodes: list[Any] = []
    todo: list[Tree] = [partial.tree]
    while todo:
        tree = todo.pop()
        if isinstance(tree, Fork):
            nodes.append(None)
            todo += (tree.right, tree.left)
        elif isinstance(tree, bytes):
            nodes.append(tree)
        else:
            form = yield from _form(tree.value, pace)
            nodes.append(form if tree.key is None else FieldPart(tree.key, form))
        if pace.over():
            yield
    return ObjectPart(partial.size, tuple(nodes)) if partial.is_object else ArrayPart(partial.size, tuple(nodes))


def _form(content: Content, pace: SlicePace) -> Found[Form]:
    if not isinstance(content, Partial):
        return WholePart(content)
    if content.tree is not None:
        return (yield from writing_proof(content, pace))
    assert content.id is not None, "what is put together here is not sent"
    return Hidden(content.id)


def read_proof(proof: Proof) -> Partial:
    """The partial value that a received proof shows, with the id that follows from it.

    Raises:
        RemoteProtocolError: it is malformed, or not written in the one way it can be, or nested deeper than values may be.
    """
    return finished(reading_proof(proof, SlicePace()))


def reading_proof(proof: Proof, pace: SlicePace, around: int = 0) -> Found[Partial]:
    """As :func:`read_proof`, in slices.

    Args:
        proof: what was received.
        pace: when slices end.
        around: how many arrays and objects are around it.
    """
    if around >= JSON_DEPTH_MAX:
        raise RemoteProtocolError(f"a partial value is nested deeper than {JSON_DEPTH_MAX} levels")
    if not 1 <= proof.size <= SIZE_MAX:
        raise RemoteProtocolError(f"a partial value says that it has {proof.size} parts")
    sizes: list[int | None] = [proof.size]  # of subtrees to come; None closes a fork
    done: list[tuple[Tree, bytes]] = []  # subtrees with their hashes
    shown, whole, last = 0, True, None
    for node in proof.nodes:
        if not sizes:
            raise RemoteProtocolError("a partial value has more nodes than its size allows")
        size = sizes.pop()
        assert size is not None, "forks are closed at once"
        if node is None:
            half = _half(size)
            sizes += (_FORK, size - half, half)
        elif isinstance(node, bytes):
            done.append((node, _checked(node, "a hash")))
        elif size != 1:
            raise RemoteProtocolError("a partial value has fewer forks than its size demands")
        else:
            leaf, root = yield from _leaf(node, pace, around)
            check_order(last, leaf)
            last, shown = leaf.key, shown + 1
            whole = whole and not isinstance(leaf.value, Partial)
            done.append((leaf, root))
        while sizes and sizes[-1] is _FORK:
            sizes.pop()
            right = done.pop()
            done.append(_joined(done.pop(), right))
        if pace.over(HASHES_OF_A_NODE):
            yield
    if sizes:
        raise RemoteProtocolError("a partial value has fewer nodes than its size demands")
    if shown == proof.size and whole:
        raise RemoteProtocolError("a partial value shows all of its parts")
    (tree, root), is_object = done[0], isinstance(proof, ObjectPart)
    return Partial(node_id(proof.size, root, of_object=is_object), tree, proof.size, is_object)


HASHES_OF_A_NODE: Final = 2
"""What a node counts of a slice, for its hashes."""
_FORK: Final = None


def _half(size: int) -> int:
    if size == 1:
        raise RemoteProtocolError("a partial value has more forks than its size allows")
    return split(size)


def _checked(key: bytes, what: str) -> bytes:
    if len(key) != 32:
        raise RemoteProtocolError(f"{what} in a partial value does not have 32 bytes")
    return key


def _joined(left: tuple[Tree, bytes], right: tuple[Tree, bytes]) -> tuple[Tree, bytes]:
    if isinstance(left[0], bytes) and isinstance(right[0], bytes):
        raise RemoteProtocolError("a partial value shows a fork of which nothing is shown")
    return Fork(left[0], right[0]), fork_hash(left[1], right[1])


def _leaf(node: FieldPart | Form, pace: SlicePace, around: int) -> Found[tuple[Leaf, bytes]]:
    key, form = (node.name, node.value) if isinstance(node, FieldPart) else (None, node)
    value: Content
    match form:
        case WholePart(value):
            try:
                yield from checking_json(value, depth_max=JSON_DEPTH_MAX - around - 1)
            except ValueError as error:
                raise RemoteProtocolError(f"a part of a value cannot be used: {error}") from error
            value_id = yield from sliced_content_id(value)
        case Hidden(hidden):
            value_id = ContentId(_checked(hidden, "an id"))
            value = Partial(value_id)
        case _:
            value = yield from reading_proof(form, pace, around + 1)
            value_id = id_of(value)
    named = b"" if key is None else content_id(key)
    return Leaf(key, value), leaf_hash(named + value_id)
