"""The state tree: a compact binary Merkle trie, persistent (older versions stay readable), with proofs of presence and absence.

A key's place is the SHA-256 of its module and itself. A subtree with one leaf *is* that leaf, so the tree's shape and root depend on its contents
alone, never on the order of the changes that led to them.

::

    leaf   = H(0 ‖ hash of the key ‖ hash of the value)
    branch = H(1 ‖ left ‖ right)
    empty  = 32 zero bytes
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Annotated, Final, TypeAlias

import msgspec

EMPTY: Final = bytes(32)
DEPTH_MAX: Final = 256
KEY_BYTES: Final = 640
"""What a key takes in memory besides itself and its value, with its part of the branches above it; measured."""


class TreeLeaf:
    """One key with its value."""

    __slots__ = ("hash", "key", "module", "place", "value")

    def __init__(self, module: str, key: bytes, value: bytes) -> None:
        self.module, self.key, self.value = module, key, value
        self.place = place_of(module, key)
        self.hash = _leaf_hash(self.place, sha256(value).digest())

    @property
    def weight(self) -> int:
        """About how many bytes of memory it takes."""
        return KEY_BYTES + len(self.key) + len(self.value)


class Branch:
    """Two subtrees, at least one of them a branch or both leaves; hashed when it is asked for.

    Attributes:
        weight: about how many bytes of memory both take.
    """

    __slots__ = ("_hash", "left", "right", "weight")

    def __init__(self, left: Node, right: Node) -> None:
        self.left, self.right = left, right
        self.weight = weight_of(left) + weight_of(right)
        self._hash: bytes | None = None

    @property
    def hash(self) -> bytes:
        """Its hash; computed once."""
        if self._hash is None:
            self._hash = sha256(b"\1" + hash_of(self.left) + hash_of(self.right)).digest()
        return self._hash


Node: TypeAlias = TreeLeaf | Branch | None


class TreeProof(msgspec.Struct, frozen=True, array_like=True):
    """Shows what a tree holds at one place.

    Attributes:
        siblings: the hashes beside the way, from the root down.
        other: (place, value hash) of the leaf that the way ends in, if it is another key's; None if it ends in nothing, or in the key itself.
    """

    siblings: Annotated[tuple[bytes, ...], msgspec.Meta(max_length=DEPTH_MAX)]
    other: tuple[bytes, bytes] | None = None

    def shows(self, root: bytes, module: str, key: bytes, value: bytes | None) -> bool:
        """Whether the tree with this root holds this value at this key; None: whether the key is absent.

        This and :meth:`Certificate.proves` are all of a light client.
        """
        place = place_of(module, key)
        if value is not None:
            current = _leaf_hash(place, sha256(value).digest())
        elif self.other is None:
            current = EMPTY
        else:
            other, value_hash = self.other
            if other == place or len(other) != 32 or not _same_way(other, place, len(self.siblings)):
                return False
            current = _leaf_hash(other, value_hash)
        for depth in range(len(self.siblings) - 1, -1, -1):
            sibling = self.siblings[depth]
            pair = sibling + current if bit_of(place, depth) else current + sibling
            if len(pair) != 64:
                return False
            current = sha256(b"\1" + pair).digest()
        return current == root


def place_of(module: str, key: bytes) -> bytes:
    """Where a key is in the tree."""
    return sha256(module.encode() + b"\0" + key).digest()


def hash_of(node: Node) -> bytes:
    """The hash of a tree."""
    return EMPTY if node is None else node.hash


def weight_of(node: Node) -> int:
    """About how many bytes of memory a tree takes."""
    return 0 if node is None else node.weight


def find(node: Node, module: str, key: bytes) -> bytes | None:
    """The value of a key; None if it is absent."""
    place = place_of(module, key)
    depth = 0
    while isinstance(node, Branch):
        node = node.right if bit_of(place, depth) else node.left
        depth += 1
    return node.value if node is not None and node.place == place else None


def changed(node: Node, changes: Mapping[tuple[str, bytes], bytes | None]) -> Node:
    """The tree with some keys set, or removed where the value is None."""
    for (module, key), value in changes.items():
        place = place_of(module, key)
        node = _without(node, place, 0) if value is None else _with(node, TreeLeaf(module, key, value), 0)
    return node


def subtree_of(leaves: Iterable[TreeLeaf], depth: int = 0) -> Node:
    """The subtree of some keys whose places have so many first bits in common."""
    node: Node = None
    for leaf in leaves:
        node = _with(node, leaf, depth)
    return node


def joined(left: Node, right: Node) -> Node:
    """The tree of two neighbouring subtrees; a leaf that is alone stands for both."""
    if left is None and not isinstance(right, Branch):
        return right
    if right is None and not isinstance(left, Branch):
        return left
    return Branch(left, right)


def folded(node: Node, place: bytes, siblings: Sequence[bytes]) -> bytes:
    """The root of a tree that has a subtree on the way to a place, with these hashes beside the way, from the root down."""
    current = hash_of(node)
    for depth in range(len(siblings) - 1, -1, -1):
        pair = siblings[depth] + current if bit_of(place, depth) else current + siblings[depth]
        current = sha256(b"\1" + pair).digest()
    return current


def prove(node: Node, module: str, key: bytes) -> TreeProof:
    """The proof of what the tree holds at a key, its absence included."""
    place = place_of(module, key)
    siblings: list[bytes] = []
    while isinstance(node, Branch):
        if bit_of(place, len(siblings)):
            beside, node = node.left, node.right
        else:
            beside, node = node.right, node.left
        siblings.append(hash_of(beside))
    other = None if node is None or node.place == place else (node.place, sha256(node.value).digest())
    return TreeProof(tuple(siblings), other)


def leaves(node: Node) -> Iterator[TreeLeaf]:
    """All keys, in the order of their places."""
    pending = [node]
    while pending:
        one = pending.pop()
        if isinstance(one, Branch):
            pending += [one.right, one.left]
        elif one is not None:
            yield one


def differing(older: Node, newer: Node) -> Iterator[TreeLeaf]:
    """The keys of a tree that an older one does not have with the same value, in the order of their places.

    Where both trees have the same subtree there is nothing to look at, so between versions of one state it costs as much as has changed.
    """
    pending = [(older, newer, 0)]
    while pending:
        before, after, depth = pending.pop()
        if before is after or after is None:
            continue
        if isinstance(after, Branch):
            left, right = _parts(before, depth)
            pending += [(right, after.right, depth + 1), (left, after.left, depth + 1)]
        elif isinstance(before, Branch):
            pending.append((_parts(before, depth)[bit_of(after.place, depth)], after, depth + 1))
        elif before is None or before.hash != after.hash:
            yield after


def _parts(node: Node, depth: int) -> tuple[Node, Node]:
    """What a subtree at a depth has on the left and on the right; a leaf stands for both."""
    if isinstance(node, Branch):
        return node.left, node.right
    if node is None:
        return None, None
    return (None, node) if bit_of(node.place, depth) else (node, None)


def _with(node: Node, leaf: TreeLeaf, depth: int) -> Node:
    if node is None:
        return leaf
    if isinstance(node, TreeLeaf):
        if node.place == leaf.place:
            return leaf
        # Both go down together to the first bit in which they differ.
        split = depth
        while bit_of(node.place, split) == bit_of(leaf.place, split):
            split += 1
        inner: Node = Branch(node, leaf) if bit_of(leaf.place, split) else Branch(leaf, node)
        for above in range(split - 1, depth - 1, -1):
            inner = Branch(None, inner) if bit_of(leaf.place, above) else Branch(inner, None)
        return inner
    if bit_of(leaf.place, depth):
        return Branch(node.left, _with(node.right, leaf, depth + 1))
    return Branch(_with(node.left, leaf, depth + 1), node.right)


def _without(node: Node, place: bytes, depth: int) -> Node:
    if node is None:
        return None
    if isinstance(node, TreeLeaf):
        return None if node.place == place else node
    left, right = node.left, node.right
    if bit_of(place, depth):
        right = _without(right, place, depth + 1)
    else:
        left = _without(left, place, depth + 1)
    if left is node.left and right is node.right:
        return node
    return joined(left, right)


def _leaf_hash(place: bytes, value_hash: bytes) -> bytes:
    return sha256(b"\0" + place + value_hash).digest()


def bit_of(place: bytes, depth: int) -> int:
    """Which way a place goes at a depth: 0 for left, 1 for right."""
    return place[depth >> 3] >> (7 - (depth & 7)) & 1


def _same_way(one: bytes, other: bytes, depth: int) -> bool:
    return depth <= DEPTH_MAX and all(bit_of(one, bit) == bit_of(other, bit) for bit in range(depth))
