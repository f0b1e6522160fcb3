"""What an author writes, and what is said to one who writes it wrongly."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
from fluvial.effectors import Call, Effector, EffectorError, NoConfig, function
from fluvial.errors import PluginError, ServiceError
from fluvial.offers import Registry
from fluvial.services import Services, describe

WEATHER = '''
"""Weather for AIR scripts, read from a station's JSON file."""
import json
import anyio
import msgspec
from fluvial import hookimpl
from fluvial.effectors import Call, Effector, EffectorError, function
from fluvial.offers import Registry

class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    station_file: str

class Weather(Effector[Config]):
    service_id = "weather"

    @function
    async def temperature(self, call: Call, city: str) -> float:
        """Degrees Celsius; code 404 if the station does not know the city."""
        text = await anyio.Path(self.config.station_file).read_text()
        if (celsius := json.loads(text).get(city)) is None:
            raise EffectorError(404, f"no reading for {city!r}")
        return float(celsius)

@hookimpl
def fluvial_register(registry: Registry) -> None:
    registry.effector("weather", Weather)
'''


@pytest.fixture
def weather(tmp_path: Path) -> ModuleType:
    """The plugin of a third party, in a file of its own."""
    path = tmp_path / "fluvial_effector_weather.py"
    path.write_text(WEATHER)
    spec = importlib.util.spec_from_file_location("fluvial_effector_weather", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def test_a_third_party_effector_is_offered_built_from_its_options_and_called(
    weather: ModuleType, services: Services, ask: Any, tmp_path: Path
) -> None:
    (tmp_path / "station.json").write_text(json.dumps({"Oslo": -3}))
    registry = Registry()
    weather.fluvial_register(registry)
    offer = registry.get("effector", "weather")
    assert offer is not None
    options = msgspec.convert({"station_file": str(tmp_path / "station.json")}, offer.options)

    await services.serve(offer.factory.from_options(options), kind="effector")  # type: ignore[attr-defined]

    assert await ask("weather.temperature", "Oslo") == -3.0
    with pytest.raises(ServiceError, match="no reading for 'Paris'") as failure:
        await ask("weather.temperature", "Paris")
    assert failure.value.status == 404


def test_the_hints_of_an_effector_are_its_interface(weather: ModuleType) -> None:
    interface = describe(weather.Weather)

    assert interface.service_id == "weather"
    assert str(interface.functions["temperature"]) == "temperature(city: string) -> f64"
    assert interface.functions["temperature"].doc.startswith("Degrees Celsius")


class Plain(Effector[NoConfig]):
    """Two functions."""

    service_id = "plain"

    @function
    def list_(self) -> list[str]:
        """A name that Python has taken."""
        return ["a"]

    @function
    async def who(self, call: Call) -> str:
        return call.initiator

    def not_for_scripts(self) -> None:
        raise AssertionError("called")


class Derived(Plain):
    service_id = "derived"

    @function
    async def more(self) -> None:
        return None


def test_an_effector_without_options_is_built_without_argument() -> None:
    assert Plain().config == NoConfig()
    assert type(Plain.from_options(NoConfig())) is Plain
    assert Plain.config_type() is NoConfig


def test_the_options_of_a_class_are_found_through_its_ancestors() -> None:
    class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        depth: int

    class Base(Effector[Options]):
        service_id = "base"

    class Child(Base):
        service_id = "child"

    assert Child.config_type() is Options
    assert Child.from_options(Options(3)).config.depth == 3


async def test_only_marked_methods_can_be_called(services: Services, ask: Any) -> None:
    await services.serve(Plain())
    await services.serve(Derived())

    assert await ask("plain.list") == ["a"]
    assert await ask("derived.list") == ["a"]
    assert await ask("derived.more") is None
    for name in ("not_for_scripts", "list_", "__init__", "start", "config", ""):
        with pytest.raises(ServiceError, match="has no function") as failure:
            await ask(f"plain.{name}")
        assert failure.value.status == 2


async def test_the_call_is_passed_to_functions_that_ask_for_it(services: Services, ask: Any, stranger: str) -> None:
    await services.serve(Plain())

    assert await ask("plain.who", initiator=stranger) == stranger


def broken(**members: Any) -> type[Effector[Any]]:
    return type("Broken", (Effector,), {"service_id": "broken", **members})


def no_hint(self, city) -> str:  # type: ignore[no-untyped-def]
    return str(city)


def no_return(self: Any, city: str):  # type: ignore[no-untyped-def]
    return city


def keyword(self: Any, *, city: str) -> str:
    return city


def any_keyword(self: Any, **cities: str) -> str:
    return str(cities)


def late_call(self: Any, city: str, call: Call) -> str:
    return city


def strange(self: Any, city: complex) -> str:
    return str(city)


def strange_inside(self: Any, city: list[dict[int, str]]) -> str:
    return str(city)


def strange_result(self: Any) -> object:
    return object()


def unknown_name(self: Any, city: Missing) -> str:  # type: ignore[name-defined]  # noqa: F821
    return str(city)


async def inline(self: Any) -> None:
    return None


@pytest.mark.parametrize(
    ("method", "complaint"),
    [
        (no_hint, "'city' has no type hint"),
        (no_return, "says not what it returns"),
        (keyword, "by position only, 'city'"),
        (any_keyword, "by position only, 'cities'"),
        (late_call, "the call must be the first parameter, not 'call'"),
        (strange, "'city'.*complex"),
        (strange_inside, "'city'"),
        (strange_result, "object"),
        (unknown_name, "cannot resolve its type hints.*Missing"),
    ],
)
def test_a_function_that_scripts_could_not_call_is_refused_when_it_is_described(method: Any, complaint: str) -> None:
    with pytest.raises(PluginError, match=complaint):
        describe(broken(method=function(method)))


def test_other_mistakes_in_a_class_are_explained() -> None:
    with pytest.raises(PluginError, match="has no service_id"):
        describe(type("Nameless", (Effector,), {}))
    with pytest.raises(PluginError, match="1 to 128 characters"):
        describe(broken(service_id="", one=function(any_result)))
    with pytest.raises(PluginError, match="has no function"):
        describe(broken())
    with pytest.raises(PluginError, match="declares 'any_result' twice"):
        describe(broken(one=function(any_result), two=function(any_result)))
    with pytest.raises(PluginError, match="is async, which inline"):
        describe(broken(one=function(inline=True)(inline)))
    with pytest.raises(PluginError, match="no plain method"):
        describe(broken(one=staticmethod(function(any_result))))


def any_result(self: Any) -> Any:
    return None


def test_effector_error_is_the_service_error() -> None:
    assert EffectorError is ServiceError
