"""Counters of what happens for each message or particle, which cost next to nothing there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector


class OutcomeCounts(Collector):
    """A counter with labels as plain numbers, which cost nothing where messages pass; prometheus reads them when it is asked.

    Args:
        name, documentation: of the metric.
        labels: their names; they have a bounded number of values.
        registry: where it is found.
    """

    def __init__(self, name: str, documentation: str, labels: Sequence[str], *, registry: CollectorRegistry) -> None:
        self._name, self._documentation, self._labels = name, documentation, tuple(labels)
        self._counts: dict[tuple[str, ...], int] = {}
        registry.register(self)

    def count(self, *labels: str) -> None:
        """It has happened once more."""
        self._counts[labels] = self._counts.get(labels, 0) + 1

    def collect(self) -> Iterable[Metric]:
        """For prometheus: the present values."""
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labels)
        for labels, number in tuple(self._counts.items()):  # a scrape may come from another thread
            family.add_metric(labels, number)
        return (family,)
