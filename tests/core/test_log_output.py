"""Whatever becomes of the stream to which the log goes, the node goes on, and says what was lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fluvial.log_output import WAITING_BYTES_MAX, LogOutput
from fluvial.telemetry import make_logger

LIMITED = """
import resource, signal, sys
from fluvial.log_output import LogOutput
from fluvial.telemetry import make_logger
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, most))
output = LogOutput(sys.stderr)
log = make_logger(log_format="json", log_level="info", file=output)
for number in range(100):
    log.info("said", number=number)
(finding,) = output.health()
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
log.info("again")
print(output.lost_in_all, finding.level, finding.text)
"""


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


def test_on_a_full_disk_lines_are_lost_and_the_next_one_says_so(tmp_path: Path) -> None:
    """A real file that may not grow, and then may again; a line of which a part was written ends there."""
    path = tmp_path / "log"
    with path.open("ab") as log:
        done = subprocess.run(
            [sys.executable, "-c", LIMITED], stdout=subprocess.PIPE, stderr=log, text=True, timeout=60, check=True
        )
    written = lines(path.read_text())
    said, again = [one for one in written if one["event"] == "said"], written[-1]
    assert [one["number"] for one in said] == list(range(len(said)))
    lost = 100 - len(said)
    assert 0 < len(said) < 100
    assert again["event"] == "again"
    assert again["lines_lost"] == lost
    assert "File too large" in again["lines_lost_because"]
    assert done.stdout.startswith(f"{lost} warn {lost} lines were lost, and they still are:")


def test_a_reader_that_has_gone_stops_nobody() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        output = LogOutput(stream)
        log = make_logger(log_format="json", log_level="info", file=output)
        for _ in range(10):
            log.info("said")
        assert output.lost == 10
        (finding,) = output.health()
        assert "Broken pipe" in finding.text


@pytest.mark.parametrize("size", [10, 20_000])
def test_a_slow_reader_gets_all_lines_in_their_order_and_holds_up_nobody(size: int) -> None:
    """Lines for which the pipe has no room wait; this test has one thread, which would wait for ever."""
    reading, writing = os.pipe()
    with os.fdopen(reading) as reader, os.fdopen(writing, "w") as stream:
        output = LogOutput(stream)
        log = make_logger(log_format="json", log_level="info", file=output)
        count = 500_000 // (size + 100)
        for number in range(count):
            log.info("said", number=number, text="x" * size)
        assert output.lost_in_all == 0
        assert list(output.health()) == []
        got = [json.loads(reader.readline()) for _ in range(count)]
    assert [one["number"] for one in got] == list(range(count))


@pytest.mark.parametrize("size", [10, 3_000, 20_000])
def test_a_terminal_at_which_nobody_reads_on_holds_up_nobody(size: int) -> None:
    """Such as one at the other end of a connection that hangs; it has room for a part of a line."""
    reading, writing = os.openpty()
    with os.fdopen(reading) as reader, os.fdopen(writing, "w") as stream:
        output = LogOutput(stream)
        log = make_logger(log_format="json", log_level="info", file=output)
        count = 500_000 // (size + 100)
        for number in range(count):
            log.info("said", number=number, text="x" * size)
        assert output.lost_in_all == 0
        got = [json.loads(reader.readline()) for _ in range(count)]
    assert [one["number"] for one in got] == list(range(count))


def test_what_waits_for_a_reader_is_bounded() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading) as reader, os.fdopen(writing, "w") as stream:
        output = LogOutput(stream)
        log = make_logger(log_format="json", log_level="info", file=output)
        count = 2 * WAITING_BYTES_MAX // 1_000
        for number in range(count):
            log.info("said", number=number, text="x" * 1_000)
        assert 0 < output.lost < count
        got = [json.loads(reader.readline()) for _ in range(count - output.lost)]
        lost = output.lost
        log.info("again")
        again = json.loads(reader.readline())
    assert [one["number"] for one in got] == list(range(len(got)))
    assert (again["event"], again["lines_lost"]) == ("again", lost)
    assert "too slow" in again["lines_lost_because"]


def test_without_a_stream_there_is_no_log() -> None:
    output = LogOutput(None)
    make_logger(log_format="console", log_level="info", file=output).info("said")
    assert output.lost == 1


def test_a_closed_stream_stops_nobody(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as stream:
        output = LogOutput(stream)
    make_logger(log_format="console", log_level="info", file=output).info("said")
    assert output.lost == 1
