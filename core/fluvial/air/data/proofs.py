"""How partial values are encoded: the parts that are shown, and hashes that prove that they belong to the whole.

The tree of an array or object (``data.partial``) is a list of nodes in pre-order: null is a fork, 32 bytes are the hash of a subtree of
which nothing is shown, anything else is a leaf. Where a node stands tells how many leaves it is over.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import msgspec

from fluvial.air.data.content import ContentId, check_json
from fluvial.air.data.partial import Content, Fork, Leaf, Partial, Tree, check_keys, split
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
    assert partial.tree is not None, "a mere id needs no proof"
    nodes = tuple(_written(partial.tree))
    return ObjectPart(partial.size, nodes) if partial.is_object else ArrayPart(partial.size, nodes)


def _written(tree: Tree) -> Iterator[Any]:
    if isinstance(tree, Fork):
        yield None
        yield from _written(tree.left)
        yield from _written(tree.right)
    elif isinstance(tree, Leaf):
        form = _form(tree.value)
        yield form if tree.key is None else FieldPart(tree.key, form)
    else:
        yield tree


def _form(content: Content) -> Form:
    if not isinstance(content, Partial):
        return WholePart(content)
    if content.tree is not None:
        return write_proof(content)
    assert content.id is not None, "what is put together here is not sent"
    return Hidden(content.id)


def read_proof(proof: Proof) -> Partial:
    """The partial value that a received proof shows, with the id that follows from it.

    Raises:
        RemoteProtocolError: it is malformed, or not written in the one way it can be.
    """
    if not 1 <= proof.size <= SIZE_MAX:
        raise RemoteProtocolError(f"a partial value says that it has {proof.size} parts")
    nodes = iter(proof.nodes)
    leaves: list[Leaf] = []
    tree = _read(nodes, proof.size, leaves)
    if next(nodes, _END) is not _END:
        raise RemoteProtocolError("a partial value has more nodes than its size allows")
    check_keys(leaves)
    if len(leaves) == proof.size and not any(isinstance(leaf.value, Partial) for leaf in leaves):
        raise RemoteProtocolError("a partial value shows all of its parts")
    return Partial.of_tree(tree, proof.size, is_object=isinstance(proof, ObjectPart))


_END: Any = object()


def _read(nodes: Iterator[Any], size: int, leaves: list[Leaf]) -> Tree:
    node = next(nodes, _END)
    if node is _END:
        raise RemoteProtocolError("a partial value has fewer nodes than its size demands")
    if isinstance(node, bytes):
        if len(node) != 32:
            raise RemoteProtocolError("a hash in a partial value does not have 32 bytes")
        return node
    if node is None:
        if size == 1:
            raise RemoteProtocolError("a partial value has more forks than its size allows")
        half = split(size)
        left, right = _read(nodes, half, leaves), _read(nodes, size - half, leaves)
        if isinstance(left, bytes) and isinstance(right, bytes):
            raise RemoteProtocolError("a partial value shows a fork of which nothing is shown")
        return Fork(left, right)
    if size != 1:
        raise RemoteProtocolError("a partial value has fewer forks than its size demands")
    leaf = Leaf(node.name, _value(node.value)) if isinstance(node, FieldPart) else Leaf(None, _value(node))
    leaves.append(leaf)
    return leaf


def _value(form: Form) -> Content:
    match form:
        case WholePart(value):
            try:
                check_json(value)
            except ValueError as error:
                raise RemoteProtocolError(f"a part of a value cannot be used: {error}") from error
            return value
        case Hidden(key):
            if len(key) != 32:
                raise RemoteProtocolError("an id in a partial value does not have 32 bytes")
            return Partial(ContentId(key))
        case _:
            return read_proof(form)
