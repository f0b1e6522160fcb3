"""The same scenario with and without leaving out what nobody can read any more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from unittest.mock import patch

from fluvial.air.data import content
from fluvial.air.data.batch import Known, MissingError
from fluvial.air.data.facts import Instance
from fluvial.air.machine.machine import CallOutcome, Effects, Machine
from fluvial.simulation.network import Observation, simulate
from fluvial.simulation.scenario import Scenario

LEAF_BYTES: Final = 4
"""So low that nearly every value could be left out."""

VALUE_MISSING: Final = 20101


class Watched(Machine):
    """Keeps all machines of a simulation, and the ids of values that they lacked; made by :func:`watched`."""

    made: list[Watched]
    lacked: list[bytes]

    def __init__(self, *arguments: Any, **environment: Any) -> None:
        super().__init__(*arguments, **environment)
        self.made_of = arguments, environment
        self.made.append(self)

    def merge(self, known: Known) -> Effects:
        try:
            return super().merge(known)
        except MissingError as error:
            self.lacked.extend(error.contents)
            raise

    def resolve(self, outcomes: Mapping[Instance, CallOutcome]) -> Effects:
        effects = super().resolve(outcomes)
        if effects.error is not None and effects.error.code == VALUE_MISSING:
            self.lacked.append(b"")
        return effects


def watched() -> type[Watched]:
    """A class of its own for one simulation."""
    return type("WatchedHere", (Watched,), {"made": [], "lacked": []})


def said(observation: Observation) -> tuple[Any, ...]:
    """What a flow came to."""
    return observation.calls, observation.failures, observation.deliveries, observation.lost


def difference(scenario: Scenario) -> str:
    """How pruning changes what a flow does; empty if it does not, and if no peer has to ask for a value."""
    with patch.object(content, "LEAF_BYTES_MAX", LEAF_BYTES):
        machine = watched()
        pruned, whole = said(simulate(scenario, machine=machine)), said(simulate(scenario, pruning=False))
    if pruned != whole:
        return f"with pruning {pruned}\nwithout {whole}"
    return f"{len(machine.lacked)} times a peer lacked a value that it needs" if machine.lacked else ""
