"""Where attacks are tried: two peers as processes, an honest client of theirs, and an attacker with keys of its own."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import anyio
from fluvial.addresses import Contact
from fluvial.client import Client, connect
from fluvial.errors import FluvialError
from fluvial.identity import KeyPair
from fluvial.particle import Delivery, Particle, encode_delivery
from fluvial.particles.receipt import PROTOCOL, decode_receipt

from tests.support.processes import NETWORK, PeerProcess, environment

HONEST: Final = """
    (seq (call relay ("op" "concat_strings") ["a" "b"] x)
         (seq (call other ("op" "concat_strings") [x "c"] y)
              (seq (call relay ("peer" "timeout") [10 y] z)
                   (call %init_peer_id% ("return" "") [z]))))"""
"""A flow over both peers, with a pause."""
HONEST_S_MAX: Final = 30.0
FLOW_S_MAX: Final = 2.0
"""What an honest flow may take while a peer is attacked."""
GAP_S: Final = 0.2
"""Between two honest flows."""


@dataclass(slots=True)
class Arena:
    """The peers, and what is seen of them.

    Attributes:
        target: the peer that is attacked.
        other: a peer that the honest flow needs as well.
        honest, attacker: clients of the target.
        rng: makes the attack; of a printed seed.
        times_s: what honest flows took; infinity for one that failed.
        rss_mb: the most memory that the target was seen with.
        receipts: how often the target gave which reason to the attacker.
        began_s: when the honest flow began that is under way, by the loop's clock.
    """

    target: PeerProcess
    other: PeerProcess
    honest: Client
    attacker: Client
    rng: random.Random
    times_s: list[float] = field(default_factory=list)
    rss_mb: int = 0
    receipts: dict[str, int] = field(default_factory=dict)
    began_s: float = float("inf")

    async def give(self, keys: KeyPair, script: str, *, ttl_ms: int = 119_000) -> None:
        """Hand a particle of these keys to the target."""
        await self.hand(self.particle(keys, script, ttl_ms=ttl_ms))

    def particle(self, keys: KeyPair, script: str, *, ttl_ms: int = 119_000) -> Particle:
        """A particle of these keys."""
        return Particle.create(
            keys,
            script,
            particle_id=self.rng.randbytes(16).hex(),
            timestamp_ms=int(time.time() * 1_000),
            ttl_ms=ttl_ms,
            max_hops=64,
            network=NETWORK,
        )

    async def hand(self, particle: Particle, data: bytes = b"") -> None:
        """Hand a particle to the target, with data."""
        delivery = Delivery(
            self.target.peer_id.public_key, 1, particle.header, particle.signature, particle.script, data
        )
        try:
            answer = await self.attacker.node.transport.request(
                Contact.parse(self.target.address), PROTOCOL, encode_delivery(delivery), timeout_s=HONEST_S_MAX
            )
            reason = decode_receipt(answer).reason or "accepted"
        except FluvialError as error:
            reason = type(error).__name__
        self.receipts[reason] = self.receipts.get(reason, 0) + 1

    async def watch(self) -> None:
        """Until cancelled: run honest flows one after another, and look at the target's memory."""
        while True:
            began = anyio.current_time()
            try:
                self.began_s = began
                async with self.honest.run(
                    HONEST, relay=self.honest.relay_id, other=str(self.other.peer_id), ttl_s=HONEST_S_MAX
                ) as flow:
                    answer = await flow.result()
                self.times_s.append(anyio.current_time() - began if answer == ("abc",) else float("inf"))
            except FluvialError:
                self.times_s.append(float("inf"))
            self.began_s = float("inf")
            self.rss_mb = max(self.rss_mb, _rss_mb(self.target.pid))
            await anyio.sleep(GAP_S)

    def took_s(self) -> list[float]:
        """What honest flows took, in ascending order; one that is under way counts if it has taken longer than others may."""
        under_way_s = anyio.current_time() - self.began_s
        return sorted([*self.times_s, *([under_way_s] if under_way_s > FLOW_S_MAX else [])])

    def alive(self) -> bool:
        """Whether the target's process is there."""
        return Path(f"/proc/{self.target.pid}/status").exists()


@asynccontextmanager
async def arena(seed: int) -> AsyncIterator[Arena]:
    """An arena for one attack."""
    with tempfile.TemporaryDirectory(prefix="fluvial-attack-") as name:
        folder = Path(name)
        variables = environment(folder / "caches")
        other = PeerProcess(folder / "other", variables)
        target = PeerProcess(folder / "target", variables, routing={"kind": "static", "peers": [other.address]})
        try:
            other.start()
            target.start()
            async with (
                connect(target.address, network=NETWORK) as honest,
                connect(target.address, network=NETWORK) as attacker,
            ):
                yield Arena(target, other, honest, attacker, random.Random(seed))
        finally:
            target.kill()
            other.kill()


def _rss_mb(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return 0
    return next((int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmRSS")), 0)
