"""Silence is noticed, asked about and in the end believed; so are a blocked write and a goodbye without answer."""

from __future__ import annotations

from fluvial_transport_tcp.liveness import Liveness, Verdict


def liveness() -> Liveness:
    return Liveness(0.0, keepalive_s=20, silence_max_s=45, leaving_max_s=65)


def test_silence_is_asked_about_once_and_then_believed() -> None:
    life = liveness()
    verdicts = [life.judge(float(now)) for now in range(46)]
    assert [now for now, verdict in enumerate(verdicts) if verdict.ask] == [21]
    assert not any(verdict.reason for verdict in verdicts)
    assert life.judge(46.0).reason == "silent"


def test_any_sign_of_life_begins_anew() -> None:
    life = liveness()
    for now in range(0, 1000, 15):
        life.heard = True
        assert life.judge(float(now)) == Verdict()
    assert life.judge(1011.0).ask


def test_who_is_not_read_is_not_silent() -> None:
    life = liveness()
    life.paused = True
    assert life.judge(1000.0) == Verdict()


def test_a_write_that_blocks_is_believed_even_if_the_other_side_talks() -> None:
    life = liveness()
    life.writing_at = 10.0
    life.heard = True
    assert life.judge(55.0) == Verdict()
    life.heard = True
    assert life.judge(56.0).reason == "stalled"


def test_leaving_has_a_limit() -> None:
    life = liveness()
    life.leaving_at = 0.0
    for now in range(66):
        life.heard = True
        assert life.judge(float(now)) == Verdict()
    assert life.judge(66.0).reason == "stalled"


def test_only_messages_end_idleness() -> None:
    life = liveness()
    life.heard = True
    life.judge(5.0)
    assert life.idle_s(5.0) == 5.0
    life.active = True
    life.judge(7.0)
    assert life.idle_s(8.0) == 1.0
