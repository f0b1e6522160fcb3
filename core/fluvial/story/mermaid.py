"""The story as a sequence diagram for Mermaid: for issue trackers, notes and whatever else draws it.

Source: Mermaid documentation, "Sequence diagrams", "Entity codes to escape characters".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, assert_never

from fluvial.story.diagram import Arrow, Done, Handed, Missing, Omitted, Open, Row, lanes, purposes, rows
from fluvial.story.story import VERIFIED, Event, Story
from fluvial.story.text import NO_NAMES, not_delivered
from fluvial.story.wording import INSTRUCTION_CHARACTERS_MAX, REASON_CHARACTERS_MAX, Wording, title

_PLAIN: Final = frozenset(" _.,()[]{}\"'=/!?*+-|@→⇒…✓✗—")
"""What may stand as it is, beside letters and digits. ``:`` may not, since Mermaid looks for ``style…:…#…;`` in whole lines, nor ``$``,
which begins a formula."""

FAILED_RECT: Final = "rect rgba(220, 38, 38, 0.15)"


def render(story: Story, *, names: Mapping[str, str] = NO_NAMES) -> str:
    """The story as Mermaid text, the last line ended as well.

    Args:
        story: what to tell.
        names: peer id to the name that people use; others are called by the end of their id.
    """
    wording, drawn = Wording(story, names), rows(story)
    aliases = {peer: f"p{number}" for number, peer in enumerate(lanes(story, drawn))}
    lines = ["sequenceDiagram", f"    accTitle: {escape(title(story))}", "    autonumber"]
    lines += [f"    participant {alias} as {escape(wording.peer(peer))}" for peer, alias in aliases.items()]
    for row in drawn:
        lines += [f"    {line}" for line in _row(row, wording, aliases)]
    if story.error:
        text = f"error: {wording.text(story.error, REASON_CHARACTERS_MAX)}"
        lines += [f"    {line}" for line in _note(aliases[story.initiator], text, failed=True)]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """The text with everything that means something to Mermaid, or to HTML, as an entity code."""
    return "".join(one if one.isalnum() or one in _PLAIN else f"#{ord(one)};" for one in text)


def _row(row: Row, wording: Wording, aliases: Mapping[str, str]) -> Iterator[str]:
    match row:
        case Arrow():
            yield from _arrow(row, wording, aliases)
        case Handed():
            event = row.event
            yield f"{aliases[event.peer]}-->>{aliases[event.to]}: {escape(f'arrived, hop {event.hop}')}"
        case Done():
            yield from _note(
                aliases[row.event.peer], _done(row.event, wording), failed=row.event.kind in ("failure", "notice")
            )
        case Open():
            what = wording.text(row.waiting.instruction, INSTRUCTION_CHARACTERS_MAX)
            why = wording.text(row.waiting.reason, REASON_CHARACTERS_MAX)
            yield from _note(aliases[row.peer], f"waits: {what} at {row.waiting.at} — {why}")
        case Missing():
            text = f"not delivered: {not_delivered(row.undelivered, wording)}"
            yield from _note(aliases[row.undelivered.peer], text, failed=True)
        case Omitted():
            yield from _note(next(iter(aliases.values())), f"… {row.count} more are not drawn")
        case _:
            assert_never(row)


def _arrow(row: Arrow, wording: Wording, aliases: Mapping[str, str]) -> Iterator[str]:
    hop = row.hops[0]
    text = ", ".join(purposes(row, wording)) or "sent on"
    if not hop.to:
        yield from _note(aliases[hop.peer], f"⇒ sent on, where to is not known{_mark(hop)}")
    elif row.lost is None:
        yield f"{aliases[hop.peer]}->>{aliases[hop.to]}: {escape(text + _mark(hop))}"
    else:
        yield f"{aliases[hop.peer]}--x{aliases[hop.to]}: {escape(f'✗ not delivered: {not_delivered(row.lost, wording)}')}"


def _done(event: Event, wording: Wording) -> str:
    if event.kind == "notice":
        return f"{wording.notice(event)}{_mark(event)}"
    if event.kind == "canon":
        return f"{wording.canon(event)} = {wording.outcome(event)}{_mark(event)}"
    sign = "✗" if event.kind == "failure" else "→"
    return f"{wording.call(event)} {sign} {wording.outcome(event)}{_mark(event)}"


def _mark(event: Event) -> str:
    return " ✓" if event.signed == VERIFIED else ""


def _note(alias: str, text: str, *, failed: bool = False) -> Iterator[str]:
    note = f"Note over {alias}: {escape(text)}"
    yield from (FAILED_RECT, f"    {note}", "end") if failed else (note,)
