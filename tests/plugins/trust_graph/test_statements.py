"""Statements and certificates: one form of bytes, a signature that is good for one purpose, and what a certificate proves."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fluvial.errors import LocalProtocolError, RemoteProtocolError
from fluvial.services.builtin.sig import RESERVED
from fluvial_trust_graph.certificates import (
    TrustCertificate,
    decode_certificate,
    encode_certificate,
    flaw_in,
)
from fluvial_trust_graph.statements import (
    SCOPES_MAX,
    RevocationStatement,
    Statement,
    TrustStatement,
    decode_statement,
    encode_statement,
    is_authentic,
    sign_revocation,
    sign_trust,
    signed_bytes,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.plugins.trust_graph.worlds import NETWORK, NOW, ban_statements, bans, keys_of, trust_statements, trusts

A, B, C, D = (keys_of(name).peer_id for name in "abcd")
KEYS = {keys_of(name).peer_id: keys_of(name) for name in "abcdefg"}


def signed(statement: Statement) -> Statement:
    keys = KEYS[statement.issuer]
    return sign_trust(statement, keys) if isinstance(statement, TrustStatement) else sign_revocation(statement, keys)


def certificate(*trusts_: TrustStatement) -> TrustCertificate:
    return TrustCertificate(tuple(sign_trust(one, KEYS[one.issuer]) for one in trusts_))


def flaw(made: TrustCertificate) -> str | None:
    return flaw_in(made, network=NETWORK, roots=[A], now=NOW)


@given(statement=trust_statements | ban_statements)
def test_bytes_and_back(statement: Statement) -> None:
    made = signed(statement)
    assert decode_statement(encode_statement(made)) == made
    assert is_authentic(made, NETWORK)


@given(statement=trust_statements | ban_statements, data=st.data())
def test_other_bytes_are_refused_or_not_authentic(statement: Statement, data: st.DataObject) -> None:
    whole = encode_statement(signed(statement))
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    for other in (changed, whole[:at], whole + whole[at:]):
        try:
            found = decode_statement(other)
        except RemoteProtocolError:
            continue
        assert not is_authentic(found, NETWORK)


@given(data=st.binary(max_size=300))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_statement(data)


def test_too_many_bytes_are_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="at most"):
        decode_statement(bytes(10_000))


def test_a_signature_is_good_for_its_network_issuer_subject_and_purpose_alone() -> None:
    made = sign_trust(trusts(A, B, issued_at=2), KEYS[A])
    ban = RevocationStatement(network=NETWORK, issuer=A, subject=B, issued_at=2, signature=made.signature)
    assert is_authentic(made, NETWORK)
    assert not is_authentic(made, "other")
    assert not is_authentic(ban, NETWORK)
    for change in ({"network": "other"}, {"issuer": B}, {"subject": C}, {"depth": 3}, {"scopes": ("dht",)}):
        other = replace(made, **change)  # type: ignore[arg-type]  # a mapping of fields
        assert not is_authentic(other, other.network)
        assert signed_bytes(other) != signed_bytes(made)
    assert not is_authentic(trusts(A, B), NETWORK)


def test_the_service_that_signs_for_scripts_signs_no_statement() -> None:
    assert signed_bytes(trusts(A, B)).startswith(RESERVED)
    assert signed_bytes(bans(A, B)).startswith(RESERVED)


def test_nobody_signs_for_another_and_nothing_is_sent_unsigned() -> None:
    with pytest.raises(LocalProtocolError, match="cannot sign"):
        sign_trust(trusts(A, B), KEYS[B])
    with pytest.raises(LocalProtocolError, match="signed before"):
        encode_statement(bans(A, B))


@pytest.mark.parametrize(
    "fields",
    [
        {"depth": 256},
        {"expires_at": -1},
        {"expires_at": 2**64},
        {"issued_at": 2**64},
        {"sequence": 2**32},
        {"scopes": ("b", "a")},
        {"scopes": ("a", "a")},
        {"scopes": ("Über",)},
        {"scopes": ("a" * 200,)},
        {"scopes": tuple(f"s{n:02}" for n in range(SCOPES_MAX + 1))},
        {"signature": b"short"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_what_has_no_bytes_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"range|scope|signature"):
        trusts(A, B, **fields)


def test_a_certificate_proves_its_chain() -> None:
    good = certificate(trusts(A, A), trusts(A, B), trusts(B, C))
    assert flaw(good) is None
    assert (good.root, good.subject) == (A, C)
    assert decode_certificate(encode_certificate(good)) == good


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (certificate(trusts(A, A)), "2 to"),
        (certificate(trusts(B, B), trusts(B, C)), "known root"),
        (certificate(trusts(A, B), trusts(B, C)), "known root"),
        (certificate(trusts(A, A), trusts(B, C)), "subject of the one before"),
        (certificate(trusts(A, A), trusts(A, B), trusts(B, A)), "twice"),
        (certificate(trusts(A, A), trusts(A, B, depth=0), trusts(B, C)), "passed on"),
        (certificate(trusts(A, A), trusts(A, B, expires_at=NOW)), "expired"),
        (certificate(trusts(A, A), trusts(A, B, issued_at=NOW + 1)), "future"),
        (TrustCertificate((sign_trust(trusts(A, A), KEYS[A]), trusts(A, B))), "not signed"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_a_certificate_with_a_flaw_proves_nothing(made: TrustCertificate, why: str) -> None:
    assert why in (flaw(made) or "")


def test_bytes_that_are_no_certificate_are_refused() -> None:
    ban = encode_statement(sign_revocation(bans(A, B), KEYS[A]))
    good = encode_certificate(certificate(trusts(A, A), trusts(A, B)))
    for data in (b"", good[:-1], good[: len(good) // 2], len(ban).to_bytes(2, "big") + ban):
        with pytest.raises(RemoteProtocolError):
            decode_certificate(data)
