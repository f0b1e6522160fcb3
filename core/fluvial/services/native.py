"""The execution seat for services written in Python that the config names: ``services = ["module:Class"]``."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Annotated, Any, Final

import anyio
import msgspec
from anyio.abc import TaskStatus

from fluvial.effectors import Call, Effector, NoConfig
from fluvial.errors import ConfigError, PluginError, ServiceError
from fluvial.seats import Json, Surroundings
from fluvial.services.service import Service
from fluvial.services.status import Status, listed, shortened
from fluvial.services.threads import Threads

THREADS_MAX: Final = 64
"""Threads for functions that are no coroutines, all services together."""


class NativeOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of ``[execution] kind = "native"``."""

    services: Annotated[
        tuple[str, ...],
        msgspec.Meta(
            description='services to run, "module:Class": subclasses of fluvial.effectors.Effector without options'
        ),
    ] = ()
    timeout_s: Annotated[
        float, msgspec.Meta(gt=0, description="time limit of a call where neither function nor service has its own")
    ] = 20.0


class NativeExecution:
    """Runs Python services.

    Args:
        surroundings: of the node.
        options: which services.

    Raises:
        ConfigError: a service cannot be imported, or is none.
        PluginError: a service's class is unusable.
    """

    def __init__(self, surroundings: Surroundings, options: NativeOptions) -> None:
        self._timeout_s = options.timeout_s
        threads = Threads(THREADS_MAX)
        self._services: dict[str, Service] = {}
        for text in options.services:
            service = Service(load(text)(), threads=threads, log=surroundings.log)
            if service.id in self._services:
                raise ConfigError(f"execution.services: {text!r} and another one both serve {service.id!r}")
            self._services[service.id] = service

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Start all services and keep them until cancelled, then stop them, the last one first.

        Raises:
            PluginError: a service could not be started.
        """
        async with AsyncExitStack() as started:
            for service in self._services.values():
                await service.start()
                started.push_async_callback(_stop, service)
            task_status.started()
            await anyio.sleep_forever()

    async def call(self, call: Call) -> Json:
        """The result of a service call.

        Raises:
            ServiceError: the service failed, or there is no such service (status 1) or function (status 2).
        """
        if (service := self._services.get(call.service)) is None:
            raise ServiceError(
                Status.UNKNOWN_SERVICE,
                f"no native service {shortened(call.service, 80)!r}; there are: {listed(list(self._services))}",
            )
        return await service.call(call, timeout_s=self._timeout_s)

    def services(self) -> Mapping[str, Sequence[str]]:
        """The functions of every service by service id."""
        return {service_id: tuple(service.interface.functions) for service_id, service in self._services.items()}


async def _stop(service: Service) -> None:
    with anyio.CancelScope(shield=True):  # Service.stop has its own deadline
        await service.stop()


def load(text: str) -> type[Effector[Any]]:
    """The class that ``"module:Class"`` names.

    Raises:
        ConfigError: it cannot be imported, is no effector, or wants options, which this seat cannot give.
    """
    where = f"execution.services: {text!r}"
    module_name, colon, class_name = text.partition(":")
    if not (colon and module_name and class_name.isidentifier()):
        raise ConfigError(f'{where} is not of the form "module:Class"')
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # somebody else's module: whatever it raises is the operator's to know
        raise ConfigError(
            f"{where}: importing {module_name!r} failed: {type(error).__name__}: {error}",
            hint="install it in this Python environment, or name its folder in PYTHONPATH",
        ) from error
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, Effector)):
        raise ConfigError(f"{where}: {module_name} has no subclass of fluvial.effectors.Effector of that name")
    try:
        config = found.config_type()
    except PluginError as error:
        raise ConfigError(f"{where}: {error.message}", hint=error.hint) from error
    if config is not NoConfig:
        raise ConfigError(f"{where} wants options", hint="offer it as an effector and set [effectors.NAME]")
    return found
