"""The conformance kit for consensus engines: subclass it, say how yours is made, run pytest.

::

    class TestSimplex(EngineConformance):
        @pytest.fixture
        def make(self):
            return lambda membership: Simplex(membership, Options())

An engine is a pure machine, so the kit needs no event loop: :class:`EngineNetwork` keeps the messages, the timers and the records of a few
validators, draws all delays from a seed, and checks after each step that no two have committed different things. Only its author can test
an engine against validators that lie; the kit's validators are honest, but may be late, get messages twice, and restart.
"""

from __future__ import annotations

import ast
import heapq
import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from typing import ClassVar, Final, TypeAlias

import pytest

from fluvial.engine import Broadcast, Commit, EngineEffect, Membership, Persist, SendTo, SimpleEngine, WakeAt
from fluvial.errors import Refused, RemoteProtocolError
from fluvial.identity import PeerId
from fluvial.testing.part import STRANGER, check, peer_of
from fluvial.virtual.clock import EPOCH_MS

Make: TypeAlias = Callable[[Membership], SimpleEngine]
"""What the fixture ``make`` returns."""

EFFECTS: Final = (SendTo, Broadcast, Persist, WakeAt, Commit)
STEPS_MAX: Final = 200_000
"""Steps after which a simulation that does not come to rest is given up."""
DOORS_TO_THE_WORLD: Final = frozenset(
    [
        "anyio",
        "asyncio",
        "concurrent",
        "httpx",
        "multiprocessing",
        "os",
        "random",
        "requests",
        "secrets",
        "socket",
        "sqlalchemy",
        "sqlite3",
        "ssl",
        "subprocess",
        "threading",
        "time",
        "uuid",
    ]
)
"""Modules with I/O, a clock or randomness, which a pure machine must not use."""


@dataclass(slots=True)
class Validator:
    """One validator of a simulation.

    Attributes:
        membership: what its engine was made with.
        engine: the machine.
        records: what it has made durable, in order.
        commits: what it has committed, by height.
    """

    membership: Membership
    engine: SimpleEngine
    records: list[bytes] = field(default_factory=list)
    commits: dict[int, tuple[bytes, ...]] = field(default_factory=dict)
    wake_ms: int | None = None
    lives: int = 0


