"""Peers that contradict themselves: logged and counted when it is found. The evidence itself stays in the particle's journal."""

from __future__ import annotations

from collections.abc import Iterable
from logging import WARNING
from typing import Final

from prometheus_client import CollectorRegistry, Counter

from fluvial.air.data.evidence import Equivocation
from fluvial.air.data.facts import CanonFact
from fluvial.particle import Particle
from fluvial.throttling import ThrottledLog


class EvidenceLog:
    """See the module's docstring.

    Args:
        metrics: gets ``fluvial_equivocations_total``.
        throttled: for log lines that other peers can cause.
    """

    def __init__(self, *, metrics: CollectorRegistry, throttled: ThrottledLog) -> None:
        self._throttled: Final = throttled
        self._found: Final = Counter(
            "fluvial_equivocations",
            "Pairs of different answers that a peer has signed to one question",
            registry=metrics,
        )

    def found(self, particle: Particle, equivocations: Iterable[Equivocation]) -> None:
        """Two answers of one peer are in the journal of a particle."""
        for one in equivocations:
            self._found.inc()
            reason = "canon" if isinstance(one.answers[1], CanonFact) else "call"
            batches = [batch.hex() for batch in one.batches]
            self._throttled.note(
                "peer_contradicted_itself",
                reason,
                cause=str(one.signer),
                level=WARNING,
                particle=particle.id,
                other=str(one.signer),
                instruction=one.instance.node,
                batches=batches,
            )
