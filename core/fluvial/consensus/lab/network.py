"""The network of a run: who hears what, and when."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random

from fluvial.consensus.lab.schedule import Conditions, FaultSchedule, LinkFault, Partition, Reference


def is_meant(reference: Reference, node: int, label: str) -> bool:
    """Whether a reference means a copy of a node: numbers mean all copies, texts one."""
    return reference == node if isinstance(reference, int) else reference == label


class SimulatedNetwork:
    """Decides on the fate of each message.

    Args:
        schedule: what it is like.
        seed: of this run.
    """

    def __init__(self, schedule: FaultSchedule, seed: int) -> None:
        network = schedule.network
        self._rng = Random(f"network {seed}")  # noqa: S311 - no secret
        self._after = Conditions(network.delay_ms, network.loss, network.duplicate)
        self._before = network.before_gst or self._after
        self._gst_ms, self._delta_ms = schedule.gst_ms, schedule.delta_ms
        self._partitions = [one for one in schedule.faults if isinstance(one, Partition)]
        self._links = [one for one in schedule.faults if isinstance(one, LinkFault)]
        self._correct = set(range(schedule.nodes)) - {role.node for role in schedule.byzantine}

    def arrivals(self, sender: tuple[int, str], to: tuple[int, str], at_us: int) -> Sequence[int]:
        """When a message arrives, in microseconds; empty if it is lost, twice if it comes twice.

        Args:
            sender: number and label of the copy.
            to: the same of who shall get it.
            at_us: when it is sent.
        """
        at_ms = at_us / 1000
        conditions = self._before if at_ms < self._gst_ms else self._after
        lost = self._rng.random() < conditions.loss
        copies = 2 if self._rng.random() < conditions.duplicate else 1
        delays = [self._delay_us(conditions) for _ in range(copies)]
        if lost or self._is_cut(sender, to, at_ms):
            return ()
        extra_us = 0
        for link in self._links:
            if self._concerns(link, sender, to, at_ms):
                if self._rng.random() < link.loss:
                    return ()
                extra_us += round(link.extra_delay_ms * 1000)
        arrivals = [at_us + delay + extra_us for delay in delays]
        if at_ms < self._gst_ms and sender[0] in self._correct:
            latest = round((self._gst_ms + self._delta_ms) * 1000)
            arrivals = [min(one, max(latest, at_us + 1)) for one in arrivals]
        return arrivals

    def _delay_us(self, conditions: Conditions) -> int:
        low, high = conditions.delay_ms
        return round(1000 * low) if low == high else self._rng.randint(round(1000 * low), round(1000 * high))

    def _is_cut(self, sender: tuple[int, str], to: tuple[int, str], at_ms: float) -> bool:
        return any(
            one.at_ms <= at_ms < one.until_ms and _group(one.groups, sender) != _group(one.groups, to)
            for one in self._partitions
        )

    def _concerns(self, link: LinkFault, sender: tuple[int, str], to: tuple[int, str], at_ms: float) -> bool:
        during = link.at_ms <= at_ms and (link.until_ms is None or at_ms < link.until_ms)
        return during and is_meant(link.sender, *sender) and is_meant(link.to, *to)


def _group(groups: Iterable[Iterable[Reference]], node: tuple[int, str]) -> int:
    for number, group in enumerate(groups):
        if any(is_meant(one, *node) for one in group):
            return number
    return -1
