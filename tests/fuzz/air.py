"""Looks for scenarios on which the AIR machine does something else than it should, for a given time.

Usage: ``python -m tests.fuzz.air [--seeds 7] [--first 0] [--count N] [--seconds 60] [--reference DIR [--answers DIR]]``

Scenarios come from this project's generator, from another program (``--generator``) or from files (``--scenarios``). Each is played with
deliveries first in, first out and shuffled. Every run goes through the incremental and the plain machine side by side, in one more way
(deliveries twice, restarts, overtaking, outcomes one by one) in turn; and each flow must go the same way whether values are left out of
deliveries or not. With ``--reference`` (a folder with the AquaVM harness) what was
observed is also compared with the reference, and the differences are counted by cause. Before what was found stands the command that
repeats it (with ``--reference`` where that was given). The exit code is 1 if something was.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec
from fluvial.simulation.scenario import Scenario

from tests.fuzz.causes import Verdict, verdict
from tests.fuzz.pruned import pruned
from tests.fuzz.reference import BATCH, Reference
from tests.fuzz.sources import Case, generated_cases, own_cases, stored_cases
from tests.fuzz.twins import WAYS, DifferenceError, TooLongError, compare_in

COUNT: Final = 200
"""Scenarios of a row, where that has to have an end."""

PROGRESS_SECONDS: Final = 30.0
"""How often it says where it is: a script on which the reference does not come to an end takes a minute or two."""

LINES_MAX: Final = 6
"""Lines of a difference that are shown."""

DEPTH_MAX: Final = 100_000
"""How deep the plain machine may call itself."""

STACK_BYTES: Final = 1 << 29
"""Stack of the thread in which it does so."""


class Fuzzing:
    """Plays scenarios and counts what they come to.

    Args:
        deadline: when to end, as ``time.monotonic`` has it.
        reference: the reference, if it is to be compared with.
        found_max: how many differences to report before it ends.
        machines: whether the incremental and the plain machine are compared, and flows with and without pruning.
        kept: file to which scenarios with answers of the reference are appended, one JSON object a line.
    """

    def __init__(
        self, deadline: float, reference: Reference | None, *, machines: bool, found_max: int, kept: Path | None
    ) -> None:
        self._deadline = deadline
        self._reference = reference
        self._machines = machines
        self._found_max = found_max
        self._kept = kept
        self.counts: Counter[str] = Counter()
        self.found = 0
        self._at = ""
        self._begun = self._said = time.monotonic()
        if reference is not None:
            reference.on_answers = self._progress

    def run(self, cases: Iterator[Case]) -> None:
        """Until there are no more, the time is over or too much was found."""
        while batch := list(islice(cases, BATCH // 2)):
            for case in batch if self._machines else ():
                self._at = case.repeat
                self._progress()
                self._compare_machines(case)
                self._compare_pruned(case)
            self._at = batch[0].repeat
            if self._reference is not None:
                self._compare_with(self._reference, batch)
            if time.monotonic() >= self._deadline:
                self.counts["time is over"] = 1
                return
            if self.found >= self._found_max:
                return

    def _progress(self) -> None:
        """Say now and then where it is."""
        now = time.monotonic()
        if now - self._said >= PROGRESS_SECONDS:
            self._said = now
            done = sum(many for what, many in self.counts.items() if what.startswith("reference"))
            scenarios = self.counts["scenarios through both machines"]
            print(
                f"{now - self._begun:,.0f} s: {scenarios:,} scenarios through both machines, {done:,} runs next to the reference, "
                f"{self.found} differences; now {self._at}",
                flush=True,
            )

    def _compare_machines(self, case: Case) -> None:
        if time.monotonic() >= self._deadline:
            return
        number = zlib.crc32(case.repeat.encode())  # of the case alone: it is the same when the case is repeated
        way = list(WAYS)[number % len(WAYS)]
        self.counts["scenarios through both machines"] += 1
        for scenario in case.orders():
            try:
                budget = compare_in(scenario, way, seed=number)
                self.counts["steps of both machines compared"] += budget.runs
                self.counts["closed calls in both machines"] += budget.closed
            except TooLongError:
                self.counts["machines not compared: too much work"] += 1
            except DifferenceError as error:
                self._report(case, str(error))

    def _compare_pruned(self, case: Case) -> None:
        if time.monotonic() >= self._deadline:
            return
        for scenario in case.orders():
            self.counts["flows with and without pruning"] += 1
            found = pruned(scenario)
            self.counts["closed calls with and without pruning"] += found.closed
            if found.difference:
                self._report(case, found.difference)

    def _compare_with(self, reference: Reference, cases: Sequence[Case]) -> None:
        runs = [(case, scenario) for case in cases for scenario in case.orders()]
        observed = reference.observe([scenario for _, scenario in runs])
        for place, (case, scenario) in enumerate(runs):
            if place not in observed:
                continue
            expected = observed[place]
            if expected is None:
                self.counts["reference: did not answer"] += 1
                continue
            self._progress()
            if time.monotonic() >= self._deadline:
                self.counts["reference: answered, but the time is over"] += 1
                continue
            result = verdict(scenario, expected)
            order = "fifo" if scenario.order == "fifo" else "shuffled"
            self.counts[f"reference, {order}: {result.cause}"] += 1
            self._keep(scenario, expected, result)
            if not result.explained:
                text = [f"the reference differs, {scenario.order}", scenario.script, *result.found[:LINES_MAX]]
                self._report(case, "\n".join(text))

    def _keep(self, scenario: Scenario, expected: object, result: Verdict) -> None:
        if self._kept is not None:
            line = {"scenario": json.loads(msgspec.json.encode(scenario)), "expected": expected, "cause": result.cause}
            with self._kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def _report(self, case: Case, text: str) -> None:
        self.found += 1
        print(f"python -m tests.fuzz.air {case.repeat}: {text}\n", flush=True)


def cases_of(options: argparse.Namespace, seeds: Sequence[int]) -> Iterator[Case]:
    """The scenarios that options ask for."""
    if options.scenarios:
        return stored_cases(options.scenarios)
    if options.generator:
        return generated_cases(options.generator, seeds, options.first, options.count or COUNT)
    many = COUNT if options.count is None and len(seeds) > 1 else options.count
    return own_cases(seeds, options.first, many)


def _seeds(text: str) -> range:
    """One seed, or several: ``7``, ``1-40``."""
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def options_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=_seeds, help="which rows of scenarios: 7, or 1-40; a random one if not given")
    parser.add_argument("--first", type=int, default=0, help="number of the first scenario of each row")
    parser.add_argument(
        "--count", type=int, help=f"scenarios of each row; {COUNT} of several rows or of another program, else no end"
    )
    parser.add_argument(
        "--generator", metavar="COMMAND", help="writes scenario files; {seed} {count} {out} are filled in"
    )
    parser.add_argument("--scenarios", type=Path, nargs="+", metavar="PATH", help="files, or folders of files")
    parser.add_argument("--seconds", type=float, default=60.0, help="when to end")
    parser.add_argument("--found-max", type=int, default=20, help="end when so many differences were found")
    parser.add_argument("--reference", type=Path, metavar="DIR", help="folder with the harness of the reference")
    parser.add_argument("--reference-only", action="store_true", help="do not compare the two machines with each other")
    parser.add_argument(
        "--answers", type=Path, metavar="DIR", help="where the reference's answers are kept for the next time"
    )
    parser.add_argument(
        "--keep", type=Path, metavar="FILE", help="append scenarios with answers and causes, as JSON lines"
    )
    return parser


def main() -> None:
    parser = options_parser()
    options = parser.parse_args()
    if options.reference is not None and not (options.reference / "run.mjs").is_file():
        parser.error(f"--reference {options.reference}: there is no run.mjs")
    seeds = options.seeds or range(seed := random.SystemRandom().randrange(10**6), seed + 1)
    print(f"seeds {seeds[0]}-{seeds[-1]}", flush=True)
    deadline = time.monotonic() + options.seconds
    reference = Reference(options.reference, deadline, options.answers) if options.reference else None
    machines = not (options.reference_only and reference)
    fuzzing = Fuzzing(deadline, reference, machines=machines, found_max=options.found_max, kept=options.keep)
    fuzzing.run(cases_of(options, seeds))
    for what, many in sorted(fuzzing.counts.items()):
        print(f"{many:>8,} {what}")
    print(f"{fuzzing.found:>8,} differences")
    sys.exit(1 if fuzzing.found else 0)


if __name__ == "__main__":
    sys.setrecursionlimit(DEPTH_MAX)
    threading.stack_size(STACK_BYTES)
    with ThreadPoolExecutor(1) as deep:  # the plain machine calls itself for each round of a fold
        deep.submit(main).result()
