"""How those who were handed a particle were found, as the text that the table ``ways`` has of each; pure.

The first hand-overs to a peer are told, each as ``TIME WAY VIA`` with commas in VIA and spaces between; later ones, when the text is long enough, are
not. So a row is bounded, whatever a script does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from fluvial.identity import PeerId
from fluvial.stored import HandOver

VIA_CHARACTERS_MAX: Final = 120
TOLD_CHARACTERS_MAX: Final = 240
"""A text that is longer does not grow any more."""
NOTHING: Final = "-"


def told(one: HandOver) -> str:
    """What is added to the text of a peer."""
    via = "".join(one.via.split())[:VIA_CHARACTERS_MAX]
    return f"{one.at_ms} {one.way} {via or NOTHING}"


def longer(text: str, more: str) -> str:
    """The text with one more hand-over, if there is room."""
    return f"{text} {more}" if len(text) <= TOLD_CHARACTERS_MAX else text


def hand_overs(peer: PeerId, text: str) -> Iterator[HandOver]:
    """What a text tells."""
    words = text.split()
    for at_ms, way, via in zip(words[::3], words[1::3], words[2::3], strict=False):
        yield HandOver(peer, int(at_ms), way, "" if via == NOTHING else via)
