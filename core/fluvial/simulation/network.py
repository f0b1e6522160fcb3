"""Plays a scenario in one process: every peer has a real key and a real session, particles travel as signed bytes, time stands still.

What differs from a node is the shell: nothing is stored, and all calls of a run are answered at once, before the particle leaves.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from fluvial.air.data.batch import Known, MissingError
from fluvial.air.data.content import Json, check_json
from fluvial.air.data.facts import Instance
from fluvial.air.data.healing import united
from fluvial.air.data.wire import decode_data, encode_data
from fluvial.air.machine.machine import Effects, Machine
from fluvial.air.machine.outcomes import Answered, CallOutcome, Failed
from fluvial.air.syntax import AirSyntaxError, Script, parse
from fluvial.fairness import Upstream
from fluvial.identity import KeyPair, PeerId
from fluvial.particle import Delivery, Particle
from fluvial.particles.session import ParticleSession
from fluvial.simulation.scenario import MockedError, MockedServices, PeerNames, Scenario, Seeded

TIMESTAMP_MS: Final = 1_700_000_000_000
TTL_MS: Final = 120_000
DELIVERIES_MAX: Final = 5_000
ROUNDS_MAX: Final = 5_000
UNUSABLE: Final = 5
"""Number of the failure of a call whose result is no value that can be sent, as peers have it."""

QUESTIONS_MAX: Final = 100
"""How often a peer asks for the missing parts of one delivery."""


class CallMade(msgspec.Struct, frozen=True):
    """A call, in the order in which calls were made over the whole network."""

    peer: str
    service: str
    function: str
    args: Json
    tetraplets: Json


class RunFailed(msgspec.Struct, frozen=True):
    """A run of the machine that ended with an error."""

    peer: str
    code: int
    message: str


class Timing(msgspec.Struct, frozen=True):
    """The time and bytes of the interpreters of all peers.

    Attributes:
        runs: how often they were run.
        interpreter_ms: decoding, verifying, parsing (once: all peers are in one process), running, signing and encoding, milliseconds.
        bytes_sent: particle data that went from peer to peer, what was asked for again included.
    """

    runs: int
    interpreter_ms: float
    bytes_sent: int


class Observation(msgspec.Struct, frozen=True, omit_defaults=True):
    """The result of a simulation; peer ids are written ``@name``.

    Attributes:
        calls: every service call.
        failures: runs that ended with an error.
        deliveries: particles handed from one peer to another.
        lost: next peers that are absent.
        final_data_bytes: size of the data that each peer would send at the end.
        truncated: the simulation was ended by a limit.
        timing: what it took; only if that was asked for.
    """

    calls: list[CallMade]
    failures: list[RunFailed]
    deliveries: int
    lost: list[str]
    final_data_bytes: dict[str, int]
    truncated: bool = False
    timing: Timing | None = None


@dataclass(frozen=True, slots=True)
class _Host:
    """A simulated peer."""

    name: str
    keys: KeyPair
    session: ParticleSession


@dataclass(frozen=True, slots=True)
class _Queued:
    """A particle on its way to the peer of a name."""

    sender: PeerId
    to: str
    delivery: Delivery


class _Meter:
    """Counts runs and bytes, and adds up the time that is spent inside of it: an interpreter is at work there."""

    def __init__(self) -> None:
        self.runs = 0
        self.bytes_sent = 0
        self.seconds = 0.0
        self._began = 0.0

    def __enter__(self) -> None:
        """Start the clock."""
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.seconds += time.perf_counter() - self._began


def simulate(
    scenario: Scenario, *, machine: type[Machine] = Machine, repeat: int = 0, pruning: bool = True
) -> Observation:
    """Play a scenario until nothing moves any more.

    Args:
        scenario: what to play.
        machine: the AIR machine that every peer has.
        repeat: measure so many cold simulations, and give the one with the median time; 0 to measure nothing.
        pruning: leave out of deliveries the values that the rest of the flow cannot read, and close answered calls whose results nobody
            else can need; off to compare.
    """
    if not repeat:
        return _Network(scenario, machine, pruning=pruning).play()
    played = []
    for _ in range(repeat):
        gc.collect()  # garbage of the simulation before must not count in this one's time
        network = _Network(scenario, machine, pruning=pruning)
        observation, meter = network.play(), network.meter
        timing = Timing(meter.runs, round(meter.seconds * 1000, 4), meter.bytes_sent)
        played.append(msgspec.structs.replace(observation, timing=timing))
    return sorted(played, key=lambda one: one.timing.interpreter_ms if one.timing else 0.0)[len(played) // 2]


class _Network:
    def __init__(self, scenario: Scenario, machine: type[Machine], *, pruning: bool) -> None:
        plain = [name.removeprefix("@") for name in scenario.peers]
        absent = {name.removeprefix("@") for name in scenario.absent_peers}
        self._scenario = scenario
        self._machine = machine
        self._pruning = pruning
        self._present = {name: rank for rank, name in enumerate(plain) if name not in absent}
        self._names = PeerNames([*plain, *absent])
        self._services = MockedServices(scenario.services, self._names)
        self._initiator = scenario.init_peer.removeprefix("@")
        self._particle = Particle.create(
            self._names.keys[self._initiator],
            self._names.script_to_ids(scenario.script),
            particle_id=f"particle-{scenario.name}",
            timestamp_ms=TIMESTAMP_MS,
            ttl_ms=TTL_MS,
            max_hops=DELIVERIES_MAX,
            network="simulation",
        )
        self._script: Script | None = None
        self._hosts: dict[str, _Host] = {}
        self._queue: list[_Queued] = []
        self.meter: Final = _Meter()
        self._calls: list[CallMade] = []
        self._failures: list[RunFailed] = []
        self._lost: set[str] = set()
        self.questions = 0
        self._deliveries = 0

    def play(self) -> Observation:
        try:
            host = self._host(self._initiator, sender=self._particle.initiator, hops=0)
        except AirSyntaxError as error:
            self._failures.append(RunFailed("@" + self._initiator, 1, str(error)))
            return self._observation()
        self.meter.runs += 1
        with self.meter:
            effects = host.session.begin()
        self._go_on(host, effects)
        for index in _picks(self._scenario.order, self._queue):
            if self._deliveries >= DELIVERIES_MAX:
                break
            queued = self._queue.pop(index)
            self._deliveries += 1
            host = self._host(queued.to, sender=queued.sender, hops=queued.delivery.hops)
            self._go_on(host, self._arrive(host, queued))
        return self._observation()

    def _host(self, name: str, *, sender: PeerId, hops: int) -> _Host:
        if name not in self._hosts:
            keys = self._names.keys[name]
            with self.meter:
                # One process parses a script once; others find it by its hash.
                self._script = self._script or parse(self._particle.script)
                session = ParticleSession.new(
                    self._particle,
                    self._script,
                    keys.peer_id,
                    upstream=Upstream(sender),
                    hops=hops,
                    machine=self._machine,
                    pruning=self._pruning,
                )
            self._hosts[name] = _Host(name, keys, session)
        return self._hosts[name]

    def _go_on(self, host: _Host, effects: Effects) -> None:
        """After the run on arrival one run for each round of answers; then one delivery for each next peer."""
        for _ in range(ROUNDS_MAX):
            self._note(host, effects)
            if not effects.requests:
                break
            answers = self._answers(host, effects)
            self.meter.runs += 1
            with self.meter:
                effects = host.session.resolve(answers)
        self._send(host)

    def _arrive(self, host: _Host, queued: _Queued) -> Effects:
        """Take in a delivery; its sender is asked for the missing parts."""
        self.meter.runs += 1
        with self.meter:
            known = decode_data(self._particle.key, queued.delivery.data)
            for _ in range(QUESTIONS_MAX):
                try:
                    return host.session.merge(known, upstream=Upstream(queued.sender), hops=queued.delivery.hops)
                except MissingError as error:
                    known = _united(known, decode_data(self._particle.key, self._answer(queued.sender, host, error)))
        raise AssertionError(f"{queued.sender} does not have what it leaves out")

    def _answer(self, peer: PeerId, asking: _Host, error: MissingError) -> bytes:
        """What a peer gives when it is asked for something by id."""
        asked = self._hosts[self._names.name(peer) or peer].session
        self.questions += 1
        asked.lacks(asking.keys.peer_id, error.contents)
        parcel = asked.parcel(asking.keys.peer_id)
        asked.handed_over(asking.keys.peer_id, parcel)
        self.meter.bytes_sent += len(parcel.delivery.data)
        return parcel.delivery.data

    def _note(self, host: _Host, effects: Effects) -> None:
        if effects.error is not None:
            message = self._names.to_names(effects.error.message)
            self._failures.append(RunFailed("@" + host.name, effects.error.code, message))

    def _answers(self, host: _Host, effects: Effects) -> Mapping[Instance, CallOutcome]:
        outcomes: dict[Instance, CallOutcome] = {}
        for request in effects.requests:
            tetraplets = [
                [{"peer": t.peer, "service": t.service, "function": t.function, "lens": t.lens} for t in origins]
                for origins in request.tetraplets
            ]
            to_names = self._names.to_names
            self._calls.append(
                CallMade(
                    "@" + host.name,
                    to_names(request.service),
                    to_names(request.function),
                    to_names(request.arguments),
                    to_names(tetraplets),
                )
            )
            answer = self._services.answer(host.name, request.service, request.function, request.arguments)
            outcomes[request.instance] = _outcome(answer)
        return outcomes

    def _send(self, host: _Host) -> None:
        """To every next peer what it lacks."""
        with self.meter:
            writes = host.session.commit(TIMESTAMP_MS, host.keys.sign)
            host.session.durable(writes)
        self._lost.update(self._names.to_names(name) for name in writes.lost)
        for peer in sorted(writes.peers, key=lambda peer: self._present.get(self._names.name(peer) or peer, 0)):
            name = self._names.name(peer)
            if name not in self._present:
                self._lost.add(self._names.to_names(peer))
                continue
            with self.meter:
                parcel = host.session.parcel(peer)
                host.session.handed_over(peer, parcel)
            self.meter.bytes_sent += len(parcel.delivery.data)
            self._queue.append(_Queued(host.keys.peer_id, name, parcel.delivery))

    def _observation(self) -> Observation:
        sizes = {}
        for name, host in sorted(self._hosts.items()):
            known = host.session.known
            sizes["@" + name] = len(encode_data(known.batches, known.contents))
        return Observation(
            self._calls, self._failures, self._deliveries, sorted(self._lost), sizes, truncated=bool(self._queue)
        )


def _outcome(answer: Json | MockedError) -> CallOutcome:
    """A mocked service's answer as the machine takes it. A value that no other peer would accept is a failure, as on a real peer."""
    if isinstance(answer, MockedError):
        return Failed(answer.code, answer.message)
    try:
        check_json(answer)
    except ValueError as error:
        return Failed(UNUSABLE, msgspec.json.encode(f"the service returned what cannot be used: {error}").decode())
    return Answered(answer)


def _united(one: Known, more: Known) -> Known:
    """All that came in two answers."""
    batches = {batch.id: batch for batch in (*more.batches, *one.batches)}
    return Known(tuple(batches.values()), united(one.contents, more.contents))


def _picks(order: str | Seeded | None, queue: Sequence[object]) -> Iterator[int]:
    """Indices of the deliveries to handle, while there are any: the oldest first, or as a seeded generator has it.

    The generator is the 32-bit linear congruential one of Numerical Recipes (1664525, 1013904223), stepped before every delivery.
    """
    state = order.seed % 2**32 if isinstance(order, Seeded) else 0
    while queue:
        if isinstance(order, Seeded):
            state = (1664525 * state + 1013904223) % 2**32
            yield (state >> 16) % len(queue)
        else:
            yield 0
