"""What a node holds of others' messages is bounded; who waits is served in order of standing; nothing of it is lost."""

from __future__ import annotations

from dataclasses import dataclass, field

from fluvial_transport_tcp.intake import (
    FRAME_TURN_S,
    LARGE_FRAME_TURN_S,
    LINE_MAX,
    OWN_BYTES,
    Intake,
    IntakeClaim,
    IntakeShare,
)
from fluvial_transport_tcp.standing import Rank
from hypothesis import given
from hypothesis import strategies as st

FRAME = 1_000_000
TOTAL = 4 * FRAME
"""Three frames for what others begin, one more for answers."""


@dataclass(eq=False)
class Line:
    """A connection as the intake sees it."""

    intake: Intake
    rank: Rank = Rank.STRANGER
    incomplete: bool = False
    slow_s: float = 0.0
    reasons: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.share = IntakeShare(self.intake, self)

    def frame_s(self, now: float) -> float:
        return self.slow_s

    def cut(self, reason: str, text: str) -> None:
        self.reasons.append(reason)

    def begin(self, size: int = FRAME, *, solicited: bool = False) -> IntakeClaim | None:
        """A frame begins; the claim that waits for it, if it must wait."""
        self.incomplete = True
        if self.share.take(size, solicited=solicited):
            return None
        return self.share.queue(size, solicited=solicited, on_turn=lambda: None)


def full() -> tuple[Intake, list[Line]]:
    intake = Intake(TOTAL, frame_bytes_max=FRAME)
    lines = [Line(intake) for _ in range(3)]
    assert [line.begin() for line in lines] == [None] * 3
    return intake, lines


def test_short_messages_never_wait() -> None:
    intake, lines = full()
    lines[0].share.overdraw(3 * OWN_BYTES)  # nothing is left now
    assert Line(intake).begin(OWN_BYTES) is None
    line = Line(intake)
    assert [line.begin(OWN_BYTES // 4) for _ in range(4)] == [None] * 4
    assert line.begin(OWN_BYTES // 4) is not None, "together they are too long"


def test_a_frame_that_has_begun_has_room_for_all_of_it() -> None:
    intake, lines = full()
    assert intake.used == 3 * (FRAME - OWN_BYTES)
    late = Line(intake)
    claim = late.begin()
    assert claim is not None
    assert not claim.granted
    lines[1].share.give(FRAME)
    assert claim.granted
    assert intake.waiting == 0


def test_answers_have_room_of_their_own() -> None:
    """So requests that wait for answers of others cannot be in the way of these."""
    intake, _ = full()
    assert Line(intake).begin(solicited=True) is None


def test_higher_ranks_are_served_first_and_displace_what_is_not_complete() -> None:
    intake, lines = full()
    lines[0].incomplete = False  # it is being handled
    lines[1].rank = Rank.KNOWN
    waiting = Line(intake)
    assert waiting.begin() is not None
    trusted = Line(intake, rank=Rank.TRUSTED)
    claim = trusted.begin()
    assert claim is not None
    assert [line.reasons for line in lines] == [[], [], ["crowded"]]
    lines[2].share.give(FRAME)
    assert claim.granted
    assert intake.waiting == 1


def test_strangers_do_not_displace_each_other_before_their_turn_is_over() -> None:
    intake, lines = full()
    claim = Line(intake).begin()
    assert claim is not None
    lines[0].slow_s, lines[1].slow_s = FRAME_TURN_S - 1, FRAME_TURN_S + 1
    lines[2].slow_s, lines[2].rank = 60.0, Rank.KNOWN
    intake.look(0.0)
    assert [line.reasons for line in lines] == [[], ["crowded"], []]


def test_without_anybody_who_waits_slow_frames_are_left_alone() -> None:
    intake, lines = full()
    lines[0].slow_s = 50.0
    intake.look(0.0)
    assert lines[0].reasons == []


def test_one_connection_gets_a_part_of_it_only() -> None:
    """It waits for its own messages to be handled, and nobody waits for it."""
    intake = Intake(16 * FRAME, frame_bytes_max=FRAME)
    greedy, other = Line(intake), Line(intake)
    assert [greedy.begin() for _ in range(2)] == [None] * 2
    claim = greedy.begin()
    assert claim is not None
    claims = [Line(intake).begin() for _ in range(9)]
    assert all(one is None or one.granted for one in claims)
    assert not claim.granted
    assert other.reasons == greedy.reasons == []
    greedy.share.give(FRAME)
    assert claim.granted


def test_the_line_has_an_end() -> None:
    intake, _ = full()
    lines = [Line(intake) for _ in range(LINE_MAX + 1)]
    for line in lines:
        assert line.begin() is not None
    assert [line.reasons for line in lines] == [[]] * LINE_MAX + [["crowded"]]


def test_who_leaves_the_line_takes_nothing() -> None:
    intake, lines = full()
    one, other = Line(intake), Line(intake)
    first, second = one.begin(), other.begin()
    assert first is not None
    assert second is not None
    one.share.withdraw(first)
    lines[0].share.give(FRAME)
    assert second.granted
    other.share.withdraw(second)
    assert intake.used == 2 * (FRAME - OWN_BYTES)


Step = tuple[int, int, bool]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, FRAME), st.booleans()), max_size=60))
def test_it_never_exceeds_its_total_and_nothing_is_lost(steps: list[Step]) -> None:
    """Six connections begin and finish frames of any size; in the end all that waited had its turn."""
    intake = Intake(TOTAL, frame_bytes_max=FRAME)
    lines = [Line(intake, rank=Rank(number % 3)) for number in range(6)]
    held: list[list[int]] = [[] for _ in lines]
    waiting: list[tuple[int, int, IntakeClaim]] = []

    def settle() -> None:
        for one in list(waiting):
            number, size, claim = one
            if claim.granted:
                waiting.remove(one)
                held[number].append(size)

    for number, size, finishes in steps:
        settle()
        if finishes and held[number]:
            lines[number].share.give(held[number].pop(0))
        elif not any(one[0] == number for one in waiting):
            claim = lines[number].begin(size)
            if claim is None:
                held[number].append(size)
            else:
                waiting.append((number, size, claim))
        assert 0 <= intake.used <= TOTAL
    while any(held) or waiting:
        settle()
        for number, sizes in enumerate(held):
            while sizes:
                lines[number].share.give(sizes.pop())
        settle()
    assert intake.used == intake.waiting == 0


