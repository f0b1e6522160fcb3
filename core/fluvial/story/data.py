"""The story as JSON, for programs; nothing is replaced by names, and nothing is cut unless it is very large."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from fluvial.story.condensed import fitting
from fluvial.story.story import Story
from fluvial.story.text import NO_NAMES
from fluvial.strangers import escaped

TEXTS_BYTES_MAX: Final = 16 * 2**20
"""What texts and values take in memory until those of further events are cut: a flow hands over one value as often as it likes."""


def render(story: Story, *, names: Mapping[str, str] = NO_NAMES) -> str:
    """The story as indented JSON, the last line ended as well; see :class:`~fluvial.story.story.Story` for its fields.

    If something had to be cut, it says so: ``shortened``.

    Args:
        story: what to write.
        names: not used: programs want the ids.
    """
    # A terminal or an editor may show this.
    told = fitting(story, TEXTS_BYTES_MAX)
    return escaped(msgspec.json.format(msgspec.json.encode(told), indent=2).decode() + "\n")
