"""How peers, times and values of a story are put into words; the same words in all renderings.

What is shown was written by strangers: it is made harmless here (no control characters, nothing that turns the direction of text) and
cut to the limits below. Whole texts are in the JSON form.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final

from fluvial.air.data.content import Json
from fluvial.air.machine.shown import json_text
from fluvial.story.story import OWN, VERIFIED, Event, Story, WaitingInstruction
from fluvial.strangers import printable

SHORT_ID_CHARACTERS: Final = 6
"""The end of a peer id that stands for the whole; longer where two peers of a story end alike."""

NAME_CHARACTERS_MAX: Final = 24
ARGUMENT_CHARACTERS_MAX: Final = 40
ARGUMENTS_CHARACTERS_MAX: Final = 400
"""Of all arguments of a call together, about; the others are counted."""
VALUE_CHARACTERS_MAX: Final = 60
INSTRUCTION_CHARACTERS_MAX: Final = 60
REASON_CHARACTERS_MAX: Final = 160
TOOLTIP_CHARACTERS_MAX: Final = 4_000
TITLE_CHARACTERS_MAX: Final = 80

WAY_CHARACTERS_MAX: Final = 80
WAYS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "connection": "over the open connection",
        "known": "at a known address,",
        "found": "at an address that was looked up,",
        "relay": "through the relay",
    }
)
"""How a peer was found, in words; what was dialled, or who the relay is, comes after it."""

_ID_CHARACTERS_MIN: Final = 20
"""A peer's text that is shorter is shown whole and not looked for in other texts."""

_COLUMN_CHARACTERS_MAX: Final = 4
"""Characters for each column of a text, on average: any number of accents can stand upon one letter."""
_ID_CHARACTERS_MAX: Final = 64
"""No id of a peer is longer; it stands for one column at least."""


def cut(text: str, columns_max: int) -> str:
    """The text, at most so wide; an ellipsis stands for what was cut off. Wide (East Asian) characters count twice."""
    most = columns_max * _COLUMN_CHARACTERS_MAX
    if len(text) <= most and columns(text) <= columns_max:
        return text
    width, kept = 1, 0
    for one in text[:most]:
        width += _columns(one)
        if width > columns_max:
            break
        kept += 1
    return text[:kept] + "…"


def first_lines(lines: Iterable[str], columns_max: int) -> str:
    """As many of the lines as :func:`cut` may leave something of; the others, of which there may be many, are not made."""
    kept, length = [], 0
    for line in lines:
        kept.append(line)
        length += len(line)
        if length > columns_max * _COLUMN_CHARACTERS_MAX:
            break
    return "\n".join(kept)


def columns(text: str) -> int:
    """How many columns of a fixed-width font the text takes."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


class Wording:
    """The words for one story.

    Args:
        story: whose peers and beginning count.
        names: peer id to the name that people use; other peers are called by the end of their id.
    """

    def __init__(self, story: Story, names: Mapping[str, str]) -> None:
        self._began_ms = story.began_ms
        peers = sorted({*story.peers, *told_by(story)})
        self._short = dict(zip(peers, _ends(peers), strict=True))
        self._names = {peer: cut(printable(name), NAME_CHARACTERS_MAX) for peer, name in names.items() if name}
        long = sorted((peer for peer in {*peers, *names} if len(peer) >= _ID_CHARACTERS_MIN), key=len, reverse=True)
        self._ids = re.compile("|".join(map(re.escape, long)) or r"(?!)")

    def peer(self, peer: str) -> str:
        """What a peer is called."""
        return self._names.get(peer) or self.short(peer)

    def short(self, peer: str) -> str:
        """The end of a peer's id; all of it if it is short."""
        return self._short.get(peer) or _ends([peer])[0]

    def seconds(self, at_ms: int) -> str:
        """A time as seconds since the particle's beginning: ``0.031``; negative where clocks differ."""
        return f"{(at_ms - self._began_ms) / 1000:.3f}"

    def text(self, text: str, columns_max: int) -> str:
        """A stranger's text, made harmless and short, the ids of peers replaced by what they are called."""
        begin = text.strip()[: columns_max * _ID_CHARACTERS_MAX]
        return cut(printable(self._ids.sub(lambda found: self.peer(found[0]), begin)), columns_max)

    def value(self, value: Json, columns_max: int = VALUE_CHARACTERS_MAX) -> str:
        """A JSON value as short text."""
        return self.text(json_text(value), columns_max)

    def call(self, event: Event, columns_max: int = ARGUMENT_CHARACTERS_MAX) -> str:
        """A call as people write it: ``members.is_member("alice")``; ``…`` for arguments that are not known."""
        arguments = "…"
        if event.arguments is not None:
            arguments = ", ".join(self._some(event.arguments, columns_max))
        service = self.text(event.service, columns_max)
        return f"{service}.{self.text(event.function, columns_max)}({arguments})"

    def _some(self, arguments: Sequence[Json], columns_max: int) -> Iterator[str]:
        """The first arguments, and how many more there are."""
        left = ARGUMENTS_CHARACTERS_MAX
        for number, argument in enumerate(arguments):
            if left <= 0:
                yield f"… {len(arguments) - number} more"
                return
            text = self.value(argument, columns_max)
            left -= len(text)
            yield text

    def canon(self, event: Event, columns_max: int = INSTRUCTION_CHARACTERS_MAX) -> str:
        """A canon without its peer: ``canon $stream #fixed``."""
        return self.text("canon " + " ".join(event.instruction.split()[-2:]), columns_max)

    def purpose(self, event: Event, columns_max: int = INSTRUCTION_CHARACTERS_MAX) -> str:
        """What a particle was sent on for: ``members.is_member``, ``canon $stream #fixed``, ``failed branch``; empty if that is not known."""
        if event.service or event.function:
            return self.text(f"{event.service}.{event.function}", columns_max)
        if event.instruction == "par":
            return self.text("failed branch", columns_max)
        return self.canon(event, columns_max) if event.instruction else ""

    def way(self, event: Event, columns_max: int = WAY_CHARACTERS_MAX) -> str:
        """How the receiver of a hop was found: ``at an address that was looked up, /ip4/192.0.2.7/tcp/7771``; empty if that is not known."""
        said = WAYS.get(event.way, "")
        via = self.text(event.via.replace(",", " or "), columns_max)
        return f"{said} {via}" if said and via else said

    def notice(self, event: Event, columns_max: int = REASON_CHARACTERS_MAX) -> str:
        """Why a peer cannot go on, and where: ``CANNOT GO ON: 10000: no tea at 3:7 (call p ("tea" "make") [] x)``."""
        text = f"CANNOT GO ON: {self.text(event.error, columns_max)}"
        if event.at:
            text += f" at {event.at}"
        return f"{text} ({self.text(event.instruction, INSTRUCTION_CHARACTERS_MAX)})" if event.instruction else text

    def outcome(self, event: Event, columns_max: int = VALUE_CHARACTERS_MAX) -> str:
        """The outcome of a call: its value or its error."""
        if event.kind == "failure":
            return self.text(event.error, columns_max)
        return self.value(event.value, columns_max)


