"""The state tree: what it holds, that its shape depends on nothing else, and that proofs cannot lie."""

from __future__ import annotations

from fluvial.ledger.state import State
from fluvial.ledger.tree import EMPTY, Branch, TreeProof, bit_of, place_of
from hypothesis import given, settings
from hypothesis import strategies as st

KEYS = st.binary(min_size=1, max_size=2)
CHANGES = st.lists(st.tuples(KEYS, st.none() | st.binary(max_size=4)), max_size=40)


def built(changes: list[tuple[bytes, bytes | None]]) -> State:
    state = State()
    for key, value in changes:
        state = state.with_changes({("m", key): value})
    return state


@settings(deadline=None)
@given(CHANGES, st.randoms(use_true_random=False))
def test_a_tree_is_its_contents_whatever_led_to_them(changes: list[tuple[bytes, bytes | None]], rng: object) -> None:
    model = {key: value for key, value in dict(changes).items() if value is not None}
    state = built(changes)
    assert dict(state.scan("m")) == model
    assert [key for key, _ in state.scan("m")] == sorted(model)
    items = list(model.items())
    rng.shuffle(items)  # type: ignore[attr-defined]  # a Random
    assert built([(key, value) for key, value in items]).root == state.root
    assert (state.root == EMPTY) == (not model)


@settings(deadline=None)
@given(CHANGES, KEYS)
def test_proofs_show_presence_and_absence(changes: list[tuple[bytes, bytes | None]], key: bytes) -> None:
    state = built(changes)
    value = state.get("m", key)
    proof = state.proof("m", key)
    assert proof.shows(state.root, "m", key, value)
    assert not proof.shows(state.root, "m", key, b"another value")
    assert not proof.shows(state.root, "m", key, None if value is not None else b"")
    assert not proof.shows(bytes(31) + b"\1", "m", key, value)


@settings(deadline=None)
@given(CHANGES, KEYS, KEYS)
def test_a_proof_for_one_key_says_nothing_false_of_another(
    changes: list[tuple[bytes, bytes | None]], key: bytes, other: bytes
) -> None:
    state = built(changes)
    proof = state.proof("m", key)
    claims = [value for value in (None, b"x", state.get("m", key)) if value != state.get("m", other)]
    assert not any(proof.shows(state.root, "m", other, value) for value in claims)


@settings(deadline=None)
@given(
    st.lists(st.binary(max_size=40), max_size=5), st.none() | st.tuples(st.binary(max_size=33), st.binary(max_size=33))
)
def test_made_up_proofs_are_no_proofs(siblings: list[bytes], other: tuple[bytes, bytes] | None) -> None:
    state = built([(bytes([number]), b"v") for number in range(8)])
    assert not TreeProof(tuple(siblings), other).shows(state.root, "m", b"\0", None)


def test_older_versions_stay_readable() -> None:
    before = built([(b"a", b"1"), (b"b", b"2")])
    root = before.root
    after = before.with_changes({("m", b"a"): None, ("m", b"b"): b"3"})
    assert (before.get("m", b"a"), before.root) == (b"1", root)
    assert (after.get("m", b"a"), after.get("m", b"b")) == (None, b"3")


@settings(deadline=None)
@given(CHANGES, CHANGES)
def test_what_differs_is_what_was_set_to_something_else(
    first: list[tuple[bytes, bytes | None]], then: list[tuple[bytes, bytes | None]]
) -> None:
    before = built(first)
    after, apart = before, built([*first, *then])
    for key, value in then:
        after = after.with_changes({("m", key): value})
    was = dict(before.scan("m"))
    expected = [(key, value) for key, value in after.scan("m") if was.get(key) != value]
    assert list(after.scan("m", since=before)) == expected
    assert list(apart.scan("m", since=before)) == expected, "also of trees that share nothing"


def test_subtrees_that_two_versions_share_are_not_looked_into() -> None:
    class Unseen(Branch):
        left = right = property(lambda _: 1 / 0)  # type: ignore[assignment]

        def __init__(self) -> None:
            """Has no parts."""

    before = built([(bytes([number]), b"1") for number in range(64)])
    key = next(bytes([number]) for number in range(64) if not bit_of(place_of("m", bytes([number])), 0))
    after = before.with_changes({("m", key): b"2"})
    assert isinstance(before.tree, Branch)
    assert isinstance(after.tree, Branch)
    assert before.tree.right is after.tree.right
    before.tree.right = after.tree.right = Unseen()
    assert list(after.scan("m", since=before)) == [(key, b"2")]
