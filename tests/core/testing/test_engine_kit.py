"""The kit for engines takes a simple one, and finds what is wrong with bad ones."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from fluvial.consensus.engine import EngineSetup
from fluvial.consensus.lab.run import Algorithm
from fluvial.consensus.simple import SIMPLE, DecidePayload, SimpleEffect, adapted
from fluvial.identity import PeerId
from fluvial.testing.engine import EngineConformance

from tests.core.testing.sequencer import Sequencer

FAILED = pytest.fail.Exception


def algorithm_of(engine: type[Sequencer]) -> Algorithm:
    return Algorithm(name="sequencer", make=adapted(engine), options=None, traits=SIMPLE)


class TestSequencer(EngineConformance):
    @pytest.fixture
    def algorithm(self) -> Algorithm:
        return algorithm_of(Sequencer)


class Forgetful(Sequencer):
    """Speaks before it has persisted."""

    def _order(self, payload: bytes) -> Sequence[SimpleEffect]:
        return super()._order(payload)[1:]


class Moody(Sequencer):
    """Each validator orders what it is asked itself."""

    def submit(self, payload: bytes, *, now_ms: int) -> Sequence[SimpleEffect]:
        return self._order(payload)


class Fragile(Sequencer):
    """Believes that everybody speaks its language."""

    def receive(self, sender: PeerId, message: bytes, *, now_ms: int) -> Sequence[SimpleEffect]:
        if len(message) % 3 == 0:
            raise ValueError("garbage")
        return super().receive(sender, message, now_ms=now_ms)


class Unordered(Sequencer):
    """Does something else each time."""

    made: ClassVar[list[Any]] = []

    def __init__(self, setup: EngineSetup) -> None:
        super().__init__(setup)
        self.made.append(self)

    def start(self, records: Sequence[bytes], *, now_ms: int) -> Sequence[SimpleEffect]:
        return [*([DecidePayload(1, b"odd")] if len(self.made) % 2 else []), *super().start(records, now_ms=now_ms)]


@pytest.mark.parametrize(
    ("engine", "test", "complaint"),
    [
        (Forgetful, "test_it_never_contradicts_itself_after_a_restart", "agreement"),
        (Moody, "test_everybody_commits_what_was_submitted", "agreement"),
        (Fragile, "test_everybody_commits_what_was_submitted", "no failure"),
        (Unordered, "test_the_same_inputs_have_the_same_effects", "differ|agreement"),
    ],
)
def test_bad_engines_are_found(engine: type[Sequencer], test: str, complaint: str) -> None:
    with pytest.raises(FAILED, match=complaint):
        getattr(EngineConformance(), test)(algorithm_of(engine))


def test_an_engine_that_reaches_out_is_found(tmp_path: Path) -> None:
    file = tmp_path / "peeking.py"
    file.write_text("import time\nfrom tests.core.testing.sequencer import Sequencer\nclass Peeking(Sequencer): pass\n")
    specification = importlib.util.spec_from_file_location("peeking", file)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["peeking"] = module
    try:
        specification.loader.exec_module(module)
        with pytest.raises(FAILED, match="imports time"):
            EngineConformance().test_it_reaches_for_nothing(algorithm_of(module.Peeking))
    finally:
        del sys.modules["peeking"]
