"""The reference interpreter: a folder with the AquaVM harness, driven as a program."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
from fluvial.simulation.scenario import Scenario

from tests.conformance.comparison import Observation, expected_file

BATCH: Final = 20
"""Scenarios that one process of the harness plays, one after the other."""

BATCH_SECONDS: Final = 60.0
"""How long it may take for them; on some scripts the reference does not come to an end."""


class Reference:
    """The reference interpreter.

    Args:
        directory: where the harness ``run.mjs`` lies.
        deadline: when to ask no more, as ``time.monotonic`` has it.
        answers: where its answers are kept, and looked up before it is asked; nowhere if not given.

    Attributes:
        on_answers: called after each process of the harness, which may take a minute.
    """

    def __init__(self, directory: Path, deadline: float, answers: Path | None = None) -> None:
        self._directory = directory
        self._deadline = deadline
        self._answers = answers
        self.on_answers: Callable[[], None] = lambda: None

    def observe(self, scenarios: Sequence[Scenario]) -> dict[int, Observation | None]:
        """What it does with scenarios, by their places; None if it did not answer. When the time is over the rest is missing."""
        observed: dict[int, Observation | None] = {}
        for place, one in enumerate(scenarios):
            if (kept := self._kept(one)) is not None:
                observed[place] = kept[0]
        waiting = [place for place in range(len(scenarios)) if place not in observed]
        while waiting and time.monotonic() < self._deadline:
            batch, waiting = waiting[:BATCH], waiting[BATCH:]
            answers, stopped = self._ask([scenarios[place] for place in batch])
            self.on_answers()
            # Where it was stopped, one that was not the first of its batch has another try as the first one.
            tried = max(len(answers), 1) if stopped else len(batch)
            if stopped and time.monotonic() >= self._deadline:
                tried = len(answers)
            waiting = batch[tried:] + waiting
            for number, place in enumerate(batch[:tried]):
                observed[place] = answers.get(number)
                self._keep(scenarios[place], answers.get(number))
        return observed

    def _ask(self, scenarios: Sequence[Scenario]) -> tuple[dict[int, Observation], bool]:
        """The answers of one process, by place, and whether it had to be stopped."""
        seconds = min(BATCH_SECONDS, max(1.0, self._deadline - time.monotonic()))
        stopped = True
        with tempfile.TemporaryDirectory() as name:
            files = [Path(name, f"{place:04}.json") for place in range(len(scenarios))]
            for file, one in zip(files, scenarios, strict=True):
                file.write_bytes(msgspec.json.encode(one))
            command = ["node", "run.mjs", "--engine", "direct", "--all", name]
            with suppress(subprocess.TimeoutExpired):
                subprocess.run(command, cwd=self._directory, timeout=seconds, capture_output=True, check=False)
                stopped = False
            answers: dict[int, Observation] = {}
            for place, file in enumerate(files):
                # The last one may be there in part: the process was stopped while it wrote it.
                with suppress(FileNotFoundError, json.JSONDecodeError):
                    answers[place] = json.loads(expected_file(file).read_bytes())
        return answers, stopped

    # --- answers that are kept

    def _file(self, scenario: Scenario) -> Path | None:
        if self._answers is None:
            return None
        return self._answers / f"{hashlib.sha256(msgspec.json.encode(scenario)).hexdigest()}.json"

    def _kept(self, scenario: Scenario) -> tuple[Observation | None] | None:
        file = self._file(scenario)
        return None if file is None or not file.exists() else (json.loads(file.read_bytes()),)

    def _keep(self, scenario: Scenario, answer: Observation | None) -> None:
        if (file := self._file(scenario)) is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(answer), encoding="utf-8")
