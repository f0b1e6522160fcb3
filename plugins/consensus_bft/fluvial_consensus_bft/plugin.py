"""Offers the algorithm ``simplex``; the engine itself is imported when one is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from fluvial import hookimpl
from fluvial.consensus.engine import EngineSetup, EngineTraits

if TYPE_CHECKING:
    from fluvial.consensus.engine import MessageDescription
    from fluvial.offers import Registry

    from fluvial_consensus_bft.simplex import Simplex


class SimplexOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Simplex has no options."""


def make(setup: EngineSetup, options: SimplexOptions) -> Simplex:
    """One validator's engine for one epoch."""
    from fluvial_consensus_bft.simplex import Simplex

    return Simplex(setup)


def _describe(message: bytes) -> MessageDescription | None:
    from fluvial_consensus_bft.messages import describe

    return describe(message)


def _reseal(message: bytes, index: int) -> bytes | None:
    from fluvial_consensus_bft.messages import reseal

    return reseal(message, index)


def _build_on_old(setup: EngineSetup, options: SimplexOptions) -> Simplex:
    from fluvial_consensus_bft.rebels import SimplexOnOld

    return SimplexOnOld(setup)


def _sign_everything(setup: EngineSetup, options: SimplexOptions) -> Simplex:
    from fluvial_consensus_bft.rebels import SimplexSignsAll

    return SimplexSignsAll(setup)


TRAITS = EngineTraits(
    describe=_describe,
    reseal=_reseal,
    rebels={"build_on_old": _build_on_old, "sign_everything": _sign_everything},
)


@hookimpl
def fluvial_register(registry: Registry) -> None:
    """Offer the engine."""
    registry.engine("simplex", make, options=SimplexOptions, traits=TRAITS)
