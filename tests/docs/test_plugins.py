"""The example plugins: the kit holds, and peers work with them."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fluvial import hooks
from fluvial.client import connect
from fluvial.config import from_values, load
from fluvial.effectors import Effector
from fluvial.errors import ConfigError
from fluvial.node import Node, running
from fluvial.telemetry import make_logger
from fluvial.testing.effector import EffectorConformance

from tests.docs.pages import ROOT, section, words
from tests.support.nodes import LISTEN, id_of, keys_of, until

ASK = """
(xor
  (seq
    (call relay ("weather" "temperature") ["Oslo"] celsius)
    (call relay ("weather" "temperature") ["Nowhere"]))
  (call %init_peer_id% ("return" "") [celsius :error:.$.message]))
"""
GREET = '(seq (call relay ("op" "identity") ["hi"] x) (call %init_peer_id% ("return" "") [x]))'


@asynccontextmanager
async def peer_with(plugin: str, folder: Path, *, name: str = "me", **sections: Any) -> AsyncIterator[Node]:
    """A peer that finds an example in its folder of one-file plugins, as an operator would set it up."""
    (folder / "plugins.d").mkdir()
    (folder / "plugins.d" / plugin).write_text((ROOT / "examples" / plugin).read_text())
    values = {
        "plugins": {"path": "plugins.d"},
        "storage": {"url": "sqlite://"},
        "transport": {"listen": [LISTEN]},
        **sections,
    }
    log = make_logger(log_format="json", log_level="error")
    async with running(load(from_values(values, base_dir=folder)), keys=keys_of(name), log=log) as node:
        yield node


class TestWeather(EffectorConformance):
    @pytest.fixture
    def effector(self, tmp_path: Path) -> Effector[Any]:
        (tmp_path / "station.json").write_text('{"Oslo": -3}')
        weather = _example("weather")
        effector: Effector[Any] = weather.Weather(weather.Config(station_file=str(tmp_path / "station.json")))
        return effector


async def test_a_peer_with_the_weather(tmp_path: Path) -> None:
    station = tmp_path / "station.json"
    station.write_text(json.dumps({"Oslo": -3}))
    async with (
        peer_with("weather.py", tmp_path, effectors={"weather": {"station_file": str(station)}}) as node,
        connect(str(node.addresses[0])) as client,
        client.run(ASK, relay=client.relay_id) as flow,
    ):
        # The error is met on the peer, which sends the particle back for its handler.
        celsius, message = await flow.result()
    assert celsius == -3.0
    assert "ret_code is 404" in message
    assert "no reading for 'Nowhere'" in message


async def test_a_peer_that_serves_members_only(tmp_path: Path) -> None:
    section = {"kind": "members", "peers": [id_of("friend")]}
    async with peer_with("members.py", tmp_path, authorization=section) as node:
        relay = str(node.addresses[0])
        async with connect(relay, keys=keys_of("friend")) as friend, friend.run(GREET, relay=friend.relay_id) as flow:
            assert await flow.result() == ("hi",)
        async with connect(relay, keys=keys_of("stranger")) as stranger, stranger.run(GREET, relay=stranger.relay_id):
            await until(lambda: node.metrics.get_sample_value("fluvial_particles_total", {"outcome": "stranger"}))


async def test_a_member_that_is_no_peer_id_is_told_by_its_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"authorization.*'bob' is no peer id"):
        async with peer_with("members.py", tmp_path, authorization={"kind": "members", "peers": ["bob"]}):
            pass


async def test_peers_that_tell_each_other_their_mottos(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    ask = f'(seq (call relay ("mottos" "of") ["{id_of("other")}"] motto) (call %init_peer_id% ("return" "") [motto]))'
    async with (
        peer_with("neighbours.py", tmp_path / "one", extras={"neighbours": {"motto": "tea"}}) as node,
        peer_with(
            "neighbours.py",
            tmp_path / "two",
            name="other",
            extras={"neighbours": {"motto": "coffee"}},
            relays=[str(node.addresses[0])],
        ),
        connect(str(node.addresses[0])) as client,
    ):
        for _ in range(200):
            async with client.run(ask, relay=client.relay_id) as flow:
                if (motto := await flow.result()) != (None,):
                    break
        assert motto == ("coffee",)


def test_every_hook_is_described() -> None:
    described = {*re.findall(r"^### `(\w+)\(", section("plugins.md", "## Hooks"), re.MULTILINE)}
    assert {name for name in vars(hooks) if name.startswith("fluvial_")} == described


def test_the_kits_named_exist() -> None:
    kits = [word for word in words(section("testing.md", "## Conformance kits")) if word.startswith("fluvial.testing.")]
    assert kits
    for kit in kits:
        module, _, name = kit.rpartition(".")
        assert hasattr(importlib.import_module(module), name)


def _example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
