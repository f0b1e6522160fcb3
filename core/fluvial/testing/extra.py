"""The conformance kit for extras: subclass it, say how yours is built, run pytest.

::

    class TestGateway(ExtraConformance):
        @pytest.fixture
        def build(self):
            return lambda context: Gateway(context, Options(port=0))

An extra is a part without a seat, so this is the kit of all parts, and its services are tried like effectors.
"""

from __future__ import annotations

from typing import Any, ClassVar

from fluvial.errors import ServiceError
from fluvial.services import Service, Status
from fluvial.services.threads import Threads
from fluvial.testing.execution import call_of
from fluvial.testing.part import CALL_S, PartConformance, check, check_failures
from fluvial.testing.ports import PartKind
from fluvial.testing.solo import Solo

THREADS_MAX = 4


class ExtraConformance(PartConformance):
    """What every extra must do. The one fixture to give is ``build``."""

    kind: ClassVar[PartKind] = "extra"

    async def test_its_services_get_along_without_ports(self, running: Solo[Any]) -> None:
        """Whatever is called with whatever, while all is well and while its ports fail: a result or a ServiceError."""
        for trouble in ("work", "fail"):
            getattr(running.around.doors, trouble)()
            for effector in running.given.services:
                service = Service(
                    effector, threads=Threads(THREADS_MAX), guard=running.around.guard, plugin="under-test"
                )
                for function, described in service.interface.functions.items():
                    for count in range(len(described.parameters) + 1):
                        await self._called(service, function, ["conformance"] * count)
        running.around.doors.work()
        check_failures(running, "a call of one of its services")

    async def _called(self, service: Service, function: str, arguments: list[Any]) -> None:
        try:
            await service.call(call_of(service.id, function, arguments), timeout_s=CALL_S)
        except ServiceError as error:
            check(error.status != Status.UNKNOWN_FUNCTION, f"{service.id} does not know its own {function!r}")
