"""Snapshots: a state arrives whole or not at all, and every liar is found by the first wrong chunk."""

from __future__ import annotations

from random import Random

import msgspec
import pytest
from fluvial.errors import RemoteProtocolError
from fluvial.ledger.snapshots import SnapshotChunk, StateAssembly, chunk_at
from fluvial.ledger.state import State
from fluvial.ledger.tree import EMPTY
from hypothesis import given, settings
from hypothesis import strategies as st

START = bytes(32)


def state_of(keys: int, size: int = 20) -> State:
    rng = Random(keys)
    return State().with_changes({("m", number.to_bytes(4, "big")): rng.randbytes(size) for number in range(keys)})


def assembled(state: State, bytes_max: int) -> tuple[State, int]:
    assembly = StateAssembly(state.root)
    chunks = 0
    while (start := assembly.missing) is not None:
        assembly.add(chunk_at(state, start, bytes_max=bytes_max))
        chunks += 1
    return assembly.state, chunks


@given(st.integers(0, 120), st.integers(1, 3_000))
@settings(max_examples=40, deadline=None)
def test_a_state_is_put_together_from_chunks_of_any_size(keys: int, bytes_max: int) -> None:
    state = state_of(keys)
    again, chunks = assembled(state, bytes_max)
    assert again.root == state.root
    assert list(again.all()) == list(state.all())
    assert chunks <= 8 * keys + 1


def test_chunks_are_filled() -> None:
    state = state_of(2_000)
    again, chunks = assembled(state, 8_000)
    assert again.root == state.root
    assert 10 <= chunks <= 32
    biggest = chunk_at(state, START, bytes_max=8_000)
    assert sum(len(one[1]) + len(one[2]) for one in biggest.leaves) <= 8_000


def test_the_empty_state_is_one_chunk() -> None:
    again, chunks = assembled(State(), 100)
    assert (again.root, chunks) == (EMPTY, 1)


def test_a_key_larger_than_a_chunk_has_one_of_its_own() -> None:
    state = state_of(10, 500)
    assert assembled(state, 100)[0].root == state.root


STATE = state_of(100)
FIRST = chunk_at(STATE, START, bytes_max=600)


def changed(chunk: SnapshotChunk, **fields: object) -> SnapshotChunk:
    return msgspec.structs.replace(chunk, **fields)


@pytest.mark.parametrize(
    "wrong",
    [
        changed(FIRST, leaves=FIRST.leaves[1:]),
        changed(FIRST, leaves=(*FIRST.leaves, ("m", b"new", b"value"))),
        changed(FIRST, leaves=(*FIRST.leaves[:-1], (*FIRST.leaves[-1][:2], b"other"))),
        changed(FIRST, leaves=FIRST.leaves[::-1]),
        changed(FIRST, leaves=FIRST.leaves + FIRST.leaves[-1:]),
        changed(FIRST, leaves=()),
        changed(FIRST, leaves=(("m\0", FIRST.leaves[0][1][1:], FIRST.leaves[0][2]), *FIRST.leaves[1:])),
        changed(FIRST, siblings=FIRST.siblings[1:]),
        changed(FIRST, siblings=(*FIRST.siblings, bytes(32))),
        changed(FIRST, siblings=()),
        changed(FIRST, siblings=(FIRST.siblings[0][:31], *FIRST.siblings[1:])),
        changed(FIRST, start=b"\x01" + bytes(31)),
        chunk_at(state_of(101), START, bytes_max=600),
    ],
)
def test_a_wrong_chunk_is_refused_and_a_right_one_still_taken(wrong: SnapshotChunk) -> None:
    assembly = StateAssembly(STATE.root)
    with pytest.raises(RemoteProtocolError):
        assembly.add(wrong)
    assembly.add(FIRST)
    with pytest.raises(RemoteProtocolError):
        assembly.add(FIRST)


def test_the_same_place_by_another_name_is_found_out() -> None:
    """Its root is the same, and whoever looks through the keys of the module does not find it."""
    assert FIRST.leaves[0][1].startswith(b"\0")
    renamed = State().with_changes({("m\0", FIRST.leaves[0][1][1:]): FIRST.leaves[0][2]})
    assert renamed.root == State().with_changes({FIRST.leaves[0][:2]: FIRST.leaves[0][2]}).root
    assert not list(renamed.scan("m"))


def test_no_chunk_begins_anywhere() -> None:
    with pytest.raises(RemoteProtocolError):
        chunk_at(STATE, b"\xff" * 32)


def test_chunks_of_several_peers_fit_together() -> None:
    copies = [STATE, state_of(100)]
    assembly = StateAssembly(STATE.root)
    turn = 0
    while (start := assembly.missing) is not None:
        assembly.add(chunk_at(copies[turn % 2], start, bytes_max=(300, 900)[turn % 2]))
        turn += 1
    assert assembly.state.root == STATE.root
