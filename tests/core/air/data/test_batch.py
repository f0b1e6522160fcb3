"""Batches: what their signature covers, what is refused, and in which order steps are taken in."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from fluvial.air.data.batch import (
    Batch,
    BatchId,
    Signed,
    unroll,
)
from fluvial.air.data.content import content_id
from fluvial.air.data.facts import (
    Argument,
    CallFailure,
    CanonFact,
    Closed,
    Element,
    Fact,
    Item,
    Result,
    Sent,
    Step,
    Taken,
)
from fluvial.errors import RemoteProtocolError
from fluvial.identity import KeyPair

KEYS = KeyPair.from_secret(b"signer".ljust(32, b"."))
OTHER = KeyPair.from_secret(b"other".ljust(32, b"."))
PARTICLE = b"P" * 32
FRAME = b"F" * 16
VALUE = content_id({"k": "value"})
ARGUMENT = Argument(content_id(1), ("a", 0))
ELEMENT = Element(VALUE, FRAME, 3)

RESULT = Result(b"", 1, "s", "f", (ARGUMENT,), VALUE)
FAILURE = CallFailure(FRAME, 2, "s", "f", (), 1, '"bad"')
CANON = CanonFact(b"", 3, (ELEMENT,))
SENT = Sent(b"", 4, True)
TAKEN = Taken(b"", 5)
CLOSED = Closed(FRAME, (6, 7), b"R" * 32)
STEP = Step((b"B" * 32,))
ITEMS: tuple[Item, ...] = (Step(), RESULT, FAILURE, STEP, CANON, SENT, TAKEN, CLOSED)


def seal(items: tuple[Item, ...] = ITEMS, keys: KeyPair = KEYS, particle: bytes = PARTICLE) -> Batch:
    return Batch.seal(particle, keys.peer_id, items, keys.sign)


def change(record: Any, **fields: Any) -> Any:
    return msgspec.structs.replace(record, **fields)


def test_sealed_batch_verifies_and_keeps_its_id() -> None:
    batch = seal()
    assert Batch.verified(PARTICLE, batch.signed) == batch
    assert Batch.stored(PARTICLE, batch.signed) == batch
    assert batch.signer == KEYS.peer_id


OTHERS: dict[type[Any], dict[str, Any]] = {
    Step: {"seen": (b"C" * 32,)},
    Argument: {"root": content_id(2), "path": ("a", 1)},
    Result: {"frame": FRAME, "node": 9, "service": "t", "function": "g", "arguments": (), "value": content_id(2)},
    CallFailure: {
        "frame": b"",
        "node": 9,
        "service": "t",
        "function": "g",
        "arguments": (ARGUMENT,),
        "status": 2,
        "message": '"worse"',
    },
    Element: {"value": content_id(2), "frame": b"", "node": 9},
    CanonFact: {"frame": FRAME, "node": 9, "elements": ()},
    Sent: {"frame": FRAME, "node": 9, "complete": False},
    Taken: {"frame": FRAME, "node": 9},
    Closed: {"frame": b"", "nodes": (6, 7, 8), "root": b"S" * 32},
}
"""For every record another value for every field."""


def test_no_field_is_left_out_below() -> None:
    assert all(set(fields) == set(kind.__struct_fields__) for kind, fields in OTHERS.items())


@pytest.mark.parametrize("index", range(len(ITEMS)), ids=[type(item).__name__ for item in ITEMS])
def test_every_field_of_every_fact_is_signed(index: int) -> None:
    item = ITEMS[index]
    for field, other in OTHERS[type(item)].items():
        refuse(index, change(item, **{field: other}))


@pytest.mark.parametrize("field", OTHERS[Argument])
def test_arguments_of_results_are_signed(field: str) -> None:
    refuse(1, change(RESULT, arguments=(change(ARGUMENT, **{field: OTHERS[Argument][field]}),)))


@pytest.mark.parametrize("field", OTHERS[Element])
def test_elements_of_canons_are_signed(field: str) -> None:
    refuse(4, change(CANON, elements=(change(ELEMENT, **{field: OTHERS[Element][field]}),)))


def test_kinds_of_facts_are_signed() -> None:
    refuse(6, Sent(TAKEN.frame, TAKEN.node, False))


def refuse(index: int, other: Item) -> None:
    assert other != ITEMS[index]
    signed = change(seal().signed, items=(*ITEMS[:index], other, *ITEMS[index + 1 :]))
    with pytest.raises(RemoteProtocolError, match="not signed by"):
        Batch.verified(PARTICLE, signed)


@pytest.mark.parametrize(
    "items",
    [ITEMS[:-1], (*ITEMS, TAKEN), (*ITEMS[:5], TAKEN, SENT, CLOSED), (Step(), *ITEMS[1:3], *ITEMS[4:])],
    ids=["one less", "one more", "another order", "steps joined"],
)
def test_number_and_order_of_items_are_signed(items: tuple[Item, ...]) -> None:
    with pytest.raises(RemoteProtocolError, match="not signed by"):
        Batch.verified(PARTICLE, change(seal().signed, items=items))


def test_batch_of_another_signer_or_particle_is_refused() -> None:
    for altered, particle in [
        (change(seal().signed, signer=OTHER.public_key), PARTICLE),
        (change(seal().signed, signature=seal(keys=OTHER).signed.signature), PARTICLE),
        (change(seal().signed, signature=bytes(64)), PARTICLE),
        (change(seal().signed, signature=b""), PARTICLE),
        (seal().signed, b"Q" * 32),
    ]:
        with pytest.raises(RemoteProtocolError, match="not signed by"):
            Batch.verified(particle, altered)
    assert seal().id != seal(particle=b"Q" * 32).id != seal(keys=OTHER).id


@pytest.mark.parametrize(
    ("signed", "problem"),
    [
        (Signed(b"", ITEMS, b""), "32 bytes"),
        (Signed(KEYS.public_key, (), b""), "does not begin with a step"),
        (Signed(KEYS.public_key, (SENT,), b""), "does not begin with a step"),
        (seal((Step((b"short",)),)).signed, "names no batch"),
        (seal((Step(), Sent(b"x" * 15, 1, True))).signed, "impossible instance"),
        (seal((Step(), Sent(b"", -1, True))).signed, "impossible instance"),
        (seal((Step(), Sent(b"", 2**32, True))).signed, "impossible instance"),
        (seal((Step(), change(FAILURE, status=0))).signed, "status 0"),
        (seal((Step(), change(CLOSED, frame=b"x"))).signed, "impossible instance"),
        (seal((Step(), change(CLOSED, nodes=()))).signed, "none or not in order"),
        (seal((Step(), change(CLOSED, nodes=(6, 6)))).signed, "none or not in order"),
        (seal((Step(), change(CLOSED, nodes=(7, 6)))).signed, "none or not in order"),
        (seal((Step(), change(CLOSED, nodes=(-1, 6)))).signed, "impossible instance"),
        (seal((Step(), change(CLOSED, nodes=(6, 2**32)))).signed, "impossible instance"),
        (seal((Step(), change(CLOSED, root=b"R" * 31))).signed, "impossible root"),
        (
            seal((Step(), change(CANON, elements=(ELEMENT, change(ELEMENT, value=content_id(2)))))).signed,
            "written two elements",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_impossible_facts_are_refused_though_signed(signed: Signed, problem: str) -> None:
    with pytest.raises(RemoteProtocolError, match=problem):
        Batch.verified(PARTICLE, signed)


# --- the order of steps


def batch(name: str, *steps: tuple[str, ...]) -> Batch:
    """A batch with made-up ids: each step names other batches, and has one fact that names batch and step."""
    items: list[Item] = []
    for number, seen in enumerate(steps):
        items += [Step(tuple(map(key, seen))), Taken(b"", ord(name) * 100 + number)]
    return Batch(key(name), KEYS.peer_id, Signed(KEYS.public_key, tuple(items), b""))


def key(name: str) -> BatchId:
    return BatchId(name.encode().ljust(32, b"."))


def order(*batches: Batch, known: str = "") -> list[str]:
    """The steps as ``batch name + number``."""
    fresh = {item.id: item for item in batches}
    return [spell(facts) for _, facts in unroll(fresh, list(map(key, known)))]


def spell(facts: list[Fact]) -> str:
    (fact,) = facts
    return f"{chr(fact.node // 100)}{fact.node % 100}"


def test_steps_of_one_batch_keep_their_order() -> None:
    assert order(batch("A", (), (), ())) == ["A0", "A1", "A2"]


def test_named_batch_comes_right_before_the_step_that_names_it() -> None:
    a, b = batch("A", (), ("B",), ()), batch("B", (), ())
    assert order(a, b) == order(b, a) == ["A0", "B0", "B1", "A1", "A2"]


def test_batches_interleave_as_their_signers_saw_them() -> None:
    # D worked once, B saw that between its own steps, C saw B and D
    b, c, d = batch("B", (), ("D",)), batch("C", (), ("B", "D"), ()), batch("D", ())
    for batches in [(b, c, d), (d, c, b), (c, d, b)]:
        assert order(*batches) == ["C0", "B0", "D0", "B1", "C1", "C2"]


def test_batch_that_was_here_before_is_not_repeated() -> None:
    assert order(batch("A", ("B",), ("C",)), batch("C", ("B",)), known="B") == ["A0", "C0", "A1"]
    assert order(known="AB") == []


def test_unrelated_batches_follow_in_the_order_of_arrival() -> None:
    assert order(batch("B", ()), batch("A", ())) == ["B0", "A0"]


def test_missing_predecessor_is_said() -> None:
    with pytest.raises(RemoteProtocolError, match="follows one that is not here"):
        order(batch("A", (), ("B",)))


def test_circle_of_batches_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="in a circle"):
        order(batch("A", ("B",)), batch("B", ("A",)))
    with pytest.raises(RemoteProtocolError, match="in a circle"):
        order(batch("A", ("A",)))


def test_long_chains_and_wide_steps_are_unrolled_in_linear_time() -> None:
    fresh: dict[BatchId, Batch] = {}
    before: tuple[bytes, ...] = ()
    for number in range(5_000):
        name = BatchId(number.to_bytes(32, "big"))
        fresh[name] = Batch(name, KEYS.peer_id, Signed(KEYS.public_key, (Step(before), Taken(b"", number)), b""))
        before = (name,)
    wide = BatchId(b"W" * 32)
    fresh[wide] = Batch(wide, KEYS.peer_id, Signed(KEYS.public_key, (Step(tuple(fresh)), Taken(b"", 5_000)), b""))
    steps = [facts[0].node for _, facts in unroll(fresh, ())]
    assert steps == list(range(5_001))


def test_ids_of_batches_are_content_addresses() -> None:
    ids = {seal(items).id for items in (ITEMS, ITEMS[:-1], (Step(),))}
    assert sorted(map(len, ids)) == [32, 32, 32]
