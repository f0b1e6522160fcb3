"""How a call that the machine requested ended, and the fact that follows from it."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeAlias

from fluvial.air.data.content import ContentId, Json, content_id
from fluvial.air.data.content_slices import sliced_content_id
from fluvial.air.data.facts import CallFailure, Outcome, Result
from fluvial.air.data.partial import ABSENT, Content, Partial
from fluvial.air.data.weight import LIGHT_BYTES, EncodedJson, weight_within
from fluvial.air.machine.findings import Request
from fluvial.air.machine.knowledge import Knowledge


@dataclass(frozen=True, slots=True)
class Answered:
    """A service's answer to a request; a heavy one is decoded when the machine takes it in."""

    value: Json | EncodedJson


@dataclass(frozen=True, slots=True)
class Failed:
    """A service's failure: status is not 0, the message is shown to scripts as it stands (services give a JSON text)."""

    status: int
    message: str


CallOutcome: TypeAlias = Answered | Failed


def waiting_bytes(outcome: CallOutcome) -> int:
    """What an outcome takes in memory until the machine takes it in."""
    if isinstance(outcome, Failed):
        return len(outcome.message)
    return (
        len(outcome.value.data) if type(outcome.value) is EncodedJson else weight_within((outcome.value,), LIGHT_BYTES)
    )


def coming_bytes(outcome: CallOutcome) -> int:
    """What an outcome takes in memory when the machine takes it in, as far as that is much."""
    value = outcome.value if type(outcome) is Answered else None
    return value.weight if type(value) is EncodedJson else 0


def fact_of(
    request: Request, outcome: CallOutcome, knowledge: Knowledge, contents: dict[ContentId, Content]
) -> Generator[None, None, Outcome]:
    """The fact that a request was answered so, in slices; its value is added to ``contents``."""
    frame, node = request.instance
    if isinstance(outcome, Failed):
        return CallFailure(
            frame, node, request.service, request.function, request.names, outcome.status, outcome.message
        )
    if type(outcome.value) is EncodedJson:
        json = outcome.value.json
        key = yield from sliced_content_id(json)
    else:
        json = outcome.value
        key = content_id(json)
    # Equal values are in memory once, in the log as well.
    here = contents.get(key, knowledge.contents.get(key, ABSENT))
    contents[key] = json if isinstance(here, Partial) else here
    return Result(frame, node, request.service, request.function, request.names, key)
