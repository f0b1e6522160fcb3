"""When two observations of one scenario agree, and what they differ in if not.

Compared are the calls (order, arguments as JSON values, tetraplets), the failures (peer and code, for catchable errors also the
message), the number of deliveries and the lost peers. Sizes of data are not compared.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec
from fluvial.air.machine.machine import Machine
from fluvial.simulation.network import simulate
from fluvial.simulation.scenario import Scenario

Observation: TypeAlias = Mapping[str, Any]

CATCHABLE: Final = range(10_000, 20_000)
"""Only errors with these codes have messages that scripts can see."""


def play(scenario: Scenario, *, machine: type[Machine] = Machine) -> Observation:
    """What the simulation observes, as the JSON that ``fluvial air simulate`` prints, with this AIR machine in every peer."""
    observation: Observation = msgspec.json.decode(msgspec.json.encode(simulate(scenario, machine=machine)))
    return observation


def scenario_files(directory: Path) -> list[Path]:
    """The scenarios of a directory that have an expected observation beside them."""
    return sorted(path for path in directory.glob("*.json") if expected_file(path).is_file())


def expected_file(path: Path) -> Path:
    """Where the expected observation of a scenario lies."""
    return path.with_name(f"{path.stem}.expected.json")


def is_answer(path: Path) -> bool:
    """Whether a file holds an expected observation."""
    return path.name.endswith(".expected.json")


def differences(expected: Observation, got: Observation) -> list[str]:
    """What is not equal, one line each; empty if the observations agree."""
    return [
        *_in_order("call", _calls(expected), _calls(got)),
        *_in_order("failure", _failures(expected), _failures(got)),
        *_unequal("deliveries", expected["deliveries"], got["deliveries"]),
        *_unequal("lost", expected["lost"], got["lost"]),
    ]


def missing(expected: Observation, got: Observation) -> list[str]:
    """What was expected and did not happen, whatever happened besides and in whichever order."""
    calls = Counter(_calls(expected)) - Counter(_calls(got))
    too_few = ["too few deliveries"] if got["deliveries"] < expected["deliveries"] else []
    return [*calls, *(set(expected["lost"]) - set(got["lost"])), *too_few]


def goes_on(expected: Observation, got: Observation) -> bool:
    """Whether all calls that were made are the first ones that were expected, in order, and more were expected."""
    calls = _calls(got)
    return len(calls) < len(expected["calls"]) and _calls(expected)[: len(calls)] == calls


def _calls(observation: Observation) -> list[str]:
    names = ("peer", "service", "function", "args", "tetraplets")
    return [json.dumps([call[name] for name in names], sort_keys=True) for call in observation["calls"]]


def _failures(observation: Observation) -> list[str]:
    return [
        f"{failure['peer']} {failure['code']} {failure['message'] if failure['code'] in CATCHABLE else ''}"
        for failure in observation["failures"]
    ]


def _in_order(what: str, expected: list[str], got: list[str]) -> Iterator[str]:
    for number, (one, other) in enumerate(zip_longest(expected, got)):
        if one != other:
            yield f"{what} {number}: expected {one or 'none'}, got {other or 'none'}"


def _unequal(what: str, expected: object, got: object) -> list[str]:
    return [] if expected == got else [f"{what}: expected {expected}, got {got}"]
