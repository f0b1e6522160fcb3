"""Only the owner of a peer is told how it is."""

from __future__ import annotations

from typing import Any

import pytest
from fluvial.errors import Refused, RemoteProtocolError
from fluvial.findings import Finding
from fluvial.health import (
    AGE_MS_MAX,
    CHARACTERS_MAX,
    FINDINGS_MAX,
    QUESTION_BYTES_MAX,
    REPORT_BYTES_MAX,
    check_question,
    make_question,
    make_report,
    read_report,
)

from tests.support.nodes import id_of, keys_of

NOW = 1_800_000_000_000


def ask(owner: str = "me", client: str = "client", network: str = "net", at_ms: int = NOW) -> bytes:
    return make_question(keys_of(owner), id_of(client), network=network, at_ms=at_ms)


def hear(question: bytes, *, sender: str = "client") -> None:
    check_question(question, me=id_of("me"), sender=id_of(sender), network="net", now_ms=NOW)


def test_the_owner_may_ask() -> None:
    hear(ask())
    hear(ask(at_ms=NOW - AGE_MS_MAX))
    assert len(ask()) <= QUESTION_BYTES_MAX


@pytest.mark.parametrize(
    ("question", "sender", "reason"),
    [
        (ask(owner="stranger"), "client", "signature"),
        (ask(client="client"), "stranger", "signature"),
        (ask(network="another"), "client", "signature"),
        (ask(at_ms=NOW - AGE_MS_MAX - 1), "client", "expired"),
        (ask(at_ms=NOW + AGE_MS_MAX + 1), "client", "expired"),
    ],
)
def test_nobody_else_may(question: bytes, sender: str, reason: str) -> None:
    """Neither a stranger, nor who has seen a question of the owner's, nor who kept one."""
    with pytest.raises(Refused) as caught:
        hear(question, sender=sender)
    assert caught.value.reason == reason


@pytest.mark.parametrize("question", [b"", b"\x92\x00\xc4\x00", b"x" * 100])
def test_what_is_no_question_is_refused(question: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        hear(question)


def test_a_report_comes_as_it_was_but_for_what_is_too_much() -> None:
    long = Finding(level="warn", text="x" * 10_000, subject="s", hint="h", code="F101", fix="anything")
    report = read_report(make_report(version="1", connected=["b", "a"], findings=[long]))
    assert (report.version, report.connected) == ("1", ("a", "b"))
    assert report.findings == (Finding(level="warn", text="x" * CHARACTERS_MAX, subject="s", hint="h", code="F101"),)
    named = Finding(level="ok", subject=id_of("a"), text="well")
    assert read_report(make_report(version="1", connected=(), findings=[named])).findings == (named,)
    short = Finding(level="ok", text="well")
    assert len(read_report(make_report(version="1", connected=(), findings=[short] * 1000)).findings) == FINDINGS_MAX
    payload = make_report(version="1", connected=(), findings=[long] * FINDINGS_MAX)
    assert len(payload) <= REPORT_BYTES_MAX
    assert read_report(payload).findings[-1].text == "there is more to say than fits into an answer"


@pytest.mark.parametrize("given", [3, Finding(level="odd", text="x"), Finding(level="ok", text=3)])  # type: ignore[arg-type]
def test_what_a_part_gives_that_is_no_finding_does_no_harm(given: Any) -> None:
    report = read_report(make_report(version="1", connected=[id_of("a")], findings=[given]))
    assert report.connected == (id_of("a"),)
    assert report.findings[0].text == "a part gave something that is no finding"
