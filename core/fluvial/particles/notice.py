"""The failure notice: a peer that cannot go on with a particle because of an error tells the initiator, signed.

What is signed is::

    "fluvial/failure/1" ‖ 00 ‖ canonical bytes of the notice

The notice names the particle by its key, which covers its id, its initiator and its script; so it cannot be used for another particle. It
names the peer that cannot go on, which must have signed it. It is meant for people: no flow depends on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

from fluvial.air.machine.errors import AirError, Uncatchable
from fluvial.air.syntax import head
from fluvial.encoding import decode, encode
from fluvial.errors import Refused, RemoteProtocolError
from fluvial.identity import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, KeyPair, PeerId, verify
from fluvial.particle import ParticleKey

PROTOCOL: Final = "failure/1"
"""Name of the request that hands a :class:`SignedNotice` over and is answered with a ``Receipt``."""

SIGNING_TAG: Final = b"fluvial/failure/1\0"
NOTICE_BYTES_MAX: Final = 8_192
"""Size of an encoded signed notice. The longest texts fit in, even if each character takes four bytes."""
MESSAGE_CHARACTERS_MAX: Final = 1_000
INSTRUCTION_CHARACTERS_MAX: Final = 200
KEPT_MAX: Final = 16
"""Notices about one particle that its initiator keeps."""
KEPT_OF_PEER_MAX: Final = 4
"""How many of them may be of one peer."""

_REFUSES: Final = " does not take the particle: "
_ON_THE_WAY: Final = ", a relay on the way to "

REASONS: Final = frozenset(
    {"off", "busy", "malformed", "signature", "unknown", "expired", "storage", "broken", "unreachable"}
)
"""Why a notice is not taken: the reasons in receipts of this protocol."""

Kind: TypeAlias = Literal["failed", "undone", "broken", "refused", "impossible", "unreachable"]
"""What stopped the peer: an error that nothing in the script caught; an error that undid the run; a bug or a limit of the peer; a next
peer that does not take the particle; a next peer whose name is no peer id; a next peer that cannot be reached, which is tried further."""

_Bytes32: TypeAlias = Annotated[bytes, Meta(min_length=PUBLIC_KEY_BYTES, max_length=PUBLIC_KEY_BYTES)]
_Place: TypeAlias = Annotated[int, Meta(ge=0, le=2**32 - 1)]


class Notice(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A peer reports that it cannot go on with a particle.

    Attributes:
        particle: the particle's key, 32 bytes.
        peer: public key of the peer that cannot go on, 32 bytes.
        kind: what stopped it.
        code: the error's number as scripts see it; 0 if it is no error of a script.
        message: the error's text.
        instruction: the instruction that failed, as text without the instructions inside of it; empty if it is not known.
        line, column: where that stands in the script; 0 if it is not known.
        at_ms: when, by the clock of that peer, milliseconds since 1970.
    """

    particle: _Bytes32
    peer: _Bytes32
    kind: Kind
    code: _Place
    message: Annotated[str, Meta(max_length=MESSAGE_CHARACTERS_MAX)]
    instruction: Annotated[str, Meta(max_length=INSTRUCTION_CHARACTERS_MAX)] = ""
    line: _Place = 0
    column: _Place = 0
    at_ms: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0

    @property
    def peer_id(self) -> PeerId:
        """The peer that cannot go on."""
        return PeerId.from_public_key(self.peer)

    @property
    def position(self) -> str:
        """``line:column`` of the instruction; empty if it is not known."""
        return f"{self.line}:{self.column}" if self.line else ""

    @property
    def error(self) -> str:
        """The error with its number, if it has one."""
        return f"{self.code}: {self.message}" if self.code else self.message

    def __str__(self) -> str:
        """One sentence for people; not all of it need be printable."""
        at = f" at line {self.position}" if self.line else ""
        what = f" ({self.instruction})" if self.instruction else ""
        if self.kind == "unreachable":
            return f"{self.peer_id} goes on trying: {self.error}"
        return f"{self.peer_id} cannot go on: {self.error}{at}{what}"

    def repeats(self, other: Notice) -> bool:
        """Whether it says the same, perhaps at another time."""
        return msgspec.structs.replace(self, at_ms=other.at_ms) == other


