"""Plays a scenario: every peer has a real key and a real machine, particles travel as signed bytes, time stands still."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from fluvial.air.data.batch import Known, MissingError
from fluvial.air.data.content import Json, check_json
from fluvial.air.data.facts import Instance
from fluvial.air.data.partial import united
from fluvial.air.data.wire import decode_data, encode_data
from fluvial.air.machine.exchange import Exchange
from fluvial.air.machine.machine import Answered, CallOutcome, Effects, Failed, Machine
from fluvial.air.syntax import AirSyntaxError, Script, parse
from fluvial.particle import Particle
from fluvial.simulation.scenario import Names, Scenario, Seeded, ServiceError, Services

TIMESTAMP_MS: Final = 1_700_000_000_000
TTL_MS: Final = 120_000
DELIVERIES_MAX: Final = 5_000
ROUNDS_MAX: Final = 5_000
UNUSABLE: Final = 5
"""Number of the failure of a call whose result is no value that can be sent, as peers have it."""

QUESTIONS_MAX: Final = 100
"""How often a peer asks for what is missing from one delivery."""


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
    """What the interpreters of all peers took.

    Attributes:
        runs: how often they were run.
        interpreter_ms: decoding, verifying, parsing (once: all peers are in one process), running, signing and encoding, milliseconds.
        bytes_sent: particle data that went from peer to peer, what was asked for again included.
    """

    runs: int
    interpreter_ms: float
    bytes_sent: int


class Observation(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a simulation has shown; peer ids are written ``@name``.

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


@dataclass(slots=True)
class _Host:
    """A simulated peer."""

    name: str
    machine: Machine
    exchange: Exchange = field(default_factory=Exchange)


@dataclass(frozen=True, slots=True)
class _Delivery:
    """A particle on its way."""

    sender: str
    to: str
    data: bytes


class _Meter:
    """Counts runs and bytes; inside of it an interpreter is at work, of which it stops the time."""

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
        pruning: leave out of deliveries what the rest of the flow cannot read, and say of answered calls no more than that where nobody
            else can need more; off to compare.
    """
    if not repeat:
        return _Network(scenario, machine, pruning=pruning).play()
    played = []
    for _ in range(repeat):
        gc.collect()  # what the one before has left behind is not this one's work
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
        self._names = Names([*plain, *absent])
        self._services = Services(scenario.services, self._names)
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
        self._queue: list[_Delivery] = []
        self.meter: Final = _Meter()
        self._calls: list[CallMade] = []
        self._failures: list[RunFailed] = []
        self._lost: set[str] = set()
        self.questions = 0
        self._deliveries = 0

    def play(self) -> Observation:
        initiator = self._names.keys[self._initiator].peer_id
        try:
            host = self._host(self._initiator)
        except AirSyntaxError as error:
            self._failures.append(RunFailed("@" + self._initiator, 1, str(error)))
            return self._observation()
        self._activate(host, b"", initiator)
        for index in _picks(self._scenario.order, self._queue):
            if self._deliveries >= DELIVERIES_MAX:
                break
            delivery = self._queue.pop(index)
            self._deliveries += 1
            self._activate(self._host(delivery.to), delivery.data, self._names.keys[delivery.sender].peer_id)
        return self._observation()

    def _host(self, name: str) -> _Host:
        if name not in self._hosts:
            me = self._names.keys[name].peer_id
            with self.meter:
                # One process parses a script once; others find it by its hash.
                self._script = self._script or parse(self._particle.script)
                machine = self._machine(
                    self._script,
                    self._particle.key,
                    me,
                    initiator=self._particle.initiator,
                    timestamp_ms=TIMESTAMP_MS,
                    ttl_ms=TTL_MS,
                )
            self._hosts[name] = _Host(name, machine)
        return self._hosts[name]

    def _activate(self, host: _Host, data: bytes, sender: str) -> None:
        """One run on arrival, then one per round of answers, then one particle per next peer."""
        next_peers: dict[str, None] = {}
        effects = self._arrive(host, data, sender)
        for _ in range(ROUNDS_MAX):
            self._note(host, effects)
            next_peers.update(dict.fromkeys(effects.next_peers))
            if not effects.requests:
                break
            answers = self._answers(host, effects)
            self.meter.runs += 1
            with self.meter:
                effects = host.machine.resolve(answers)
        if next_peers:
            self._send(host, list(next_peers))

    def _arrive(self, host: _Host, data: bytes, sender: str) -> Effects:
        """Take in what came; its sender is asked for what is missing."""
        self.meter.runs += 1
        with self.meter:
            known = decode_data(self._particle.key, data)
            for _ in range(QUESTIONS_MAX):
                try:
                    effects = host.machine.merge(known)
                    break
                except MissingError as error:
                    known = _united(known, decode_data(self._particle.key, self._answer(sender, host, error)))
            else:
                raise AssertionError(f"{sender} does not have what it leaves out")
            host.exchange.received(sender, known, host.machine.contents().keys())
        return effects

    def _answer(self, peer: str, asking: _Host, error: MissingError) -> bytes:
        """What a peer gives when it is asked for something by id."""
        asked = self._hosts[self._names.name(peer) or peer]
        self.questions += 1
        to = self._names.keys[asking.name].peer_id
        if error.batches:
            asked.exchange.forget(to)
        asked.exchange.asks(to, error.contents)
        needs = asked.machine.needs(to) if self._pruning else None
        owed = asked.exchange.owed(to, asked.machine.batches(), asked.machine.contents(), needs)
        data = encode_data(owed.batches, owed.contents)
        asked.exchange.given(to, owed)
        self.meter.bytes_sent += len(data)
        return data

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

    def _send(self, host: _Host, peers: Sequence[str]) -> None:
        """To every next peer what it lacks."""
        with self.meter:
            host.machine.seal(self._names.keys[host.name].sign, closing=self._pruning)
        for peer in sorted(peers, key=lambda peer: self._present.get(self._names.name(peer) or peer, 0)):
            name = self._names.name(peer)
            if name not in self._present:
                self._lost.add(self._names.to_names(peer))
                continue
            with self.meter:
                needs = host.machine.needs(peer) if self._pruning else None
                owed = host.exchange.owed(peer, host.machine.batches(), host.machine.contents(), needs)
                data = encode_data(owed.batches, owed.contents)
                host.exchange.given(peer, owed)
            self.meter.bytes_sent += len(data)
            self._queue.append(_Delivery(host.name, name, data))

    def _observation(self) -> Observation:
        sizes = {
            "@" + name: len(encode_data(host.machine.batches(), host.machine.contents()))
            for name, host in sorted(self._hosts.items())
        }
        return Observation(
            self._calls, self._failures, self._deliveries, sorted(self._lost), sizes, truncated=bool(self._queue)
        )


def _outcome(answer: Json | ServiceError) -> CallOutcome:
    """What a peer hands to the machine: a value that no other peer would take is a failure, as it is outside of simulations."""
    if isinstance(answer, ServiceError):
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
