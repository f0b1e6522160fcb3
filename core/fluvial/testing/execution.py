"""The conformance kit for executions: subclass it, say how yours is built, run pytest.

::

    class TestWasm(ExecutionConformance):
        @pytest.fixture
        def build(self, tmp_path):
            return lambda context: Wasm(context, Options(folder=str(tmp_path)))

        @pytest.fixture
        def works(self):
            return Call(particle_id="kit", initiator=..., service="greeting", function="hello", arguments=["Ada"])
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import ClassVar

import anyio
import anyio.lowlevel
import pytest

from fluvial.effectors import Call
from fluvial.errors import ServiceError
from fluvial.seats import Execution
from fluvial.services import Status
from fluvial.services.values import to_json
from fluvial.testing.part import CALL_S, STRANGER, PartConformance, check, check_failures
from fluvial.testing.ports import PartKind
from fluvial.testing.solo import Solo


class ExecutionConformance(PartConformance):
    """What every execution must do, besides what every part must. The fixture to give is ``build``; with ``works`` it is called, too."""

    kind: ClassVar[PartKind] = "execution"

    @pytest.fixture
    def works(self) -> Call | None:
        """A call that must succeed; None if the execution as built has no service."""
        return None

    def asked(self, part: Execution) -> Mapping[str, Callable[[], Awaitable[object]]]:
        """The methods that the node awaits, by name."""
        there = [(service, name) for service, names in part.services().items() for name in names]
        return {
            f"call {service}.{name}": partial(part.call, call_of(service, name))
            for service, name in (("no-such-service", "function"), *there)
        }

    async def test_its_services_are_listed(self, running: Solo[Execution]) -> None:
        """Service ids with the names of their functions."""
        for service, functions in running.part.services().items():
            check(isinstance(service, str) and service, f"{service!r} is no id of a service")
            check(all(isinstance(one, str) and one for one in functions), f"{service}: {functions!r} are no names")
            alone = running.part.functions_of(service)
            check(list(alone or ()) == list(functions), f"{service}: alone it has the functions {alone!r}")
        check(running.part.functions_of("no-such-service") is None, "a service that is not there has functions")

    async def test_unknown_services_and_functions_are_refused(self, running: Solo[Execution]) -> None:
        """Status 1 and 2, by which the node knows that it should look elsewhere."""
        await refused(running.part, call_of("no-such-service", "function"), Status.UNKNOWN_SERVICE)
        for service in running.part.services():
            await refused(running.part, call_of(service, "no such function"), Status.UNKNOWN_FUNCTION)
        check(running.part.policy("no-such-service") is None, "a service that is not there has a policy")

    async def test_wrong_arguments_are_errors_of_the_service(self, running: Solo[Execution]) -> None:
        """A result or a ServiceError, whatever a script hands over."""
        for service, functions in running.part.services().items():
            for function in functions:
                for arguments in ([], [None] * 9, [{"no": "such thing"}], ["\0" * 1000], [-(2**63)]):
                    await self._called(running, call_of(service, function, arguments))
        check_failures(running, "a call with wrong arguments")

    async def test_policies_are_json(self, running: Solo[Execution]) -> None:
        """What a deployment asks for can be handed on."""
        for service in running.part.services():
            to_json(running.part.policy(service), of=service)

    async def test_a_call_works_again_after_it_was_given_up(self, running: Solo[Execution], works: Call | None) -> None:
        """The result is JSON; calls that are cancelled in the middle leave nothing behind that would hinder the next one."""
        if works is None:
            pytest.skip("not offered: a call that succeeds")
        to_json(await running.part.call(works), of=works.service)
        for checkpoints in range(4):
            async with anyio.create_task_group() as group:
                group.start_soon(self._called, running, works)
                for _ in range(checkpoints):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
        check_failures(running, "a cancelled call")
        to_json(await running.part.call(works), of=works.service)

    async def _called(self, running: Solo[Execution], call: Call) -> None:
        with suppress(ServiceError):
            await running.around.guard.call(
                "under-test", call.service, lambda: running.part.call(call), timeout_s=CALL_S, passes=(ServiceError,)
            )


def call_of(service: str, function: str, arguments: Sequence[object] = ()) -> Call:
    """A stranger's call."""
    return Call(
        particle_id="conformance",
        initiator=STRANGER.peer_id,
        service=service,
        function=function,
        arguments=list(arguments),
    )


async def refused(part: Execution, call: Call, status: Status) -> None:
    """The call fails with this status."""
    try:
        result = await part.call(call)
    except ServiceError as error:
        check(error.status == status, f"{call.service}.{call.function}: status {error.status}, not {status.value}")
    else:
        pytest.fail(f"{call.service}.{call.function} is not there and gave {result!r}")
