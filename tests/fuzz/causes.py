"""Why fluvial does something else than the reference: each cause is proved, not guessed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, zip_longest
from typing import Final, get_args

from fluvial.air.data.batch import Known
from fluvial.air.data.facts import Instance
from fluvial.air.machine.machine import Effects, Machine
from fluvial.air.machine.outcomes import CallOutcome
from fluvial.simulation.scenario import Scenario

from tests.conformance.comparison import Observation, differences, goes_on, missing, play
from tests.conformance.reference_rules import Rule, reference_rules
from tests.reevaluating.machine import Machine as Reevaluating

REFERENCE_BUGS: Final = frozenset({-1, 9, 20_000, 30_000})
"""Codes of failures that are bugs of the reference itself."""

PLAY_SECONDS: Final = 30.0
"""How much processor time one machine may take for a scenario; some scripts of a few lines make thousands of calls."""

PROOF_SECONDS: Final = 120.0
"""How much processor time sets of rules may take for one scenario."""

PAIR: Final = 2
"""Sets of rules up to this size are all tried."""

LIMIT: Final = 20_100
"""Code of failures that are limits of fluvial alone."""

STREAM_LIMIT: Final = 20_013
"""Code of the failure that both have: a stream with too many elements."""

FIRST_LIMIT: Final = f"a limit of fluvial is reached first ({LIMIT} for {STREAM_LIMIT})"

EARLY_LIMIT: Final = f"a limit of fluvial ({LIMIT}) ends what is the same up to there"


class OverdueError(Exception):
    """A machine takes too long for a scenario."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a comparison came to.

    Attributes:
        cause: ``equal``, a bug of the reference, the rules of the reference that explain the difference, that it took too long, or
            ``unexplained``.
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
    try:
        return _compared(scenario, expected)
    except OverdueError:
        return Verdict(f"not compared: it takes longer than {PLAY_SECONDS:.0f} s")


def _compared(scenario: Scenario, expected: Observation) -> Verdict:
    ours = _play(scenario)
    if not (found := tuple(differences(expected, ours))):
        return Verdict("equal")
    if not differences(expected, _at_limits(expected, ours)):
        return Verdict(FIRST_LIMIT, found)
    if any(failure["code"] == LIMIT for failure in ours["failures"]) and goes_on(expected, ours):
        return Verdict(EARLY_LIMIT, found)
    plain = _play(scenario, Reevaluating)
    if not differences(expected, plain):
        return Verdict("unexplained", ("the plain machine does what the reference does", *found))
    for rules, observed in _under_rules(scenario, plain):
        if "sent" in rules and missing(expected, ours):
            continue
        if not differences(expected, _at_limits(expected, observed)):
            limit = [FIRST_LIMIT] if differences(expected, observed) else []
            return Verdict("rule of the reference: " + " and ".join([*rules, *limit]), found)
    return Verdict("unexplained", found)


def _under_rules(scenario: Scenario, plain: Observation) -> Iterator[tuple[tuple[Rule, ...], Observation]]:
    """What the plain machine does under sets of rules of the reference, small ones first.

    A rule that makes no difference, alone or beside one other, is not tried in larger sets.
    """
    end = time.thread_time() + PROOF_SECONDS
    rules: tuple[Rule, ...] = get_args(Rule)
    observed: dict[tuple[Rule, ...], Observation] = {(): plain}
    telling: set[Rule] = set()
    for many in range(1, len(rules) + 1):
        for chosen in combinations(rules if many <= PAIR else [rule for rule in rules if rule in telling], many):
            if time.thread_time() > end:
                return
            with reference_rules(chosen):
                observed[chosen] = _play(scenario, Reevaluating)
            if many <= PAIR:
                telling |= {
                    rule
                    for rule in chosen
                    if differences(observed[tuple(one for one in chosen if one != rule)], observed[chosen])
                }
            yield chosen, observed[chosen]


def _play(scenario: Scenario, machine: type[Machine] = Machine) -> Observation:
    """What the simulation observes.

    Raises:
        OverdueError: it takes too long.
    """
    end = time.thread_time() + PLAY_SECONDS

    class Bounded(machine):  # type: ignore[misc,valid-type]  # one of two
        def merge(self, known: Known) -> Effects:
            return self._in_time(super().merge(known))

        def resolve(self, outcomes: Mapping[Instance, CallOutcome]) -> Effects:
            return self._in_time(super().resolve(outcomes))

        def _in_time(self, effects: Effects) -> Effects:
            if time.thread_time() > end:
                raise OverdueError
            return effects

    return play(scenario, machine=Bounded)


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
