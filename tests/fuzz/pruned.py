"""The same scenario with and without leaving out what nobody can read any more, and what calls came to where nobody else can need it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple
from unittest.mock import patch

from fluvial.air.data import content
from fluvial.air.data.batch import Known, MissingError
from fluvial.air.data.facts import Closed, Instance
from fluvial.air.machine.machine import Effects, Machine
from fluvial.air.machine.outcomes import CallOutcome
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


class Pruned(NamedTuple):
    """What leaving out came to in one flow.

    Attributes:
        difference: how it changes what the flow does; empty if it does not, and if no peer has to ask for a value.
        closed: how many calls were closed instead of told.
    """

    difference: str
    closed: int


def pruned(scenario: Scenario) -> Pruned:
    """Play a scenario with leaving out, and without."""
    with patch.object(content, "LEAF_BYTES_MAX", LEAF_BYTES):
        machine = watched()
        some, whole = said(simulate(scenario, machine=machine)), said(simulate(scenario, pruning=False))
    closed = sum(len(fact.nodes) for fact in closed_by(machine.made))
    if some != whole:
        return Pruned(f"with pruning {some}\nwithout {whole}", closed)
    lacked = f"{len(machine.lacked)} times a peer lacked a value that it needs" if machine.lacked else ""
    return Pruned(lacked, closed)


def closed_by(machines: Iterable[Machine]) -> list[Closed]:
    """All that these machines know to be closed, once."""
    batches = {batch.id: batch for machine in machines for batch in machine.batches()}
    return [item for batch in batches.values() for item in batch.signed.items if isinstance(item, Closed)]