def test_what_fits_does_not_wait_for_what_does_not() -> None:
    """To say that a message is long costs nothing: many that wait for a place would keep it from all others."""
    intake, _ = full()
    long = [Line(intake) for _ in range(LINE_MAX)]
    assert all(line.begin() is not None for line in long)
    short = Line(intake)
    claim = short.begin(OWN_BYTES + 1000)
    assert claim is not None
    assert claim.granted
    further = Line(intake)
    assert further.begin(OWN_BYTES + FRAME // 5) is not None, "there is not so much left"
    assert (further.reasons, sum(len(line.reasons) for line in long)) == ([], 1), (
        "the line is too long, and a long one goes"
    )


def test_who_waits_for_little_waits_a_moment_for_much() -> None:
    intake, lines = full()
    waits = Line(intake)
    claim = waits.begin(OWN_BYTES + FRAME // 5)
    assert claim is not None
    for line in lines:
        line.slow_s = LARGE_FRAME_TURN_S / 2
    intake.look(0.0)
    assert [line.reasons for line in lines] == [[], [], []]
    lines[1].slow_s = LARGE_FRAME_TURN_S
    intake.look(0.0)
    assert [line.reasons for line in lines] == [[], ["crowded"], []]
    similar = Line(intake)
    assert similar.begin() is not None
    waits.share.withdraw(claim)
    lines[0].slow_s = FRAME_TURN_S - 1
    intake.look(0.0)
    assert lines[0].reasons == []


def test_who_holds_much_leaves_room_for_who_wants_little() -> None:
    """What is handled slowly is held as long as that takes, however much others need the room."""
    longest = 12 * 2**20
    intake = Intake(128 * 2**20, frame_bytes_max=longest)

    def has_room(size: int) -> bool:
        claim = Line(intake).begin(size)
        return claim is None or claim.granted

    for size in (longest, 2**20):
        while has_room(size):
            pass
    assert intake.used > 80 * 2**20
    assert all(has_room(200_000) for _ in range(20))
