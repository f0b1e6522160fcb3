"""Makes candidates for the seat of consensus out of engines that plugins offer, and a follower for peers without an engine; imports nothing heavy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from fluvial.consensus.engine import EngineSetup, EngineTraits
from fluvial.consensus.following import Following
from fluvial.consensus.ordering import OutsideOrder
from fluvial.hosting.settings import HostPlan, LedgerSection
from fluvial.hosting.tables import TABLES
from fluvial.ports import Context
from fluvial.seats import Offer

if TYPE_CHECKING:
    from fluvial.hosting.host import ConsensusHost


def hosted(engine: Offer, section: LedgerSection, key_file: Path) -> Offer:
    """The candidate for the seat that runs an engine.

    Args:
        engine: its offer.
        section: ``[ledger]``.
        key_file: the peer's key.
    """
    traits = engine.traits or EngineTraits()

    def build(context: Context, options: msgspec.Struct) -> ConsensusHost:
        return _host(
            context,
            HostPlan(
                section=section,
                key_file=key_file,
                algorithm=engine.name,
                make=engine.factory,
                options=options,
                certifies_state=traits.certifies_state,
                fault_model=traits.fault_model,
            ),
        )

    return replace(engine, kind="consensus", factory=build, tables=TABLES)


def over_service(service: Offer, section: LedgerSection, key_file: Path) -> Offer:
    """The candidate for the seat that takes the order of payloads from a service outside.

    Args:
        service: its offer.
        section: ``[ledger]``.
        key_file: the peer's key.
    """
    traits = service.traits or EngineTraits(fault_model="crash", certifies_state=False)

    def make(setup: EngineSetup, options: Any) -> OutsideOrder:
        return OutsideOrder(setup)

    def build(context: Context, options: msgspec.Struct) -> ConsensusHost:
        return _host(
            context,
            HostPlan(
                section=section,
                key_file=key_file,
                algorithm=service.name,
                make=make,
                options=options,
                certifies_state=traits.certifies_state,
                fault_model=traits.fault_model,
                ordering=lambda: service.factory(context, options),
            ),
        )

    return replace(service, kind="consensus", factory=build, tables=TABLES)


def following(none: Offer, section: LedgerSection, key_file: Path) -> Offer:
    """The candidate for the seat that follows a ledger.

    Args:
        none: the offer of the seat's name ``none``, which has no options.
        section: ``[ledger]``.
        key_file: the peer's key.
    """

    def make(setup: EngineSetup, options: Any) -> Following:
        return Following(setup)

    def build(context: Context, options: msgspec.Struct) -> ConsensusHost:
        return _host(
            context,
            HostPlan(
                section=section,
                key_file=key_file,
                algorithm="",
                make=make,
                options=options,
                certifies_state=True,
                fault_model="byzantine",
            ),
        )

    return replace(none, factory=build, tables=TABLES)


def _host(context: Context, plan: HostPlan) -> ConsensusHost:
    from fluvial.hosting.host import ConsensusHost  # SQLAlchemy, which settings do not pay for

    return ConsensusHost(context, plan)
