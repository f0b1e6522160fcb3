"""A kind of work that takes most of a node's time counts more than one that takes little."""

from __future__ import annotations

from fluvial_transport_tcp.prices import CHEAPEST, DEAREST, FORGOTTEN_S, HALF_LIFE_S, WorkPrices


class Hands:
    """Of a clock."""

    def __init__(self) -> None:
        self.now_s = 0.0


def test_what_takes_most_of_the_time_is_dear_and_what_takes_little_is_cheap() -> None:
    hands = Hands()
    prices = WorkPrices(lambda: hands.now_s)
    for _ in range(20):
        hands.now_s += 0.1
        prices.use("questions", 0.08)
        prices.use("flows", 0.02)
    assert 1.55 < prices.price("questions") < 1.65
    assert 0.35 < prices.price("flows") < 0.45
    for _ in range(20):
        hands.now_s += 0.1
        prices.use("flows", 0.001)
        prices.use("questions", 0.1)
    assert prices.price("flows") == CHEAPEST
    assert prices.price("questions") <= DEAREST


def test_one_kind_alone_and_a_kind_that_nobody_had_use_for_count_as_they_are() -> None:
    hands = Hands()
    prices = WorkPrices(lambda: hands.now_s)
    prices.use("questions", 0.5)
    assert prices.price("questions") == 1.0
    assert prices.price("made up") == 1.0


def test_what_was_done_is_forgotten() -> None:
    hands = Hands()
    prices = WorkPrices(lambda: hands.now_s)
    prices.use("questions", 100 * FORGOTTEN_S)
    hands.now_s += 10 * HALF_LIFE_S
    prices.use("flows", 0.1)
    assert prices.price("questions") == prices.price("flows") == 1.0


def test_a_clock_that_has_not_moved_makes_nothing_dear() -> None:
    prices = WorkPrices(lambda: 0.0)
    prices.use("questions", 0.0)
    assert prices.price("questions") == 1.0
