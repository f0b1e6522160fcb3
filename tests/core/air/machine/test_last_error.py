"""``%last_error%`` is what a walk through all that sets and unlocks it would leave in it, without a walk."""

from __future__ import annotations

from bisect import insort
from typing import Any, NamedTuple

from fluvial.air.machine.errors import NO_ERROR
from fluvial.air.machine.last_error import LastErrorRegister
from hypothesis import given
from hypothesis import strategies as st


class Change(NamedTuple):
    place: tuple[tuple[float, ...], bool]
    error: Any = None
    always: bool = False


class Walked:
    """The register, plainly."""

    def __init__(self) -> None:
        self.changes: list[Change] = []

    def change(self, what: str, key: tuple[float, ...], error: Any) -> None:
        match what:
            case "set" | "always":
                insort(self.changes, Change((key, False), error, what == "always"), key=lambda one: one.place)
            case "unlock":
                insort(self.changes, Change((key, True)), key=lambda one: one.place)
            case "forget":
                self.changes = [one for one in self.changes if one.place != (key, False)]
            case "keep_locked":
                if (found := Change((key, True))) in self.changes:
                    self.changes.remove(found)

    def at(self, key: tuple[float, ...]) -> Any:
        error, locked = NO_ERROR, False
        for one in self.changes:
            if one.place[0] >= key:
                break
            if one.place[1]:
                locked = False
            elif one.always or not locked:
                error, locked = one.error, True
        return error


def change(register: LastErrorRegister, what: str, key: tuple[float, ...], error: Any) -> None:
    if what in ("set", "always"):
        register.set(key, error, None, always=what == "always")
    else:
        getattr(register, what)(key)


KEYS = st.integers(0, 5).map(lambda number: (0, number / 2))


@given(st.lists(st.tuples(st.sampled_from(["set", "always", "unlock", "forget", "keep_locked"]), KEYS), max_size=20))
def test_what_is_read_is_what_a_walk_would_leave(changes: list[tuple[str, tuple[float, ...]]]) -> None:
    register, walked = LastErrorRegister(used=True), Walked()
    for number, (what, key) in enumerate(changes):
        error = {"message": str(number)}
        change(register, what, key, error)
        walked.change(what, key, error)
        for number_read in range(7):
            read = (0, number_read / 2)
            assert register.at(read) == (walked.at(read), None)
    for _, key in changes:
        register.forget(key)
        for _ in changes:
            register.keep_locked(key)
    assert register.held == 0


class CountedKey(tuple[float, ...]):
    """A position that counts with how many it is compared."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        CountedKey.compared += 1
        return tuple.__eq__(self, other)

    def __lt__(self, other: Any) -> bool:
        CountedKey.compared += 1
        return tuple.__lt__(self, other)

    __hash__ = tuple.__hash__


def test_it_is_kept_up_to_date_without_a_look_at_all_of_it() -> None:
    register = LastErrorRegister(used=True)
    for number in range(4_096):
        register.set((number,), {"message": "x"}, None)
        register.unlock((number + 0.5,))
    read, written = CountedKey((2_000,)), CountedKey((2_000.25,))
    assert register.at(read) == ({"message": "x"}, None)
    assert CountedKey.compared <= 20
    register.set(written, {"message": "y"}, None)
    register.unlock(written)
    register.keep_locked(written)
    register.forget(written)
    assert CountedKey.compared <= 500


def test_what_unlocks_it_is_counted() -> None:
    register = LastErrorRegister(used=True)
    register.unlock((1,))
    assert register.held > 0
    register.keep_locked((1,))
    assert register.held == 0


def test_nothing_is_kept_that_nobody_reads() -> None:
    register = LastErrorRegister(used=False)
    register.set((1,), {"message": "x"}, None)
    register.unlock((2,))
    register.forget((1,))
    register.keep_locked((2,))
    assert register.held == 0
    assert register.at((3,)) == (NO_ERROR, None)
