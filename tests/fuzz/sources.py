"""Where scenarios come from: this project's generator, another program that writes scenario files, or files.

The same seeds and numbers always give the same scenarios, if the program keeps to that.
"""

from __future__ import annotations

import shlex
import subprocess
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Final

import msgspec
from fluvial.simulation.scenario import Scenario, Seeded

from tests.conformance.comparison import is_answer
from tests.fuzz.generator import scenario

GENERATOR_SECONDS: Final = 300.0
"""How long another program may take for the scenarios of one seed."""


@dataclass(frozen=True, slots=True)
class Case:
    """A scenario to try.

    Attributes:
        scenario: the scenario.
        repeat: the options that lead to it once more.
    """

    scenario: Scenario
    repeat: str

    def orders(self) -> tuple[Scenario, Scenario]:
        """It with deliveries first in, first out, and shuffled: by its own seed if it has one."""
        own = self.scenario.order
        shuffled = own if isinstance(own, Seeded) else Seeded(zlib.crc32(self.scenario.name.encode()))
        fifo, other = (msgspec.structs.replace(self.scenario, order=order) for order in ("fifo", shuffled))
        return fifo, other


def own_cases(seeds: Sequence[int], first: int, many: int | None) -> Iterator[Case]:
    """The rows of this project's generator, one after the other; without ``many`` the first one never ends. Every second has rows of calls."""
    for seed in seeds:
        for number in islice(count(first), many):
            yield Case(scenario(seed, number, runs=number % 2 == 1), f"--seeds {seed} --first {number} --count 1")


def generated_cases(command: str, seeds: Sequence[int], first: int, many: int) -> Iterator[Case]:
    """What another program writes for each seed.

    Args:
        command: it; ``{seed}``, ``{count}`` and ``{out}`` stand for the seed, how many scenarios, and the folder that they go to.
        seeds: which rows.
        first, many: which of each row, in the order of the files' names.

    Raises:
        CalledProcessError, TimeoutExpired: the program failed or took too long.
    """
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            filled = [part.format(seed=seed, count=first + many, out=folder) for part in shlex.split(command)]
            subprocess.run(filled, check=True, timeout=GENERATOR_SECONDS, stdout=subprocess.DEVNULL)
            scenarios = [Scenario.load(file) for file in _files(Path(folder))]
        for number, one in enumerate(scenarios[first:], first):
            options = f"--generator {shlex.quote(command)} --seeds {seed} --first {number} --count 1"
            yield Case(one, options)


def stored_cases(places: Sequence[Path]) -> Iterator[Case]:
    """The scenarios in files and folders."""
    for place in places:
        for file in _files(place) if place.is_dir() else [place]:
            yield Case(Scenario.load(file), f"--scenarios {shlex.quote(str(file))}")


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.json") if not is_answer(file))
