"""The commands that need no running peer, and the declarations in Aqua."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from fluvial.effectors import Effector
from fluvial.services import describe
from fluvial_aqua.compiler import compile_text
from fluvial_dht_kademlia.cli import dht, provide
from fluvial_dht_kademlia.lab.cli import dht as lab
from fluvial_dht_kademlia.shell.service import DhtService

FLOW = """
aqua Main

import "dht.aqua"

export weather

func weather(relay: string) -> []FoundProvider:
    on relay:
        found <- Dht.providers("service:weather", 1)
    <- found
"""


def test_hops_and_messages_grow_slower_than_the_logarithm_and_are_drawn(tmp_path: Path) -> None:
    drawing = tmp_path / "scaling.svg"
    arguments = ["scaling", "--peers", "32", "--peers", "128", "--lookups", "24", "--svg", str(drawing)]
    output = CliRunner().invoke(lab, arguments, catch_exceptions=False).output
    rows = [json.loads(line) for line in output.splitlines()]
    assert [row["peers"] for row in rows] == [32, 128]
    assert all(row["success"] == 1.0 for row in rows)
    assert rows[1]["hops_mean"] < 7.0  # log2(128)
    lines = ElementTree.parse(drawing).getroot().findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 4


def test_the_declarations_in_aqua_are_those_of_the_service_and_compile() -> None:
    text = CliRunner().invoke(dht, ["aqua"], catch_exceptions=False).output
    compiled = compile_text("main.aqua", FLOW, {"dht.aqua": text}.get)
    assert compiled.function("weather")
    service: type[Effector[object]] = DhtService
    for function in describe(service).functions:
        assert f"  {function}(" in text or function == "table"


@pytest.mark.parametrize("arguments", [[], ["service:x", "--owner", "12D3"]])
def test_either_a_capability_or_an_owner_is_given(arguments: list[str]) -> None:
    result = CliRunner().invoke(provide, arguments)
    assert result.exit_code == 2
    assert "--owner" in result.output