def told_by(story: Story) -> list[str]:
    """The peers whose journals a story comes from."""
    return story.told_by.split()


def title(story: Story) -> str:
    """What a story is called: the comment that the script begins with, else the particle's id."""
    first = story.script.lstrip().partition("\n")[0]
    comment = first.lstrip(";").strip() if first.startswith(";") else ""
    return cut(printable(comment or f"Particle {story.particle_id}"), TITLE_CHARACTERS_MAX)


def moment(at_ms: int) -> str:
    """A time as ``2023-11-14 22:13:20.000 UTC``; beyond the calendar as a plain number."""
    try:
        when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)
    except OverflowError:
        return f"{at_ms} ms after 1970"
    return f"{when:%Y-%m-%d %H:%M:%S}.{at_ms % 1000:03d} UTC"


def duration(ms: int) -> str:
    """A length of time: ``120 s``, ``0.091 s``."""
    return f"{ms // 1000} s" if ms % 1000 == 0 else f"{ms / 1000:.3f} s"


def figures(story: Story) -> dict[str, str]:
    """The story in numbers, by what they count, in the order in which they are shown."""
    kinds = Counter(event.kind for event in story.events)
    signed = Counter(event.signed for event in story.events if event.kind != "notice")
    last_ms = max((event.known_at_ms for event in story.events), default=story.began_ms)
    return {
        "took": duration(last_ms - story.began_ms),
        "peers": str(len(story.peers)),
        "calls": str(kinds["call"] + kinds["failure"]),
        **({"failed": str(kinds["failure"])} if kinds["failure"] else {}),
        "hops": str(kinds["hop"]),
        **({"notices": str(kinds["notice"])} if kinds["notice"] else {}),
        "facts verified": str(signed[VERIFIED]),
        **({"own facts": str(signed[OWN])} if signed[OWN] else {}),
    }


class AskedTimes:
    """When the particle was sent on for the instructions that wait."""

    def __init__(self, story: Story) -> None:
        self._first_ms: dict[tuple[str, str], int] = {}
        for event in story.events:
            if event.kind == "hop" and event.instance:
                self._first_ms.setdefault((event.instance, event.to), event.known_at_ms)
                self._first_ms.setdefault((event.instance, ""), event.known_at_ms)

    def ms(self, waiting: WaitingInstruction) -> int | None:
        """The first time; None if it was not sent on for it or that is not known."""
        return self._first_ms.get((waiting.instance, waiting.peer))


def _ends(peers: Sequence[str]) -> list[str]:
    """The ends of ids, long enough to tell them apart."""
    for length in range(SHORT_ID_CHARACTERS, NAME_CHARACTERS_MAX):
        ends = [_end(peer, length) for peer in peers]
        if len(set(ends)) == len(peers):
            break
    return ends


def _end(peer: str, length: int) -> str:
    if len(peer) < _ID_CHARACTERS_MIN:
        return printable(peer) or "?"
    return "…" + printable(peer[-length:])
