"""The ledger at one height, as the port ``ledger`` shows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fluvial.encoding import encode
from fluvial.ledger.state import State
from fluvial.ports import View


@dataclass(frozen=True, slots=True)
class StateView:
    """Implements :class:`fluvial.ports.View` over an immutable state.

    Attributes:
        height: how many blocks led to it.
        state: after the last of them.
        changes: the heights of the last blocks that have changed modules.
        since: the height from which on ``changes`` knows.
    """

    height: int
    state: State
    changes: Mapping[str, int] = field(default_factory=dict)
    since: int = 0

    @property
    def root(self) -> bytes:
        """See ``View``; empty as long as there is no block."""
        return self.state.root if self.height else b""

    def get(self, module: str, key: bytes) -> bytes | None:
        """See ``View``."""
        return self.state.get(module, key)

    def scan(self, module: str, prefix: bytes, *, since: View | None = None) -> Iterable[tuple[bytes, bytes]]:
        """See ``View``."""
        return self.state.scan(module, prefix, since=since.state if isinstance(since, StateView) else None)

    def changed(self, module: str) -> int:
        """See ``View``."""
        return self.changes.get(module, self.since)

    def proof(self, module: str, key: bytes) -> bytes | None:
        """See ``View``: a :class:`~fluvial.ledger.tree.TreeProof` in the canonical encoding."""
        return encode(self.state.proof(module, key)) if self.height else None
