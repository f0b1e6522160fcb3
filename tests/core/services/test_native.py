"""The native execution seat: Python services named in the config."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fluvial.errors import ConfigError, ServiceError
from fluvial.identity import KeyPair
from fluvial.ports import Context
from fluvial.services.native import NativeExecution, NativeOptions
from fluvial.testing.closed import closed_context

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
def context(keys: KeyPair, tmp_path: Path) -> Context:
    return closed_context("execution native", keys=keys, network="test", base_dir=tmp_path)


async def test_services_of_the_config_are_given_to_the_node(module: str, context: Context, call: Any) -> None:
    execution = NativeExecution(context, NativeOptions(services=("greeter_service:Greeter",)))
    assert [service.service_id for service in execution.contributions().services] == ["greeter"]
    assert execution.services() == {}
    with pytest.raises(ServiceError, match="no native service 'other'; there are: greeter") as failure:
        await execution.call(call("other.hello"))
    assert failure.value.status == 1


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
def test_what_cannot_be_run_is_explained(names: list[str], complaint: str, module: str, context: Context) -> None:
    with pytest.raises(ConfigError, match=complaint):
        NativeExecution(context, NativeOptions(services=tuple(names)))
