"""Who brings what is new for a crowd waits, and longer whoever does not keep to it."""

from __future__ import annotations

import pytest
from fluvial.errors import Refused
from fluvial.fairness import Upstream
from fluvial.particles.delivery.crowds import CAME_MAX, GREEDY_S, RETRY_S, TOLD_MAX, UNDER_WAY_S, ToldToWait

from tests.support.nodes import id_of

THERE, ALICE, BOB = id_of("there"), Upstream(id_of("alice")), Upstream(id_of("bob"))


def refused_ms(told: ToldToWait, who: Upstream, now_s: float) -> int:
    """The pause that is named; 0 if it may come."""
    try:
        told.check(who, now_s)
    except Refused as error:
        return error.retry_ms if error.reason == "busy" else -1
    return 0


def test_who_was_told_to_wait_may_come_when_the_time_is_over_and_others_at_any_time() -> None:
    told = ToldToWait()
    assert told.refusal(ALICE, THERE, 0.0).retry_ms == RETRY_S * 1000
    assert refused_ms(told, ALICE, 0.1) == pytest.approx((RETRY_S - 0.1) * 1000, abs=1)
    assert refused_ms(told, BOB, 0.1) == 0
    assert refused_ms(told, Upstream(ALICE.sender, 1), 0.1) == 0
    assert refused_ms(told, ALICE, RETRY_S) == 0


def test_who_does_not_keep_to_it_waits_longer() -> None:
    told = ToldToWait()
    told.refusal(ALICE, THERE, 0.0)
    under_way = [refused_ms(told, ALICE, UNDER_WAY_S) for _ in range(100)]
    assert max(under_way) < RETRY_S * 1000
    pauses = [refused_ms(told, ALICE, UNDER_WAY_S + 0.1) for _ in range(CAME_MAX + 1)]
    assert max(pauses[:-1]) < RETRY_S * 1000
    assert pauses[-1] == GREEDY_S * 1000
    assert refused_ms(told, ALICE, RETRY_S) > 0
    assert refused_ms(told, ALICE, RETRY_S + GREEDY_S) == 0


def test_only_so_many_are_remembered() -> None:
    told = ToldToWait()
    for number in range(TOLD_MAX + 1):
        told.refusal(Upstream(ALICE.sender, number), THERE, 0.0)
    assert refused_ms(told, Upstream(ALICE.sender, 0), 0.1) == 0
    assert refused_ms(told, Upstream(ALICE.sender, 1), 0.1) > 0
