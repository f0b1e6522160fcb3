"""How calls ended waits for the machine: all light ones go together, heavy ones one after another."""

from __future__ import annotations

from fluvial.air.data.facts import Instance
from fluvial.air.data.weight import EncodedJson
from fluvial.air.machine.outcomes import Answered, CallOutcome, Failed
from fluvial.particles.answers import Answers


def instance(number: int) -> Instance:
    return Instance((), number)


def test_light_ones_go_together_and_heavy_ones_one_by_one() -> None:
    light: dict[Instance, CallOutcome] = {instance(0): Answered([1, "text" * 100]), instance(1): Failed(1, "no")}
    heavy: dict[Instance, CallOutcome] = {instance(n): Answered(EncodedJson(b"x" * 1_000, 9_000)) for n in (2, 3)}
    answers = Answers()
    assert not answers
    for one, outcome in (light | heavy).items():
        answers.put(one, outcome)
    assert answers
    assert 2_400 < answers.held < 4_000
    outcomes, coming = answers.take()
    assert (set(outcomes), coming) == ({*light, instance(2)}, 9_000)
    assert answers.held == 1_000
    outcomes, coming = answers.take()
    assert (set(outcomes), coming) == ({instance(3)}, 9_000)
    assert not answers
    assert (answers.take(), answers.held) == (({}, 0), 0)
