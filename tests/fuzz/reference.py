"""Comparing with the reference interpreter: a folder with the AquaVM harness, driven as a program."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
from fluvial.simulation.scenario import Scenario

from tests.conformance.comparison import Observation, differences, expected_file, missing, play
from tests.conformance.reference_rules import Rule, reference_rules
from tests.reevaluating.machine import Machine as Reevaluating

BATCH: Final = 20
BATCH_SECONDS: Final = 60.0
REFERENCE_BUGS: Final = frozenset({-1, 9, 20_000, 30_000})
"""Codes of failures that are bugs of the reference itself."""

MISFIT: Final = 20_017
"""The reference ends a run on a result that does not fit its call; fluvial goes on (docs/deviations.md). ``%last_error%`` may change so."""


def observe(directory: Path, scenarios: Sequence[Scenario], seconds: float) -> Mapping[str, Observation]:
    """What the reference does with at most :data:`BATCH` scenarios; it may hang, so those behind the first such one are missing.

    Args:
        directory: where the harness ``run.mjs`` lies.
        scenarios: what to play.
        seconds: how long it may take.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {one.name: folder / f"{one.name}.json" for one in scenarios}
        for one in scenarios:
            files[one.name].write_bytes(msgspec.json.encode(one))
        command = ["node", "run.mjs", "--engine", "direct", "--all", str(folder)]
        # where it hangs, what it has finished lies there
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(command, cwd=directory, timeout=seconds, capture_output=True, check=False)
        return dict(_finished(files))


def _finished(files: Mapping[str, Path]) -> Iterator[tuple[str, Observation]]:
    for name, file in files.items():
        expected = expected_file(file)
        if not expected.exists():
            continue
        try:
            yield name, json.loads(expected.read_bytes())
        except ValueError:
            continue  # it was stopped while writing this one


def cause(scenario: Scenario, expected: Observation) -> tuple[str, list[str]]:
    """Why fluvial differs from the reference, and in what.

    Returns:
        ``equal``, ``bug of the reference``, the rule or the rules of the reference that explain the difference, ``results that do not fit``, or
        ``unexplained``; and the differences.
    """
    if any(failure["code"] in REFERENCE_BUGS for failure in expected["failures"]):
        return "bug of the reference", []
    found = differences(expected, play(scenario))
    if not found:
        return "equal", []
    rules: tuple[Any, ...] = get_args(Rule)
    for chosen in [*((rule,) for rule in rules), *_pairs(rules), rules]:
        with reference_rules(chosen):
            if not differences(expected, play(scenario, machine=Reevaluating)):
                return " and ".join(chosen), found
    if any(failure["code"] == MISFIT for failure in expected["failures"]) and not missing(expected, play(scenario)):
        return "results that do not fit", found
    return "unexplained", found


def _pairs(rules: Sequence[Any]) -> list[tuple[Any, Any]]:
    return [(one, other) for number, one in enumerate(rules) for other in rules[number + 1 :]]
