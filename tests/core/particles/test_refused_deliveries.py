"""What the outbox makes of a delivery that is not taken: which others wait for it, and which do not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fluvial.errors import LocalProtocolError, Unreachable
from fluvial.identity import PeerId
from fluvial.particle import Delivery
from fluvial.particles.delivery import lane, schedule
from fluvial.particles.delivery.carrier import Carrier, Led
from fluvial.particles.receipt import Receipt

from tests.support.deliveries import make_particle
from tests.support.nodes import Peer, Work, chain, id_of, keys_of, peer, until

SOON_S = 20.0
"""Longer than anything takes here, unless somebody waits for a pause."""
FEW = 5


@pytest.fixture(autouse=True)
def _pauses_never_end(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PAUSE_S_FIRST", "PAUSE_S_REFUSED_MAX", "PAUSE_S_AWAY_MAX"):
        monkeypatch.setattr(lane, name, 3_600.0)


class Answers:
    """What ``b`` answers to deliveries: a receipt, an error, or what it would (None)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answer: Callable[[Delivery, int], Receipt | Exception | None]):
        self.tried: list[str] = []
        carry = Carrier.carry

        async def answered(carrier: Carrier, delivery: Delivery) -> Any:
            if delivery.to != id_of("b").public_key:
                return await carry(carrier, delivery)
            name = delivery.header.id
            self.tried.append(name)
            if isinstance(given := answer(delivery, self.tried.count(name)), Exception):
                raise given
            return await carry(carrier, delivery) if given is None else (given, Led("connection"))

        monkeypatch.setattr(Carrier, "carry", answered)


async def give(by: Peer, to: Peer, name: str, initiator: str) -> None:
    """A particle of this initiator, whose way goes back to the peer that hands it over."""
    particle = make_particle(chain([by.peer_id]), keys=keys_of(initiator), particle_id=name)
    delivery = Delivery(to.peer_id.public_key, 1, particle.header, particle.signature, particle.script, b"")
    assert (await by.deliver(delivery, to)).reason == ""


async def submit(to: PeerId, on: Peer, name: str) -> None:
    await on.node.submit(on.node.particle(chain([to]), ttl_ms=60_000, particle_id=name))


async def test_a_delivery_that_lacks_something_is_mended_at_once_and_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work()
    answers = Answers(
        monkeypatch,
        lambda one, times: Receipt.refusal("missing", "I lack it") if one.header.id == "odd" and times == 1 else None,
    )
    async with peer("b", tmp_path, serves=[work]) as b, peer("a", tmp_path, knows=[b]) as a:
        for name in ["odd", *map(str, range(FEW))]:
            await submit(b.peer_id, a, name)
        await until(lambda: len(work.done) == FEW + 1, within_s=SOON_S)
        await until(lambda: a.metric("fluvial_outbox_lanes") == 0, within_s=SOON_S)
    assert answers.tried.count("odd") == 2


async def test_a_delivery_that_lacks_something_again_and_again_waits_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work()
    answers = Answers(
        monkeypatch, lambda one, times: Receipt.refusal("missing", "I lack it") if one.header.id == "odd" else None
    )
    async with peer("b", tmp_path, serves=[work]) as b, peer("a", tmp_path, knows=[b]) as a:
        await submit(b.peer_id, a, "odd")
        await until(lambda: answers.tried == ["odd", "odd"], within_s=SOON_S)
        for number in range(FEW):
            await submit(b.peer_id, a, str(number))
        await until(lambda: len(work.done) == FEW, within_s=SOON_S)
        assert a.metric("fluvial_outbox_lanes") == 1
    assert answers.tried.count("odd") == 2


async def test_a_delivery_that_is_too_large_waits_alone_and_its_initiator_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work()
    answers = Answers(
        monkeypatch, lambda one, times: LocalProtocolError("too large") if one.header.id == "large" else None
    )
    async with peer("b", tmp_path, serves=[work]) as b, peer("a", tmp_path, knows=[b]) as a:
        for name in ["large", *map(str, range(FEW))]:
            await submit(b.peer_id, a, name)
        await until(lambda: len(work.done) == FEW, within_s=SOON_S)
        await until(lambda: any(message.endswith("too large") for *_, message in a.watcher.noticed), within_s=SOON_S)
    assert answers.tried.count("large") == 1


@pytest.mark.parametrize("reason", ["memory", "quota"])
async def test_a_peer_that_has_no_room_for_one_initiator_gets_what_others_send(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    work, greedy = Work(), keys_of("greedy").peer_id.public_key
    answers = Answers(
        monkeypatch,
        lambda one, times: Receipt.refusal(reason, "no room") if one.header.initiator == greedy else None,
    )
    async with peer("b", tmp_path, serves=[work]) as b, peer("a", tmp_path, knows=[b]) as a:
        await give(b, a, "greedy 0", "greedy")
        await until(lambda: answers.tried == ["greedy 0"], within_s=SOON_S)
        for number in range(1, FEW):
            await give(b, a, f"greedy {number}", "greedy")
            await give(b, a, f"honest {number}", "honest")
        await until(lambda: len(work.done) == FEW - 1, within_s=SOON_S)
    assert [name for name in answers.tried if "greedy" in name] == ["greedy 0"], "one refusal is for all of them"


@pytest.mark.parametrize("comes", ["before", "after"])
async def test_who_is_connected_waits_for_nobody_who_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, comes: str
) -> None:
    monkeypatch.setattr(schedule, "KNOCKS_MAX", int(comes == "after"))
    work = Work()
    answers = Answers(monkeypatch, lambda one, times: None if work.open.is_set() else Unreachable("away"))
    async with peer("a", tmp_path) as a:
        if comes == "after":
            await submit(id_of("b"), a, "first")
            await until(lambda: answers.tried == ["first"], within_s=SOON_S)
            monkeypatch.setattr(schedule, "KNOCKS_MAX", 0)
        work.open.set()
        monkeypatch.setattr(lane, "PAUSE_S_FIRST", 0.0)
        async with peer("b", tmp_path, listen=None, relays=[a], serves=[work]) as b:
            await submit(b.peer_id, a, "second")
            await until(lambda: len(work.done) == 1 + (comes == "after"), within_s=SOON_S)
