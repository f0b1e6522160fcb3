"""Core's own candidates for the seats."""

from __future__ import annotations

from pathlib import Path

import anyio
import msgspec
import pytest
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
from fluvial.ports import NO_BLOCKS, Capability, Context
from fluvial.testing.closed import closed_context
from fluvial.testing.ports import WeightsTrust

ME, HER, HIM = (KeyPair.from_secret(bytes([number]) * 32) for number in (1, 2, 3))


def at(port: int, peer: PeerId | None = None) -> Address:
    return Address(host_kind="ip4", host="127.0.0.1", port=port, peer=peer)


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return closed_context(
        "static", keys=ME, network="test", base_dir=tmp_path, clock=ManualClock(0), trust=WeightsTrust()
    )


def routing(context: Context, *peers: str) -> StaticRouting:
    return StaticRouting(context, StaticOptions(peers=peers))


async def test_configured_peers_are_found(context: Context) -> None:
    one = routing(context, str(at(1, HER.peer_id)), str(at(2, HER.peer_id)))
    assert await one.find(HER.peer_id) == Contact(HER.peer_id, (at(1, HER.peer_id), at(2, HER.peer_id)))
    assert await one.find(HIM.peer_id) is None


async def test_what_is_announced_comes_behind_what_is_configured(context: Context) -> None:
    one = routing(context, str(at(1, HER.peer_id)))
    one.learn(Contact(HER.peer_id, (at(9), at(1))))
    one.learn(Contact(HIM.peer_id, (at(3),)))
    one.learn(Contact(HIM.peer_id, (at(4),)))
    assert await one.find(HER.peer_id) == Contact(HER.peer_id, (at(1, HER.peer_id), at(9, HER.peer_id)))
    assert await one.find(HIM.peer_id) == Contact(HIM.peer_id, (at(4, HIM.peer_id), at(3, HIM.peer_id)))
    assert one.contacts() == [Contact(HER.peer_id, (at(1, HER.peer_id),))], "others are shown what the owner configured"


async def test_where_a_peer_answered_goes_before_what_it_announced(context: Context) -> None:
    one = routing(context)
    one.learn(Contact(HIM.peer_id, (at(3), at(4))))
    one.proven(HIM.peer_id, at(4, HIM.peer_id))
    one.proven(HIM.peer_id, at(5, HER.peer_id))
    one.proven(ME.peer_id, at(6, ME.peer_id))
    assert await one.find(HIM.peer_id) == Contact(HIM.peer_id, (at(4, HIM.peer_id), at(3, HIM.peer_id)))
    assert one.contacts() == [Contact(HIM.peer_id, (at(4, HIM.peer_id),))]


async def test_nobody_is_announced_by_another_or_without_addresses(context: Context) -> None:
    one = routing(context)
    one.learn(Contact(HER.peer_id, (at(1, HIM.peer_id),)))
    one.learn(Contact(HIM.peer_id))
    one.learn(Contact(ME.peer_id, (at(1),)))
    assert [await one.find(keys.peer_id) for keys in (HER, HIM, ME)] == [None] * 3


async def test_announcements_are_bounded_per_peer_and_in_total(context: Context) -> None:
    one = routing(context, str(at(1, HER.peer_id)))
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
    assert one.contacts() == [Contact(HER.peer_id, (at(1, HER.peer_id),))]
    assert context.metrics.get_sample_value("fluvial_routing_contacts_evicted_total") == 1


async def test_of_the_oldest_announcements_the_lightest_goes(tmp_path: Path) -> None:
    trust = WeightsTrust()
    context = closed_context("static", keys=ME, base_dir=tmp_path, trust=trust)
    trust.set({HIM.peer_id: 4})
    one = routing(context)
    one.learn(Contact(HIM.peer_id, (at(1),)))
    for number in range(2 * ANNOUNCED_PEERS_MAX):
        one.learn(Contact(PeerId.from_public_key(number.to_bytes(32, "big")), (at(5),)))
    assert await one.find(HIM.peer_id) is not None, "a crowd does not displace who has weight"
    newest = PeerId.from_public_key((2 * ANNOUNCED_PEERS_MAX - 1).to_bytes(32, "big"))
    assert await one.find(newest) is not None, "and the newest stranger has its place"


async def test_routing_starts_at_once_and_ends_when_cancelled(context: Context) -> None:
    one = routing(context)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            await tasks.start(lambda *, task_status: one.run(task_status=task_status))
            tasks.cancel_scope.cancel()
    assert tasks.cancel_scope.cancel_called


@pytest.mark.parametrize("peer", ["", "/ip4/127.0.0.1/tcp/1", "12D3KooW"])
def test_a_configured_peer_must_say_who_and_where(peer: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"peers": [peer]}, StaticOptions)


async def test_signatures_admits_every_particle_and_knows_nobody(context: Context) -> None:
    seat = SignatureAuthorization(context, NoConfig())
    particle = Particle.create(HER, "(null)", particle_id="p", timestamp_ms=1, ttl_ms=1, max_hops=1, network="test")
    assert seat.admit(particle, HIM.peer_id).allowed
    call = Call(particle_id="p", initiator=HER.peer_id, service="op", function="noop", arguments=[])
    assert seat.permit(call, None).allowed
    assert (seat.version, seat.weight(HER.peer_id)) == (0, 0)
    assert seat.prove(HER.peer_id, HIM.peer_id, length_max=3) is None
    assert not seat.proves(b"", HER.peer_id, HIM.peer_id, length_max=3)


async def test_no_consensus_has_no_blocks_and_says_so(context: Context) -> None:
    seat = NoConsensus(context, NoConfig())
    assert seat.view() is NO_BLOCKS
    assert (seat.view().height, seat.view().root, seat.view().get("names", b"x")) == (0, b"", None)
    with pytest.raises(Refused, match="no ledger") as caught:
        await seat.submit(b"payload")
    assert caught.value.reason == "no_consensus"


async def test_configured_providers_are_found_in_their_order(context: Context) -> None:
    options = StaticOptions(providers={"service:tea": (HIM.peer_id, HER.peer_id)})
    seat = StaticRouting(context, options)
    tea = Capability("service", "tea")
    assert [one.peer for one in await seat.providers(tea, limit=8)] == [HIM.peer_id, HER.peer_id]
    assert [one.peer for one in await seat.providers(tea, limit=1)] == [HIM.peer_id]
    assert await seat.providers(Capability("service", "coffee"), limit=8) == []
    for wrong in ({"tea": (HIM.peer_id,)}, {"service:tea": ("nobody",)}):
        with pytest.raises(ValueError, match=r"capability|peer id"):
            StaticOptions(providers=wrong)
