"""The execution seat for services written in Python that the config names: ``services = ["module:Class"]``."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec

from fluvial.effectors import Call, Effector, NoConfig
from fluvial.errors import ConfigError, PluginError, ServiceError
from fluvial.ports import Context
from fluvial.seats import Contributions, Execution, Json
from fluvial.services.status import Status, listed, shortened


class NativeOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of ``[execution] kind = "native"``."""

    services: Annotated[
        tuple[str, ...],
        msgspec.Meta(
            description='services to run, "module:Class": subclasses of fluvial.effectors.Effector without options'
        ),
    ] = ()


class NativeExecution(Execution):
    """Contributes Python services to the node, which calls them like its own. It runs no other services.

    Args:
        context: of the node.
        options: which services.

    Raises:
        ConfigError: a service cannot be imported, or is no effector.
        PluginError: a service's class is unusable.
    """

    def __init__(self, context: Context, options: NativeOptions) -> None:
        self._services: dict[str, Effector[Any]] = {}
        for text in options.services:
            service = load(text)()
            if service.service_id in self._services:
                raise ConfigError(f"execution.services: {text!r} and another one both serve {service.service_id!r}")
            self._services[service.service_id] = service

    def contributions(self) -> Contributions:
        """The services."""
        return Contributions(services=tuple(self._services.values()))

    async def call(self, call: Call) -> Json:
        """Fail: the node itself calls the contributed services, so a call that arrives here names an unknown service.

        Raises:
            ServiceError: status 1, always.
        """
        raise ServiceError(
            Status.UNKNOWN_SERVICE,
            f"no native service {shortened(call.service, 80)!r}; there are: {listed(list(self._services))}",
        )

    def services(self) -> Mapping[str, Sequence[str]]:
        """None: the node has the contributed services already."""
        return {}


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
    except Exception as error:  # foreign code: the operator must see whatever it raises
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
