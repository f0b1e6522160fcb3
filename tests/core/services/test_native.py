"""The native execution seat: Python services named in the config."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import structlog
from fluvial.clock import ManualClock
from fluvial.errors import ConfigError, PluginError, ServiceError
from fluvial.identity import KeyPair
from fluvial.seats import Execution, Surroundings
from fluvial.services.native import NativeExecution, NativeOptions
from prometheus_client import CollectorRegistry

MODULE = """
import msgspec
from fluvial.effectors import Effector, NoConfig, function

life = []

class Greeter(Effector[NoConfig]):
    service_id = "greeter"
    async def start(self): life.append("start")
    async def stop(self): life.append("stop")
    @function
    def hello(self, name: str) -> str:
        return f"hello {name}"

class Twin(Greeter):
    pass

class Failing(Greeter):
    service_id = "failing"
    async def start(self): raise OSError("no device")

class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    depth: int

class Configured(Effector[Options]):
    service_id = "configured"

class Nameless(Effector[NoConfig]):
    pass

class NoEffector:
    pass
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "greeter_service.py").write_text(MODULE)
    (tmp_path / "broken_service.py").write_text("import does_not_exist\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "greeter_service"
    sys.modules.pop("greeter_service", None)


@pytest.fixture
def surroundings(keys: KeyPair, tmp_path: Path) -> Surroundings:
    return Surroundings(
        keys=keys,
        network="test",
        clock=ManualClock(0),
        metrics=CollectorRegistry(),
        log=structlog.get_logger(),
        base_dir=tmp_path,
    )


async def test_services_of_the_config_are_started_called_and_stopped(
    module: str, surroundings: Surroundings, call: Any
) -> None:
    execution: Execution = NativeExecution(surroundings, NativeOptions(services=("greeter_service:Greeter",)))
    async with anyio.create_task_group() as tasks:
        await tasks.start(lambda *, task_status: execution.run(task_status=task_status))
        assert execution.services() == {"greeter": ("hello",)}
        assert await execution.call(call("greeter.hello", "Ann")) == "hello Ann"
        for name, status in (("greeter.bye", 2), ("other.hello", 1), ("greeter.hello", 4)):
            with pytest.raises(ServiceError) as failure:
                await execution.call(call(name))
            assert failure.value.status == status
        tasks.cancel_scope.cancel()
    assert sys.modules[module].life == ["start", "stop"]


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (["greeter_service"], 'not of the form "module:Class"'),
        (["greeter_service:"], 'not of the form "module:Class"'),
        (["no_such_module:Greeter"], "importing 'no_such_module' failed: ModuleNotFoundError"),
        (["broken_service:Greeter"], "importing 'broken_service' failed.*does_not_exist"),
        (["greeter_service:Missing"], "has no subclass of fluvial.effectors.Effector"),
        (["greeter_service:NoEffector"], "has no subclass"),
        (["greeter_service:Nameless"], "has no service_id"),
        (["greeter_service:Configured"], "wants options"),
        (["greeter_service:Greeter", "greeter_service:Twin"], "both serve 'greeter'"),
    ],
)
def test_what_cannot_be_run_is_explained(
    names: list[str], complaint: str, module: str, surroundings: Surroundings
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        NativeExecution(surroundings, NativeOptions(services=tuple(names)))


async def test_a_service_that_cannot_start_stops_those_before_it(module: str, surroundings: Surroundings) -> None:
    options = NativeOptions(services=("greeter_service:Greeter", "greeter_service:Failing"))
    execution = NativeExecution(surroundings, options)
    with pytest.raises(PluginError, match=r"start.. failed: OSError: no device"):
        await execution.run(task_status=anyio.TASK_STATUS_IGNORED)
    assert sys.modules[module].life == ["start", "stop"]
