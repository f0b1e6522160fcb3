"""Core's own candidates for the seats."""

from __future__ import annotations

from pathlib import Path

import anyio
import msgspec
import pytest
import structlog
from fluvial.addresses import Address, Contact
from fluvial.clock import ManualClock
from fluvial.defaults.no_consensus import NoConsensus
from fluvial.defaults.signatures import SignatureAuthorization
from fluvial.defaults.static_routing import (
    ADDRESSES_PER_PEER_MAX,
    ANNOUNCED_PEERS_MAX,
    StaticOptions,
    StaticRouting,
)
from fluvial.effectors import Call, NoConfig
from fluvial.errors import Refused
from fluvial.identity import KeyPair, PeerId
from fluvial.particle import Particle
from fluvial.seats import Surroundings
from prometheus_client import CollectorRegistry

ME, HER, HIM = (KeyPair.from_secret(bytes([number]) * 32) for number in (1, 2, 3))


def at(port: int, peer: PeerId | None = None) -> Address:
    return Address(host_kind="ip4", host="127.0.0.1", port=port, peer=peer)


@pytest.fixture
def surroundings(tmp_path: Path) -> Surroundings:
    return Surroundings(
        keys=ME,
        network="test",
        clock=ManualClock(0),
        metrics=CollectorRegistry(),
        log=structlog.stdlib.get_logger(),
        base_dir=tmp_path,
    )


def routing(surroundings: Surroundings, *peers: str) -> StaticRouting:
    return StaticRouting(surroundings, StaticOptions(peers=peers))


async def test_configured_peers_are_found(surroundings: Surroundings) -> None:
    one = routing(surroundings, str(at(1, HER.peer_id)), str(at(2, HER.peer_id)))
    assert await one.find(HER.peer_id) == Contact(HER.peer_id, (at(1, HER.peer_id), at(2, HER.peer_id)))
    assert await one.find(HIM.peer_id) is None


async def test_what_is_announced_comes_behind_what_is_configured(surroundings: Surroundings) -> None:
    one = routing(surroundings, str(at(1, HER.peer_id)))
    one.learn(Contact(HER.peer_id, (at(9), at(1))))
    one.learn(Contact(HIM.peer_id, (at(3),)))
    one.learn(Contact(HIM.peer_id, (at(4),)))
    assert await one.find(HER.peer_id) == Contact(HER.peer_id, (at(1, HER.peer_id), at(9, HER.peer_id)))
    assert await one.find(HIM.peer_id) == Contact(HIM.peer_id, (at(4, HIM.peer_id), at(3, HIM.peer_id)))
    assert [contact.peer for contact in one.contacts()] == [HER.peer_id, HIM.peer_id]


async def test_nobody_is_announced_by_another_or_without_addresses(surroundings: Surroundings) -> None:
    one = routing(surroundings)
    one.learn(Contact(HER.peer_id, (at(1, HIM.peer_id),)))
    one.learn(Contact(HIM.peer_id))
    one.learn(Contact(ME.peer_id, (at(1),)))
    assert one.contacts() == []


async def test_announcements_are_bounded_per_peer_and_in_total(surroundings: Surroundings) -> None:
    one = routing(surroundings, str(at(1, HER.peer_id)))
    one.learn(Contact(HIM.peer_id, tuple(at(port) for port in range(1, 20))))
    found = await one.find(HIM.peer_id)
    assert found is not None
    assert len(found.addresses) == ADDRESSES_PER_PEER_MAX
    strangers = [PeerId.from_public_key(number.to_bytes(32, "big")) for number in range(ANNOUNCED_PEERS_MAX)]
    for stranger in strangers[:-1]:
        one.learn(Contact(stranger, (at(5),)))
    await one.find(HIM.peer_id)  # asked for, so the next one to go is the first stranger
    one.learn(Contact(strangers[-1], (at(5),)))
    assert await one.find(strangers[0]) is None
    assert await one.find(HIM.peer_id) is not None
    assert await one.find(HER.peer_id) is not None
    assert surroundings.metrics.get_sample_value("fluvial_routing_contacts") == ANNOUNCED_PEERS_MAX + 1
    assert surroundings.metrics.get_sample_value("fluvial_routing_contacts_evicted_total") == 1


async def test_routing_starts_at_once_and_ends_when_cancelled(surroundings: Surroundings) -> None:
    one = routing(surroundings)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            await tasks.start(lambda *, task_status: one.run(task_status=task_status))
            tasks.cancel_scope.cancel()
    assert tasks.cancel_scope.cancel_called


@pytest.mark.parametrize("peer", ["", "/ip4/127.0.0.1/tcp/1", "12D3KooW"])
def test_a_configured_peer_must_say_who_and_where(peer: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"peers": [peer]}, StaticOptions)


async def test_signatures_admits_the_initiators_particles_only(surroundings: Surroundings) -> None:
    seat = SignatureAuthorization(surroundings, NoConfig())
    particle = Particle.create(HER, "(null)", particle_id="p", timestamp_ms=1, ttl_ms=1, max_hops=1, network="test")
    forged = Particle(particle.header, HIM.sign(b"something"), particle.script)
    assert (await seat.admit(particle, HIM.peer_id)).allowed
    decision = await seat.admit(forged, HIM.peer_id)
    assert (decision.allowed, decision.reason) == (False, "signature")
    assert str(HER.peer_id) in decision.explanation
    call = Call(particle_id="p", initiator=HER.peer_id, service="op", function="noop", arguments=[])
    assert (await seat.permit(call)).allowed


def test_no_consensus_commits_nothing_and_says_so(surroundings: Surroundings) -> None:
    seat = NoConsensus(surroundings, NoConfig())
    assert [*seat.start([], now_ms=0), *seat.receive(HER.peer_id, b"vote", now_ms=0), *seat.wake(now_ms=0)] == []
    with pytest.raises(Refused, match="orders nothing") as caught:
        seat.submit(b"payload", now_ms=0)
    assert caught.value.reason == "no_consensus"
