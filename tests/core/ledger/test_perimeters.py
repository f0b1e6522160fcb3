"""Perimeters on the ledger: who may change them, and that exactly one version is current."""

from __future__ import annotations

import msgspec
import pytest
from fluvial.consensus.lab.keys import keys_of
from fluvial.encoding import encode
from fluvial.identity import KeyPair
from fluvial.ledger.approvals import approval_bytes
from fluvial.ledger.execution import Executed, execute
from fluvial.ledger.genesis import Genesis
from fluvial.ledger.perimeters import (
    PERIMETERS,
    ClosePerimeter,
    CreatePerimeter,
    PerimeterMember,
    PerimeterTerms,
    UpdatePerimeter,
    perimeter_id,
    perimeter_of,
)
from fluvial.ledger.state import State
from fluvial.ledger.statements import Validator
from fluvial.ledger.transactions import Body, sign_transaction

ANN, BOB, EVE = (keys_of(name) for name in ("ann", "bob", "eve"))
GENESIS = Genesis(name="test", time_ms=0, validators=(Validator(str(ANN.peer_id)),))
CHAT = PerimeterMember("chat", str(BOB.peer_id))
ALL_OF_EVE = PerimeterMember("*", str(EVE.peer_id))
TERMS = PerimeterTerms((CHAT, ALL_OF_EVE), bytes(32), (ANN.public_key, BOB.public_key), 2)
ID = perimeter_id(ANN.public_key, 0)


def run(keys: KeyPair, nonce: int, body: Body, state: State | None = None) -> Executed:
    transaction = sign_transaction(keys, GENESIS.chain, nonce, body)
    return execute(state or GENESIS.state(), [transaction], chain=GENESIS.chain, height=1, time_ms=1, strict=True)


CREATED = run(ANN, 0, CreatePerimeter(TERMS)).state


def update(
    version: int = 1, *, approved: bool = True, members: tuple[PerimeterMember, ...] = (CHAT,)
) -> UpdatePerimeter:
    body = UpdatePerimeter(ID, version, msgspec.structs.replace(TERMS, members=members))
    signature = BOB.sign(approval_bytes(GENESIS.chain, body))
    return msgspec.structs.replace(body, approvals=((BOB.public_key, signature),) if approved else ())


def test_a_perimeter_is_created_changed_and_closed() -> None:
    first = perimeter_of(CREATED, ID)
    assert first is not None
    assert (first.version, first.closed) == (1, False)
    assert first.holds("chat", str(BOB.peer_id))
    assert first.holds("anything", str(EVE.peer_id))
    assert not first.holds("mail", str(BOB.peer_id))
    changed = run(ANN, 1, update(), CREATED)
    second = perimeter_of(changed.state, ID)
    assert second is not None
    assert (changed.results, second.version) == (("",), 2)
    assert not second.holds("anything", str(EVE.peer_id))
    body = ClosePerimeter(ID, 2)
    approval = (BOB.public_key, BOB.sign(approval_bytes(GENESIS.chain, body)))
    closed = run(ANN, 2, ClosePerimeter(ID, 2, (approval,)), changed.state)
    last = perimeter_of(closed.state, ID)
    assert last is not None
    assert (last.closed, last.version, last.terms.members) == (True, 3, ())
    assert run(ANN, 3, update(3), closed.state).results == ("no perimeter",)


def test_its_end_can_be_proven_to_who_knows_the_root_alone() -> None:
    perimeter = perimeter_of(CREATED, ID)
    proof = CREATED.proof(PERIMETERS, ID)
    assert proof.shows(CREATED.root, PERIMETERS, ID, encode(perimeter))
    other = perimeter_id(ANN.public_key, 1)
    assert CREATED.proof(PERIMETERS, other).shows(CREATED.root, PERIMETERS, other, None)


@pytest.mark.parametrize(
    ("keys", "body", "reason"),
    [
        (ANN, update(approved=False), "not enough administrators"),
        (EVE, update(), "not enough administrators"),
        (ANN, update(2), "changed meanwhile"),
        (ANN, update(members=(CHAT, CHAT)), "a member twice"),
        (ANN, msgspec.structs.replace(update(), id=bytes(32)), "no perimeter"),
        (ANN, msgspec.structs.replace(update(), terms=TERMS), "not enough administrators"),  # approved something else
        (ANN, ClosePerimeter(ID, 1), "not enough administrators"),
        (ANN, CreatePerimeter(msgspec.structs.replace(TERMS, threshold=3)), "nobody could change it again"),
    ],
)
def test_some_changes_have_no_effect(keys: KeyPair, body: Body, reason: str) -> None:
    nonce = 1 if keys is ANN else 0
    done = run(keys, nonce, body, CREATED)
    assert done.results == (reason,)
    assert perimeter_of(done.state, ID) == perimeter_of(CREATED, ID)
