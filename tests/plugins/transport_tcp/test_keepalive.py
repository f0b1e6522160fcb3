"""Silence is noticed, asked about and in the end believed; so are a blocked write and a goodbye without answer."""

from __future__ import annotations

from fluvial_transport_tcp.keepalive import KeepAlive, Verdict


def keepalive() -> KeepAlive:
    return KeepAlive(0.0, keepalive_s=20, silence_max_s=45, frame_max_s=60, leaving_max_s=65)


def test_silence_is_asked_about_once_and_then_believed() -> None:
    life = keepalive()
    verdicts = [life.judge(float(now)) for now in range(46)]
    assert [now for now, verdict in enumerate(verdicts) if verdict.ask] == [21]
    assert not any(verdict.reason for verdict in verdicts)
    assert life.judge(46.0).reason == "silent"


def test_any_sign_of_life_begins_anew() -> None:
    life = keepalive()
    for now in range(0, 1000, 15):
        life.heard = True
        assert life.judge(float(now)) == Verdict()
    assert life.judge(1011.0).ask


def test_who_is_not_read_is_not_silent() -> None:
    life = keepalive()
    life.pause()
    assert life.judge(1000.0) == Verdict()
    life.resume()
    assert life.judge(1001.0) == Verdict(), "it is as if something had just been heard"


def test_a_write_that_blocks_is_believed_even_if_the_other_side_talks() -> None:
    life = keepalive()
    life.writing_at = 10.0
    life.heard = True
    assert life.judge(55.0) == Verdict()
    life.heard = True
    assert life.judge(56.0).reason == "stalled"


def test_leaving_has_a_limit() -> None:
    life = keepalive()
    life.leaving_at = 0.0
    for now in range(66):
        life.heard = True
        assert life.judge(float(now)) == Verdict()
    assert life.judge(66.0).reason == "stalled"


def test_a_message_that_began_must_become_complete() -> None:
    """However many bytes come meanwhile."""
    life = keepalive()
    life.frame = 1
    for now in range(1, 62):
        life.heard = True
        assert life.judge(float(now)) == Verdict()
    life.heard = True
    assert life.judge(62.0).reason == "slow"


def test_each_message_has_time_of_its_own_and_waiting_for_room_does_not_count() -> None:
    life = keepalive()
    for number in range(1, 10):
        life.heard, life.frame = True, number
        assert life.judge(number * 50.0) == Verdict()
    life.pause()
    life.judge(1000.0)
    life.resume()
    assert life.judge(1050.0) == Verdict()
    assert life.frame_s(1050.0) == 50.0


def test_only_messages_end_idleness() -> None:
    life = keepalive()
    life.heard = True
    life.judge(5.0)
    assert life.idle_s(5.0) == 5.0
    life.active = True
    life.judge(7.0)
    assert life.idle_s(8.0) == 1.0
