"""Offers the algorithm ``dag``; the engine itself is imported when one is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from fluvial import hookimpl
from fluvial.consensus.engine import EngineSetup, EngineTraits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fluvial.consensus.engine import MessageDescription
    from fluvial.offers import Registry

    from fluvial_consensus_dag.dag import Dag


class DagOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The DAG has no options."""


def make(setup: EngineSetup, options: DagOptions) -> Dag:
    """One validator's engine for one epoch."""
    from fluvial_consensus_dag.dag import Dag

    return Dag(setup)


def _describe(message: bytes) -> MessageDescription | None:
    from fluvial_consensus_dag.messages import describe

    return describe(message)


def _reseal(message: bytes, index: int) -> bytes | None:
    from fluvial_consensus_dag.messages import reseal

    return reseal(message, index)


def _payloads(message: bytes) -> Sequence[bytes]:
    from fluvial_consensus_dag.messages import payloads

    return payloads(message)


def _build_on_old(setup: EngineSetup, options: DagOptions) -> Dag:
    from fluvial_consensus_dag.rebels import DagOnOld

    return DagOnOld(setup)


def _sign_everything(setup: EngineSetup, options: DagOptions) -> Dag:
    from fluvial_consensus_dag.rebels import DagSignsAll

    return DagSignsAll(setup)


TRAITS = EngineTraits(
    certifies_state=False,
    describe=_describe,
    reseal=_reseal,
    payloads=_payloads,
    rebels={"build_on_old": _build_on_old, "sign_everything": _sign_everything},
)


@hookimpl
def fluvial_register(registry: Registry) -> None:
    """Offer the engine."""
    registry.engine("dag", make, options=DagOptions, traits=TRAITS)