class SignedNotice(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A notice on its way.

    Attributes:
        to: public key of the initiator, which it is for; a relay passes it on if that is not itself.
        notice: what is said.
        signature: of the notice's peer, 64 bytes.
    """

    to: _Bytes32
    notice: Notice
    signature: Annotated[bytes, Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]

    @classmethod
    def sign(cls, to: PeerId, notice: Notice, keys: KeyPair) -> SignedNotice:
        """A notice of the owner of ``keys``, signed."""
        return cls(to.public_key, notice, keys.sign(SIGNING_TAG + encode(notice)))

    def verify(self) -> None:
        """Check that its peer says it.

        Raises:
            Refused: ``signature``, the signature is not that peer's for this notice.
        """
        if not verify(self.notice.peer, self.signature, SIGNING_TAG + encode(self.notice)):
            raise Refused(f"the failure notice is not signed by {self.notice.peer_id}", reason="signature")


def make_notice(
    particle: ParticleKey, peer: PeerId, kind: Kind, message: str, *, at_ms: int, error: AirError | None = None
) -> Notice:
    """A notice, its texts cut to what a receiver takes.

    Args:
        particle: key of the particle.
        peer: who cannot go on.
        kind: what stopped it.
        message: what happened.
        at_ms: when, milliseconds since 1970.
        error: the error of the script, if there is one: it has the number and the place.
    """
    instruction = None if error is None else error.instruction
    # The text of ten thousand arguments takes long, and more than there is room for are not seen.
    text = "" if instruction is None else head(instruction, INSTRUCTION_CHARACTERS_MAX).strip()
    return Notice(
        particle,
        peer.public_key,
        kind,
        0 if error is None else error.code,
        _cut(message, MESSAGE_CHARACTERS_MAX),
        _cut(text, INSTRUCTION_CHARACTERS_MAX),
        0 if instruction is None else instruction.at.line,
        0 if instruction is None else instruction.at.column,
        at_ms,
    )


def refusal_text(peer: PeerId, by: PeerId, why: str) -> str:
    """What a notice of the kind ``refused`` says.

    Args:
        peer: who does not get the particle.
        by: who refuses it: that peer, or a relay on the way.
        why: ``reason: explanation``.
    """
    return f"{by}{_REFUSES}{why}" if by == peer else f"{by}{_ON_THE_WAY}{peer},{_REFUSES}{why}"


def bare_reason(peer: str, error: str) -> str:
    """Why a peer could not be reached, for a sentence that has said already that it could not be."""
    return error.removeprefix(f"{peer} cannot be reached: ")


def refused_to(notice: Notice) -> str:
    """Who does not get the particle, as :func:`refusal_text` says it."""
    by, _, _ = notice.message.partition(_REFUSES)
    _, on_the_way, peer = by.partition(_ON_THE_WAY)
    return peer.removesuffix(",") if on_the_way else by


def reason_of_refusal(notice: Notice) -> str:
    """Why, in one word; empty if there is none."""
    reason, colon, _ = notice.message.partition(_REFUSES)[2].partition(": ")
    return reason if colon and reason.replace("_", "").isalnum() else ""


def kind_of_error(error: AirError) -> Kind:
    """The kind of notice that reports an error which ended a run."""
    return "undone" if isinstance(error, Uncatchable) else "failed"


def encode_notice(signed: SignedNotice) -> bytes:
    """The canonical bytes of a signed notice."""
    return encode(signed)


def decode_notice(data: bytes) -> SignedNotice:
    """The signed notice that canonical bytes stand for; its signature is not looked at here.

    Raises:
        RemoteProtocolError: the bytes are no notice, or a field has an impossible value.
    """
    if len(data) > NOTICE_BYTES_MAX:
        raise RemoteProtocolError(f"this is no failure notice: {len(data)} bytes, {NOTICE_BYTES_MAX} are allowed")
    return decode(data, SignedNotice, what="failure notice")


def is_news(notice: Notice, kept: Iterable[Notice]) -> bool:
    """Whether a notice says what none of those that were kept says.

    Raises:
        Refused: ``busy``, so many were kept that no further ones are taken.
    """
    kept = tuple(kept)
    if any(notice.repeats(other) for other in kept):
        return False
    if len(kept) >= KEPT_MAX or sum(other.peer == notice.peer for other in kept) >= KEPT_OF_PEER_MAX:
        raise Refused("enough failure notices about this particle were taken", reason="busy")
    return True


def _cut(text: str, characters_max: int) -> str:
    return text if len(text) <= characters_max else text[: characters_max - 1] + "…"