class EngineNetwork:
    """A few validators and the network between them.

    Args:
        make: makes their engines.
        validators: how many.
        seed: of delays and repetitions.
        delay_ms_max: longest time that a message takes.
        repeats: share of messages that arrive twice.

    Attributes:
        now_ms: the time of all of them.
        trace: all effects so far, as text: the same for the same seed.
    """

    def __init__(
        self, make: Make, *, validators: int, seed: int = 0, delay_ms_max: int = 100, repeats: float = 0.0
    ) -> None:
        self._make = make
        self._rng = Random(f"engines {seed}")  # noqa: S311 - no secret
        self._delay_ms_max = delay_ms_max
        self._repeats = repeats
        self._order = count()
        self._events: list[tuple[int, int, PeerId, int, Callable[[], Sequence[EngineEffect]]]] = []
        self.now_ms = EPOCH_MS
        self.trace: list[str] = []
        peers = tuple(sorted(map(peer_of, range(1, validators + 1))))
        self.validators = {peer: self._validator(Membership(me=peer, validators=peers)) for peer in peers}
        for peer in peers:
            self._start(peer)

    def submit(self, peer: PeerId, payload: bytes) -> None:
        """Ask a validator to have something ordered."""
        validator = self.validators[peer]
        self._carry_out(peer, validator.engine.submit(payload, now_ms=self.now_ms))

    def restart(self, peer: PeerId) -> None:
        """Kill a validator and start it anew from its records; what it has sent stays sent, what comes to it meanwhile is lost."""
        old = self.validators[peer]
        new = self.validators[peer] = self._validator(old.membership)
        new.records, new.commits, new.lives = old.records, old.commits, old.lives + 1
        self._start(peer)

    def receive(self, peer: PeerId, sender: PeerId, message: bytes) -> None:
        """Bring a message to a validator now; one that it complains about is dropped, as a node would."""
        try:
            effects = self.validators[peer].engine.receive(sender, message, now_ms=self.now_ms)
        except RemoteProtocolError:
            return
        self._carry_out(peer, effects)

    def step(self) -> bool:
        """Carry out the next event; False if no message is under way and no timer is set."""
        while self._events:
            at_ms, _, peer, life, happen = heapq.heappop(self._events)
            if self.validators[peer].lives == life:
                self.now_ms = max(self.now_ms, at_ms)
                self._carry_out(peer, happen())
                return True
        return False

    def run_until(self, true: Callable[[], bool], *, within_ms: int) -> bool:
        """Take steps until a condition holds; False if it does not hold within this time."""
        end_ms = self.now_ms + within_ms
        for _ in range(STEPS_MAX):
            if true():
                return True
            if not self._events or self._events[0][0] > end_ms or not self.step():
                return true()
        pytest.fail(f"after {STEPS_MAX} steps the engines have not come to an end")

    def committed(self, peer: PeerId) -> list[bytes]:
        """All payloads that a validator has committed, in order."""
        commits = self.validators[peer].commits
        return [payload for height in sorted(commits) for payload in commits[height]]

    def _validator(self, membership: Membership) -> Validator:
        return Validator(membership, self._make(membership))

    def _start(self, peer: PeerId) -> None:
        validator = self.validators[peer]
        self._carry_out(peer, validator.engine.start(tuple(validator.records), now_ms=self.now_ms))

    def _carry_out(self, peer: PeerId, effects: Sequence[EngineEffect]) -> None:
        validator = self.validators[peer]
        for effect in effects:
            check(isinstance(effect, EFFECTS), f"{effect!r} is no effect of an engine")
            self.trace.append(f"{self.now_ms - EPOCH_MS} {peer[-6:]} {effect!r}")
            match effect:
                case SendTo(target, message):
                    check(target in self.validators, f"a message is for {target}, who is no validator")
                    self._send(peer, target, message)
                case Broadcast(message):
                    for target in self.validators:
                        if target != peer:
                            self._send(peer, target, message)
                case Persist(record):
                    validator.records.append(record)
                case WakeAt(time_ms):
                    validator.wake_ms = time_ms
                    self._later(time_ms, peer, lambda: self._wake(validator, time_ms))
                case Commit(height, payloads, _):
                    self._commit(validator, height, payloads)

    def _send(self, sender: PeerId, target: PeerId, message: bytes) -> None:
        check(isinstance(message, bytes), f"a message is a {type(message).__name__}, not bytes")
        for _ in range(2 if self._rng.random() < self._repeats else 1):
            at_ms = self.now_ms + self._rng.randint(1, self._delay_ms_max)
            self._later(at_ms, target, lambda: self._delivered(sender, target, message))

    def _delivered(self, sender: PeerId, target: PeerId, message: bytes) -> Sequence[EngineEffect]:
        try:
            return self.validators[target].engine.receive(sender, message, now_ms=self.now_ms)
        except RemoteProtocolError as error:
            pytest.fail(f"an honest validator's message is refused: {error.message}")

    def _wake(self, validator: Validator, time_ms: int) -> Sequence[EngineEffect]:
        if validator.wake_ms != time_ms:
            return ()  # a later WakeAt has replaced it
        validator.wake_ms = None
        return validator.engine.wake(now_ms=self.now_ms)

    def _later(self, at_ms: int, peer: PeerId, happen: Callable[[], Sequence[EngineEffect]]) -> None:
        heapq.heappush(self._events, (at_ms, next(self._order), peer, self.validators[peer].lives, happen))

    def _commit(self, validator: Validator, height: int, payloads: tuple[bytes, ...]) -> None:
        check(validator.commits.get(height, payloads) == payloads, f"height {height} was committed in two ways")
        validator.commits[height] = payloads
        check(
            sorted(validator.commits) == list(range(1, len(validator.commits) + 1)),
            f"heights are committed out of order: {sorted(validator.commits)}",
        )
        for other in self.validators.values():
            check(
                other.commits.get(height, payloads) == payloads,
                f"two validators have committed different payloads at height {height}",
            )


