"""What goes on first after a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import TaskStatus
from fluvial.air.data.wire import encode_data
from fluvial.particle import Delivery
from fluvial.particles.delivery.outbox import Outbox

from tests.support.deliveries import make_particle
from tests.support.nodes import Peer, chain, id_of, keys_of, peer, until
from tests.support.processes import free_port

STRANGERS = 40
OWN = 3


async def test_who_connects_while_a_peer_starts_goes_on_before_many_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is told of a connection before all rooms have started; names are free, and of a fair line little would be left."""
    listen, client, start = f"/ip4/127.0.0.1/tcp/{free_port()}", id_of("client"), Outbox.start

    async def when_it_is_connected(self: Outbox, *arguments: Any, **named: Any) -> None:
        await until(lambda: self._carrier.is_connected(client))
        await start(self, *arguments, **named)

    async def stay(relay: Peer, *, task_status: TaskStatus[Peer]) -> None:
        async with peer("client", tmp_path, listen=None, relays=[relay]) as one:
            task_status.started(one)
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        async with peer("a", tmp_path, listen=listen) as a:
            sender: Peer = await tasks.start(stay, a)
            names = [f"stranger{number}" for number in range(STRANGERS)] + ["client"] * OWN
            for number, name in enumerate(names):
                particle = make_particle(chain([id_of("nobody")]), keys=keys_of(name), particle_id=f"{name} {number}")
                empty = encode_data((), {})
                to = a.peer_id.public_key
                delivery = Delivery(to, 1, particle.header, particle.signature, particle.script, empty)
                assert (await sender.deliver(delivery, a)).settled
        monkeypatch.setattr(Outbox, "start", when_it_is_connected)
        async with peer("a", tmp_path, listen=listen) as a:
            await until(lambda: len(a.events("particle_resumed")) == STRANGERS + OWN)
            order = [event["particle"].partition(" ")[0] for event in a.events("particle_resumed")]
        tasks.cancel_scope.cancel()
    assert order[: STRANGERS // 2].count("client") == OWN
