"""Certificates and evidence: what a light client believes."""

from __future__ import annotations

import pytest
from fluvial.consensus.lab.keys import keys_of, verify_once
from fluvial.ledger.blocks import BlockHeader, FinalityProof
from fluvial.ledger.statements import (
    CHECKPOINT,
    FINALIZE,
    NOTARIZE,
    NOTHING,
    NULLIFY,
    VERTEX,
    Certificate,
    Validator,
    ValidatorSet,
    leader_of,
    offence,
    signed_bytes,
)

NODES = [keys_of(f"node {number}") for number in range(7)]
VALIDATORS = ValidatorSet(Validator(str(one.peer_id)) for one in NODES[:4])
CHAIN = b"c" * 32
ONE, OTHER = b"1" * 32, b"2" * 32


def certificate(
    header: BlockHeader, signers: tuple[int, ...], *, kind: int = FINALIZE, slot: int | None = None
) -> Certificate:
    number = (header.height if kind == CHECKPOINT else header.slot) if slot is None else slot
    message = signed_bytes(CHAIN, kind, header.epoch, number, header.id)
    return Certificate(kind, header.epoch, number, header.id, tuple((one, NODES[one].sign(message)) for one in signers))


def header(*, height: int = 3, parent: bytes = NOTHING, filler: bool = False, slot: int = 5) -> BlockHeader:
    return BlockHeader(CHAIN, 2, slot, height, parent, NOTHING, ONE, VALIDATORS.digest, 1, 9, filler)


@pytest.mark.parametrize(
    ("powers", "quorum", "faulty"),
    [((1,), 1, 0), ((1,) * 4, 3, 1), ((1,) * 6, 5, 1), ((1,) * 7, 5, 2), ((3, 1, 1, 1), 5, 1)],
)
def test_two_quorums_share_a_correct_validator(powers: tuple[int, ...], quorum: int, faulty: int) -> None:
    some = ValidatorSet(Validator(str(one.peer_id), power) for one, power in zip(NODES, powers, strict=False))
    assert (some.quorum, some.faulty_max) == (quorum, faulty)
    assert 2 * some.quorum - some.power > some.faulty_max
    assert some.quorum <= some.power - some.faulty_max


@pytest.mark.parametrize("kind", [FINALIZE, CHECKPOINT])
def test_a_quorum_proves_a_block_final(kind: int) -> None:
    block = header()
    proof = FinalityProof(certificate(block, (0, 2, 3), kind=kind))
    assert proof.proves(block, CHAIN, 2, VALIDATORS, verify_once)
    assert not proof.proves(header(height=4), CHAIN, 2, VALIDATORS, verify_once)
    assert not proof.proves(block, ONE, 2, VALIDATORS, verify_once)
    assert not proof.proves(block, CHAIN, 3, VALIDATORS, verify_once)


def test_a_block_is_final_if_a_descendant_is() -> None:
    last = header()
    filler = header(parent=last.id, filler=True, slot=6)
    proof = FinalityProof(certificate(filler, (0, 1, 2)), (filler,))
    assert proof.proves(last, CHAIN, 2, VALIDATORS, verify_once)
    assert not proof.proves(header(height=9), CHAIN, 2, VALIDATORS, verify_once)


@pytest.mark.parametrize(
    "wrong",
    [
        certificate(header(), (0, 1)),
        certificate(header(), (0, 1, 1)),
        certificate(header(), (2, 1, 0)),
        certificate(header(), (0, 1, 5)),
        certificate(header(), (0, 1, 2), kind=NOTARIZE),
        certificate(header(), (0, 1, 2), slot=6),
    ],
)
def test_what_is_no_quorum_proves_nothing(wrong: Certificate) -> None:
    assert not FinalityProof(wrong).proves(header(), CHAIN, 2, VALIDATORS, verify_once)


@pytest.mark.parametrize(
    ("first", "second", "name"),
    [
        ((NOTARIZE, ONE), (NOTARIZE, OTHER), "double_notarize"),
        ((FINALIZE, ONE), (FINALIZE, OTHER), "double_finalize"),
        ((FINALIZE, ONE), (NULLIFY, NOTHING), "finalize_and_nullify"),
        ((FINALIZE, ONE), (NOTARIZE, OTHER), "finalize_other"),
        ((VERTEX, ONE), (VERTEX, OTHER), "double_vertex"),
        ((CHECKPOINT, ONE), (CHECKPOINT, OTHER), "double_checkpoint"),
        ((NOTARIZE, ONE), (NULLIFY, NOTHING), ""),
        ((NOTARIZE, ONE), (FINALIZE, ONE), ""),
        ((NOTARIZE, ONE), (NOTARIZE, ONE), ""),
        ((VERTEX, ONE), (FINALIZE, OTHER), ""),
        ((CHECKPOINT, ONE), (NOTARIZE, OTHER), ""),
    ],
)
def test_which_pairs_are_offences(first: tuple[int, bytes], second: tuple[int, bytes], name: str) -> None:
    assert offence(*first, *second) == name
    assert offence(*second, *first) == name


def test_everybody_leads_in_turn() -> None:
    assert sorted(leader_of(VALIDATORS, 3, view) for view in range(10, 14)) == [0, 1, 2, 3]
    assert leader_of(VALIDATORS, 0, 1) != leader_of(VALIDATORS, 1, 1)


@pytest.mark.parametrize(
    "members", [[], [Validator("x")], [Validator(str(NODES[0].peer_id))] * 2, [Validator(str(NODES[0].peer_id), 0)]]
)
def test_some_sets_are_none(members: list[Validator]) -> None:
    with pytest.raises(ValueError, match=r"set|peer id|power|validators"):
        ValidatorSet(members)
