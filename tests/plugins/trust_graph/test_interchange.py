"""The reference's forms: its own bytes and texts, there and back, and nothing else accepted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from fluvial.errors import RemoteProtocolError
from fluvial_trust_graph.interchange import (
    decode_foreign,
    decode_foreign_certificate,
    encode_foreign,
    encode_foreign_certificate,
    is_foreign_chain,
    is_issued_by,
    issue_foreign,
    read_certificate,
    write_certificate,
    write_trust,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.plugins.trust_graph.worlds import keys_of

VECTOR = json.loads((Path(__file__).parents[2] / "conformance/trust_graph/17-encoding.json").read_text())
R, A = keys_of("R"), keys_of("A")
TEXT = "11\n1111\n" + "\n".join(item["text"] for item in VECTOR["items"] if item["kind"] == "trust")
BYTES = bytes.fromhex(VECTOR["certificate_of_all_trusts_binary_hex"])


def test_a_certificate_of_the_reference_is_read_and_written() -> None:
    trusts = read_certificate(TEXT)
    assert [one.subject for one in trusts] == [R.peer_id, A.peer_id]
    assert is_foreign_chain(trusts)
    assert write_certificate(trusts) == TEXT
    assert encode_foreign_certificate(trusts) == BYTES
    assert decode_foreign_certificate(BYTES) == trusts
    assert read_certificate(TEXT + "\n") == trusts


times = st.integers(0, 2**64 - 1)


@given(issued_at=times, expires_at=times)
def test_trusts_there_and_back(issued_at: int, expires_at: int) -> None:
    trust = issue_foreign(R, A.peer_id, issued_at=issued_at, expires_at=expires_at)
    assert is_issued_by(trust, R.peer_id)
    assert not is_issued_by(trust, A.peer_id)
    assert decode_foreign(encode_foreign(trust)) == trust
    assert write_trust(trust).count("\n") == 3


def test_a_chain_with_a_changed_trust_does_not_hang_together() -> None:
    first, second = read_certificate(TEXT)
    assert not is_foreign_chain([first, replace(second, expires_at=second.expires_at + 1)])
    assert not is_foreign_chain([second, first])
    assert not is_foreign_chain([])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "11\n1111",
        TEXT.replace("1111", "1112", 1),
        "\n".join(TEXT.splitlines()[:-1]),
        TEXT.replace("1737828468", "soon"),
        TEXT.replace("1737828468", str(2**64)),
        TEXT.replace("17Dx", "0OIl"),
        TEXT.replace("17Dx", "1" * 200),
        TEXT.replace("17Dx", "27Dx"),
        "x" * 200_000,
    ],
    ids=range(10),
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        read_certificate(text)


@given(at=st.integers(0, len(BYTES) - 1))
def test_cut_bytes_are_refused(at: int) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_foreign_certificate(BYTES[:at])


@given(data=st.binary(max_size=130))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_foreign(data)
