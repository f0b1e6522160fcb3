"""A small network for examples: real keys, real machines, signed bytes between them, services as Python values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from fluvial.air.data.batch import Known
from fluvial.air.data.facts import Instance
from fluvial.air.data.log import Record
from fluvial.air.data.wire import decode_data, encode_data
from fluvial.air.machine.errors import AirError
from fluvial.air.machine.findings import Observer, Request
from fluvial.air.machine.machine import Effects, Machine
from fluvial.air.machine.outcomes import Answered, CallOutcome, Failed
from fluvial.air.syntax import parse
from fluvial.particle import Particle
from fluvial.simulation.scenario import PeerNames

TIMESTAMP_MS = 1_700_000_000_000
TTL_MS = 120_000
ROUNDS_MAX = 1_000
NOTHING = Known((), {})

Service = Callable[..., Any]
"""Called with the arguments; a ``Failed`` that it returns fails the call."""


class Made(NamedTuple):
    """A call that a peer's services were asked for."""

    peer: str
    function: str
    arguments: list[Any]


class Flow:
    """One particle on some peers.

    Args:
        script: AIR; ``"@name"`` stands for the id of that peer.
        services: by ``service.function``: a function, a ``Failed``, or the value that calls return; others return null.
        peers: names; the first one begins the particle.

    Attributes:
        calls: what services were asked for, in order.
        errors: code and place of what ended runs, by peer, in order.
        wire: the data of every particle that was sent.
        effects: of the last run of each peer.
        records: the log of each peer.
    """

    def __init__(
        self, script: str, services: Mapping[str, Any] | None = None, *, peers: Sequence[str] = ("a", "b", "c")
    ) -> None:
        self.names = PeerNames(peers)
        self.particle = Particle.create(
            self.names.keys[peers[0]],
            self.names.script_to_ids(script),
            particle_id="flow",
            timestamp_ms=TIMESTAMP_MS,
            ttl_ms=TTL_MS,
            max_hops=100,
            network="test",
        )
        self.script = parse(self.particle.script)
        self.services = dict(services or {})
        self.machines: dict[str, Machine] = {}
        self.calls: list[Made] = []
        self.errors: list[tuple[str, AirError]] = []
        self.wire: list[bytes] = []
        self.effects: dict[str, Effects] = {}
        self.records: dict[str, list[Record]] = {name: [] for name in peers}
        self.queue: list[tuple[str, bytes]] = []
        self._first = peers[0]

    # --- the whole flow

    def run(self) -> Flow:
        """From the beginning until nothing moves any more."""
        self.arrive(self._first, b"")
        return self.settle()

    def settle(self) -> Flow:
        """Until nothing moves any more."""
        for _ in range(ROUNDS_MAX):
            if not self.queue:
                return self
            self.arrive(*self.queue.pop(0))
        raise AssertionError("the flow does not come to an end")

    def arrive(self, name: str, data: bytes) -> Effects:
        """A particle comes to a peer, which answers all calls and sends what is to be sent."""
        effects = self.merge(name, data)
        next_peers = dict.fromkeys(effects.next_peers)
        while effects.requests:
            effects = self.resolve(name, {request.instance: self.answer(name, request) for request in effects.requests})
            next_peers |= dict.fromkeys(effects.next_peers)
        if next_peers:
            data = self.depart(name)
            self.queue += [(self.names.name(peer) or peer, data) for peer in next_peers]
        return effects

    # --- single steps

    def machine(self, name: str) -> Machine:
        """The machine of a peer."""
        if name not in self.machines:
            self.machines[name] = Machine(
                self.script, self.particle.key, self.names.keys[name].peer_id, **self.environment
            )
        return self.machines[name]

    def observe(self, name: str, observer: Observer) -> None:
        """Give a peer a machine that tells of every call and canon it comes to."""
        keys = self.names.keys[name]
        self.machines[name] = Machine(
            self.script, self.particle.key, keys.peer_id, **self.environment, observer=observer
        )

    @property
    def environment(self) -> dict[str, Any]:
        return {"initiator": self.particle.initiator, "timestamp_ms": TIMESTAMP_MS, "ttl_ms": TTL_MS}

    def restart(self, name: str) -> Machine:
        """Make a peer forget its machine and restore it from its records."""
        keys = self.names.keys[name]
        restored = Machine.restore(self.script, self.particle.key, keys.peer_id, self.records[name], **self.environment)
        self.machines[name] = restored
        return restored

    def merge(self, name: str, data: bytes) -> Effects:
        """Only the first run on arrival."""
        known = decode_data(self.particle.key, data)
        return self._note(name, self.machine(name).merge(known))

    def resolve(self, name: str, outcomes: Mapping[Instance, CallOutcome]) -> Effects:
        """Only a run with outcomes."""
        return self._note(name, self.machine(name).resolve(outcomes))

    def depart(self, name: str) -> bytes:
        """Seal, and return what travels: all batches, and all values of which they speak."""
        machine = self.machine(name)
        if record := machine.seal(self.names.keys[name].sign):
            self.records[name].append(record)
        spoken_of = set().union(*(batch.contents() for batch in machine.batches()))
        contents = {key: value for key, value in machine.contents().items() if key in spoken_of}
        self.wire.append(encode_data(machine.batches(), contents))
        return self.wire[-1]

    def answer(self, name: str, request: Request) -> CallOutcome:
        """What a peer's services say."""
        function = f"{request.service}.{request.function}"
        self.calls.append(Made(name, function, self.names.to_names(list(request.arguments))))
        service = self.services.get(function)
        value = service(*request.arguments) if callable(service) else service
        return value if isinstance(value, Failed) else Answered(self.names.to_ids(value))

    def _note(self, name: str, effects: Effects) -> Effects:
        self.effects[name] = effects
        self.records[name] += effects.records
        if effects.error is not None:
            self.errors.append((name, effects.error))
        return effects

    # --- what tests look at

    @property
    def made(self) -> list[str]:
        """The calls as ``peer function``."""
        return [f"{call.peer} {call.function}" for call in self.calls]

    def arguments_of(self, function: str) -> list[list[Any]]:
        """The arguments of each call of a function."""
        return [call.arguments for call in self.calls if call.function == function]

    @property
    def codes(self) -> list[tuple[str, int]]:
        """Who had which error."""
        return [(name, error.code) for name, error in self.errors]
