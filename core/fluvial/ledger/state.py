"""The ledger's state: immutable versions over the state tree, and the changes that a transaction collects."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol, TypeVar

from fluvial.encoding import decode, encode
from fluvial.ledger.tree import Node, TreeProof, changed, differing, find, hash_of, leaves, prove, weight_of

T = TypeVar("T")


class Readable(Protocol):
    """A state, or a view of the ledger: what gives the value of a key."""

    def get(self, module: str, key: bytes) -> bytes | None:
        """The value of a key; None if it has none."""
        ...


class State:
    """The state at one height; never changes. Versions share what they have in common."""

    __slots__ = ("tree",)

    def __init__(self, tree: Node = None) -> None:
        self.tree: Final = tree

    @property
    def root(self) -> bytes:
        """The root of its tree, 32 bytes."""
        return hash_of(self.tree)

    @property
    def weight(self) -> int:
        """About how many bytes of memory it takes."""
        return weight_of(self.tree)

    def get(self, module: str, key: bytes) -> bytes | None:
        """The value of a key; None if it has none."""
        return find(self.tree, module, key)

    def scan(self, module: str, prefix: bytes = b"", *, since: State | None = None) -> Iterable[tuple[bytes, bytes]]:
        """The keys of a module that begin with ``prefix``, in order, with their values. Costs as much as the whole state is large.

        With ``since``, an older version of it, only those that have another value there, or none; that costs as much as has changed.
        """
        passed = leaves(self.tree) if since is None else differing(since.tree, self.tree)
        found = [(one.key, one.value) for one in passed if one.module == module and one.key.startswith(prefix)]
        return sorted(found)

    def proof(self, module: str, key: bytes) -> TreeProof:
        """A proof for others that :meth:`get` is right."""
        return prove(self.tree, module, key)

    def all(self) -> Iterable[tuple[str, bytes, bytes]]:
        """Everything, as (module, key, value), in the order of the tree."""
        return ((one.module, one.key, one.value) for one in leaves(self.tree))

    def with_changes(self, changes: dict[tuple[str, bytes], bytes | None]) -> State:
        """The state with some keys set, or removed where the value is None."""
        return State(changed(self.tree, changes))


class Changes:
    """What a block or a transaction changes on top of a state, until it is kept or dropped."""

    __slots__ = ("_below", "written")

    def __init__(self, below: State | Changes) -> None:
        self._below = below
        self.written: dict[tuple[str, bytes], bytes | None] = {}

    def get(self, module: str, key: bytes) -> bytes | None:
        """The value of a key as it is now."""
        if (module, key) in self.written:
            return self.written[module, key]
        return self._below.get(module, key)

    def read(self, module: str, key: bytes, kind: type[T]) -> T | None:
        """The record of a key as it is now; None if there is none."""
        value = self.get(module, key)
        return None if value is None else decode(value, kind, what=f"record of {module}")

    def set(self, module: str, key: bytes, record: object) -> None:
        """Write a record; None removes it."""
        self.written[module, key] = None if record is None else encode(record)

    def keep(self, inner: Changes) -> None:
        """Take over what an inner transaction has changed."""
        self.written.update(inner.written)
