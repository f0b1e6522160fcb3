"""Execution ``uploading``: runs what peers upload, small tables of answers that may call functions of the host.

A module is a blob that its author keeps; ``upload.add`` fetches it from whoever calls, so no particle carries it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from fluvial import hookimpl
from fluvial.blob_id import BlobId
from fluvial.effectors import Call, Effector, EffectorError, NoConfig, function
from fluvial.errors import FluvialError, ServiceError
from fluvial.offers import Registry
from fluvial.ports import Context
from fluvial.seats import Contributions, Execution, Json
from fluvial.services import Status
from fluvial.virtual.threads import in_thread

from tests.toys.host import HostFunctions

MODULE_BYTES_MAX = 1_000_000
MODULES_MAX = 100


class Module(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``say`` has texts with a ``{}`` for the argument, ``host`` functions as ``clock.now``; by function."""

    say: dict[str, str] = {}
    host: dict[str, str] = {}
    policy: Any = None
    ballast: str = ""


class Upload(Effector[NoConfig]):
    """What runs here."""

    service_id = "upload"

    def __init__(self, part: Uploading) -> None:
        super().__init__()
        self._part = part

    @function
    async def add(self, call: Call, service: str, blob: str) -> None:
        """Run a module, fetched from the caller or whoever has it, as a service."""
        try:
            await self._part.add(service, BlobId.parse(blob), call)
        except ValueError as error:
            raise EffectorError(400, str(error)) from error
        except FluvialError as error:
            raise EffectorError(500, error.message) from error


class Uploading(Execution):
    def __init__(self, context: Context, options: NoConfig, **modules: Module) -> None:
        self._context = context
        self._modules = modules

    def contributions(self) -> Contributions:
        return Contributions(services=(Upload(self),))

    async def add(self, service: str, blob: BlobId, call: Call) -> None:
        if len(self._modules) >= MODULES_MAX:
            raise EffectorError(503, f"there are {MODULES_MAX} modules already")
        path = await self._context.blobs.get(blob, bytes_max=MODULE_BYTES_MAX, hints=[call.initiator])
        try:
            self._modules[service] = msgspec.json.decode(await in_thread(path.read_bytes), type=Module)
        except msgspec.DecodeError as error:
            raise EffectorError(400, f"{blob} is no module: {error}") from error

    async def call(self, call: Call) -> Json:
        module = self._modules.get(call.service)
        if module is None:
            raise ServiceError(Status.UNKNOWN_SERVICE, f"no module {call.service!r} was uploaded")
        if (text := module.say.get(call.function)) is not None:
            return text.format(*map(str, call.arguments)) if call.arguments else text
        if (name := module.host.get(call.function)) is not None:
            return self._of_host(name)
        raise ServiceError(Status.UNKNOWN_FUNCTION, f"{call.service!r} has no function {call.function!r}")

    def services(self) -> Mapping[str, Sequence[str]]:
        return {name: [*module.say, *module.host] for name, module in self._modules.items()}

    def policy(self, service: str) -> Json | None:
        module = self._modules.get(service)
        return None if module is None else module.policy

    def _of_host(self, name: str) -> Json:
        host, _, wanted = name.partition(".")
        for given in self._context.extensions.all(HostFunctions):
            if given.name == host and wanted in given.functions:
                return given.functions[wanted]()
        raise ServiceError(100, f"this node has no function {name!r} for modules")


@hookimpl
def fluvial_register(registry: Registry) -> None:
    registry.execution("uploading", Uploading, options=NoConfig)
