"""Offers the algorithm ``simplex``."""

from __future__ import annotations

import msgspec
from fluvial import hookimpl
from fluvial.consensus.engine import EngineSetup, EngineTraits
from fluvial.offers import Registry

from fluvial_consensus_bft.messages import describe, reseal
from fluvial_consensus_bft.rebels import SimplexOnOld, SimplexSignsAll
from fluvial_consensus_bft.simplex import Simplex


class SimplexOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Simplex has no options."""


def make(setup: EngineSetup, options: SimplexOptions) -> Simplex:
    """One validator's engine for one epoch."""
    return Simplex(setup)


TRAITS = EngineTraits(
    describe=describe,
    reseal=reseal,
    rebels={
        "build_on_old": lambda setup, options: SimplexOnOld(setup),
        "sign_everything": lambda setup, options: SimplexSignsAll(setup),
    },
)


@hookimpl
def fluvial_register(registry: Registry) -> None:
    """Offer the engine."""
    registry.engine("simplex", make, options=SimplexOptions, traits=TRAITS)
