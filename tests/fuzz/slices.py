"""How long slices of the machine take: ``python -m tests.fuzz.slices [--seconds 60] [--seed N] [--longest-ms 50] [NAME …]``.

The scripts of the attacks (``tests.attacks``), which have for each kind of instruction, operand and value the worst that we know, are run by one
machine whose services answer at once; then in addition scripts at random. Each slice is measured by the processor's time of this thread, so other
programs on the machine hardly matter. A slice that takes longer than allowed is made once more by the same script, and reported if it is long again:
with the seed, and with the functions in which the time went. ``builtins`` are calls of built-in functions with large arguments (``tests.fuzz.holds``).
The exit code is the number of scripts with such slices.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import io
import pstats
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any, Final, cast

from fluvial.air.data.batch import Known
from fluvial.air.machine.findings import Request
from fluvial.air.machine.machine import Effects, Machine
from fluvial.air.machine.outcomes import Answered, CallOutcome, Failed
from fluvial.air.machine.slices import SLICE_STEPS, Run
from fluvial.air.syntax import Script, parse
from fluvial.effectors import Call
from fluvial.errors import FluvialError, ServiceError
from fluvial.identity import KeyPair, PeerId
from fluvial.particles.answers import Answers
from fluvial.services.builtin.arrays import Array
from fluvial.services.builtin.numbers import Cmp, Math
from fluvial.services.builtin.objects import Debug, JsonService
from fluvial.services.builtin.op import Op
from fluvial.services.service import Service
from fluvial.services.threads import Threads

from tests.attacks import hoards, mixtures, scripts, shapes, values
from tests.attacks.arena import Arena
from tests.fuzz.holds import look_at_builtins

MEMORY_MAX: Final = 64 * 2**20
"""Of one machine, as by default."""
SCRIPT_S: Final = 2.0
"""How long one script is run, of the processor's time."""
SHOWN: Final = 6
"""Functions of a profile."""
MADE: Final[Mapping[str, Callable[[Arena], str]]] = {
    **hoards.SCRIPTS,
    **{name: attack.keywords["script"] for name, attack in cast(Mapping[str, Any], values.VALUES).items()},
    **{
        name: attack.keywords["make"]
        for table in (scripts.SCRIPTS, mixtures.MIXTURES, shapes.SHAPES)
        for name, attack in cast(Mapping[str, Any], table).items()
        if hasattr(attack, "keywords") and attack.func.__name__ in ("_flood", "_by", "_of_one", "_of_many")
    },
}
"""What makes the scripts, by name of the attack."""
BUILTINS: Final = "builtins"


class _Trusting:
    """Calls services without any guard."""

    def run(self, plugin: str, what: str, work: Callable[[], Any], *, passes: object = ()) -> Any:
        return work()


SERVICES: Final = {
    one.id: one
    for one in (
        Service(effector, threads=Threads(1), guard=cast(Any, _Trusting()))
        for effector in (Op(), Math(), Cmp(), Array(), JsonService(), Debug())
    )
}


def outcome_of(initiator: PeerId, request: Request) -> CallOutcome:
    """What a service answers; one that is not here gives a text."""
    service = SERVICES.get(request.service)
    if service is None:
        return Answered("x" * 100)
    call = Call(
        particle_id="p",
        initiator=initiator,
        service=request.service,
        function=request.function,
        arguments=request.arguments,
    )
    try:
        return Answered(service.answer(call, timeout_s=1.0))
    except ServiceError as error:
        return Failed(error.status, f'"{error.message[:100]}"')


