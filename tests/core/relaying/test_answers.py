"""What a relay answers to leases, and what that costs it."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import anyio
import structlog
from fluvial.addresses import Address, Contact
from fluvial.clock import ManualClock
from fluvial.encoding import decode, encode
from fluvial.errors import RemoteProtocolError
from fluvial.identity import KeyPair, PeerId
from fluvial.relaying.lease import make_lease
from fluvial.relaying.room import OTHERS_MAX, OTHERS_POOL, LeaseTaken, RelayRoom
from fluvial.testing.transport import eventually
from prometheus_client import CollectorRegistry

RELAY, CLIENT, OTHER = (KeyPair.from_secret(letter * 32) for letter in (b"r", b"c", b"o"))
NOW_MS = 1_700_000_000_000


class Network:
    """The transport and the routing of a relay; counts how often it is asked who is there."""

    def __init__(self) -> None:
        self.known: list[Contact] = []
        self.listed = self.looked = 0

    def contacts(self) -> Sequence[Contact]:
        self.listed += 1
        return self.known

    def connected(self) -> frozenset[PeerId]:
        self.looked += 1
        return frozenset({CLIENT.peer_id})


def room(network: Any, *, keys: KeyPair = RELAY, relays: Sequence[Contact] = ()) -> RelayRoom:
    return RelayRoom(
        keys,
        network="test",
        relays=relays,
        transport=network,
        routing=network,
        weight=lambda peer: 0,
        on_change=lambda: None,
        clock=ManualClock(NOW_MS),
        rng=Random(1),
        metrics=CollectorRegistry(),
        log=structlog.get_logger(),
    )


async def others(relay: RelayRoom, client: KeyPair = CLIENT) -> tuple[str, ...]:
    lease = make_lease(client, RELAY.peer_id, network="test", now_ms=NOW_MS)
    return decode(await relay._answer(client.peer_id, encode(lease)), LeaseTaken, what="answer").others


def contact(number: int) -> Contact:
    peer = PeerId.from_public_key(number.to_bytes(32, "big"))
    return Contact(peer, (Address.parse(f"/ip4/10.0.{number // 256}.{number % 256}/tcp/7000"),))


async def test_leases_that_are_repeated_cost_no_look_at_all_contacts(monkeypatch: Any) -> None:
    network, made = Network(), list[Address]()
    network.known = [contact(number) for number in range(4_096)]
    relay, with_peer = room(network), Address.with_peer

    def counted(self: Address, peer: PeerId) -> Address:
        made.append(self)
        return with_peer(self, peer)

    monkeypatch.setattr(Address, "with_peer", counted)
    named = [await others(relay) for _ in range(200)]
    assert {len(set(one)) for one in named} == {OTHERS_MAX}
    assert len(set(named)) > 100, "not always the same"
    assert network.listed == network.looked == 1
    assert len(made) == OTHERS_POOL


class Relay:
    """The transport of a client whose relay takes the third lease that it is given."""

    addresses = ()

    def __init__(self) -> None:
        self.given = 0

    def connected(self) -> frozenset[PeerId]:
        return frozenset({RELAY.peer_id})

    async def request(self, contact: Contact, protocol: str, payload: bytes, *, timeout_s: float) -> bytes:
        self.given += 1
        if self.given < 3:
            raise RemoteProtocolError("too many clients have come at once; try again")
        return encode(LeaseTaken())


async def test_a_relay_that_does_not_take_a_lease_now_is_given_one_again(monkeypatch: Any) -> None:
    """And no more when it has taken one; in ten minutes the next."""
    monkeypatch.setattr("fluvial.relaying.room.LOOK_S", 0.001)
    monkeypatch.setattr("fluvial.relaying.room.AGAIN_S", 0.002)
    relay = Relay()
    client = room(relay, keys=CLIENT, relays=(Contact(RELAY.peer_id),))
    async with anyio.create_task_group() as group:
        await group.start(client.run)
        await eventually(lambda: relay.given == 3, "it is taken")
        await anyio.sleep(0.02)
        group.cancel_scope.cancel()
    assert relay.given == 3


async def test_of_few_contacts_those_that_are_new_are_named_at_once_and_nobody_is_named_to_itself() -> None:
    network = Network()
    relay = room(network)
    assert await others(relay) == ()
    network.known = [Contact(one.peer_id, contact(1).addresses) for one in (CLIENT, OTHER)]
    [other] = await others(relay)
    assert Contact.parse(other).peer == OTHER.peer_id
    [other] = await others(relay, OTHER)
    assert Contact.parse(other).peer == CLIENT.peer_id
