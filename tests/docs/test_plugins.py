"""The example plugins: the kit holds, and peers work with them."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fluvial import hooks
from fluvial.config import from_values, load
from fluvial.effectors import Effector
from fluvial.errors import ConfigError
from fluvial.testing.effector import EffectorConformance

from tests.docs.pages import ROOT, section, words
from tests.support.nodes import id_of, keys_of, peer, until

pytestmark = pytest.mark.anyio


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestWeather(EffectorConformance):
    @pytest.fixture
    def effector(self, tmp_path: Path) -> Effector[Any]:
        (tmp_path / "station.json").write_text('{"Oslo": -3}')
        weather = example("weather")
        effector: Effector[Any] = weather.Weather(weather.Config(station_file=str(tmp_path / "station.json")))
        return effector


def script(peer_id: str) -> str:
    return f"""
        (xor (seq (call "{peer_id}" ("weather" "temperature") ["Oslo"] x)
                  (call "{peer_id}" ("weather" "temperature") ["Nowhere"] y))
             (call "{peer_id}" ("run-console" "print") [x :error:.$.message]))"""


async def test_a_peer_with_the_weather(tmp_path: Path) -> None:
    (tmp_path / "plugins.d").mkdir()
    (tmp_path / "plugins.d" / "weather.py").write_text((ROOT / "examples/weather.py").read_text())
    (tmp_path / "station.json").write_text(json.dumps({"Oslo": -3}))
    values = {
        "plugins": {"path": "plugins.d"},
        "storage": {"url": "sqlite://"},
        "effectors": {"weather": {"station_file": str(tmp_path / "station.json")}},
    }
    configuration = load(from_values(values, base_dir=tmp_path))
    weather = configuration.settings.effectors["weather"]
    async with peer("a", tmp_path, serves=[weather.build(None)]) as one:
        await one.node.submit(one.node.particle(script(one.peer_id), ttl_ms=10_000))
        await until(lambda: len(one.watcher.calls) == 3)
        assert [status for *_, status in one.watcher.calls] == [0, 404, 0]


async def test_a_peer_that_serves_members_only(tmp_path: Path) -> None:
    members = example("members")
    options = members.Options(peers=(id_of("friend"),))

    class Surroundings:
        keys = keys_of("me")

    async with peer("friend", tmp_path) as friend, peer("stranger", tmp_path) as stranger:
        seat = members.Members(Surroundings(), options)
        allowed = await seat.admit(friend.node.particle("(null)", ttl_ms=1000), friend.peer_id)
        refused = await seat.admit(stranger.node.particle("(null)", ttl_ms=1000), friend.peer_id)
    assert allowed.allowed
    assert (refused.allowed, refused.reason) == (False, "stranger")


async def test_a_member_that_is_no_peer_id_is_told_by_its_place(tmp_path: Path) -> None:
    (tmp_path / "members.py").write_text((ROOT / "examples/members.py").read_text())
    values = {"plugins": {"path": "."}, "authorization": {"kind": "members", "peers": ["bob"]}}
    with pytest.raises(ConfigError, match=r"authorization.*'bob' is no peer id"):
        load(from_values(values, base_dir=tmp_path))


def test_every_hook_is_described() -> None:
    described = {*re.findall(r"^### `(\w+)\(", section("plugins.md", "## Hooks"), re.MULTILINE)}
    assert {name for name in vars(hooks) if name.startswith("fluvial_")} == described


def test_the_kits_named_exist() -> None:
    for word in words(section("plugins.md", "## Conformance kits")):
        if word.startswith("fluvial.testing."):
            module, _, kit = word.rpartition(".")
            assert hasattr(importlib.import_module(module), kit)
