"""The story as JSON, for programs; nothing is cut, nothing is replaced by names."""

from __future__ import annotations

import json
from collections.abc import Mapping

import msgspec

from fluvial.story.story import Story
from fluvial.story.text import NO_NAMES


def render(story: Story, *, names: Mapping[str, str] = NO_NAMES) -> str:
    """The story as indented JSON, the last line ended as well; see :class:`~fluvial.story.story.Story` for its fields.

    Args:
        story: what to write.
        names: not used: programs want the ids.
    """
    text = msgspec.json.format(msgspec.json.encode(story), indent=2).decode() + "\n"
    if text.replace("\n", "").isprintable():
        return text
    # A terminal or an editor may show this: what cannot be seen is written as an escape, which means the same in JSON.
    return "".join(one if one.isprintable() or one == "\n" else json.dumps(one)[1:-1] for one in text)
