"""A relay hands deliveries to its clients and lets their receipts decide, whoever these clients may be."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from fluvial.addresses import Contact
from fluvial.encoding import encode
from fluvial.errors import RemoteProtocolError
from fluvial.identity import PeerId
from fluvial.particle import encode_delivery
from fluvial.particles.receipt import (
    EXPLANATION_CHARACTERS_MAX,
    REASON_CHARACTERS_MAX,
    REASONS,
    TEMPORARY,
    Receipt,
    decode_receipt,
    encode_receipt,
)

from tests.plugins.transport_tcp.peers import SMALL, StartPeer
from tests.support.deliveries import make_delivery
from tests.support.nodes import NETWORK, Peer, id_of, keys_of, peer, until

Answer = Callable[[bytes], Awaitable[bytes]]


@asynccontextmanager
async def client(
    relay: Peer, folder: Path, answer: Answer, *, name: str = "stranger", **options: int
) -> AsyncIterator[None]:
    """Somebody who is connected to the relay and answers deliveries as the test likes."""

    async def receive(sender: PeerId, protocol: str, payload: bytes) -> bytes:
        return await answer(payload)

    async with anyio.create_task_group() as tasks:
        start = StartPeer(tasks, folder)
        stranger = await start(keys=keys_of(name), receive=receive, network=NETWORK, listen=(), **options)
        stranger.transport.keep(Contact.parse(relay.address))
        await until(lambda: id_of(name) in relay.node.transport.connected())
        yield
        tasks.cancel_scope.cancel()


async def relayed(tmp_path: Path, answer: Answer, *, value: str = "v", **options: int) -> tuple[Peer, Receipt]:
    """What a sender hears when its delivery is answered so at the other end of the relay."""
    async with (
        peer("relay", tmp_path) as relay,
        peer("sender", tmp_path) as sender,
        client(relay, tmp_path, answer, **options),
    ):
        return relay, await sender.deliver(make_delivery(id_of("stranger"), value=value), relay)


def always(answer: bytes) -> Answer:
    async def say(payload: bytes) -> bytes:
        return answer

    return say


async def test_an_accepted_delivery_arrives_as_it_was(tmp_path: Path) -> None:
    seen: list[bytes] = []

    async def accept(payload: bytes) -> bytes:
        seen.append(payload)
        return encode_receipt(Receipt())

    async with (
        peer("relay", tmp_path) as relay,
        peer("sender", tmp_path) as sender,
        client(relay, tmp_path, accept),
    ):
        delivery = make_delivery(id_of("stranger"))
        assert await sender.deliver(delivery, relay) == Receipt()
    assert seen == [encode_delivery(delivery)]
    assert relay.outcomes("relayed") == 1
    assert relay.metric("fluvial_particles_in_memory") == 0


@pytest.mark.parametrize("reason", ["expired", "busy", "storage", "replay"])
async def test_a_refusal_is_handed_back(tmp_path: Path, reason: str) -> None:
    relay, receipt = await relayed(tmp_path, always(encode_receipt(Receipt(reason, "because"))))
    if reason == "replay":  # which is as good as accepted
        assert receipt == Receipt()
    else:
        assert receipt == Receipt(reason, "because")
        assert relay.outcomes(reason) == 1


async def test_words_of_a_clients_own_do_not_become_labels(tmp_path: Path) -> None:
    relay, receipt = await relayed(tmp_path, always(encode_receipt(Receipt("x" * 32, "because"))))
    assert receipt == Receipt("x" * 32, "because"), "the sender hears them"
    assert relay.outcomes("other") == 1


@pytest.mark.parametrize(
    "answer",
    [b"", b"\xff", encode(["", "", ""]), encode(["x" * 33, ""]), encode(["", "x" * 501]), encode(["x", 1])],
)
async def test_an_answer_that_is_no_receipt_is_the_clients_fault(tmp_path: Path, answer: bytes) -> None:
    relay, receipt = await relayed(tmp_path, always(answer))
    assert (receipt.reason, receipt.temporary) == ("unreachable", True)
    assert relay.outcomes("unreachable") == 1


async def test_a_client_that_fails_is_unreachable(tmp_path: Path) -> None:
    async def fail(payload: bytes) -> bytes:
        raise RemoteProtocolError("this client does not know what a particle is")

    _, receipt = await relayed(tmp_path, fail)
    assert receipt.reason == "unreachable"
    assert "does not know what a particle is" in receipt.explanation


async def test_a_client_that_is_not_connected_is_unreachable(tmp_path: Path) -> None:
    async with peer("relay", tmp_path) as relay, peer("sender", tmp_path) as sender:
        receipt = await sender.deliver(make_delivery(id_of("stranger")), relay)
        assert (receipt.reason, receipt.temporary) == ("unreachable", True)


async def test_a_client_that_never_answers_takes_few_places(tmp_path: Path) -> None:
    busy: list[Receipt] = []

    async def never(payload: bytes) -> bytes:
        await anyio.sleep_forever()
        raise AssertionError

    async def hand_over(sender: Peer, relay: Peer, number: int) -> None:
        busy.append(await sender.deliver(make_delivery(id_of("stranger"), value=f"{number}"), relay))

    async with (
        peer("relay", tmp_path) as relay,
        peer("sender", tmp_path) as sender,
        client(relay, tmp_path, never),
        anyio.create_task_group() as tasks,
    ):
        for number in range(100):
            tasks.start_soon(hand_over, sender, relay, number)
        await until(lambda: len(busy) >= 10)
        assert {(one.reason, one.temporary) for one in busy} == {("busy", True)}
        assert "are being passed on" in busy[0].explanation
        assert (await sender.deliver(make_delivery(id_of("relay")), relay)).settled, (
            "there is room for what is the peer's own"
        )
        tasks.cancel_scope.cancel()


async def test_who_sends_to_many_that_never_answer_leaves_places_to_others(tmp_path: Path) -> None:
    """To other senders; and of its own to receivers that answer: it may bring them what others have begun."""
    busy: list[Receipt] = []

    async def never(payload: bytes) -> bytes:
        await anyio.sleep_forever()
        raise AssertionError

    async def hand_over(sender: Peer, relay: Peer, name: str, number: int) -> None:
        busy.append(await sender.deliver(make_delivery(id_of(name), value=f"{number}"), relay))

    async def deaf(relay: Peer, name: str) -> None:
        async with client(relay, tmp_path / name, never, name=name):
            await anyio.sleep_forever()

    names = [f"deaf {number}" for number in range(5)]
    async with (
        peer("relay", tmp_path) as relay,
        peer("a", tmp_path) as greedy,
        peer("b", tmp_path) as modest,
        client(relay, tmp_path, always(encode_receipt(Receipt()))),
        anyio.create_task_group() as tasks,
    ):
        for name in names:
            tasks.start_soon(deaf, relay, name)
        await until(lambda: {id_of(name) for name in names} <= set(relay.node.transport.connected()))
        for number in range(30):
            for name in names:
                tasks.start_soon(hand_over, greedy, relay, name, number)
        await until(lambda: any(f"of {greedy.peer_id}" in one.explanation for one in busy))
        assert (await modest.deliver(make_delivery(id_of("stranger")), relay)).settled
        for number in range(3):
            assert (await greedy.deliver(make_delivery(id_of("stranger"), value=f"{number}"), relay)).settled
        tasks.cancel_scope.cancel()


async def test_a_client_with_small_frames_gets_no_large_particles(tmp_path: Path) -> None:
    relay, receipt = await relayed(tmp_path, always(b""), value="v" * 100_000, **SMALL)
    assert (receipt.reason, receipt.temporary) == ("size", False)
    assert relay.outcomes("size") == 1


async def test_a_relay_passes_on_only_what_it_would_take(tmp_path: Path) -> None:
    async with (
        peer("relay", tmp_path, particles={"ttl_ms_max": 1000}) as relay,
        peer("sender", tmp_path) as sender,
        client(relay, tmp_path, always(encode_receipt(Receipt()))),
    ):
        receipt = await sender.deliver(make_delivery(id_of("stranger")), relay)
        assert (receipt.reason, receipt.at_relay) == ("ttl", True)


async def test_what_a_receiver_refuses_is_not_the_relays_word(tmp_path: Path) -> None:
    _, receipt = await relayed(tmp_path, always(encode_receipt(Receipt("ttl", "because", at_relay=True))))
    assert receipt == Receipt("ttl", "because"), "a receiver cannot put its refusal down to the relay"


# --- receipts


def test_receipts_survive_their_encoding() -> None:
    for receipt in (Receipt(), Receipt("busy", "later"), Receipt.refusal("x" * 100, "y" * 1000)):
        assert decode_receipt(encode_receipt(receipt)) == receipt


def test_refusals_are_cut_to_what_a_receiver_takes() -> None:
    receipt = Receipt.refusal("x" * 100, "y" * 1000)
    assert (len(receipt.reason), len(receipt.explanation)) == (REASON_CHARACTERS_MAX, EXPLANATION_CHARACTERS_MAX)


def test_what_a_receipt_means() -> None:
    assert Receipt().settled
    assert Receipt("replay").settled
    assert {reason for reason in REASONS if Receipt(reason).temporary} == TEMPORARY
    assert not any(Receipt(reason).settled for reason in TEMPORARY)
    assert (Receipt().label, Receipt("busy").label, Receipt("me").label) == ("accepted", "busy", "other")
