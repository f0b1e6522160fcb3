"""Why fluvial does something else than the reference: each cause is proved, not guessed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Final, get_args

from fluvial.simulation.scenario import Scenario

from tests.conformance.comparison import Observation, differences, missing, play
from tests.conformance.reference_rules import Rule, reference_rules
from tests.reevaluating.machine import Machine as Reevaluating

REFERENCE_BUGS: Final = frozenset({-1, 9, 20_000, 30_000})
"""Codes of failures that are bugs of the reference itself."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a comparison came to.

    Attributes:
        cause: ``equal``, a bug of the reference, the rules of the reference that explain the difference, or ``unexplained``.
        found: what differs.
    """

    cause: str
    found: tuple[str, ...] = ()

    @property
    def explained(self) -> bool:
        """Whether it is as it should be."""
        return self.cause != "unexplained"


def verdict(scenario: Scenario, expected: Observation) -> Verdict:
    """Compare with what the reference did with a scenario."""
    bugs = sorted({failure["code"] for failure in expected["failures"]} & REFERENCE_BUGS)
    if bugs:
        return Verdict(f"the reference fails with {bugs[0]}")
    ours = play(scenario)
    if not (found := tuple(differences(expected, ours))):
        return Verdict("equal")
    if not differences(expected, play(scenario, machine=Reevaluating)):
        return Verdict("unexplained", ("the plain machine does what the reference does", *found))
    for rules in _choices():
        with reference_rules(rules):
            explained = not differences(expected, play(scenario, machine=Reevaluating))
        if explained and not ("sent" in rules and missing(expected, ours)):
            return Verdict("rule of the reference: " + " and ".join(rules), found)
    return Verdict("unexplained", found)


def _choices() -> Iterator[tuple[Rule, ...]]:
    """All sets of rules, the small ones first."""
    rules: tuple[Rule, ...] = get_args(Rule)
    for many in range(1, len(rules) + 1):
        yield from combinations(rules, many)
