"""What `fluvial doctor` says of the rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from fluvial.checks import Subject
from fluvial_trust_graph.openness import check
from fluvial_trust_graph.options import TrustGraphOptions

from tests.plugins.trust_graph.worlds import keys_of

ADA = str(keys_of("ada").peer_id)


def levels(base_dir: Path = Path(), **fields: Any) -> list[tuple[str, str]]:
    options = msgspec.convert(fields, TrustGraphOptions)
    subject = Subject(
        base_dir=base_dir, network="test", running=False, options={"authorization": options}, database=None
    )
    return [(one.level, one.text) for one in check(subject)]


def test_the_default_is_no_reason_to_worry() -> None:
    assert [level for level, _ in levels()] == ["ok"]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"services": {"dist": {"*": [{"anyone": True}]}}}, "everybody may call dist.*, which changes this peer"),
        ({"services": {"trust": {"set_root": [{"anyone": True}]}}}, "everybody may call trust.set_root"),
        ({"services": {"*": {"*": [{"anyone": True}]}}}, "everybody may call *.*"),
        ({"admit": []}, "nobody's flows run here, not even yours"),
    ],
)
def test_it_warns_of_what_is_open_to_everybody(fields: dict[str, Any], says: str) -> None:
    assert [text for level, text in levels(**fields) if level == "warn" and says in text]


@pytest.mark.parametrize(
    "fields",
    [
        {"services": {"dist": {"*": [{"peers": [ADA]}]}}},
        {"services": {"dist": {"*": [{"anyone": True}]}}, "admit": [{"peers": [ADA]}]},
        {"services": {"trust": {"get_weight": [{"anyone": True}]}}},
        {"services": {"dist": {"*": [{"anyone": True, "arguments": [{"at": 0, "on": ["here"]}]}]}}},
        {"admit": [], "owners": [ADA]},
    ],
)
def test_what_is_not_open_to_everybody_is_no_warning(fields: dict[str, Any]) -> None:
    assert not [text for level, text in levels(**fields) if level == "warn"]


def test_it_reads_the_file_of_perimeters(tmp_path: Path) -> None:
    file = tmp_path / "perimeters.toml"
    assert levels(tmp_path, perimeters_file=file.name)[0][0] == "fail"
    file.write_text("[home]\n")
    assert levels(tmp_path, perimeters_file=file.name)[0] == ("ok", f"1 in {file}")
    file.write_text("[home]\nmembers = 1\n")
    assert levels(tmp_path, perimeters_file=file.name)[0][0] == "fail"
