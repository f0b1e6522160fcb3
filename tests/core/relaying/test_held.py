"""What waits at a relay: bounded, each message once, and not longer than it is of use."""

from __future__ import annotations

import pytest
from fluvial.identity import PeerId
from fluvial.relaying import held
from fluvial.relaying.held import HeldMessage, HeldMessages
from fluvial.testing.part import peer_of
from hypothesis import given
from hypothesis import strategies as st

ADA, BOB = peer_of(1), peer_of(2)
STEPS = st.lists(
    st.tuples(st.sampled_from("ptx"), st.integers(0, 5), st.integers(0, 200), st.integers(0, 100)), max_size=60
)


def message(text: str, *, deadline_ms: int = 1_000, sender: PeerId = ADA) -> HeldMessage:
    return HeldMessage("/p/1", text.encode(), deadline_ms, sender)


def test_it_goes_out_once_in_order_and_repetitions_take_no_room() -> None:
    waiting = HeldMessages()
    for text in ("one", "two", "one"):
        assert waiting.put(ADA, message(text), 0)
    assert waiting.put(BOB, message("three"), 0)
    assert len(waiting) == 3
    assert waiting.oldest(ADA, 0) == message("one")
    waiting.put_last(ADA, message("one"))
    assert waiting.oldest(ADA, 0) == message("two")
    assert len(waiting) == 3, "what is being handed over counts"
    for text in ("two", "one", "one"):
        waiting.drop(ADA, message(text))
    assert waiting.oldest(ADA, 0) is None
    assert (len(waiting), waiting.bytes_held) == (1, len("three"))
    waiting.forget(BOB)
    assert (len(waiting), waiting.bytes_held) == (0, 0)


def test_what_is_late_is_dropped() -> None:
    waiting = HeldMessages()
    assert waiting.put(ADA, message("one", deadline_ms=10), 0)
    assert not waiting.put(ADA, message("two", deadline_ms=10), 10)
    waiting.expire(10)
    assert (len(waiting), waiting.bytes_held) == (0, 0)


def test_a_client_has_its_share_and_no_more() -> None:
    waiting = HeldMessages()
    taken = [waiting.put(ADA, message(f"{number}"), 0) for number in range(held.MESSAGES_PER_CLIENT_MAX + 1)]
    assert taken == [True] * held.MESSAGES_PER_CLIENT_MAX + [False]
    large = "x" * (held.BYTES_PER_CLIENT_MAX - 1)
    assert waiting.put(BOB, message(large), 0)
    assert not waiting.put(BOB, message("more"), 0)


def filled(waiting: HeldMessages, number: int) -> int:
    """Bytes that a sender has held for clients of its own, with messages as large as they may be."""
    before, text = waiting.bytes_held, "x" * held.BYTES_PER_CLIENT_MAX
    for client in range(20):
        waiting.put(peer_of(100 * number + client), message(text, sender=peer_of(number)), 0)
    return waiting.bytes_held - before


def test_one_sender_with_many_clients_leaves_most_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BYTES_PER_CLIENT_MAX", "BYTES_MAX", "BYTES_OF_SENDER_FEW"):
        monkeypatch.setattr(held, name, getattr(held, name) // 1_024)
    waiting = HeldMessages()
    assert held.BYTES_MAX // 8 < filled(waiting, 1) <= held.BYTES_MAX // 4
    for number in range(2, 8):
        filled(waiting, number)
    assert waiting.put(peer_of(1), message("x" * 1_000, sender=peer_of(99)), 0)
    waiting.drop(peer_of(1), message("x" * 1_000))
    while waiting.bytes_held < held.BYTES_MAX:
        assert filled(waiting, 10 + waiting.bytes_held // held.BYTES_PER_CLIENT_MAX)
    for client in range(20):
        waiting.forget(peer_of(100 + client))
    assert filled(waiting, 98) >= held.BYTES_PER_CLIENT_MAX, "what was given back is there for others"


def test_what_cannot_be_held_is_not_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting, hashed = HeldMessages(), []
    assert waiting.put(BOB, message("one"), 0)
    monkeypatch.setattr(held, "_digest", lambda one: hashed.append(one) or b"")
    assert not waiting.put(BOB, message("x" * (held.BYTES_PER_CLIENT_MAX + 1)), 0)
    assert not hashed


@given(STEPS)
def test_the_bytes_are_those_that_wait(steps: list[tuple[str, int, int, int]]) -> None:
    waiting, now = HeldMessages(), 0
    there: dict[PeerId, dict[bytes, HeldMessage]] = {}
    for what, who, size, later in steps:
        now += later // 10
        peer = peer_of(who)
        for mine in there.values():
            for payload in [payload for payload, one in mine.items() if one.deadline_ms <= now]:
                del mine[payload]
        waiting.expire(now)
        if what == "p":
            one = HeldMessage("/p/1", bytes(size), now + later, peer_of(later % 3))
            if waiting.put(peer, one, now):
                there.setdefault(peer, {}).setdefault(one.payload, one)
        elif what == "t":
            mine = there.get(peer, {})
            assert waiting.oldest(peer, now) == next(iter(mine.values()), None)
            if mine and size % 2:
                waiting.drop(peer, mine.pop(next(iter(mine))))
            elif mine:
                waiting.put_last(peer, next(iter(mine.values())))
                first = next(iter(mine))
                mine[first] = mine.pop(first)
        assert waiting.bytes_held == sum(len(one) for mine in there.values() for one in mine)
        assert len(waiting) == sum(map(len, there.values()))
