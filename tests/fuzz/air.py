"""Looks for scenarios on which the AIR machine does something else than it should, for a given time.

Usage: ``python -m tests.fuzz.air [--seed N] [--seconds 60] [--first NUMBER] [--reference DIR]``

Every scenario goes through the incremental and the plain machine side by side, first in, first out and shuffled, each in one more way
(deliveries twice, restarts, overtaking, outcomes one by one) in turn. With ``--reference`` (a folder with the AquaVM harness) what was observed
is also compared with the reference. ``--seed N --first NUMBER`` repeats what was found. The exit code is 1 if something was.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Final

import msgspec
from fluvial.simulation.scenario import Scenario, Seeded

from tests.fuzz.generator import scenario
from tests.fuzz.reference import BATCH, BATCH_SECONDS, cause, observe
from tests.fuzz.twins import WAYS, DifferenceError, TooLongError, compare_in

REPORTED_MAX: Final = 20
LINES_MAX: Final = 6


class Fuzzing:
    """One row of scenarios.

    Args:
        seed: of the row.
        deadline: when to end, as ``time.monotonic`` has it.
        reference: folder of the reference's harness, if it is to be compared with.
    """

    def __init__(self, seed: int, deadline: float, reference: Path | None) -> None:
        self._seed = seed
        self._deadline = deadline
        self._reference = reference
        self.counts: Counter[str] = Counter()
        self.found = 0

    def run(self, first: int) -> None:
        """From a number on, until the time is over or too much was found."""
        for start in count(first, BATCH):
            batch = [one for number in range(start, start + BATCH) if (one := self._compared(number)) is not None]
            if self._reference is not None and batch and time.monotonic() < self._deadline:
                self._against_reference(self._reference, batch)
            if time.monotonic() >= self._deadline or self.found >= REPORTED_MAX:
                return

    def _compared(self, number: int) -> Scenario | None:
        """The scenario, if both machines did the same and it is not too long."""
        if time.monotonic() >= self._deadline:
            return None
        one = scenario(self._seed, number)
        way = list(WAYS)[number % len(WAYS)]
        try:
            for order in ("fifo", Seeded(number)):
                self.counts["runs compared"] += compare_in(
                    msgspec.structs.replace(one, order=order), way, seed=number
                ).runs
        except TooLongError:
            self.counts["left out: too many calls"] += 1
            return None
        except DifferenceError as error:
            self._report(number, str(error))
            return None
        self.counts["scenarios"] += 1
        return one

    def _against_reference(self, directory: Path, batch: list[Scenario]) -> None:
        seconds = min(BATCH_SECONDS, max(1.0, self._deadline - time.monotonic()))
        observed = observe(directory, batch, seconds)
        for one in batch:
            if one.name not in observed:
                self.counts["reference: not finished"] += 1
                continue
            why, found = cause(one, observed[one.name])
            self.counts[f"reference: {why}"] += 1
            if why == "unexplained":
                number = int(one.name.rpartition("-")[2])
                self._report(number, "\n".join(["the reference differs", one.script, *found[:LINES_MAX]]))

    def _report(self, number: int, text: str) -> None:
        self.found += 1
        print(f"--seed {self._seed} --first {number}: {text}\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=None, help="of the row of scenarios; a random one if not given")
    parser.add_argument("--seconds", type=float, default=60.0, help="when to end")
    parser.add_argument("--first", type=int, default=0, help="number of the first scenario of the row")
    parser.add_argument("--reference", type=Path, default=None, help="folder with the harness of the reference")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    if options.reference is not None and not (options.reference / "run.mjs").is_file():
        parser.error(f"--reference {options.reference}: there is no run.mjs")
    print(f"seed {seed}", flush=True)
    fuzzing = Fuzzing(seed, time.monotonic() + options.seconds, options.reference)
    fuzzing.run(options.first)
    for what, many in sorted(fuzzing.counts.items()):
        print(f"{many:>8,} {what}")
    print(f"{fuzzing.found:>8,} differences")
    sys.exit(1 if fuzzing.found else 0)


if __name__ == "__main__":
    main()
