"""Offers the algorithm ``dag``."""

from __future__ import annotations

import msgspec
from fluvial import hookimpl
from fluvial.consensus.engine import EngineSetup, EngineTraits
from fluvial.offers import Registry

from fluvial_consensus_dag.dag import Dag
from fluvial_consensus_dag.messages import describe, reseal
from fluvial_consensus_dag.rebels import DagOnOld, DagSignsAll


class DagOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The DAG has no options."""


def make(setup: EngineSetup, options: DagOptions) -> Dag:
    """One validator's engine for one epoch."""
    return Dag(setup)


TRAITS = EngineTraits(
    certifies_state=False,
    describe=describe,
    reseal=reseal,
    rebels={
        "build_on_old": lambda setup, options: DagOnOld(setup),
        "sign_everything": lambda setup, options: DagSignsAll(setup),
    },
)


@hookimpl
def fluvial_register(registry: Registry) -> None:
    """Offer the engine."""
    registry.engine("dag", make, options=DagOptions, traits=TRAITS)
