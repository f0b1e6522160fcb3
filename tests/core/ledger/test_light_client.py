"""A light client believes what is proven, present or absent, and nothing else."""

from __future__ import annotations

import msgspec
import pytest
from fluvial.consensus.lab.keys import keys_of
from fluvial.encoding import encode
from fluvial.errors import RemoteProtocolError
from fluvial.identity import verify
from fluvial.ledger.blocks import BlockHeader, FinalityProof
from fluvial.ledger.execution import execute
from fluvial.ledger.genesis import VALIDATORS, Genesis, Parameters
from fluvial.ledger.light_client import LightClient, ProvenFact, is_proven, prove_fact
from fluvial.ledger.revocations import REVOCATIONS, revocation_key
from fluvial.ledger.state import State
from fluvial.ledger.statements import CHECKPOINT, NOTHING, Certificate, Validator, ValidatorSet, signed_bytes
from fluvial.ledger.transactions import UpdateValidators, carry_revocation, sign_transaction

from tests.support.revocations import ANN, BOB, EVE, revocation

NODES = [keys_of(f"node {number}") for number in range(31)]
GENESIS = Genesis(
    name="test",
    time_ms=0,
    validators=tuple(Validator(str(one.peer_id)) for one in NODES[:4]),
    parameters=Parameters(administrators=(ANN.public_key,)),
)
SET = ValidatorSet(GENESIS.validators)
REVOKED = revocation_key("fluvial", ANN.public_key, BOB.public_key)
FREE = revocation_key("fluvial", BOB.public_key, ANN.public_key)


def final(state: State, *, height: int = 1, epoch: int = 0, signers: int = 3) -> tuple[BlockHeader, FinalityProof]:
    header = BlockHeader(GENESIS.chain, epoch, height, height, NOTHING, NOTHING, state.root, SET.digest, 0, height)
    message = signed_bytes(GENESIS.chain, CHECKPOINT, epoch, height, header.id)
    signatures = tuple((number, NODES[number].sign(message)) for number in range(signers))
    return header, FinalityProof(Certificate(CHECKPOINT, epoch, height, header.id, signatures))


def run(transaction: bytes, height: int = 1) -> State:
    return execute(GENESIS.state(), [transaction], chain=GENESIS.chain, height=height, time_ms=1, strict=True).state


STATE = run(carry_revocation(EVE, GENESIS.chain, revocation()))


def fact(key: bytes, state: State = STATE, **more: int) -> ProvenFact:
    return prove_fact(state, *final(state, **more), REVOCATIONS, key)


def test_presence_and_absence_are_proven() -> None:
    client = LightClient(GENESIS)
    value = client.checked(fact(REVOKED), REVOCATIONS, REVOKED)
    assert value is not None
    assert revocation() in value
    assert client.checked(fact(FREE, height=7), REVOCATIONS, FREE, height_min=7) is None
    assert client.height == 7


FREED = fact(FREE)


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        (fact(REVOKED), FREE),
        (FREED, REVOKED),
        (fact(REVOKED, signers=2), REVOKED),
        (msgspec.structs.replace(fact(REVOKED), value=None), REVOKED),
        (msgspec.structs.replace(fact(REVOKED), value=b"x"), REVOKED),
        (msgspec.structs.replace(fact(REVOKED), value=None, path=FREED.path), REVOKED),
        (msgspec.structs.replace(fact(REVOKED), header=final(GENESIS.state())[0]), REVOKED),
        (msgspec.structs.replace(FREED, value=b"x"), FREE),
        (msgspec.structs.replace(fact(FREE, epoch=1)), FREE),
    ],
)
def test_what_is_forged_is_refused(wrong: ProvenFact, key: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        LightClient(GENESIS).checked(wrong, REVOCATIONS, key)


def test_any_byte_of_a_proof_counts() -> None:
    data = encode(fact(REVOKED))
    known = {"chain": GENESIS.chain, "epoch": 0, "validators": SET, "verify": verify}
    for at in range(0, len(data), 3):
        other = data[:at] + bytes([data[at] ^ 0x01]) + data[at + 1 :]
        try:
            wrong = msgspec.msgpack.decode(other, type=ProvenFact)
        except msgspec.MsgspecError:
            continue
        assert not is_proven(wrong, REVOCATIONS, REVOKED, **known) or encode(wrong) == data  # type: ignore[arg-type]


def test_an_old_proof_is_told_from_a_new_one() -> None:
    with pytest.raises(RemoteProtocolError, match="too old"):
        LightClient(GENESIS).checked(fact(FREE, height=3), REVOCATIONS, FREE, height_min=4)


def test_a_client_follows_the_validators() -> None:
    body = UpdateValidators((Validator(str(NODES[4].peer_id)),))
    changed = run(sign_transaction(ANN, GENESIS.chain, 0, body), 5)
    client = LightClient(GENESIS)
    same = prove_fact(STATE, *final(STATE, height=4), VALIDATORS, b"")
    with pytest.raises(RemoteProtocolError, match="the same"):
        client.follow(same)
    step = prove_fact(changed, *final(changed, height=5), VALIDATORS, b"")
    client.follow(step)
    assert (client.epoch, len(client.validators)) == (1, 5)
    with pytest.raises(RemoteProtocolError, match="last block"):
        client.follow(step)
    with pytest.raises(RemoteProtocolError, match="no proof"):
        client.checked(fact(FREE, changed, height=6, epoch=1), REVOCATIONS, FREE)  # three of five are no quorum
    assert client.checked(fact(FREE, changed, height=6, epoch=1, signers=4), REVOCATIONS, FREE) is None
    assert client.checked(fact(FREE), REVOCATIONS, FREE) is None


def test_a_proof_is_small() -> None:
    many = Genesis(name="many", time_ms=0, validators=tuple(Validator(str(one.peer_id)) for one in NODES))
    header = final(STATE)[0]
    message = signed_bytes(many.chain, CHECKPOINT, 0, 1, header.id)
    signatures = tuple((number, NODES[number].sign(message)) for number in range(21))
    proof = FinalityProof(Certificate(CHECKPOINT, 0, 1, header.id, signatures))
    assert len(encode(prove_fact(STATE, header, proof, REVOCATIONS, FREE))) < 4_096
