"""``fluvial particle why``: what was refused about a particle, as a running peer remembers it and as its store has it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from fluvial.cli.context import Invocation
from fluvial.cli.reaching import reach

if TYPE_CHECKING:
    from fluvial.config import Settings
    from fluvial.particles.refusals import Refusal
    from fluvial.story.story import Story

ASK_S: Final = 10.0


def remembered(invocation: Invocation, particle_id: str) -> list[dict[str, Any]] | None:
    """What the running peer of the settings refused about particles whose id begins so; None if it does not run."""
    from fluvial.cli import serving
    from fluvial.errors import ConfigError, Unreachable

    settings = invocation.configuration().settings
    try:
        return [_plain(one) for one in serving.run(lambda: _ask(invocation, settings, particle_id))]
    except (ConfigError, Unreachable):
        return None


async def _ask(invocation: Invocation, settings: Settings, particle_id: str) -> list[Refusal]:
    from fluvial import health
    from fluvial.encoding import encode
    from fluvial.identity import KeyPair
    from fluvial.particles.refusals import PROTOCOL, RefusalQuery, read_refusals

    way = reach(invocation, relay=None, network=None, key_file=None)
    keys = KeyPair.load(settings.key_file)
    async with way.connect() as client:
        at_ms = time.time_ns() // 1_000_000
        question = health.make_question(keys, client.peer_id, network=settings.network, at_ms=at_ms)
        payload = encode(RefusalQuery(question, particle_id))
        return read_refusals(await client.request(PROTOCOL, payload, timeout_s=ASK_S))


def _plain(refusal: Refusal) -> dict[str, Any]:
    return {name: getattr(refusal, name) for name in refusal.__struct_fields__}


def told(story: Story) -> list[dict[str, Any]]:
    """What of a stored particle was refused, by calls that were not allowed and by peers that did not take it."""
    from fluvial.particles.calling import NOT_ALLOWED

    found: list[dict[str, Any]] = []
    for event in story.events:
        is_call = event.kind == "failure" and NOT_ALLOWED in event.error
        if is_call or event.kind == "notice":
            found.append(
                {
                    "particle_id": story.particle_id,
                    "what": f"{event.service}.{event.function}" if is_call else "notice",
                    "other": event.peer,
                    "reason": "not_allowed" if is_call else "notice",
                    "explanation": event.error,
                    "at_ms": event.known_at_ms,
                }
            )
    return found
