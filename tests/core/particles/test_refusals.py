"""What a peer does not take, over a real connection: each with its reason, counted, and told to those who watch."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from fluvial.air.data.batch import Batch
from fluvial.air.data.facts import Step
from fluvial.air.data.wire import encode_data
from fluvial.encoding import encode
from fluvial.particle import Delivery, Header, encode_delivery
from fluvial.particles.receipt import EXPLANATION_CHARACTERS_MAX
from msgspec.structs import replace

from tests.support.deliveries import SENDER, answered, make_delivery, make_particle, script_for, with_contents
from tests.support.nodes import Peer, keys_of, peer, until

LIMITS = {
    "ttl_ms_max": 60_000,
    "clock_skew_ms_max": 5_000,
    "hops_max": 10,
    "script_bytes_max": 2_000,
    "data_bytes_max": 3_000,
}


@pytest.fixture(scope="module")
async def receiver(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Peer]:
    async with peer("receiver", tmp_path_factory.mktemp("receiver"), particles=LIMITS) as running:
        yield running


@pytest.fixture(scope="module")
async def sender(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Peer]:
    async with peer("sender", tmp_path_factory.mktemp("sender")) as running:
        yield running


def alter(delivery: Delivery, **changes: Any) -> Delivery:
    """With some fields of the header replaced, which the initiator has not signed."""
    return replace(delivery, header=replace(delivery.header, **changes))


def signed(receiver: Peer, **fields: Any) -> Delivery:
    return make_delivery(receiver.peer_id, **fields)


def scripted(receiver: Peer, script: str) -> Delivery:
    particle = make_particle(script)
    to = receiver.peer_id.public_key
    return Delivery(to, 1, particle.header, particle.signature, particle.script, b"")


def now_ms(delivery: Delivery) -> int:
    return delivery.header.timestamp_ms


CASES: dict[str, tuple[str, str, Callable[[Peer, Delivery], Delivery]]] = {
    # name: reason, a part of the explanation, how a good delivery is spoilt
    "signature of zeros": ("signature", "is not that of", lambda r, d: replace(d, signature=bytes(64))),
    "signature of another particle": (
        "signature",
        "is not that of",
        lambda r, d: replace(d, signature=signed(r, particle_id="other").signature),
    ),
    "script altered": (
        "script_hash",
        "not the one that the initiator signed",
        lambda r, d: replace(d, script=d.script + " "),
    ),
    "id altered": ("signature", "is not that of", lambda r, d: alter(d, id="q")),
    "initiator altered": ("signature", "is not that of", lambda r, d: alter(d, initiator=keys_of("x").public_key)),
    "timestamp altered": ("signature", "is not that of", lambda r, d: alter(d, timestamp_ms=now_ms(d) - 1)),
    "ttl altered": ("signature", "is not that of", lambda r, d: alter(d, ttl_ms=59_999)),
    "hops altered": ("signature", "is not that of", lambda r, d: alter(d, max_hops=9)),
    "credentials altered": ("signature", "is not that of", lambda r, d: alter(d, credentials=(b"shown",))),
    "reply address altered": ("signature", "is not that of", lambda r, d: alter(d, reply_to=("/ip4/127.0.0.1/tcp/1",))),
    "expired": ("expired", "ms ago", lambda r, d: signed(r, timestamp_ms=now_ms(d) - 60_001)),
    "expired at once": ("expired", "expired", lambda r, d: signed(r, ttl_ms=0)),
    "from the future": ("future", "in the future", lambda r, d: signed(r, timestamp_ms=now_ms(d) + 20_000)),
    "ttl too long": ("ttl", "longer than 60000 ms", lambda r, d: signed(r, ttl_ms=60_001)),
    "too many hops allowed": ("hops", "this peer allows 10", lambda r, d: signed(r, max_hops=11)),
    "too many hops made": ("hops", "it has made 11 hops", lambda r, d: replace(d, hops=11)),
    "another network": ("network", "of network 'other'", lambda r, d: signed(r, network="other")),
    "script too large": ("size", "2000 are allowed", lambda r, d: scripted(r, script_for(r.peer_id) + " " * 2000)),
    "data too large": ("size", "3000 are allowed", lambda r, d: signed(r, value="v" * 3000)),
    "no script": ("script", "does not parse", lambda r, d: scripted(r, "(call")),
    "script with an undefined name": ("script", "does not parse", lambda r, d: scripted(r, '(call x ("a" "b") [])')),
    "data of another particle": (
        "malformed",
        "is not signed by",
        lambda r, d: replace(d, data=signed(r, particle_id="other").data),
    ),
    "data without its values": (
        "malformed",
        "stands for no id",
        lambda r, d: replace(d, data=with_contents(d.data)),
    ),
    "data with another value": (
        "malformed",
        "not signed by",
        lambda r, d: replace(d, data=with_contents(d.data, "w")),
    ),
    "data cut off": ("malformed", "no particle data", lambda r, d: replace(d, data=d.data[:-1])),
    "data of noise": ("malformed", "no particle data", lambda r, d: replace(d, data=b"\xc1" * 50)),
    "value with bytes in it": (
        "malformed",
        "no JSON value",
        lambda r, d: replace(d, data=with_contents(d.data, "v", b"v")),
    ),
    "value without end": (
        "malformed",
        "nan is no JSON value",
        lambda r, d: replace(d, data=with_contents(d.data, "v", [float("nan")])),
    ),
    "value nested too deeply": (
        "malformed",
        "nested deeper than 128",
        lambda r, d: replace(d, data=with_contents(d.data, "v", nested(300))),
    ),
    "value nested without end": (
        "malformed",
        "recursion",
        lambda r, d: replace(d, data=b"\x94\x91" + b"\x91" * 2000 + b"\xc0\x90\x90\x90"),
    ),
    "key that is no text": (
        "malformed",
        "no particle data",
        lambda r, d: replace(d, data=b"\x94\x91\x81\x01\x02\x90\x90\x90"),
    ),
    "key too short": ("malformed", "32 bytes", lambda r, d: replace(d, to=bytes(31))),
    "negative hops": ("malformed", "negative", lambda r, d: replace(d, hops=-1)),
    "reply address of noise": ("malformed", "no address", lambda r, d: alter(d, reply_to=("x",))),
}


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("case", CASES)
async def test_refused(receiver: Peer, sender: Peer, case: str) -> None:
    reason, says, spoil = CASES[case]
    good = signed(receiver)
    before = receiver.outcomes(reason)
    receiver.watcher.refused.clear()
    bad = spoil(receiver, good)
    receipt = await sender.deliver(bad, receiver)
    assert receipt.reason == reason
    assert says in receipt.explanation
    assert not receipt.settled
    assert not receipt.temporary
    assert receiver.outcomes(reason) == before + 1
    told_id = bad.header.id if says not in ("32 bytes", "negative", "no address") else ""
    assert receiver.watcher.refused == [(sender.peer_id, told_id, reason)]
    lines = [event for event in receiver.events("particle_refused") if event["reason"] == reason]
    assert [event["sender"] for event in lines] == [sender.peer_id], (
        "one line for a sender and reason, however many there are"
    )


async def test_the_good_one_is_accepted_before_and_after_all_of_this(receiver: Peer, sender: Peer) -> None:
    delivery = signed(receiver, particle_id="good")
    assert (await sender.deliver(delivery, receiver)).reason == ""
    assert (await sender.deliver(delivery, receiver)).reason == ""
    assert receiver.outcomes("accepted") == 1
    assert receiver.outcomes("repeated") == 1
    assert receiver.watcher.received == ["good"]


@pytest.mark.parametrize("payload", [b"", b"\x00", b"\xff" * 100, b"\x96", bytes(1000), b"{}", encode(["x"] * 6)])
async def test_garbage_is_refused(receiver: Peer, sender: Peer, payload: bytes) -> None:
    receipt = await sender.deliver_bytes(payload, receiver)
    assert receipt.reason == "malformed"
    assert receiver.watcher.refused[-1] == (sender.peer_id, "", "malformed")


async def test_bytes_behind_a_delivery_are_refused(receiver: Peer, sender: Peer) -> None:
    payload = encode_delivery(signed(receiver))
    assert (await sender.deliver_bytes(payload + b"\x00", receiver)).reason == "malformed"
    # The number of hops in more bytes than it needs: another spelling of the same delivery.
    hops_at = 1 + 2 + 32
    assert payload[hops_at] == 1
    receipt = await sender.deliver_bytes(payload[:hops_at] + b"\xcc" + payload[hops_at:], receiver)
    assert (receipt.reason, "canonical" in receipt.explanation) == ("malformed", True)


async def test_explanations_are_short(receiver: Peer, sender: Peer) -> None:
    receipt = await sender.deliver(scripted(receiver, "(seq " * 300), receiver)
    assert receipt.reason == "script"
    assert len(receipt.explanation) <= EXPLANATION_CHARACTERS_MAX


async def test_a_finished_particle_is_a_replay_also_after_a_restart(sender: Peer, tmp_path: Path) -> None:
    """It ends here with the call: nothing is left to do, whatever comes."""
    receiver_id = keys_of("finisher").peer_id
    particle = make_particle(f'(call "{receiver_id}" ("op" "identity") ["x"])')
    to = receiver_id.public_key
    delivery = Delivery(to, 1, particle.header, particle.signature, particle.script, b"")
    async with peer("finisher", tmp_path) as receiver:
        assert (await sender.deliver(delivery, receiver)).reason == ""
        await until(lambda: receiver.events("particle_finished"))
        receipt = await sender.deliver(delivery, receiver)
        assert (receipt.reason, receipt.settled) == ("replay", True)
    async with peer("finisher", tmp_path) as receiver:
        receipt = await sender.deliver(delivery, receiver)
        assert receipt.reason == "replay"
        assert receiver.outcomes("replay") == 1
        assert receiver.watcher.refused == [(sender.peer_id, "p", "replay")]
        assert receiver.watcher.calls == []


async def test_a_batch_that_follows_an_unknown_one_is_refused_and_the_particle_forgotten(
    receiver: Peer, sender: Peer
) -> None:
    particle = make_particle(script_for(receiver.peer_id), particle_id="orphan")
    orphan = Batch.seal(particle.key, SENDER.peer_id, [Step((bytes(32),))], SENDER.sign)
    to = receiver.peer_id.public_key
    data = encode_data((orphan,), {})
    delivery = Delivery(to, 1, particle.header, particle.signature, particle.script, data)
    receipt = await sender.deliver(delivery, receiver)
    assert (receipt.reason, "follows one that is not here" in receipt.explanation) == ("missing", True)
    in_memory = receiver.metric("fluvial_particles_in_memory")
    good = replace(delivery, data=answered(particle, SENDER, "v"))
    assert (await sender.deliver(good, receiver)).reason == ""
    assert receiver.metric("fluvial_particles_in_memory") == in_memory + 1


def test_every_field_of_the_header_is_among_the_cases() -> None:
    """Network and script hash are compared before the signature is looked at; see their own cases."""
    altered = {"id", "initiator", "timestamp_ms", "ttl_ms", "max_hops", "reply_to", "credentials"}
    assert set(Header.__struct_fields__) == altered | {"network", "script_hash"}