class EngineConformance:
    """What every engine must do. The one fixture to give is ``make``."""

    validators: ClassVar[int] = 4
    seeds: ClassVar[Sequence[int]] = (1, 2, 3)
    within_ms: ClassVar[int] = 60_000
    """Time in which a payload must be committed by all when nothing is wrong; messages take up to 100 ms."""

    @pytest.fixture
    def make(self) -> Make:
        """How the engine under test is made."""
        raise NotImplementedError(f"{type(self).__name__} must define the fixture `make`")

    def network(self, make: Make, *, seed: int, repeats: float = 0.0) -> EngineNetwork:
        """Validators with this engine."""
        return EngineNetwork(make, validators=self.validators, seed=seed, repeats=repeats)

    def test_it_reaches_for_nothing(self, make: Make) -> None:
        """No I/O, no clock and no chance of its own: its module imports nothing that has them."""
        engine = make(Membership(me=peer_of(1), validators=(peer_of(1),)))
        file = inspect.getsourcefile(type(engine))
        check(file is not None, f"the source of {type(engine).__name__} cannot be found")
        tree = ast.parse(Path(str(file)).read_text(encoding="utf-8"))
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        reached = sorted(name for name in imported if name.partition(".")[0] in DOORS_TO_THE_WORLD)
        check(not reached, f"{file} imports {', '.join(reached)}; an engine gets the time and gives effects")

    def test_everybody_commits_what_was_submitted(self, make: Make) -> None:
        """Once, in one order, whoever it was submitted to."""
        for seed in self.seeds:
            network = self.network(make, seed=seed)
            self._submit_and_finish(network)

    def test_the_same_inputs_have_the_same_effects(self, make: Make) -> None:
        """In the same order: whatever is iterated over has an order."""
        traces = []
        for _ in range(2):
            network = self.network(make, seed=self.seeds[0], repeats=0.2)
            self._submit_and_finish(network)
            traces.append(network.trace)
        check(traces[0] == traces[1], "two runs of one seed differ")

    def test_messages_may_come_twice(self, make: Make) -> None:
        """Nothing is committed twice for that."""
        for seed in self.seeds:
            self._submit_and_finish(self.network(make, seed=seed, repeats=0.5))

    def test_it_goes_on_after_a_restart(self, make: Make) -> None:
        """From its records alone, at whatever moment it was killed, and without contradicting itself."""
        for seed in self.seeds:
            rng = Random(f"restarts {seed}")  # noqa: S311 - no secret
            network = self.network(make, seed=seed)
            peers = list(network.validators)
            self._submit(network)
            for number in range(8):
                for _ in range(rng.randrange(40)):
                    network.step()
                network.restart(rng.choice(peers))
                with suppress(Refused):
                    network.submit(rng.choice(peers), b"after a restart %d" % number)

    def test_garbage_is_reported(self, make: Make) -> None:
        """Bytes that mean nothing, from a validator or a stranger: RemoteProtocolError or nothing, and all goes on."""
        rng = Random(7)  # noqa: S311 - no secret
        network = self.network(make, seed=self.seeds[0])
        for peer in network.validators:
            for sender in (*network.validators, STRANGER.peer_id):
                for garbage in (b"", b"\0", b"{}", b"null", rng.randbytes(64), bytes(10_000)):
                    network.receive(peer, sender, garbage)
        self._submit_and_finish(network)

    def test_submitting_garbage_breaks_nothing(self, make: Make) -> None:
        """It is ordered like anything, or refused."""
        network = self.network(make, seed=self.seeds[0])
        peer = next(iter(network.validators))
        for payload in (b"", b"\0", bytes(10_000)):
            with suppress(Refused):
                network.submit(peer, payload)
        self._submit_and_finish(network)

    def _submit(self, network: EngineNetwork) -> set[bytes]:
        payloads = set()
        for number, peer in enumerate(network.validators):
            network.submit(peer, payload := b"conformance %d" % number)
            payloads.add(payload)
            network.step()
        return payloads

    def _submit_and_finish(self, network: EngineNetwork) -> None:
        wanted = self._submit(network)

        def done() -> bool:
            return all(wanted <= set(network.committed(peer)) for peer in network.validators)

        check(
            network.run_until(done, within_ms=self.within_ms),
            f"not everything that was submitted is committed by all within {self.within_ms} ms",
        )
        for peer in network.validators:
            committed = [payload for payload in network.committed(peer) if payload in wanted]
            check(len(committed) == len(wanted), f"{peer} has committed something twice")
