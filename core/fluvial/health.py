"""How the owner of a running peer asks for its health.

The owner sends a request of the protocol :data:`PROTOCOL`, from a client with a key of its own, since a peer has no connection with itself. A
signature by the peer's own key, which only the owner has, proves that the client acts for the owner. What is signed is ::

    "fluvial/health/1" ‖ 00 ‖ canonical bytes of [network, public key of the client, time]

The client has proven its key to the transport. So nobody can reuse a question of somebody else, nor an old one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from fluvial.encoding import decode, encode
from fluvial.errors import Refused
from fluvial.findings import Finding, is_finding
from fluvial.identity import SIGNATURE_BYTES, KeyPair, PeerId, verify

PROTOCOL: Final = "/fluvial/health/1"
QUESTION_BYTES_MAX: Final = 128
AGE_MS_MAX: Final = 60_000
"""How old a question may be, and how far ahead its clock; it is asked on the peer's own machine."""
FINDINGS_MAX: Final = 200
REPORT_BYTES_MAX: Final = 60_000
"""Fits into the smallest frame that every peer takes."""
CONNECTED_MAX: Final = 64
CHARACTERS_MAX: Final = 500
"""Of each text of a finding."""
_SIGNING_TAG: Final = b"fluvial/health/1\0"


class Question(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the client sends.

    Attributes:
        at_ms: when, milliseconds since 1970.
        signature: of the peer's own key, 64 bytes.
    """

    at_ms: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    signature: Annotated[bytes, Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]


class Report(msgspec.Struct, frozen=True):
    """What the peer answers.

    Attributes:
        version: of fluvial.
        connected: peers with which a connection stands, not necessarily all.
        findings: what its parts found.
    """

    version: str
    connected: tuple[str, ...]
    findings: tuple[Finding, ...]


def make_question(keys: KeyPair, client: PeerId, *, network: str, at_ms: int) -> bytes:
    """The payload of a request.

    Args:
        keys: the key pair of the peer that is asked.
        client: who will send it.
        network: the network's name.
        at_ms: the time, milliseconds since 1970.
    """
    return encode(Question(at_ms, keys.sign(_signed(network, client, at_ms))))


def check_question(payload: bytes, *, me: PeerId, sender: PeerId, network: str, now_ms: int) -> None:
    """Ensure that a request comes from the owner of this peer.

    Args:
        payload: what came.
        me: this peer.
        sender: who sent it, as proven to the transport.
        network: the network's name.
        now_ms: the time, milliseconds since 1970.

    Raises:
        Refused: it comes from somebody else. RemoteProtocolError: it is no question.
    """
    question = decode(payload, Question, what="question about this peer's health")
    if not verify(me.public_key, question.signature, _signed(network, sender, question.at_ms)):
        raise Refused("only the owner of this peer may ask how it is", reason="signature")
    if abs(now_ms - question.at_ms) > AGE_MS_MAX:
        raise Refused("the question is too old", reason="expired")


def make_report(*, version: str, connected: Iterable[str], findings: Iterable[Finding]) -> bytes:
    """The payload of the answer, cut to the limits of number and length."""
    kept = tuple(_cut(one) for one in islice(findings, FINDINGS_MAX))
    others = tuple(sorted(map(str, connected))[:CONNECTED_MAX])
    while len(payload := encode(Report(version, others, kept))) > REPORT_BYTES_MAX:
        more = Finding(level="warn", subject="health", text="there is more to say than fits into an answer")
        kept = (*kept[: len(kept) // 2], more)
    return payload


def read_report(payload: bytes) -> Report:
    """What the peer answered; raises RemoteProtocolError if that is no report."""
    return decode(payload, Report, what="report about a peer's health")


def _signed(network: str, client: PeerId, at_ms: int) -> bytes:
    fields: Sequence[object] = (network, client.public_key, at_ms)
    return _SIGNING_TAG + encode(fields)


def _cut(finding: Finding) -> Finding:
    if not is_finding(finding):
        return Finding(level="fail", subject="health", text="a part gave something that is no finding")
    names = ("text", "subject", "hint", "code")
    # Peer ids and the like become plain strings, which alone can be encoded.
    texts = {name: str.__getitem__(getattr(finding, name), slice(CHARACTERS_MAX)) for name in names}
    return msgspec.structs.replace(finding, **texts, fix="")
