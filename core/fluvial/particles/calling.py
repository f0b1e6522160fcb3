"""Makes a call that a run of a particle requests: asks for permission, then calls the service; observers and the log hear of it."""

from __future__ import annotations

from typing import Final

import anyio
import msgspec
import structlog
from msgspec.structs import astuple

from fluvial.air.machine.findings import Request
from fluvial.air.machine.machine import Answered, CallOutcome, Failed
from fluvial.effectors import Call, Tetraplet
from fluvial.errors import ServiceError
from fluvial.particle import Particle
from fluvial.particles.context import ActorContext
from fluvial.services.status import Status

NOT_ALLOWED: Final = "is not allowed"
"""In the error of each call that the authorization did not permit, before its explanation."""


async def make_call(
    particle: Particle, request: Request, context: ActorContext, log: structlog.stdlib.BoundLogger
) -> CallOutcome:
    """How a requested call ended. A service that fails is an outcome, too.

    Args:
        particle: whose run asks for it.
        request: the call.
        context: has the services.
        log: a logger bound to the particle.
    """
    call = _call_of(particle, request)
    began = anyio.current_time()
    outcome: CallOutcome
    decision = await context.permit(call)
    try:
        if not decision.allowed:
            raise ServiceError(
                Status.NOT_ALLOWED, f"{call.service}.{call.function} {NOT_ALLOWED}: {decision.explanation}"
            )
        outcome = Answered(await context.services.call(call))
    except ServiceError as error:
        outcome = Failed(error.status, msgspec.json.encode(error.message).decode())
    status = int(outcome.status) if isinstance(outcome, Failed) else 0
    seconds = anyio.current_time() - began
    context.observers.call_done(call, status, seconds)
    log.info("call_done", service=call.service, function=call.function, status=status, seconds=round(seconds, 6))
    log.debug(
        "call_values",
        service=call.service,
        function=call.function,
        status=status,
        seconds=round(seconds, 6),
        arguments=list(call.arguments),
        outcome=outcome.value if isinstance(outcome, Answered) else outcome.message,
    )
    return outcome


def _call_of(particle: Particle, request: Request) -> Call:
    return Call(
        particle_id=particle.id,
        initiator=particle.initiator,
        service=request.service,
        function=request.function,
        arguments=request.arguments,
        tetraplets=[[Tetraplet(*astuple(origin)) for origin in origins] for origins in request.tetraplets],
        timestamp_ms=particle.header.timestamp_ms,
        ttl_ms=particle.header.ttl_ms,
        script_hash=particle.header.script_hash,
        credentials=particle.header.credentials,
    )
