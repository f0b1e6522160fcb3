"""The state of each instruction of a script, for the view of the script beside the story."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from fluvial.story.story import Story


class InstructionState(StrEnum):
    """Of an instruction, over all its run-time instances; the first one of these that fits."""

    FAILED = "failed"
    WAITS = "waits"
    DONE = "done"
    SENT = "sent"


@dataclass(frozen=True, slots=True)
class Mark:
    """The state of one instruction.

    Attributes:
        line, column: where it stands; both count from 1.
        state: what is shown.
        note: how often what happened, for people.
    """

    line: int
    column: int
    state: InstructionState
    note: str


def marks(story: Story) -> list[Mark]:
    """The marks of all instructions of which anything is known, in the order of the script."""
    seen: dict[tuple[int, int], list[InstructionState]] = defaultdict(list)
    for at, state in _seen(story):
        line_text, _, column_text = at.partition(":")
        seen[int(line_text), int(column_text)].append(state)
    found = []
    for (line, column), states in sorted(seen.items()):
        counts = {state: states.count(state) for state in InstructionState if state in states}
        if len(counts) > 1:
            counts.pop(InstructionState.SENT, None)  # its outcome says more
        note = ", ".join(
            f"{state.value} {count} times" if count > 1 else state.value for state, count in counts.items()
        )
        found.append(Mark(line, column, next(iter(counts)), note))
    return found


def _seen(story: Story) -> Iterator[tuple[str, InstructionState]]:
    for event in story.events:
        if event.at:
            yield (
                event.at,
                InstructionState.FAILED
                if event.kind in ("failure", "notice")
                else InstructionState.SENT
                if event.kind == "hop"
                else InstructionState.DONE,
            )
    for waiting in story.waits:
        yield waiting.at, InstructionState.WAITS
