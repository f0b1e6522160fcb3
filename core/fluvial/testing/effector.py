"""The conformance kit for effectors: subclass it, give it the effector, run pytest.

::

    class TestWeather(EffectorConformance):
        @pytest.fixture
        def effector(self, tmp_path):
            (tmp_path / "station.json").write_text('{"Oslo": -3}')
            return Weather(Config(station_file=str(tmp_path / "station.json")))

It needs nothing but pytest and anyio's pytest plugin. What a function *does* only its author can test; the kit checks what every
effector must do: load, describe itself, refuse what it cannot understand, start and stop more than once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from fluvial.effectors import Call, Effector, NoConfig
from fluvial.errors import ServiceError
from fluvial.identity import KeyPair, PeerId
from fluvial.offers import Registry
from fluvial.services import Interface, Service, Status, describe
from fluvial.services.threads import Threads
from fluvial.testing.solo import Surrounding

CALL_S_MAX: Final = 10.0
THREADS_MAX: Final = 4
STRANGER: Final[PeerId] = KeyPair.from_secret(b"the effector kit's stranger key!").peer_id
"""The peer whose particle makes the kit's calls."""


@pytest.mark.anyio
class EffectorConformance:
    """What every effector must do. The one fixture to give is ``effector``."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Fluvial runs on asyncio."""
        return "asyncio"

    @pytest.fixture
    def effector(self) -> Effector[Any]:
        """The effector under test, not started."""
        raise NotImplementedError(f"{type(self).__name__} must define the fixture `effector`")

    @pytest.fixture
    def service(self, effector: Effector[Any]) -> Service:
        """The effector as a node would call it."""
        around = Surrounding(effector.service_id)
        return Service(effector, threads=Threads(THREADS_MAX), guard=around.guard, plugin="under-test")

    @pytest.fixture
    async def started(self, service: Service) -> AsyncIterator[Service]:
        """The service, started, and stopped after the test."""
        await service.start()
        yield service
        await service.stop()

    def test_it_can_be_offered(self, effector: Effector[Any]) -> None:
        """The registry takes its class, and its options are a Struct that refuses unknown keys."""
        registry = Registry()
        registry.effector("under-test", type(effector))
        offer = registry.get("effector", "under-test")
        _check(offer is not None, "the registry did not keep the offer")
        options = type(effector).config_type()
        strict = getattr(getattr(options, "__struct_config__", None), "forbid_unknown_fields", False)
        _check(
            strict,
            f"{options.__name__} is no msgspec.Struct with forbid_unknown_fields=True: typing errors go unnoticed",
        )

    def test_its_interface_is_described(self, effector: Effector[Any]) -> None:
        """Every function has a name that AIR and Aqua can write, types, and a docstring."""
        interface = describe(type(effector))
        _check(bool(interface.functions), "it has no function")
        for name, function in interface.functions.items():
            _check(name.isidentifier() and name.isascii(), f"{name!r} is no name that Aqua could write")
            _check(bool(function.doc), f"{function} has no docstring: nobody will know what it does")

    async def test_it_starts_and_stops_more_than_once(self, service: Service) -> None:
        """A node may stop an effector and start it again."""
        for _ in range(2):
            await service.start()
            await service.stop()

    async def test_unknown_functions_are_refused(self, started: Service) -> None:
        """Status 2, whatever the arguments."""
        await _refused(started, "no_such_function", [], Status.UNKNOWN_FUNCTION)
        await _refused(started, "start", [], Status.UNKNOWN_FUNCTION)
        await _refused(started, "__init__", [None], Status.UNKNOWN_FUNCTION)

    async def test_wrong_numbers_of_arguments_are_refused(self, started: Service) -> None:
        """Status 4 for one argument less than needed and one more than possible."""
        for name, least, most in _counts(started.interface):
            if least:
                await _refused(started, name, [None] * (least - 1), Status.BAD_ARGUMENTS)
            if most is not None:
                await _refused(started, name, [None] * (most + 1), Status.BAD_ARGUMENTS)

    async def test_arguments_of_impossible_types_are_refused(self, started: Service) -> None:
        """Status 4 for an object of unknown shape where a string or a number is wanted."""
        simple = {"string", "bool", "f64", "i64", "u64", "u32", "u8"}
        for name, function in started.interface.functions.items():
            wanted = [parameter for parameter in function.parameters if not parameter.optional]
            if any(parameter.type in simple for parameter in wanted):
                await _refused(started, name, [{"no": "such thing"}] * len(wanted), Status.BAD_ARGUMENTS)

    def test_it_needs_no_options_that_it_does_not_declare(self, effector: Effector[Any]) -> None:
        """Without a config it is built without argument, as the node does."""
        if type(effector).config_type() is NoConfig:
            built = type(effector).from_options(NoConfig())
            _check(isinstance(built, type(effector)), "from_options built something else")


def _counts(interface: Interface) -> list[tuple[str, int, int | None]]:
    """Name, least and most number of arguments of each function."""
    return [
        (
            name,
            sum(not parameter.optional for parameter in function.parameters),
            None if any(parameter.variadic for parameter in function.parameters) else len(function.parameters),
        )
        for name, function in interface.functions.items()
    ]


async def _refused(service: Service, function: str, arguments: list[Any], status: Status) -> None:
    call = Call(
        particle_id="effector-conformance",
        initiator=STRANGER,
        service=service.id,
        function=function,
        arguments=arguments,
    )
    try:
        result = await service.call(call, timeout_s=CALL_S_MAX)
    except ServiceError as error:
        _check(
            error.status == status, f"{function} failed with status {error.status}, not {status.value}: {error.message}"
        )
    else:
        pytest.fail(f"{service.id}.{function} took {len(arguments)} arguments and gave {result!r}; it had to fail")


def _check(condition: bool, message: str) -> None:
    if not condition:
        pytest.fail(message)
