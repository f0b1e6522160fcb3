"""Why fluvial does something else than the reference: each cause is proved, not guessed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, zip_longest
from typing import Final, get_args

from fluvial.simulation.scenario import Scenario

from tests.conformance.comparison import Observation, differences, missing, play
from tests.conformance.reference_rules import Rule, reference_rules
from tests.reevaluating.machine import Machine as Reevaluating

REFERENCE_BUGS: Final = frozenset({-1, 9, 20_000, 30_000})
"""Codes of failures that are bugs of the reference itself."""


PROOF_SECONDS: Final = 60.0
"""How long sets of rules are tried for one scenario."""

LIMIT: Final = 20_100
"""Code of failures that are limits of fluvial alone."""

STREAM_LIMIT: Final = 20_013
"""Code of the failure that both have: a stream with too many elements."""


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
    if not differences(expected, _at_limits(expected, ours)):
        return Verdict(f"a limit of fluvial is reached first ({LIMIT} for {STREAM_LIMIT})", found)
    plain = play(scenario, machine=Reevaluating)
    if not differences(expected, plain):
        return Verdict("unexplained", ("the plain machine does what the reference does", *found))
    for rules, under_rules in _under_rules(scenario, plain):
        if not differences(expected, under_rules) and not ("sent" in rules and missing(expected, ours)):
            return Verdict("rule of the reference: " + " and ".join(rules), found)
    return Verdict("unexplained", found)


def _under_rules(scenario: Scenario, plain: Observation) -> Iterator[tuple[tuple[Rule, ...], Observation]]:
    """What the plain machine does under rules of the reference: each alone, then together those that make a difference."""
    end = time.monotonic() + PROOF_SECONDS
    rules: tuple[Rule, ...] = get_args(Rule)
    telling: list[Rule] = []
    for rule in rules:
        with reference_rules((rule,)):
            observed = play(scenario, machine=Reevaluating)
        if differences(plain, observed):
            telling.append(rule)
            yield (rule,), observed
    for many in range(2, len(telling) + 1):
        for chosen in combinations(telling, many):
            if time.monotonic() > end:
                return
            with reference_rules(chosen):
                observed = play(scenario, machine=Reevaluating)
            yield chosen, observed


def _at_limits(expected: Observation, ours: Observation) -> Observation:
    """What fluvial did, if where it came to a limit of its own the reference came to the one that both have."""
    ends = ((failure["peer"], failure["code"]) for failure in expected["failures"])
    failures = [
        {**failure, "code": STREAM_LIMIT}
        if failure["code"] == LIMIT and theirs == (failure["peer"], STREAM_LIMIT)
        else failure
        for failure, theirs in zip_longest(ours["failures"], ends)
        if failure is not None
    ]
    return {**ours, "failures": failures}
