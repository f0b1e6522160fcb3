"""The story as one page that can be mailed: picture, table, script and data, without scripts and without anything from elsewhere."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from fluvial.story import data, svg
from fluvial.story.marks import Mark, marks
from fluvial.story.shapes import safe
from fluvial.story.story import Event, Story
from fluvial.story.style import PAGE_CSS
from fluvial.story.text import MARKS, NO_NAMES, describe, open_points
from fluvial.story.wording import Wording, title

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
"""Whatever a stranger's text might smuggle in, the page loads and runs nothing."""

DATA_ID: Final = "story-json"
"""Of the element that holds the story as JSON."""


def render(story: Story, *, names: Mapping[str, str] = NO_NAMES, notes: Sequence[str] = ()) -> str:
    """The story as an HTML page, the last line ended as well.

    Args:
        story: what to show.
        names: peer id to the name that people use; others are called by the end of their id.
        notes: what the teller says of its own, beside what the peers have stored.
    """
    wording = Wording(story, names)
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{safe(title(story))}</title>",
            f"<style>{PAGE_CSS}</style>\n</head>\n<body>\n<main>",
            f'<figure tabindex="0" aria-label="Sequence diagram; the table below tells the same">\n{svg.render(story, names=names)}</figure>',
            *_notes(notes),
            *_open(story, wording),
            *_events(story, wording),
            *_script(story),
            *_data(story),
            "</main>\n</body>\n</html>\n",
        ]
    )


def _notes(notes: Sequence[str]) -> Iterator[str]:
    if notes:
        yield '<section aria-labelledby="notes">\n<h2 id="notes">What else happened</h2>\n<ul>'
        yield from (f"<li>{safe(note)}</li>" for note in notes)
        yield "</ul>\n</section>"


def _open(story: Story, wording: Wording) -> Iterator[str]:
    points = list(open_points(story, wording))
    if points:
        yield '<section aria-labelledby="open">\n<h2 id="open">Still open</h2>\n<ul>'
        yield from (f"<li>{safe(point)}</li>" for point in points)
        yield "</ul>\n</section>"


def _events(story: Story, wording: Wording) -> Iterator[str]:
    yield '<section aria-labelledby="events">\n<h2 id="events">Events</h2>\n<div class="wide" tabindex="0">\n<table>'
    yield "<thead><tr>" + "".join(f'<th scope="col">{name}</th>' for name in _COLUMNS) + "</tr></thead>\n<tbody>"
    yield from (_event(event, wording) for event in story.events)
    yield "</tbody>\n</table>\n</div>\n</section>"


_COLUMNS: Final = ("Seconds", "Peer", "What", "Script", "Signature")


def _event(event: Event, wording: Wording) -> str:
    cells = [
        f'<td class="number">{wording.seconds(event.known_at_ms)}</td>',
        f'<th scope="row" title="{safe(event.peer)}">{safe(wording.peer(event.peer))}</th>',
        f'<td class="code">{safe(describe(event, wording))}</td>',
        f'<td class="number">{_place(event.at)}</td>',
        f"<td>{MARKS[event.signed]}</td>",
    ]
    return f'<tr class="{event.kind}">{"".join(cells)}</tr>'


def _place(at: str) -> str:
    return f'<a href="#line-{at.partition(":")[0]}">{at}</a>' if at else ""


def _script(story: Story) -> Iterator[str]:
    by_line: dict[int, list[Mark]] = defaultdict(list)
    for mark in marks(story):
        by_line[mark.line].append(mark)
    yield '<section aria-labelledby="script">\n<h2 id="script">Script</h2>\n<div class="wide" tabindex="0">\n<table class="script">'
    yield '<thead><tr><th scope="col">Line</th><th scope="col">State</th><th scope="col">Instruction</th></tr></thead>\n<tbody>'
    for number, line in enumerate(story.script.rstrip("\n").split("\n"), start=1):
        yield _line(number, line, by_line[number])
    yield "</tbody>\n</table>\n</div>\n</section>"


def _line(number: int, line: str, found: list[Mark]) -> str:
    state = f' class="{found[0].state}"' if found else ""
    notes = "; ".join(dict.fromkeys(mark.note for mark in found))
    code, last = [], 0
    for mark in found:
        begin = mark.column - 1
        blank = line.find(" ", begin)
        end = len(line) if blank < 0 else blank
        code += [
            _code(line[last:begin]),
            f'<mark class="{mark.state}" title="{mark.note}">{_code(line[begin:end])}</mark>',
        ]
        last = end
    code.append(_code(line[last:]))
    return (
        f'<tr id="line-{number}"{state}><th scope="row">{number}</th><td class="state">{notes}</td>'
        f'<td class="code"><code>{"".join(code)}</code></td></tr>'
    )


def _code(text: str) -> str:
    return "\t".join(map(safe, text.removesuffix("\r").split("\t")))


def _data(story: Story) -> Iterator[str]:
    yield '<section aria-labelledby="data">\n<h2 id="data">Data</h2>\n<details>\n<summary>The story as JSON</summary>'
    yield f'<pre id="{DATA_ID}">{safe(data.render(story))}</pre>\n</details>\n</section>'
