"""What others do not read does not pile up."""

from __future__ import annotations

from fluvial_transport_tcp.leftovers import LOOK_BYTES, SMALL, Leftovers


class Deaf:
    """A connection that does not read."""

    def __init__(self, leftovers: Leftovers, unread_bytes: int) -> None:
        self._leftovers = leftovers
        self.unread_bytes = unread_bytes
        self.reason = ""

    def cut(self, reason: str, text: str) -> None:
        self.reason = reason
        self._leftovers.remove(self)


def test_the_one_that_has_had_something_left_for_the_longest_time_is_cut() -> None:
    leftovers = Leftovers(bytes_max=10 * SMALL)
    deaf = [Deaf(leftovers, 4 * SMALL) for _ in range(4)]
    for one in deaf[:2]:
        leftovers.look(one)
    leftovers.look(deaf[0])
    leftovers.look(deaf[2])
    assert [one.reason for one in deaf] == ["stalled", "", "", ""]
    leftovers.remove(deaf[1])  # it has read all
    leftovers.look(deaf[3])
    assert [one.reason for one in deaf] == ["stalled", "", "", ""]


def test_what_a_cut_leads_to_is_seen() -> None:
    """Requests over a connection that is cut fail, and others may be given up with them."""
    leftovers = Leftovers(bytes_max=10 * SMALL)

    class Leading(Deaf):
        def cut(self, reason: str, text: str) -> None:
            super().cut(reason, text)
            leftovers.look(other)

    first = Leading(leftovers, 2 * SMALL)
    second, third, last = (Deaf(leftovers, size * SMALL) for size in (4, 4, 5))
    other = Deaf(leftovers, 2 * SMALL)
    for one in (first, second, third, last):
        leftovers.look(one)
    assert [one.reason for one in (first, second, third, last, other)] == ["stalled", "stalled", "stalled", "", ""]


def test_little_is_not_counted() -> None:
    leftovers = Leftovers(bytes_max=SMALL)
    many = [Deaf(leftovers, SMALL) for _ in range(100)]
    for one in many:
        leftovers.look(one)
    assert not any(one.reason for one in many)


def test_answers_count_as_well() -> None:
    """All is looked at when some have come, not with each."""
    leftovers = Leftovers(bytes_max=10 * SMALL)
    deaf = [Deaf(leftovers, 4 * SMALL) for _ in range(4)]
    for one in deaf:
        leftovers.answered(one, LOOK_BYTES // 4)
    assert [one.reason for one in deaf] == ["stalled", "stalled", "", ""]
    small = Deaf(leftovers, SMALL)
    leftovers.answered(small, LOOK_BYTES)
    assert [one.reason for one in (*deaf[2:], small)] == ["", "", ""]
