"""A name that is read inside of its ``new`` before it is set can be read when it is set; what a handler has caught stays so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from fluvial.simulation.scenario import Scenario, Seeded

from tests.core.air.machine.flows import Flow
from tests.fuzz.twins import WAYS, compare_in

FILE: Final = Path(__file__).parents[3] / "conformance" / "generated" / "cleared.jsonl"
CLEARED: Final[list[dict[str, Any]]] = [json.loads(line)["scenario"] for line in FILE.read_text("utf-8").splitlines()]

LATE: Final = '(par (call "@a" ("s" "late") [] x) (null))'
USE: Final = '(call "@a" ("s" "use") [x])'
HANDLER: Final = '(call "@a" ("s" "handler") [:error:.$.error_code])'


def made(reader: str) -> list[str]:
    return Flow(f"(new x (seq {LATE} (par {reader} (null))))", {"s.late": "value"}).run().made


def test_a_call_is_made_when_its_argument_is_set() -> None:
    assert made(USE) == ["a s.late", "a s.use"]


def test_what_stands_behind_the_reader_goes_on() -> None:
    assert made(f'(seq {USE} (call "@a" ("s" "after") []))') == ["a s.late", "a s.use", "a s.after"]


def test_a_handler_that_has_begun_stays() -> None:
    assert made(f"(xor {USE} {HANDLER})") == ["a s.late", "a s.handler"]
    assert made(f'(xor (par {USE} (fail 1 "x")) {HANDLER})') == ["a s.late", "a s.handler"]


def test_a_reader_inside_of_a_handler_is_not_what_the_handler_has_caught() -> None:
    assert made(f'(xor (fail 1 "x") {USE})') == ["a s.late", "a s.use"]


def test_an_error_that_nothing_caught_is_gone_when_the_name_is_set() -> None:
    flow = Flow(f"(new x (par {LATE} (seq {USE} (null))))", {"s.late": "value"}).run()
    assert flow.made == ["a s.late", "a s.use"]
    assert flow.codes == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("scenario", CLEARED, ids=lambda scenario: scenario["name"])
def test_the_plain_machine_does_the_same(scenario: dict[str, Any], way: str) -> None:
    one = msgspec.convert(scenario, Scenario)
    compare_in(one, way)
    compare_in(msgspec.structs.replace(one, order=Seeded(3)), way, seed=3)
