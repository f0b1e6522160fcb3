"""What an attacker has: the addresses of two peers, keys as many as it likes, and everything that a stranger may send."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
from fluvial.addresses import Contact
from fluvial.client import Client
from fluvial.errors import FluvialError
from fluvial.identity import KeyPair, PeerId
from fluvial.particle import Delivery, Particle, encode_delivery
from fluvial.particles.receipt import PROTOCOL, decode_receipt

from tests.plugins.transport_tcp.peers import Stranger, stranger
from tests.support.processes import NETWORK

ANSWER_S_MAX: Final = 30.0
AT_ONCE: Final = 8
"""Things that one attacker has under way."""
GONE: Final = (
    OSError,
    FluvialError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
)
"""What an attacker meets whose connection is refused, reset or closed; it begins anew."""


@dataclass(frozen=True, slots=True)
class Opponent:
    """A peer as strangers know it."""

    address: str

    @property
    def contact(self) -> Contact:
        """Where it can be dialled."""
        return Contact.configured(self.address)

    @property
    def peer_id(self) -> PeerId:
        """Who it is."""
        return self.contact.peer

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.contact.addresses[0].port


@dataclass(slots=True)
class Arena:
    """One life of an attacker.

    Attributes:
        target: the peer that is attacked.
        other: a peer that it works with.
        attacker: a client of the target.
        rng: makes the attack; of a printed seed.
        receipts: how often the target gave which reason, and what else the attacker counted.
        violations: what the target must not have done, whatever it costs.
    """

    target: Opponent
    other: Opponent
    attacker: Client
    rng: random.Random
    receipts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def stranger(self) -> KeyPair:
        """Keys that nobody knows."""
        return KeyPair.from_secret(self.rng.randbytes(32))

    async def give(self, keys: KeyPair, script: str, *, ttl_ms: int = 119_000) -> None:
        """Hand a particle of these keys to the target."""
        await self.hand(self.particle(keys, script, ttl_ms=ttl_ms))

    def particle(self, keys: KeyPair, script: str, *, ttl_ms: int = 119_000, **fields: Any) -> Particle:
        """A particle of these keys that begins now; ``fields`` are further ones of its header."""
        values = {"timestamp_ms": int(time.time() * 1_000), "max_hops": 64, "network": NETWORK, **fields}
        return Particle.create(keys, script, particle_id=self.rng.randbytes(16).hex(), ttl_ms=ttl_ms, **values)

    async def hand(self, particle: Particle, data: bytes = b"") -> None:
        """Deliver a particle with such data to the target."""
        to = self.target.peer_id.public_key
        await self.deliver(Delivery(to, 1, particle.header, particle.signature, particle.script, data))

    async def deliver(self, delivery: Delivery) -> None:
        """Hand a delivery to the target as it is, and count its receipt."""
        await self.hand_over(PROTOCOL, encode_delivery(delivery))

    async def hand_over(self, protocol: str, payload: bytes) -> None:
        """Send an encoded delivery or notice to the target, and count its receipt."""
        try:
            answer = await self.request(protocol, payload)
            reason = decode_receipt(answer).reason or "accepted"
        except FluvialError as error:
            reason = type(error).__name__
            await anyio.sleep(0.01)  # it may be restarting
        self.receipts[reason] += 1

    async def request(self, protocol: str, payload: bytes) -> bytes:
        """A request to the target; raises FluvialError."""
        return await self.attacker.node.transport.request(
            self.target.contact, protocol, payload, timeout_s=ANSWER_S_MAX
        )

    @asynccontextmanager
    async def link(self, keys: KeyPair | None = None) -> AsyncIterator[Stranger]:
        """An authenticated connection with the target on which the attacker says what it likes; raises what is in ``GONE``."""
        async with stranger(self.target.contact, keys=keys or self.stranger()) as link:
            self.receipts["connected"] += 1
            yield link
