"""Where the code says that it deviates, the page says so too; and what the page says of scripts is so."""

from __future__ import annotations

from pathlib import Path

import pytest
from fluvial.air.syntax import AirSyntaxError, parse

from tests.docs.pages import ROOT, section

ROOMS = {
    "## AIR syntax": ("core/fluvial/air/syntax",),
    "## AIR machine": ("core/fluvial/air/machine", "core/fluvial/air/data"),
    "## Particle": ("core/fluvial/particle.py", "core/fluvial/particles"),
    "## Blobs": ("core/fluvial/blobs",),
    "## Built-in services": ("core/fluvial/services",),
    "## Services in WebAssembly": ("plugins/fce_wasm",),
    "## Trust": ("plugins/trust_graph",),
}
"""Which section speaks of what part of the code."""


def marks(path: Path) -> int:
    """How many places are marked in a file or folder."""
    files = [path] if path.is_file() else list(path.rglob("*.py"))
    return sum(file.read_text(encoding="utf-8").count("Deviation: ") for file in files)


@pytest.mark.parametrize("heading", ROOMS)
def test_sections_list_what_the_code_marks(heading: str) -> None:
    listed = section("deviations.md", heading).count("\n- ")
    marked = sum(marks(ROOT / room) for room in ROOMS[heading])
    assert listed >= marked
    if heading == "## Built-in services":
        assert listed == marked


def test_every_mark_is_in_a_room_with_a_section() -> None:
    spoken_of = sum(marks(ROOT / room) for rooms in ROOMS.values() for room in rooms)
    assert marks(ROOT / "core") + marks(ROOT / "plugins") == spoken_of


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ('(ap "\0" x)', "A004"),
        ("(null) ; \0", "A004"),
        ("(seq (fold [] i (next i)) (next i))", "A013"),
        ("(seq (seq (fold [] i (next i)) (null)) (fold [] j (next i)))", "A013"),
        (
            "(seq (ap 1 $s) (seq (fold $s x (fold $s y (xor (next x) (next y)))) (fold $s z (seq (next z) (null)))))",
            "A017",
        ),
        ("(seq (ap 1 $s) (seq (canon %init_peer_id% $s #s) (ap #s.length n)))", ""),
        ("(seq (ap 1 $s) (seq (fold [] i (seq (next i) (null))) (fold $s i (next i))))", ""),
        ("(seq (ap 1 e\u0302) (ap e\u0302 y))", ""),
    ],
)
def test_deviations_of_the_syntax(script: str, code: str) -> None:
    if not code:
        assert parse(script).size > 1
        return
    with pytest.raises(AirSyntaxError) as caught:
        parse(script)
    assert caught.value.code == code
