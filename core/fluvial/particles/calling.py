"""Makes a call that a run of a particle requests; observers and the log hear of it.

1. Heavy arguments are weighed, in turn (``Processor.in_turn``) and in a thread: what a script hands over may be a thousand times one value.
2. The authorization is asked for permission.
3. The service answers. Where an inline function goes through heavy arguments, and where a heavy result is encoded, is another turn; a pure function
   (``Effector.pure``) goes through heavy arguments in a thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from logging import DEBUG, INFO
from typing import Final, overload

import msgspec
import structlog

from fluvial.air.data.content import Json
from fluvial.air.data.weight import EncodedJson, fields_beyond, is_light, is_short, weight_within
from fluvial.air.machine.findings import Request
from fluvial.air.machine.outcomes import Answered, CallOutcome, Failed
from fluvial.air.machine.provenance import Provenance
from fluvial.effectors import Call, Tetraplet
from fluvial.errors import ServiceError
from fluvial.fairness import Payer
from fluvial.particle import Particle
from fluvial.particles.context import ActorContext
from fluvial.services.status import Status
from fluvial.services.values import RESULT_FIELDS_MAX
from fluvial.waiting import now_s

ARGUMENTS_PART: Final = 2
"""The arguments of one call may take so large a part of what one flow may hold: a half."""
NOT_ALLOWED: Final = "is not allowed"
"""In the error of each call that the authorization did not permit, before its explanation."""


async def make_call(
    particle: Particle,
    request: Request,
    context: ActorContext,
    log: structlog.stdlib.BoundLogger,
    *,
    payer: Payer,
) -> CallOutcome:
    """How a requested call ended. A service that fails is an outcome, too.

    Args:
        particle: whose run asks for it.
        request: the call.
        context: has the services.
        log: a logger bound to the particle.
        payer: whose share of what is short it uses.
    """
    call = _call_of(particle, request, payer)
    began = now_s()
    outcome: CallOutcome
    in_turn = partial(context.processor.in_turn, particle.initiator, upstream=payer.upstream)
    try:
        if not (is_short(call.arguments) or is_light(call.arguments)):
            await in_turn(partial(_check_weight, call, context.limits.memory_bytes_max // ARGUMENTS_PART), pure=True)
        decision = await context.permit(call)
        if not decision.allowed:
            raise ServiceError(
                Status.NOT_ALLOWED, f"{call.service}.{call.function} {NOT_ALLOWED}: {decision.explanation}"
            )
        outcome = Answered(await context.services.result(call, in_turn))
    except ServiceError as error:
        outcome = Failed(error.status, msgspec.json.encode(error.message).decode())
    status = int(outcome.status) if isinstance(outcome, Failed) else 0
    seconds = now_s() - began
    context.observers.call_done(call, status, seconds)
    if log.is_enabled_for(INFO):
        log.info("call_done", service=call.service, function=call.function, status=status, seconds=round(seconds, 6))
    if log.is_enabled_for(DEBUG):
        log.debug(
            "call_values",
            service=call.service,
            function=call.function,
            status=status,
            seconds=round(seconds, 6),
            arguments=list(call.arguments),
            outcome=_shown(outcome),
        )
    return outcome


def _shown(outcome: CallOutcome) -> Json:
    if isinstance(outcome, Failed):
        return outcome.message
    value = outcome.value
    return f"{len(value.data):,} bytes" if type(value) is EncodedJson else value


def _check_weight(call: Call, most: int) -> None:
    """Raise ServiceError if the arguments are too heavy, or one has more fields than a result may have."""
    if weight_within(call.arguments, most) > most:
        raise ServiceError(
            Status.BAD_ARGUMENTS, f"the arguments take more than {most:,} bytes of memory together, which is the limit"
        )
    for number, argument in enumerate(call.arguments, 1):
        if fields_beyond(argument, RESULT_FIELDS_MAX):
            raise ServiceError(
                Status.BAD_ARGUMENTS,
                f"argument {number} has more than {RESULT_FIELDS_MAX:,} fields, which is the limit",
            )


class Tetraplets(Sequence[Tetraplet]):
    """The tetraplets of one argument, made when they are looked at.

    A canon has one for each element, and a thousand calls that wait for a place at a service may have it as an argument.

    Args:
        origins: where the argument comes from, which the machine holds.
    """

    __slots__ = ("_origins",)

    def __init__(self, origins: tuple[Provenance, ...]) -> None:
        self._origins = origins

    def __len__(self) -> int:
        return len(self._origins)

    def __iter__(self) -> Iterator[Tetraplet]:
        return map(_tetraplet, self._origins)

    @overload
    def __getitem__(self, at: int) -> Tetraplet: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[Tetraplet]: ...

    def __getitem__(self, at: int | slice) -> Tetraplet | Sequence[Tetraplet]:
        return Tetraplets(self._origins[at]) if isinstance(at, slice) else _tetraplet(self._origins[at])


def _tetraplet(origin: Provenance) -> Tetraplet:
    return Tetraplet(origin.peer, origin.service, origin.function, origin.lens)


def _call_of(particle: Particle, request: Request, payer: Payer) -> Call:
    return Call(
        particle_id=particle.id,
        initiator=particle.initiator,
        service=request.service,
        function=request.function,
        arguments=request.arguments,
        tetraplets=[Tetraplets(origins) for origins in request.tetraplets],
        timestamp_ms=particle.header.timestamp_ms,
        ttl_ms=particle.header.ttl_ms,
        script_hash=particle.header.script_hash,
        credentials=particle.header.credentials,
        paid_by=payer,
    )
