"""The failure notice as bytes: signed for one particle, strict, bounded; and how many of them are taken."""

from __future__ import annotations

from typing import Any

import pytest
from fluvial.air.machine.errors import Catchable, Uncatchable
from fluvial.air.syntax import parse
from fluvial.air.syntax.tree import CallInstruction, Seq
from fluvial.encoding import encode
from fluvial.errors import Refused, RemoteProtocolError
from fluvial.identity import PeerId
from fluvial.particle import ParticleKey
from fluvial.particles.notice import (
    INSTRUCTION_CHARACTERS_MAX,
    KEPT_MAX,
    KEPT_OF_PEER_MAX,
    MESSAGE_CHARACTERS_MAX,
    NOTICE_BYTES_MAX,
    SIGNING_TAG,
    Notice,
    SignedNotice,
    decode_notice,
    encode_notice,
    is_news,
    kind_of_error,
    make_notice,
)
from fluvial.particles.rate_limiter import RateLimiter
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.support.nodes import id_of, keys_of

KEY = ParticleKey(bytes(range(32)))
REPORTER = keys_of("reporter")
INITIATOR = id_of("initiator")


def notice(**fields: Any) -> Notice:
    made = make_notice(KEY, REPORTER.peer_id, "failed", "no tea", at_ms=1_700_000_000_000)
    return replace(made, **{"code": 10000, "instruction": 'call p ("tea" "make") []', "line": 3, "column": 7, **fields})


def signed(**fields: Any) -> SignedNotice:
    return SignedNotice.sign(INITIATOR, notice(**fields), REPORTER)


# --- what it is


def test_it_comes_back_as_it_was() -> None:
    again = decode_notice(encode_notice(signed()))
    again.verify()
    assert again == signed()
    assert (again.notice.peer_id, PeerId.from_public_key(again.to)) == (REPORTER.peer_id, INITIATOR)


def test_it_says_who_cannot_go_on_why_and_where() -> None:
    assert str(notice()) == (f'{REPORTER.peer_id} cannot go on: 10000: no tea at line 3:7 (call p ("tea" "make") [])')
    assert str(notice(code=0, line=0, column=0, instruction="")) == f"{REPORTER.peer_id} cannot go on: no tea"


def test_what_is_signed_is_the_tag_and_the_notice() -> None:
    assert signed().signature == REPORTER.sign(b"fluvial/failure/1\0" + encode(notice()))
    assert SIGNING_TAG == b"fluvial/failure/1\0"


def test_its_bytes_are_as_documented() -> None:
    """The test vector of docs/particle.md."""
    assert encode(notice()).hex() == (
        "99"
        "c420"
        + KEY.hex()
        + "c420"
        + REPORTER.public_key.hex()
        + "a6"
        + b"failed".hex()
        + "cd2710"
        + "a6"
        + b"no tea".hex()
        + "b8"
        + b'call p ("tea" "make") []'.hex()
        + "03"
        + "07"
        + "cf0000018bcfe56800"
    )
    assert encode_notice(signed())[:35].hex() == "93c420" + INITIATOR.public_key.hex()


# --- who says it


@pytest.mark.parametrize(
    "change",
    [
        {"particle": bytes(32)},
        {"peer": keys_of("another").public_key},
        {"kind": "undone"},
        {"code": 10001},
        {"message": "no coffee"},
        {"instruction": "null"},
        {"line": 4},
        {"column": 8},
        {"at_ms": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_nothing_of_it_can_be_changed(change: dict[str, Any]) -> None:
    changed = replace(signed(), notice=notice(**change))
    with pytest.raises(Refused, match="is not signed by") as caught:
        decode_notice(encode_notice(changed)).verify()
    assert caught.value.reason == "signature"


def test_nobody_speaks_for_somebody_else() -> None:
    forged = SignedNotice.sign(INITIATOR, notice(), keys_of("another"))
    with pytest.raises(Refused, match="is not signed by"):
        forged.verify()


# --- its shape


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"particle": b""}, "length >= 32"),
        ({"peer": bytes(33)}, "length <= 32"),
        ({"kind": "angry"}, "Invalid enum value 'angry'"),
        ({"code": -1}, "`int` >= 0"),
        ({"code": 2**32}, "`int` <= 4294967295"),
        ({"message": "x" * (MESSAGE_CHARACTERS_MAX + 1)}, "length <= 1000"),
        ({"instruction": "x" * (INSTRUCTION_CHARACTERS_MAX + 1)}, "length <= 200"),
        ({"line": -1}, "`int` >= 0"),
        ({"at_ms": 2**63}, "`int` <= 9223372036854775807"),
    ],
    ids=lambda given: next(iter(given)) if isinstance(given, dict) else "",
)
def test_impossible_fields_are_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(RemoteProtocolError, match=rf"this is no failure notice: .*({says})"):
        decode_notice(encode_notice(signed(**change)))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        encode_notice(signed()) + b"\0",
        b"\xdc\0\x03" + encode_notice(signed())[1:],
        encode([INITIATOR.public_key, notice()]),
        encode([INITIATOR.public_key, notice(), b"short"]),
        b"\0" * (NOTICE_BYTES_MAX + 1),
    ],
    ids=["empty", "more", "not canonical", "no signature", "short signature", "too long"],
)
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="failure notice"):
        decode_notice(data)


