"""Drawings of what happened in the demo, from the stores of all its peers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fluvial.config import load, read
from fluvial.demo.network import Network
from fluvial.storage import open_store
from fluvial.story.html import render as html
from fluvial.story.merging import merge_stories
from fluvial.story.story import Story, tell
from fluvial.story.svg import render as svg

_RECENT = 100
"""Among so many particles of a peer the one that is drawn is looked for."""


async def draw(network: Network, particle: str, name: str, notes: Sequence[str]) -> Path:
    """Draw a particle as a page and as a picture in the demo's folder; returns the page.

    Args:
        network: whose peers have it.
        particle: its id.
        name: of the files, without suffix.
        notes: what the page says besides.
    """
    story = merge_stories(await _stories(network, particle))
    page = network.folder / f"{name}.html"
    page.write_text(html(story, names=network.names, notes=notes), encoding="utf-8")
    page.with_suffix(".svg").write_text(svg(story, names=network.names), encoding="utf-8")
    return page


async def _stories(network: Network, particle: str) -> list[Story]:
    """The story of a particle as each peer has stored it."""
    stories: list[Story] = []
    for member in network.members.values():
        settings = load(read(member.config)).settings
        if not (member.folder / "state" / "fluvial.db").exists():
            continue
        async with open_store(settings.storage_url, base_dir=settings.base_dir, read_only=True) as store:
            for summary in await store.particles.recent(_RECENT):
                if summary.id == particle and (stored := await store.particles.load(summary.key)) is not None:
                    handed = await store.particles.handed(summary.key)
                    stories.append(tell(stored, member.peer_id, handed))
    return stories
