"""What strangers said is made harmless for a terminal, means the same to programs, and has the shape that it should have."""

from __future__ import annotations

import json
import unicodedata

import msgspec
import pytest
from fluvial.errors import RemoteProtocolError
from fluvial.strangers import as_expected, escaped, from_hex, printable, shaped
from hypothesis import given
from hypothesis import strategies as st

HONEST = (
    "Grüße, мир, こんにちは　世界, नमस्ते, שלום, العربية, 1\u00a0000\u202f€, 👋🏽 🇳🇴",
    "café",
)
HOSTILE = "\x1b]0;title\x07\x7f\x9b31m\u202eevil\u2066\u200b\u2028\ufeff\U000e0001\ud7ff\uffff"


@pytest.mark.parametrize("text", HONEST)
def test_honest_text_stays_readable(text: str) -> None:
    assert escaped(text) == printable(text) == text


def test_nothing_that_a_terminal_obeys_is_left() -> None:
    for shown in (escaped(HOSTILE), printable(HOSTILE), printable("\n\r\t")):
        assert shown.isprintable()


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_json_means_the_same(text: str) -> None:
    shown = escaped(msgspec.json.format(msgspec.json.encode({text: [text]}), indent=2).decode())
    assert json.loads(shown) == {text: [text]}
    assert not {unicodedata.category(one) for one in shown.replace("\n", "")} & {"Cc", "Cf", "Cn", "Zl", "Zp"}


def test_an_answer_of_another_shape_is_the_peers_fault() -> None:
    assert as_expected("aGk=", bytes, what="fact") == b"hi"
    assert shaped([{"a": 1}], list[dict[str, int]], what="fact") == [{"a": 1}]
    for wrong, kind in (("no base 64", bytes), (None, dict), ([1], list[str])):
        with pytest.raises(RemoteProtocolError, match="is no fact"):
            as_expected(wrong, kind, what="fact")
    with pytest.raises(RemoteProtocolError, match="is no fact"):
        from_hex("zz\x1b", what="fact")
