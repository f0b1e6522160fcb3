"""The kit for engines takes a simple one, and finds what is wrong with bad ones."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from fluvial.engine import Commit, EngineEffect, Membership
from fluvial.identity import PeerId
from fluvial.testing.engine import EngineConformance, Make

from tests.core.testing.sequencer import Sequencer

FAILED = pytest.fail.Exception


class TestSequencer(EngineConformance):
    @pytest.fixture
    def make(self) -> Make:
        return Sequencer


class Forgetful(Sequencer):
    """Speaks before it has persisted."""

    def _order(self, payload: bytes) -> Sequence[EngineEffect]:
        return super()._order(payload)[1:]


class Moody(Sequencer):
    """Each validator orders what it is asked itself."""

    def submit(self, payload: bytes, *, now_ms: int) -> Sequence[EngineEffect]:
        return self._order(payload)


class Fragile(Sequencer):
    """Believes that everybody speaks its language."""

    def receive(self, sender: PeerId, message: bytes, *, now_ms: int) -> Sequence[EngineEffect]:
        if message[0] == 0:
            raise ValueError("garbage")
        return super().receive(sender, message, now_ms=now_ms)


class Unordered(Sequencer):
    """Asks in the order of addresses in memory."""

    made: ClassVar[list[Any]] = []

    def __init__(self, membership: Membership) -> None:
        super().__init__(membership)
        self.made.append(self)

    def start(self, records: Sequence[bytes], *, now_ms: int) -> Sequence[EngineEffect]:
        return [Commit(1, (b"%d" % len(self.made),))] if len(self.made) > 4 else super().start(records, now_ms=now_ms)


@pytest.mark.parametrize(
    ("engine", "test", "complaint"),
    [
        (Forgetful, "test_it_goes_on_after_a_restart", "different payloads at height|two ways"),
        (Moody, "test_everybody_commits_what_was_submitted", "different payloads at height|two ways|is refused"),
        (Fragile, "test_garbage_is_reported", None),
        (Unordered, "test_the_same_inputs_have_the_same_effects", "differ|height"),
    ],
)
def test_bad_engines_are_found(engine: type[Sequencer], test: str, complaint: str | None) -> None:
    with pytest.raises((FAILED, IndexError, ValueError), match=complaint):
        getattr(EngineConformance(), test)(engine)


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
            EngineConformance().test_it_reaches_for_nothing(module.Peeking)
    finally:
        del sys.modules["peeking"]
