"""Generated programs, well typed by construction: they compile, play, and come to an end whatever the order of deliveries."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import msgspec
from fluvial_aqua.formatting import format_text
from fluvial_aqua.simulation import Case, play
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.aqua_generator import AquaGenerator

MANY = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


def calls(seen: dict[str, Any]) -> Counter[bytes]:
    return Counter(msgspec.json.encode(call, order="deterministic") for call in seen["calls"])


@MANY
@given(st.randoms(use_true_random=False), st.integers(0, 1000))
def test_a_program_that_makes_sense_comes_to_its_end_in_any_order(choices: random.Random, seed: int) -> None:
    case = msgspec.convert(AquaGenerator(choices).case("generated"), Case)
    plain = play(case)
    assert plain["result"] is not None
    assert plain["error"] is None
    shuffled = play(msgspec.structs.replace(case, order={"seed": seed}))
    assert calls(shuffled) == calls(plain)
    assert shuffled["result"] == plain["result"]


@MANY
@given(st.randoms(use_true_random=False))
def test_formatting_changes_nothing_in_what_a_program_means(choices: random.Random) -> None:
    text = AquaGenerator(choices).program()
    formatted = format_text("main.aqua", text)
    assert format_text("main.aqua", formatted) == formatted
    assert formatted.split() == text.split()