@given(st.binary(max_size=200))
def test_no_bytes_do_harm(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_notice(data)


def test_the_largest_one_fits() -> None:
    wide = "\U0010ffff"
    largest = signed(
        message=wide * MESSAGE_CHARACTERS_MAX,
        instruction=wide * INSTRUCTION_CHARACTERS_MAX,
        code=2**32 - 1,
        line=2**32 - 1,
        column=2**32 - 1,
        at_ms=2**63 - 1,
        kind="impossible",
    )
    assert len(encode_notice(largest)) <= NOTICE_BYTES_MAX
    decode_notice(encode_notice(largest)).verify()


# --- made of an error


def test_an_error_gives_number_instruction_and_place() -> None:
    error = Catchable(10005, "lens")
    root = parse('(seq (null)\n  (call "p" ("s" "f") [1] x))').root
    assert isinstance(root, Seq)
    error.instruction = root.children[1]
    made = make_notice(KEY, REPORTER.peer_id, kind_of_error(error), error.message, at_ms=5, error=error)
    assert (made.kind, made.code, made.message) == ("failed", 10005, "lens")
    assert (made.instruction, made.position) == ('call "p" ("s" "f") [1] x', "2:3")


def test_of_thousands_of_arguments_those_are_looked_at_that_are_shown() -> None:
    root = parse(f'(call "p" ("s" "f") [{"1 " * 300}] x)').root
    unprintable: Any = object()
    assert isinstance(root, CallInstruction)
    error = Catchable(10000, "no tea")
    error.instruction = replace(root, arguments=(*root.arguments, unprintable))
    made = make_notice(KEY, REPORTER.peer_id, "failed", error.message, at_ms=5, error=error)
    assert made.instruction == f'call "p" ("s" "f") [{"1 " * 300}'[: INSTRUCTION_CHARACTERS_MAX - 1] + "…"


def test_what_undid_a_run_is_told_as_such() -> None:
    assert kind_of_error(Uncatchable(20007, "twice")) == "undone"


def test_long_texts_are_cut() -> None:
    made = make_notice(KEY, REPORTER.peer_id, "broken", "x" * 5_000, at_ms=0)
    assert len(made.message) == MESSAGE_CHARACTERS_MAX
    assert made.message.endswith("x…")


# --- how many


def test_what_was_said_before_is_no_news() -> None:
    assert is_news(notice(), [])
    assert not is_news(notice(at_ms=1), [notice()])
    assert is_news(notice(line=9), [notice()])


def test_so_many_of_one_peer_are_enough() -> None:
    kept = [notice(line=line) for line in range(KEPT_OF_PEER_MAX)]
    with pytest.raises(Refused, match="enough failure notices"):
        is_news(notice(line=99), kept)
    assert not is_news(notice(line=0), kept)
    assert is_news(notice(peer=keys_of("another").public_key), kept)


def test_so_many_of_all_peers_are_enough() -> None:
    kept = [notice(peer=keys_of(f"p{number}").public_key) for number in range(KEPT_MAX)]
    with pytest.raises(Refused, match="enough failure notices"):
        is_news(notice(), kept)


def test_a_rate_limiter_is_used_up_and_recovers() -> None:
    limiter = RateLimiter[PeerId](60)
    a, b = id_of("a"), id_of("b")
    assert [limiter.take(a, 0.0) for _ in range(61)] == [True] * 60 + [False]
    assert limiter.take(b, 0.0), "each peer has its own"
    assert [limiter.take(a, 2.0) for _ in range(3)] == [True, True, False]
    assert [limiter.take(a, 1_000.0) for _ in range(61)].count(True) == 60, "it does not pile up"


def test_a_rate_limiter_remembers_so_many_peers() -> None:
    limiter = RateLimiter[PeerId](1, owners_max=2)
    first, second, third = id_of("1"), id_of("2"), id_of("3")
    assert limiter.take(first, 0.0)
    assert limiter.take(second, 0.0)
    assert not limiter.take(second, 0.0)
    assert limiter.take(third, 0.0)
    assert not limiter.take(second, 0.0)
    assert limiter.take(first, 0.0), "it was forgotten"
