"""Whatever others do, they get few lines of our log."""

from __future__ import annotations

from typing import Any

import anyio
import structlog
from fluvial.throttling import LINES_AT_ONCE, ThrottledLog

from tests.plugins.transport_tcp.peers import StartPeer


class Lines:
    """A log that is read by the test."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lines: list[dict[str, Any]] = []
        self.log = ThrottledLog(
            structlog.wrap_logger(
                structlog.PrintLogger(), wrapper_class=structlog.make_filtering_bound_logger(0), processors=[self.keep]
            ),
            clock=lambda: self.now,
            period_s=30,
        )

    def keep(self, logger: object, method: str, event: dict[str, Any]) -> str:
        self.lines.append({"level": method, **event})
        raise structlog.DropEvent


def test_the_first_is_said_at_once_and_the_others_once_a_period_with_their_count() -> None:
    log = Lines()
    for second in range(100):
        log.now = float(second)
        for _ in range(10):
            log.log.note("refused", "full", error=f"at {second}")
        log.log.look()
    assert [(line["count"], line["error"]) for line in log.lines] == [
        (1, "at 0"),
        (309, "at 30"),
        (300, "at 60"),
        (300, "at 90"),
    ]


def test_reasons_do_not_hide_each_other_and_quiet_ones_are_forgotten() -> None:
    log = Lines()
    log.log.note("refused", "full")
    log.log.note("refused", "tls", level=30)
    log.now = 40.0
    log.log.look()
    log.log.note("refused", "full")
    assert [(line["reason"], line["level"], line["count"]) for line in log.lines] == [
        ("full", "info", 1),
        ("tls", "warning", 1),
        ("full", "info", 1),
    ]


def test_what_hundreds_have_caused_together_is_said_a_few_lines_at_a_time() -> None:
    log = Lines()
    for _ in range(3):
        for number in range(5 * LINES_AT_ONCE):
            log.log.note("refused", "full", cause=f"peer {number}", other=number)
    log.lines.clear()
    for second in range(31, 37):
        log.now = float(second)
        log.log.look()
        assert len(log.lines) == min(second - 30, 5) * LINES_AT_ONCE
    assert sorted(line["other"] for line in log.lines) == list(range(5 * LINES_AT_ONCE))
    assert {line["count"] for line in log.lines} == {2}


async def test_a_flood_of_bad_handshakes_is_one_line(start: StartPeer, capsys: Any) -> None:
    peer = await start()
    for _ in range(30):
        async with await anyio.connect_tcp("127.0.0.1", peer.port) as stream:
            await stream.send(b"GET / HTTP/1.1\r\n\r\n")
            try:
                while True:
                    await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                pass
    assert peer.metric("handshakes_total", outcome="tls") == 30
    assert capsys.readouterr().out.count("connections_refused") == 1
