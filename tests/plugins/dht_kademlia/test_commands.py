"""The commands that need no running peer, and the declarations in Aqua."""

from __future__ import annotations

import json
import re
from inspect import signature
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from fluvial.effectors import Effector
from fluvial.services import describe
from fluvial.services.builtin.peer import PeerService
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


def test_the_declarations_in_aqua_are_those_of_the_services_and_compile() -> None:
    text = CliRunner().invoke(dht, ["aqua"], catch_exceptions=False).output
    assert compile_text("main.aqua", FLOW, {"dht.aqua": text}.get).function("weather")
    declared: dict[str, set[str]] = {"dht": set(), "peer": set()}
    described: dict[str, type[Effector[Any]]] = {"dht": DhtService, "peer": PeerService}
    for header, body in re.findall(r"^service (\w+\(.*?\)):\n((?:  .+\n)+)", text, re.MULTILINE):
        alias, service = re.fullmatch(r'(\w+)\("(\w+)"\)', header).groups()  # type: ignore[union-attr]
        for name, parameters, result in re.findall(r"  (\w+)\((.*?)\) -> (\S+)", body):
            declared[service].add(name)
            taken = [
                one for one in signature(getattr(described[service], name)).parameters if one not in ("self", "call")
            ]
            given = [one.split(":")[0].strip() for one in parameters.split(",") if one]
            assert len(given) <= len(taken), name
            arguments = ", ".join(given)
            program = f'aqua Main\nimport "dht.aqua"\nexport f\nfunc f({parameters}) -> {result}:\n  <- {alias}.{name}({arguments})\n'
            assert compile_text("main.aqua", program, {"dht.aqua": text}.get).function("f"), name
    for service, implementation in described.items():
        assert declared[service] == set(describe(implementation).functions)


@pytest.mark.parametrize("arguments", [[], ["service:x", "--owner", "12D3"]])
def test_either_a_capability_or_an_owner_is_given(arguments: list[str]) -> None:
    result = CliRunner().invoke(provide, arguments)
    assert result.exit_code == 2
    assert "--owner" in result.output