class Measured:
    """One script, run for some time by one machine.

    Attributes:
        longest_s: what its longest slice took, in seconds.
        at: the number of that slice.
        slices: how many there were.
    """

    def __init__(self, script: Script, keys: KeyPair, initiator: PeerId, *, profiled: int | None = None) -> None:
        self.longest_s = 0.0
        self.at = self.slices = 0
        self.profile = cProfile.Profile()
        self._profiled = profiled
        self._initiator = initiator
        self._until = time.thread_time() + SCRIPT_S
        self._machine = Machine(
            script,
            b"k" * 32,
            keys.peer_id,
            initiator=initiator,
            timestamp_ms=1,
            ttl_ms=60_000,
            memory_bytes_max=MEMORY_MAX,
        )

    def run(self) -> None:
        """Until nothing is left to do, or time is over."""
        effects = self._finished(self._machine.merging(Known((), {})))
        while effects is not None and effects.requests:
            requests = list(effects.requests)
            effects = None
            while requests and time.thread_time() < self._until:
                some, requests = requests[:64], requests[64:]
                answers = Answers()
                for one in some:
                    if time.thread_time() < self._until:
                        answers.put(one.instance, outcome_of(self._initiator, one))
                while answers:
                    effects = self._finished(self._machine.resolving(answers.take()[0]))
                    requests += [] if effects is None else effects.requests
                    if effects is None or effects.failed:
                        return

    def _finished(self, run: Run[Effects]) -> Effects | None:
        while time.thread_time() < self._until:
            self.slices += 1
            profiled = self.slices == self._profiled
            began = time.thread_time()
            if profiled:
                self.profile.enable()
            effects = run.advance(SLICE_STEPS, time.perf_counter)
            if profiled:
                self.profile.disable()
            took_s = time.thread_time() - began
            if took_s > self.longest_s:
                self.longest_s, self.at = took_s, self.slices
            if effects is not None:
                return effects
        return None


def _arena(seed: int) -> Arena:
    opponents = [cast(Any, SimpleNamespace(peer_id=keys.peer_id)) for keys in _keys()]
    return Arena(*opponents, attacker=cast(Any, None), rng=random.Random(seed))


def _keys() -> tuple[KeyPair, KeyPair]:
    return KeyPair.from_secret(b"t" * 32), KeyPair.from_secret(b"o" * 32)


def look(name: str, seed: int, longest_s: float) -> str:
    """Run the script of this name and seed; what is wrong with it, or nothing."""
    if name == BUILTINS:
        return look_at_builtins(SERVICES, seed, longest_s, _keys()[1].peer_id)
    text = MADE[name](_arena(seed))
    try:
        script = parse(text)
    except FluvialError:
        return ""
    keys, other = _keys()
    measured = Measured(script, keys, other.peer_id)
    measured.run()
    if measured.longest_s <= longest_s:
        return ""
    again = Measured(script, keys, other.peer_id, profiled=measured.at)
    again.run()
    once_more = Measured(script, keys, other.peer_id)
    once_more.run()
    took_s = min(measured.longest_s, once_more.longest_s)
    if took_s <= longest_s:
        return ""
    shown = io.StringIO()
    if again.slices >= measured.at:
        pstats.Stats(again.profile, stream=shown).sort_stats("tottime").print_stats(SHOWN)
    lines = [line for line in shown.getvalue().splitlines() if "(" in line and "seconds" not in line]
    head = f"{name} with seed {seed}: slice {measured.at} of {measured.slices} takes {took_s * 1_000:.0f} ms"
    return "\n    ".join([head, *lines])


def _rounds(names: list[str], seed: int) -> Iterator[tuple[str, int]]:
    while True:
        for name in names:
            yield name, seed
        seed += 1


def main() -> int:
    """Run scripts for some time."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.slices")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join([*MADE, BUILTINS])}; all by default")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--longest-ms", type=float, default=50.0, help="what a slice may take")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    until, made, wrong = time.monotonic() + options.seconds, 0, 0
    gc.disable()  # a running peer looks for garbage at times of its own
    for name, seed in _rounds(options.names or [*MADE, BUILTINS], options.seed):
        if time.monotonic() > until:
            break
        gc.collect()
        made += 1
        if told := look(name, seed, options.longest_ms / 1_000):
            wrong += 1
            print(told, flush=True)
    print(f"{made} scripts, {wrong} with slices of more than {options.longest_ms:g} ms")
    return min(wrong, 100)


if __name__ == "__main__":
    sys.exit(main())
