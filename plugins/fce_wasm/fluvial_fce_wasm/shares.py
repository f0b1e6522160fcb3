"""How the memory of a service is divided among its modules. Pure.

wasmtime limits each memory alone, so the sum is bounded by giving each module a share of it. A module gets what its memories have from the start, and
an equal part of what is left; one without memory gets nothing; one whose share the manifest states gets that.
"""

from __future__ import annotations

from collections.abc import Sequence

from fluvial_fce_wasm.failures import FailureKind, GuestError


def shares(total: int, needs: Sequence[tuple[Sequence[int], int | None]]) -> list[int]:
    """The bytes of each module.

    Args:
        total: of the service.
        needs: of each module what its memories have at the start, and its share if that is fixed.

    Raises:
        GuestError: of the kind ``memory``: there is not enough for what is needed from the start.
    """
    least = [_least(memories) if fixed is None else fixed for memories, fixed in needs]
    rest = total - sum(least)
    if rest < 0:
        raise GuestError(FailureKind.MEMORY, f"{sum(least):,} bytes are needed from the start; the limit is {total:,}")
    open_places = [place for place, (memories, fixed) in enumerate(needs) if fixed is None and memories]
    return [one + (rest // len(open_places) if place in open_places else 0) for place, one in enumerate(least)]


def _least(memories: Sequence[int]) -> int:
    """Each memory of a module has the same limit, so it must be that of the largest."""
    return max(memories, default=0) * len(memories)
