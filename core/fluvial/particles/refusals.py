"""What this peer refused lately and why: kept in memory, and told to its owner alone.

A refused particle leaves nothing behind in the database, so that nobody can fill it. The newest refusals are remembered here instead. The owner
asks with a request of :data:`PROTOCOL`; the question is that of ``health.py``, and what to look for comes with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from fluvial.encoding import decode, encode
from fluvial.health import QUESTION_BYTES_MAX
from fluvial.identity import PeerId
from fluvial.particle import ID_CHARACTERS_MAX

PROTOCOL: Final = "/fluvial/refusals/1"
REMEMBERED_MAX: Final = 1_000
ANSWERED_MAX: Final = 40
QUERY_BYTES_MAX: Final = QUESTION_BYTES_MAX + 5 * ID_CHARACTERS_MAX
TEXT_CHARACTERS_MAX: Final = 600


class Refusal(msgspec.Struct, frozen=True):
    """One thing that was refused.

    Attributes:
        particle_id: id of the particle; empty if its bytes could not be read.
        what: ``particle``, or the call: ``service.function``.
        other: the sender of the particle, or the initiator of the call.
        reason: in a word.
        explanation: for people.
        at_ms: when, milliseconds since 1970.
    """

    particle_id: str
    what: str
    other: str
    reason: str
    explanation: str
    at_ms: int


class RefusalQuery(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the owner asks.

    Attributes:
        question: as ``health.make_question`` makes it.
        particle_id: the id of a particle or the beginning of it.
    """

    question: Annotated[bytes, Meta(max_length=QUESTION_BYTES_MAX)]
    particle_id: Annotated[str, Meta(max_length=ID_CHARACTERS_MAX)]


class RefusalLog:
    """Remembers the newest refusals."""

    def __init__(self) -> None:
        self._newest: deque[Refusal] = deque(maxlen=REMEMBERED_MAX)

    def note(self, particle_id: str, what: str, other: PeerId, reason: str, explanation: str, at_ms: int) -> None:
        """Remember a refusal."""
        short = explanation[:TEXT_CHARACTERS_MAX]
        self._newest.append(
            Refusal(particle_id[:ID_CHARACTERS_MAX], what[:TEXT_CHARACTERS_MAX], str(other), reason, short, at_ms)
        )

    def find(self, particle_id: str) -> list[Refusal]:
        """The newest refusals about particles whose id begins so, the newest first."""
        found = [one for one in reversed(self._newest) if one.particle_id.startswith(particle_id)]
        return found[:ANSWERED_MAX]


def read_query(payload: bytes) -> RefusalQuery:
    """What the owner asks; raises RemoteProtocolError if that is no question."""
    return decode(payload, RefusalQuery, what="question about refusals")


def encode_refusals(found: Sequence[Refusal]) -> bytes:
    """The payload of the answer."""
    return encode(list(found))


def read_refusals(payload: bytes) -> list[Refusal]:
    """What the peer answered; raises RemoteProtocolError if that is no list of refusals."""
    return decode(payload, list[Refusal], what="list of refusals")
