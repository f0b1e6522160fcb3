"""How lookups grow with the network: hops and messages by number of peers, next to log2(n)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Final

from fluvial_dht_kademlia.lab.lookups import SETTLE_MS, percentile
from fluvial_dht_kademlia.lab.network import EndOf, LabNetwork, LabPeer
from fluvial_dht_kademlia.lab.prepared import prepare
from fluvial_dht_kademlia.machine.challenges import open_challenge
from fluvial_dht_kademlia.machine.limits import KademliaLimits
from fluvial_dht_kademlia.machine.outcomes import LookupEnded

KEYS: Final = 50
EVERY_MS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingRow:
    """The figures of one size.

    Attributes:
        peers: in the network.
        success: part of the lookups that found their record.
        hops_mean, hops_p95: peers on the way to the first that had the record.
        messages_mean: requests of one lookup.
        absent_messages_mean: requests of a lookup of a key that nobody has, which goes on to the nearest peers.
        seconds_p95: of virtual time, with 10 to 80 ms each way.
    """

    peers: int
    success: float
    hops_mean: float
    hops_p95: int
    messages_mean: float
    absent_messages_mean: float
    seconds_p95: float

    @property
    def log2(self) -> float:
        """For comparison."""
        return round(math.log2(self.peers), 2)


def measure(peers: int, *, lookups: int, seed: int = 1) -> ScalingRow:
    """Look up records of a few keys from everywhere, in a prepared network."""
    limits = KademliaLimits(quorum=1)
    network = LabNetwork(limits, seed=seed)
    everybody = prepare(network, peers)
    for number in range(KEYS):
        network.at(number * EVERY_MS, partial(_provide, network, network.rng.choice(everybody), number))
    network.run_until(network.now + KEYS * EVERY_MS + SETTLE_MS)
    found: list[LookupEnded] = []
    absent: list[LookupEnded] = []
    for turn in range(lookups):
        name = f"key {network.rng.randrange(KEYS)}"
        network.at(turn * EVERY_MS, partial(_look, network, network.rng.choice(everybody), name, found))
        network.at(turn * EVERY_MS, partial(_look, network, network.rng.choice(everybody), f"absent {turn}", absent))
    network.run_until(network.now + lookups * EVERY_MS + SETTLE_MS)
    good = [end for end in found if end.records]
    return ScalingRow(
        peers=peers,
        success=round(len(good) / max(1, len(found)), 4),
        hops_mean=round(sum(end.hops for end in good) / max(1, len(good)), 2),
        hops_p95=percentile([end.hops for end in good], 0.95),
        messages_mean=round(sum(end.requests for end in found) / max(1, len(found)), 2),
        absent_messages_mean=round(sum(end.requests for end in absent) / max(1, len(absent)), 2),
        seconds_p95=round(percentile([end.took_ms for end in found], 0.95) / 1_000, 3),
    )


def _provide(network: LabNetwork, peer: LabPeer, number: int) -> None:
    challenge = open_challenge(f"key {number}")
    record = peer.machine.publications.publish(challenge, network.now)
    network.begin(peer, peer.machine.add_provider(challenge, record, network.now), lambda _: None)


def _look(network: LabNetwork, peer: LabPeer, name: str, ends: list[LookupEnded]) -> None:
    def ended(end: EndOf) -> None:
        assert isinstance(end, LookupEnded)
        ends.append(end)

    network.begin(peer, peer.machine.find_providers(open_challenge(name), network.now), ended)


# --- as a drawing -----------------------------------------------------------------------------------------------------

WIDTH: Final = 720
HEIGHT: Final = 400
MARGIN: Final = 56
_LINES: Final[Sequence[tuple[str, str, Callable[[ScalingRow], float]]]] = (
    ("log2(n)", "#888888", attrgetter("log2")),
    ("hops, mean", "#1f6feb", attrgetter("hops_mean")),
    ("messages of a lookup, mean", "#1a7f37", attrgetter("messages_mean")),
    ("messages for an absent key, mean", "#bc4c00", attrgetter("absent_messages_mean")),
)


def draw(rows: Sequence[ScalingRow]) -> str:
    """An SVG: the lines of :data:`_LINES` over the number of peers, on a logarithmic axis."""
    top = max(value(row) for _, _, value in _LINES for row in rows) * 1.1
    first, last = math.log2(rows[0].peers), math.log2(rows[-1].peers)

    def x(row: ScalingRow) -> float:
        return MARGIN + (math.log2(row.peers) - first) / max(1e-9, last - first) * (WIDTH - 2 * MARGIN)

    def y(value: float) -> float:
        return HEIGHT - MARGIN - value / top * (HEIGHT - 2 * MARGIN)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
    ]
    for step in range(6):
        value = top * step / 5
        parts.append(f'<path d="M{MARGIN} {y(value):.1f}H{WIDTH - MARGIN}" stroke="#dddddd"/>')
        parts.append(f'<text x="{MARGIN - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.0f}</text>')
    for row in rows:
        parts.append(f'<text x="{x(row):.1f}" y="{HEIGHT - MARGIN + 18}" text-anchor="middle">{row.peers:,}</text>')
    for number, (name, colour, value_of) in enumerate(_LINES):
        points = " ".join(f"{x(row):.1f},{y(value_of(row)):.1f}" for row in rows)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{MARGIN + 12}" y="{MARGIN - 20 + 16 * number}" fill="{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
