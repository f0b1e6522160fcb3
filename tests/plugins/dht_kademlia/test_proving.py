"""Who asks a peer is dialled back: at once by one that knows few others, one every two seconds by one that knows enough."""

from __future__ import annotations

from typing import Any, cast

import anyio
import pytest
from fluvial.addresses import Contact
from fluvial.identity import PeerId
from fluvial.ports import Peers
from fluvial.virtual.clock import LoopClock
from fluvial.virtual.loop import BACKEND
from fluvial_dht_kademlia.shell.proving import PROVING_MAX, WAITING_MAX, AddressProver

from tests.plugins.dht_kademlia.peers import contact_of, peer_of

ASKERS = [peer_of(f"asker-{number}") for number in range(40)]


@pytest.fixture
def anyio_backend() -> Any:
    return BACKEND


class Dials:
    """The port's side of proving: each dial takes a tenth of a second."""

    def __init__(self) -> None:
        self.dialled: list[PeerId] = []
        self.now = self.most = 0

    async def prove(self, contact: Contact, *, timeout_s: float) -> Contact:
        self.dialled.append(contact.peer)
        self.now += 1
        self.most = max(self.most, self.now)
        await anyio.sleep(0.1)
        self.now -= 1
        return contact


class Proving:
    """A prover whose peer knows enough others as soon as so many were dialled."""

    def __init__(self, *, enough: int) -> None:
        self.dials = Dials()
        self.known: set[PeerId] = set()
        self.prover = AddressProver(
            cast(Peers, self.dials),
            LoopClock(),
            wanted=self.wanted,
            enough=lambda: len(self.dials.dialled) >= enough,
        )

    def wanted(self, peer: PeerId) -> Contact:
        addresses = () if peer in self.known else contact_of("any").addresses
        return Contact(peer, addresses)

    async def dialled_after(self, asked: list[PeerId], seconds: float) -> list[PeerId]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.prover.run, tasks)
            for peer in asked:
                self.prover.ask(peer)
            await anyio.sleep(seconds)
            tasks.cancel_scope.cancel()
        return self.dials.dialled


async def test_a_peer_that_knows_few_others_proves_whoever_asks_a_few_at_a_time() -> None:
    proving = Proving(enough=1_000)
    assert await proving.dialled_after(ASKERS, 1.0) == ASKERS
    assert proving.dials.most == PROVING_MAX


async def test_a_peer_that_knows_enough_proves_one_every_two_seconds() -> None:
    proving = Proving(enough=0)
    assert await proving.dialled_after(ASKERS, 11.0) == ASKERS[:6]


async def test_who_became_known_while_it_waited_is_not_dialled() -> None:
    proving = Proving(enough=0)
    proving.known = set(ASKERS[1:39])
    assert await proving.dialled_after(ASKERS, 2.5) == [ASKERS[0], ASKERS[39]]


async def test_who_asks_again_soon_is_not_dialled_again() -> None:
    proving = Proving(enough=1_000)
    assert await proving.dialled_after([ASKERS[0]], 1.0) == [ASKERS[0]]
    assert await proving.dialled_after([ASKERS[0]], 1.0) == [ASKERS[0]]


async def test_a_flood_of_askers_waits_within_bounds() -> None:
    proving = Proving(enough=0)
    flood = [PeerId(f"{ASKERS[0][:-4]}{number:04}") for number in range(WAITING_MAX + 100)]
    assert await proving.dialled_after(flood, 3.0 * WAITING_MAX) == flood[:WAITING_MAX]
