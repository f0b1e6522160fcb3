"""What others cause does not flood the log."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fluvial.outcome_counts import OutcomeCounts
from fluvial.telemetry import BURST_S, EVENTS_MAX, LINE_CHARACTERS, OTHERS, TEXT_CHARACTERS_MAX, LineLimit, make_logger
from prometheus_client import CollectorRegistry, generate_latest


class Seconds:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def written(limit: LineLimit, event: str, **fields: Any) -> dict[str, Any] | None:
    return None if limit.refuses(event) else dict(limit(None, "info", {"event": event, **fields}))


def test_a_flood_of_one_event_leaves_the_others_their_lines() -> None:
    seconds = Seconds()
    limit = LineLimit(10, clock=seconds)
    lines = [written(limit, "flood") for _ in range(1_000)]
    assert len(list(filter(None, lines))) == 10 * BURST_S
    assert written(limit, "storage_failed") == {"event": "storage_failed"}
    seconds.now = 1.0
    assert written(limit, "flood") == {"event": "flood", "left_out": 900}
    assert written(limit, "flood") == {"event": "flood"}


def test_in_the_long_run_only_so_many_are_written() -> None:
    seconds = Seconds()
    limit = LineLimit(10, clock=seconds)
    count = 0
    for n in range(60_000):
        seconds.now = n / 1_000
        count += written(limit, "flood") is not None
    assert 690 <= count <= 700


@pytest.mark.parametrize(
    ("text", "length"),
    [("x" * 3_000, 3_000), ("ä" * 500, 3_000), ("\n" * 500, 3_000), ("x" * 10_000, TEXT_CHARACTERS_MAX)],
)
def test_long_lines_count_as_several(text: str, length: int) -> None:
    """In the long run there is no more of them than of short ones, whatever of their characters is escaped."""
    seconds = Seconds()
    limit = LineLimit(10, clock=seconds)
    count = 0
    for n in range(60_000):
        seconds.now = n / 1_000
        count += written(limit, "flood", service=text) is not None
    assert count == pytest.approx(700 * LINE_CHARACTERS / length, rel=0.1)


def test_names_of_events_are_bounded() -> None:
    """A plugin that makes up names shares one budget, and no memory."""
    limit = LineLimit(1, clock=Seconds())
    lines = [written(limit, f"event {n}") for n in range(EVENTS_MAX + 500)]
    assert len(list(filter(None, lines))) == EVENTS_MAX + BURST_S
    assert OTHERS not in str(lines)


def test_loggers_write_no_more_than_that() -> None:
    out = io.StringIO()
    log = make_logger(log_format="json", log_level="info", lines_per_s=1, file=out)
    for _ in range(50):
        log.info("flood")
        log.bind(peer="p").warning("other %s", "flood")
    assert len(out.getvalue().splitlines()) in range(2 * BURST_S, 2 * BURST_S + 5)


def test_long_texts_are_cut() -> None:
    out = io.StringIO()
    make_logger(log_format="json", log_level="info", lines_per_s=5, file=out).info("failed", error="x" * 1_000_000)
    assert len(json.loads(out.getvalue())["error"]) == TEXT_CHARACTERS_MAX


def test_a_line_for_people_has_nothing_that_a_terminal_takes_for_a_command() -> None:
    evil = "\x9b31m\u202e\x1b[2J\x07"
    out = io.StringIO()
    log = make_logger(log_format="console", log_level="info", file=out).bind(peer=evil)
    log.info("said", service=evil, text=f"two words{evil}\nand a line", many=[evil], nice="…ä")
    said = out.getvalue().removesuffix("\n")
    assert said.isprintable()
    assert "service='\\x9b31m\\u202e\\x1b[2J\\x07'" in said
    assert said.endswith(" nice=…ä")
    try:
        raise ValueError(evil)
    except ValueError as error:
        log.error("failed", exc_info=error)
    shown = out.getvalue().replace("\n", "")
    assert shown.isprintable()
    assert "ValueError: \\u009b31m" in shown


def test_a_line_of_json_has_time_and_level_and_whatever_was_said() -> None:
    out = io.StringIO()
    log = make_logger(log_format="json", log_level="info", file=out).bind(peer="p")
    before = datetime.now(UTC)
    log.info("said", text='ä "\n', many=[1, {"a": None}], odd=b"x", number=float("inf"))
    line = json.loads(out.getvalue())
    assert out.getvalue().isascii()
    at = datetime.fromisoformat(line.pop("timestamp"))
    assert before - timedelta(milliseconds=1) <= at <= datetime.now(UTC)
    assert line == {
        "peer": "p", "event": "said", "level": "info",
        "text": 'ä "\n', "many": [1, {"a": None}], "odd": "b'x'", "number": float("inf"),
    }  # fmt: skip


def test_a_line_of_json_has_the_exception() -> None:
    out = io.StringIO()
    log = make_logger(log_format="json", log_level="info", file=out)
    try:
        raise ValueError("this is why")
    except ValueError as error:
        log.exception("one")
        log.error("two", exc_info=error)
    log.warning("three", exc_info=None)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["level"] for line in lines] == ["error", "error", "warning"]
    assert ["this is why" in line.get("exception", "") for line in lines] == [True, True, False]
    assert not [line for line in lines if "exc_info" in line]


def test_outcomes_are_counted_by_their_labels_and_are_a_counter_for_prometheus() -> None:
    registry = CollectorRegistry()
    counts = OutcomeCounts("fluvial_teas", "Teas by pot and outcome", ["pot", "outcome"], registry=registry)
    for pot, outcome in (("small", "drunk"), ("large", "spilt"), ("small", "drunk")):
        counts.count(pot, outcome)
    assert registry.get_sample_value("fluvial_teas_total", {"pot": "small", "outcome": "drunk"}) == 2
    assert registry.get_sample_value("fluvial_teas_total", {"pot": "large", "outcome": "spilt"}) == 1
    assert registry.get_sample_value("fluvial_teas_total", {"pot": "large", "outcome": "drunk"}) is None
    assert b"# TYPE fluvial_teas_total counter" in generate_latest(registry)
