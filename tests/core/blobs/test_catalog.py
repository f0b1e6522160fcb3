"""What must go when room is needed: never more than is needed, never what somebody needs, never more than the limits."""

from __future__ import annotations

import pytest
from fluvial.blob_id import BlobId
from fluvial.blobs.catalog import Catalog, CatalogEntry
from fluvial.blobs.layout import CHUNK_BYTES, Layout
from fluvial.errors import ResourceLimit
from hypothesis import given
from hypothesis import strategies as st

BYTES_MAX, BLOBS_MAX, UNFINISHED_MAX = 1_000, 6, 2


def blob(number: int) -> BlobId:
    return BlobId.of_leaf(number.to_bytes(32, "big"))


ENTRIES = st.builds(
    CatalogEntry,
    size=st.integers(0, 500),
    used_ms=st.integers(0, 5),
    complete=st.booleans(),
    busy=st.booleans(),
    pins=st.sets(st.sampled_from(["a", "b"])),
)


@given(st.lists(ENTRIES, max_size=20))
def test_limits_hold_and_what_is_needed_stays(entries: list[CatalogEntry]) -> None:
    catalog = Catalog(bytes_max=BYTES_MAX, blobs_max=BLOBS_MAX, unfinished_max=UNFINISHED_MAX)
    for number, entry in enumerate(entries):
        before = dict(catalog)
        try:
            victims = catalog.make_room(entry.size, unfinished=not entry.complete)
        except ResourceLimit:
            assert dict(catalog) == before
            continue
        gone = [before[victim] for victim in victims]
        assert not any(one.pins or one.busy for one in gone)
        assert gone == sorted(gone, key=lambda one: (one.complete, one.used_ms))
        assert not victims or _is_needed(before, gone[-1], entry)
        catalog.put(blob(number), entry)
        assert catalog.bytes == sum(one.bytes for _, one in catalog) <= BYTES_MAX
        assert len(catalog) <= BLOBS_MAX
        assert sum(not one.complete for _, one in catalog) <= UNFINISHED_MAX


def _is_needed(before: dict[BlobId, CatalogEntry], last: CatalogEntry, entry: CatalogEntry) -> bool:
    """Whether there would have been no room if the last victim had stayed, and all others that may go before it had gone."""
    stay = [
        one
        for one in before.values()
        if one is last or one.pins or one.busy or (one.complete, one.used_ms) >= (last.complete, last.used_ms)
    ]
    return (
        sum(one.bytes for one in stay) + entry.bytes > BYTES_MAX
        or len(stay) + 1 > BLOBS_MAX
        or (not entry.complete and sum(not one.complete for one in stay) + 1 > UNFINISHED_MAX)
    )


def test_what_is_reserved_counts_like_what_is_there() -> None:
    catalog = Catalog(bytes_max=BYTES_MAX, blobs_max=2, unfinished_max=1)
    catalog.reserve(600)
    with pytest.raises(ResourceLimit):
        catalog.make_room(500)
    catalog.reserve(0)
    with pytest.raises(ResourceLimit):
        catalog.make_room(0)
    catalog.release(600)
    assert catalog.make_room(500) == []


def test_a_tree_counts_too() -> None:
    size = CHUNK_BYTES + 1
    assert CatalogEntry(size=size, used_ms=0).bytes == size + Layout(size).tree_bytes > size
