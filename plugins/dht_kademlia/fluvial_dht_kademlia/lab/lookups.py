"""Scenarios about whole networks: records are put, peers vanish, lie or are replaced, and records are looked up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from fluvial.addresses import Contact

from fluvial_dht_kademlia.lab.liars import (
    InventsContacts,
    Liar,
    NamesAccomplices,
    NeverAnswers,
    ServesTheFirst,
    WithholdsRecords,
)
from fluvial_dht_kademlia.lab.network import EndOf, LabNetwork, LabPeer
from fluvial_dht_kademlia.lab.scenario import LiarsSpec, LookupScenario, NetworkSpec
from fluvial_dht_kademlia.machine.challenges import Challenge, open_challenge
from fluvial_dht_kademlia.machine.keyspace import KEY_BITS, Key
from fluvial_dht_kademlia.machine.limits import HOUR_MS, KademliaLimits
from fluvial_dht_kademlia.machine.outcomes import LookupEnded

JOIN_EVERY_MS: Final = 500
SETTLE_MS: Final = 60_000
LOOKUP_EVERY_MS: Final = 100
WEIGHT: Final = 16
"""What trusted peers weigh."""
SEEDS: Final = 3
"""Bootstrap peers that a newcomer knows."""
ECLIPSE_BITS: Final = 32
"""How many leading bits attackers near a key share with it: more than any honest peer does."""


def limits_of(scenario: LookupScenario) -> KademliaLimits:
    """The limits of the peers of a scenario."""
    network = scenario.network
    again = 0 if scenario.republish_hours is None else int(scenario.republish_hours * HOUR_MS)
    lifetime = int(scenario.record_ttl_hours * HOUR_MS)
    return KademliaLimits(
        k=network.k,
        bucket_reserve=network.k // 4,
        alpha=network.alpha,
        replicas=network.replicas,
        disjoint_paths=network.disjoint_paths,
        quorum=1,
        republish_ms=again,
        replicate_ms=again,
        record_lifetime_ms=lifetime,
        record_lifetime_max_ms=2 * lifetime,
    )


@dataclass(slots=True)
class LookupTally:
    """What look-ups came to; ``closest`` counts, of ``walks``, those that found the peer which really is nearest."""

    found: list[bool] = field(default_factory=list)
    hops: list[int] = field(default_factory=list)
    messages: list[int] = field(default_factory=list)
    took_ms: list[int] = field(default_factory=list)
    walks: int = 0
    closest: int = 0

    @property
    def success(self) -> float:
        """Part of the look-ups that returned the record stored for the key."""
        return sum(self.found) / max(1, len(self.found))


class LabRun:
    """A network of a scenario, from the first peer on.

    Args:
        scenario: what to build.
    """

    def __init__(self, scenario: LookupScenario) -> None:
        self._scenario = scenario
        self._spec: NetworkSpec = scenario.network
        self.network: Final = LabNetwork(limits_of(scenario), seed=self._spec.seed, loss=self._spec.loss, weights={})
        self._rng = self.network.rng
        self._challenges: list[Challenge] = [open_challenge(f"{scenario.name}/{n}") for n in range(scenario.keys)]
        self._accomplices: list[Contact] = []
        self._trusted: set[int] = set()
        self._named = self._joined_honest = 0

    # --- building -----------------------------------------------------------------------------------------------------

    def build(self) -> None:
        """Let all peers join, liars among them at random moments; then let the tables settle."""
        groups = [spec for spec in (_spec(self._spec.liars), _spec(self._spec.sybils)) if spec is not None]
        lying = sum(round(spec.fraction * self._spec.peers) for spec in groups)
        honest = self._spec.peers - lying
        trusted = round(self._spec.trusted * honest)
        self._trusted = set(self._rng.sample(range(honest), trusted))
        order: list[tuple[LiarsSpec | None, Key | None]] = [(None, None)] * honest
        for spec in groups:
            order += [(spec, None)] * round(spec.fraction * self._spec.peers)
            order += [(spec, self._near(challenge.key)) for challenge in self._challenges for _ in range(spec.count)]
        first, rest = order[:SEEDS], order[SEEDS:]
        self._rng.shuffle(rest)
        for number, (lie, place) in enumerate(first + rest):
            self.network.at(number * JOIN_EVERY_MS, partial(self._join, lie, place))
        self.network.run_until(self.network.now + len(order) * JOIN_EVERY_MS + SETTLE_MS)

    def honest(self) -> list[LabPeer]:
        """The peers that are there and do not lie."""
        return [peer for peer in self.network.peers.values() if peer.liar is None]

    def _near(self, key: Key) -> Key:
        return Key(key ^ self._rng.getrandbits(KEY_BITS - ECLIPSE_BITS))

    def _liar(self, spec: LiarsSpec, peer: LabPeer, *, near_key: bool) -> Liar:
        """Who answers as the words of the behaviour say; without any that are known, those near a key name each other and others invent contacts."""
        said = spec.behaviour.lower()
        if "each other" not in said:
            if "never" in said or "silent" in said:
                return NeverAnswers()
            if "stale" in said:
                return ServesTheFirst()
            if "withhold" in said:
                return WithholdsRecords()
        if "each other" in said or near_key:
            self._accomplices.append(peer.contact)
            return NamesAccomplices(self._accomplices, self.network.place, self._spec.k)
        victim = self._rng.choice(self.honest()).contact
        return InventsContacts(self._rng, victim, self._spec.k)

    def _join(self, spec: LiarsSpec | None, place: Key | None) -> None:
        seeds = self.honest()
        self._named += 1
        peer = self.network.add(f"{self._spec.seed}/{self._named}", place=place)
        if spec is None:
            if self._joined_honest in self._trusted:
                self.network.weights[peer.contact.peer] = WEIGHT
            self._joined_honest += 1
        else:
            peer.liar = self._liar(spec, peer, near_key=place is not None)
        known = [one.contact for one in self._rng.sample(seeds, min(SEEDS, len(seeds)))]

        def fill(_: EndOf) -> None:
            self.network.carry_out(peer, peer.machine.fill(self.network.now))

        self.network.begin(peer, peer.machine.join(self.network.now, known), fill)

    # --- records ------------------------------------------------------------------------------------------------------

    def put(self) -> None:
        """Let a random honest peer provide at each key."""
        for number, challenge in enumerate(self._challenges):
            peer = self._rng.choice(self.honest())
            self.network.at(number * LOOKUP_EVERY_MS, partial(self._provide, peer, challenge, number))
        self.network.run_until(self.network.now + len(self._challenges) * LOOKUP_EVERY_MS + SETTLE_MS)

    def _provide(self, peer: LabPeer, challenge: Challenge, number: int) -> None:
        now = self.network.now
        record = peer.machine.publications.publish(challenge, now, value=_value(number))
        self.network.begin(peer, peer.machine.add_provider(challenge, record, now), lambda _: None)

    def vanish(self) -> None:
        """Let the fraction ``offline`` go without a word."""
        everybody = list(self.network.peers.values())
        for peer in self._rng.sample(everybody, round(self._spec.offline * len(everybody))):
            self.network.kill(peer)

    # --- look-ups -----------------------------------------------------------------------------------------------------

    def look_up(self, count: int, *, walks: bool = False) -> LookupTally:
        """Look up random keys from random honest peers; with ``walks`` also the peers nearest to each key."""
        tally = LookupTally()
        for turn in range(count):
            number = self._rng.randrange(len(self._challenges))
            self.network.at(turn * LOOKUP_EVERY_MS, partial(self._look, number, tally, walks=walks))
        self.network.run_until(self.network.now + count * LOOKUP_EVERY_MS + SETTLE_MS)
        missing = count - len(tally.found)
        tally.found += [False] * missing  # whoever asked is gone
        return tally

    def _look(self, number: int, tally: LookupTally, *, walks: bool) -> None:
        honest = self.honest()
        peer, challenge = self._rng.choice(honest), self._challenges[number]

        def ended(end: EndOf) -> None:
            assert isinstance(end, LookupEnded)
            found = any(record.fields.value == _value(number) for record in end.records)
            tally.found.append(found)
            tally.messages.append(end.requests)
            tally.took_ms.append(end.took_ms)
            if found:
                tally.hops.append(end.hops)

        self.network.begin(peer, peer.machine.find_providers(challenge, self.network.now), ended)
        if walks:
            self._walk(peer, challenge.key, tally)

    def _walk(self, peer: LabPeer, target: Key, tally: LookupTally) -> None:
        others = (one.contact.peer for one in self.network.peers.values() if one is not peer)
        nearest = min(others, key=lambda other: self.network.place(other) ^ target)
        tally.walks += 1

        def ended(end: EndOf) -> None:
            assert isinstance(end, LookupEnded)
            tally.closest += bool(end.nearest) and end.nearest[0].peer == nearest

        self.network.begin(peer, peer.machine.find_peers(target, self.network.now), ended)

    # --- churn --------------------------------------------------------------------------------------------------------

    def live_an_hour(self) -> None:
        """Replace a fraction of the peers, at random moments of an hour."""
        for _ in range(round(self._scenario.replaced_per_hour * len(self.network.peers))):
            self.network.at(self._rng.randrange(HOUR_MS), self._replace)
        self.network.run_until(self.network.now + HOUR_MS)

    def _replace(self) -> None:
        self.network.kill(self._rng.choice(self.honest()))
        self._join(None, None)


def run_lookup(scenario: LookupScenario) -> dict[str, Any]:
    """The outcome of a scenario of the kind ``lookup``."""
    run = LabRun(scenario)
    run.build()
    run.put()
    run.vanish()
    tally = run.look_up(scenario.lookups, walks=True)
    return {
        "name": scenario.name,
        "success": round(tally.success, 4),
        "hops_p95": percentile(tally.hops, 0.95),
        "messages_mean": round(sum(tally.messages) / max(1, len(tally.messages)), 2),
        "seconds_p95": round(percentile(tally.took_ms, 0.95) / 1_000, 3),
        "closest_peer_found": round(tally.closest / max(1, tally.walks), 4),
    }


def run_churn(scenario: LookupScenario) -> dict[str, Any]:
    """The outcome of a scenario of the kind ``churn``."""
    run = LabRun(scenario)
    run.build()
    run.put()
    by_hour = []
    for _ in range(scenario.hours):
        run.live_an_hour()
        by_hour.append(round(run.look_up(scenario.lookups).success, 4))
    return {"name": scenario.name, "success_by_hour": by_hour}


def _spec(given: LiarsSpec | float) -> LiarsSpec | None:
    if isinstance(given, LiarsSpec):
        return given
    return LiarsSpec(fraction=given) if given else None


def _value(number: int) -> bytes:
    return f"value {number}".encode()


def percentile(values: Sequence[int], part: float) -> int:
    """The smallest value that at least ``part`` of them do not exceed; 0 for none."""
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * part // 1) - 1)] if ordered else 0
