"""What is worked out of a script takes a time that grows with its length, whatever stands in it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fluvial.air.syntax import parse
from fluvial.particles.scripts import ANALYSES

from tests.support.counting import opcodes


def one_after_another(steps: list[str]) -> str:
    return "".join(f"(seq {step} " for step in steps) + "(null)" + ")" * len(steps)


def names_and_folds(count: int) -> str:
    folds = ["(fold a i (next i) (null))"] * count
    return one_after_another(["(ap 1 a)", *folds, *[f"(ap 1 a{name})" for name in range(count)]])


def names_deep_inside(count: int) -> str:
    names = one_after_another([f"(ap 1 a{name})" for name in range(count)])
    return "(new $a " * count + names + ")" * count


def a_peer_of_many_names(count: int) -> str:
    folds = ["(fold a i (null))"] * count
    call = f'(call a.${"[a]" * 20 * count} ("s" "f") [])'
    return one_after_another(["(ap 1 a)", call, *folds])


@pytest.mark.parametrize("script", [names_and_folds, names_deep_inside])
def test_twice_the_script_is_twice_the_work(script: Callable[[int], str]) -> None:
    def worked_out(count: int) -> int:
        parsed = parse(script(count))
        return opcodes(lambda: [analyse(parsed) for analyse in ANALYSES])

    worked_out(1)
    assert worked_out(300) < 2.5 * worked_out(150)


def test_twice_the_script_is_parsed_with_twice_the_work() -> None:
    def parsed(count: int) -> int:
        return opcodes(lambda: parse(a_peer_of_many_names(count)))

    parsed(1)
    assert parsed(50) < 2.5 * parsed(25)
