"""A name that several instructions set means, to each reader, what was set last before it in the script, whenever that came to pass."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core.air.machine.flows import Flow

NEVER_SET = "(xor (null) (ap 1 x))"
"""Defines `x` for the static checks, and never runs."""


def shown(script: str, services: dict[str, Any] | None = None) -> list[list[Any]]:
    """The arguments of each call that shows something."""
    return Flow(script, services).run().arguments_of("t.show")


@pytest.mark.parametrize(
    "reader",
    [
        '(call "@a" ("t" "show") [x])',
        '(call "@a" ("t" "show") [xs.$.[x]])',
        '(match x 0 (call "@a" ("t" "show") []))',
        '(seq (ap x y) (call "@a" ("t" "show") [y]))',
        '(fold x i (seq (call "@a" ("t" "show") [i]) (next i)))',
    ],
)
def test_what_is_set_behind_a_reader_means_nothing_to_it(reader: str) -> None:
    script = f'(seq (call "@a" ("s" "xs") [] xs) (seq {NEVER_SET} (par {reader} (ap 0 x))))'
    assert shown(script, {"s.xs": [5]}) == []


def test_a_reader_sees_what_was_set_last_before_it() -> None:
    script = """
        (seq (call "@a" ("s" "xs") [] xs)
          (fold xs i
            (seq
              (par
                (seq (call "@b" ("s" "late") [] x) (call "@a" ("t" "show") ["left" x]))
                (seq (ap i x) (call "@a" ("t" "show") ["right" x])))
              (seq (par (null) (call "@a" ("t" "show") ["behind" x])) (next i)))))
    """
    seen = shown(script, {"s.xs": [5], "s.late": "late"})
    assert seen == [["right", 5], ["behind", 5], ["left", "late"]]


def test_an_iteration_hides_the_name_from_where_it_sets_it_on() -> None:
    script = """
        (seq (call "@a" ("s" "xs") [] xs)
          (fold xs i
            (seq
              (ap "outer" x)
              (seq
                (fold xs j
                  (par
                    (seq (call "@a" ("t" "show") [x]) (seq (ap j x) (call "@a" ("t" "show") [x])))
                    (next j)))
                (next i)))))
    """
    assert shown(script, {"s.xs": [1, 2]})[:4] == [["outer"], ["outer"], [1], [2]]


def test_a_fixed_stream_is_looked_up_in_the_same_way() -> None:
    script = """
        (seq (call "@a" ("s" "xs") [] xs)
          (seq (xor (null) (canon "@a" $s #c))
            (par (call "@a" ("t" "show") [#c]) (canon "@a" $s #c))))
    """
    assert shown(script, {"s.xs": [1]}) == []
