"""The kit for effectors: good ones pass it, each kind of bad one is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from fluvial.effectors import Effector, EffectorError, NoConfig, function
from fluvial.errors import PluginError
from fluvial.services import Service
from fluvial.services.builtin.arrays import Array
from fluvial.services.builtin.numbers import Math
from fluvial.services.builtin.objects import JsonService
from fluvial.services.builtin.op import Op
from fluvial.services.builtin.sig import Sig
from fluvial.services.threads import Threads
from fluvial.testing.effector import EffectorConformance

from tests.support.services import make_guard


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    station_file: str


class Weather(Effector[Config]):
    service_id = "weather"

    @function
    async def temperature(self, city: str) -> float:
        """Degrees Celsius."""
        text = await anyio.Path(self.config.station_file).read_text()
        if (celsius := json.loads(text).get(city)) is None:
            raise EffectorError(404, f"no reading for {city!r}")
        return float(celsius)


class TestWeather(EffectorConformance):
    @pytest.fixture
    def effector(self, tmp_path: Path) -> Effector[Any]:
        (tmp_path / "station.json").write_text('{"Oslo": -3}')
        return Weather(Config(station_file=str(tmp_path / "station.json")))


class TestBuiltins(EffectorConformance):
    @pytest.fixture(params=[Op, Math, Array, JsonService])
    def effector(self, request: pytest.FixtureRequest) -> Effector[Any]:
        made: Effector[Any] = request.param()
        return made


class Loose(msgspec.Struct):
    depth: int = 1


class LooseOptions(Effector[Loose]):
    """Takes any key in its options."""

    service_id = "loose"

    @function
    async def one(self) -> None:
        """Nothing."""


class Silent(Effector[NoConfig]):
    service_id = "silent"

    @function
    async def one(self) -> None:
        return None


class OnceOnly(Effector[NoConfig]):
    service_id = "once"
    stopped = False

    async def start(self) -> None:
        if self.stopped:
            raise RuntimeError("already used")

    async def stop(self) -> None:
        self.stopped = True

    @function
    async def one(self) -> None:
        """Nothing."""


KIT = EffectorConformance()


@pytest.mark.parametrize(
    ("check", "effector", "complaint"),
    [
        (KIT.test_it_can_be_offered, LooseOptions(Loose()), "forbid_unknown_fields"),
        (KIT.test_its_interface_is_described, Silent(), "has no docstring"),
        (KIT.test_it_needs_no_options_that_it_does_not_declare, None, "argument"),
    ],
)
def test_bad_effectors_are_found(check: Callable[[Any], None], effector: Any, complaint: str, keys: Any) -> None:
    with pytest.raises((pytest.fail.Exception, TypeError), match=complaint):
        check(effector or Sig(keys))


async def test_an_effector_that_starts_only_once_is_found() -> None:
    guard = make_guard()
    service = Service(OnceOnly(), threads=Threads(1), guard=guard)
    with pytest.raises(PluginError, match="already used"):
        await KIT.test_it_starts_and_stops_more_than_once(service)
