"""The story as JSON, for programs; nothing is cut, nothing is replaced by names."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from fluvial.story.story import Story
from fluvial.story.text import NO_NAMES
from fluvial.strangers import escaped


def render(story: Story, *, names: Mapping[str, str] = NO_NAMES) -> str:
    """The story as indented JSON, the last line ended as well; see :class:`~fluvial.story.story.Story` for its fields.

    Args:
        story: what to write.
        names: not used: programs want the ids.
    """
    # A terminal or an editor may show this.
    return escaped(msgspec.json.format(msgspec.json.encode(story), indent=2).decode() + "\n")
