"""Makes candidates for the seat of consensus out of engines that plugins offer, and a follower for peers without an engine; imports nothing heavy."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from fluvial.consensus.engine import EngineSetup, EngineTraits, MakeEngine
from fluvial.consensus.following import Following
from fluvial.consensus.ordering import OutsideOrder
from fluvial.hosting.settings import HostPlan, LedgerSection
from fluvial.hosting.tables import TABLES
from fluvial.offers import Offer
from fluvial.ports import Context

if TYPE_CHECKING:
    from fluvial.hosting.host import ConsensusHost


def hosted(engine: Offer, section: LedgerSection, key_file: Path) -> Offer:
    """The candidate for the seat that runs an engine.

    Args:
        engine: its offer.
        section: ``[ledger]``.
        key_file: the peer's key.
    """
    return _candidate(engine, section, key_file, engine.factory, engine.traits or EngineTraits())


def over_service(service: Offer, section: LedgerSection, key_file: Path) -> Offer:
    """The candidate for the seat that takes the order of payloads from a service outside.

    Args:
        service: its offer.
        section: ``[ledger]``.
        key_file: the peer's key.
    """

    def make(setup: EngineSetup, options: Any) -> OutsideOrder:
        return OutsideOrder(setup)

    traits = service.traits or EngineTraits(fault_model="crash", certifies_state=False)
    return _candidate(service, section, key_file, make, traits, outside=True)


def following(none: Offer, section: LedgerSection, key_file: Path) -> Offer:
    """The candidate for the seat that follows a ledger.

    Args:
        none: the offer of the seat's name ``none``, which has no options.
        section: ``[ledger]``.
        key_file: the peer's key.
    """

    def make(setup: EngineSetup, options: Any) -> Following:
        return Following(setup)

    return _candidate(none, section, key_file, make, EngineTraits(), algorithm="")


def _candidate(
    offer: Offer,
    section: LedgerSection,
    key_file: Path,
    make: MakeEngine,
    traits: EngineTraits,
    *,
    algorithm: str | None = None,
    outside: bool = False,
) -> Offer:
    """An offer whose factory makes the host; ``outside`` if what it made before is the service that orders."""

    def build(context: Context, options: msgspec.Struct) -> ConsensusHost:
        from fluvial.hosting.host import ConsensusHost  # SQLAlchemy, which settings do not pay for

        plan = HostPlan(
            section=section,
            key_file=key_file,
            algorithm=offer.name if algorithm is None else algorithm,
            make=make,
            options=options,
            certifies_state=traits.certifies_state,
            fault_model=traits.fault_model,
            payloads=traits.payloads,
            ordering=partial(offer.factory, context, options) if outside else None,
        )
        return ConsensusHost(context, plan)

    return replace(offer, kind="consensus", factory=build, tables=TABLES)
