"""Plays a scenario: every peer has a real key and a real machine, particles travel as signed bytes, time stands still."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from fluvial.air.data.batch import Known, check_data, decode_data, encode_data
from fluvial.air.data.content import Json
from fluvial.air.data.facts import Instance
from fluvial.air.machine.machine import Answered, CallOutcome, Effects, Failed, Machine
from fluvial.air.syntax import AirSyntaxError, Script, parse
from fluvial.particle import Particle
from fluvial.simulation.scenario import Names, Scenario, Seeded, ServiceError, Services

TIMESTAMP_MS: Final = 1_700_000_000_000
TTL_MS: Final = 120_000
DELIVERIES_MAX: Final = 5_000
ROUNDS_MAX: Final = 5_000
NOTHING: Final = Known((), {})


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


class Observation(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a simulation has shown; peer ids are written ``@name``.

    Attributes:
        calls: every service call.
        failures: runs that ended with an error.
        deliveries: particles handed from one peer to another.
        lost: next peers that are absent.
        final_data_bytes: size of the data that each peer would send at the end.
        truncated: the simulation was ended by a limit.
    """

    calls: list[CallMade]
    failures: list[RunFailed]
    deliveries: int
    lost: list[str]
    final_data_bytes: dict[str, int]
    truncated: bool = False


@dataclass(slots=True)
class _Host:
    """A simulated peer."""

    name: str
    machine: Machine


def simulate(scenario: Scenario, *, machine: type[Machine] = Machine) -> Observation:
    """Play a scenario until nothing moves any more.

    Args:
        scenario: what to play.
        machine: the AIR machine that every peer has.
    """
    return _Network(scenario, machine).play()


class _Network:
    def __init__(self, scenario: Scenario, machine: type[Machine]) -> None:
        plain = [name.removeprefix("@") for name in scenario.peers]
        absent = {name.removeprefix("@") for name in scenario.absent_peers}
        self._scenario = scenario
        self._machine = machine
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
        self._hosts: dict[str, _Host] = {}
        self._queue: list[tuple[str, bytes]] = []
        self._calls: list[CallMade] = []
        self._failures: list[RunFailed] = []
        self._lost: set[str] = set()
        self._deliveries = 0

    def play(self) -> Observation:
        try:
            script = parse(self._particle.script)
        except AirSyntaxError as error:
            self._failures.append(RunFailed("@" + self._initiator, 1, str(error)))
            return self._observation()
        self._activate(self._host(self._initiator, script), NOTHING)
        for index in _picks(self._scenario.order, self._queue):
            if self._deliveries >= DELIVERIES_MAX:
                break
            to, data = self._queue.pop(index)
            self._deliveries += 1
            known = check_data(self._particle.key, decode_data(data))
            self._activate(self._host(to, script), known)
        return self._observation()

    def _host(self, name: str, script: Script) -> _Host:
        if name not in self._hosts:
            me = self._names.keys[name].peer_id
            machine = self._machine(
                script,
                self._particle.key,
                me,
                initiator=self._particle.initiator,
                timestamp_ms=TIMESTAMP_MS,
                ttl_ms=TTL_MS,
            )
            self._hosts[name] = _Host(name, machine)
        return self._hosts[name]

    def _activate(self, host: _Host, known: Known) -> None:
        """One run on arrival, then one per round of answers, then one particle per next peer."""
        next_peers: dict[str, None] = {}
        effects = host.machine.merge(known)
        for _ in range(ROUNDS_MAX):
            self._note(host, effects)
            next_peers.update(dict.fromkeys(effects.next_peers))
            if not effects.requests:
                break
            effects = host.machine.resolve(self._answers(host, effects))
        if next_peers:
            self._send(host, list(next_peers))

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
            failed = isinstance(answer, ServiceError)
            outcomes[request.instance] = Failed(answer.code, answer.message) if failed else Answered(answer)
        return outcomes

    def _send(self, host: _Host, peers: Sequence[str]) -> None:
        host.machine.seal(self._names.keys[host.name].sign)
        data = encode_data(host.machine.batches(), host.machine.contents())
        for name in sorted((self._names.name(peer) or peer for peer in peers), key=lambda n: self._present.get(n, 0)):
            if name in self._present:
                self._queue.append((name, data))
        for peer in peers:
            if self._names.name(peer) not in self._present:
                self._lost.add(self._names.to_names(peer))

    def _observation(self) -> Observation:
        sizes = {
            "@" + name: len(encode_data(host.machine.batches(), host.machine.contents()))
            for name, host in sorted(self._hosts.items())
        }
        return Observation(
            self._calls, self._failures, self._deliveries, sorted(self._lost), sizes, truncated=bool(self._queue)
        )


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
