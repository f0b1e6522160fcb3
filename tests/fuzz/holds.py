"""How long calls of built-in functions with large arguments hold up the event loop, for ``tests.fuzz.slices``.

The calls go the way that those of a particle go: weighed, in turn, in a thread if they are pure. Meanwhile a task looks how much time of the processor this
process uses between two of its turns: that is what the call held, wherever it ran, and other programs on the machine hardly matter.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

import anyio
import anyio.lowlevel
import msgspec
from fluvial.air.data.weight import is_light
from fluvial.effectors import Call
from fluvial.errors import ServiceError
from fluvial.fairness import equal
from fluvial.identity import PeerId
from fluvial.particles.processor import Processor
from fluvial.services.service import Service
from fluvial.services.values import RESULT_FIELDS_MAX
from prometheus_client import CollectorRegistry

SIZES: Final = (1_000, 30_000, 300_000)
"""Items of a value."""
TEXT_MAX: Final = 4_000_000
"""Characters of a long text."""
ODD: Final = 0.1
"""How often an argument is not of its type: the error shows the beginning of it."""


def _texts(rng: random.Random, size: int) -> list[str]:
    start = rng.randrange(2**30)
    return [f"{start + number}" for number in range(size)]


PLAIN: Final[Sequence[str]] = ("numbers", "texts", "arrays", "nested", "objects", "object", "pairs")
Shape = Callable[[random.Random, int], Any]
SHAPES: Final[Mapping[str, Shape]] = {
    "numbers": lambda rng, size: [rng.randrange(200)] * size,
    "texts": _texts,
    "arrays": lambda rng, size: [[] for _ in range(size)],
    "nested": lambda rng, size: [[[number]] for number in range(size)],
    "objects": lambda rng, size: [{"a": number} for number in range(min(size, RESULT_FIELDS_MAX))],
    "object": lambda rng, size: dict.fromkeys(_texts(rng, min(size, RESULT_FIELDS_MAX)), 1),
    "pairs": lambda rng, size: [[text, 1] for text in _texts(rng, size)],
    "text": lambda rng, size: rng.choice("a\x01ß😀") * min(10 * size, TEXT_MAX),
    "json": lambda rng, size: msgspec.json.encode(SHAPES[rng.choice(PLAIN)](rng, size)).decode()[:TEXT_MAX],
}
FITTING: Final[Mapping[str, Sequence[str]]] = {
    "string": ("text", "json"),
    "[]string": ("texts",),
    "[]⊤": ("numbers", "texts", "arrays", "nested", "objects", "pairs"),
    "{⊤}": ("object",),
    "[][string, ⊤]": ("pairs",),
}
"""Shapes for types of parameters; numbers for all others."""


def calls(
    services: Mapping[str, Service], rng: random.Random, initiator: PeerId
) -> Iterator[tuple[Service, str, Call]]:
    """A call of each inline function with arguments at random; what they are made of is named."""
    for service in services.values():
        for name, function in service.interface.functions.items():
            if not service.is_inline(name):
                continue
            arguments, shapes = [], []
            for parameter in function.parameters:
                fitting = FITTING.get(parameter.type, ("numbers", *SHAPES) if parameter.type == "⊤" else ("numbers",))
                shape = rng.choice(list(SHAPES) if rng.random() < ODD else list(fitting))
                size = rng.choice(SIZES)
                arguments.append(SHAPES[shape](rng, size))
                shapes.append(f"{shape} of {size:,}")
            if function.parameters and function.parameters[-1].variadic and rng.random() < 1 / 2:
                arguments += arguments[-1:] * rng.choice((1, 3))
            call = Call(particle_id="p", initiator=initiator, service=service.id, function=name, arguments=arguments)
            yield service, f"{service.id}.{name}({', '.join(shapes)})", call


async def _longest(processor: Processor, service: Service, call: Call) -> float:
    """What a call holds at most, in seconds of this process."""
    longest_s, over = 0.0, False

    async def watch() -> None:
        nonlocal longest_s
        while not over:
            began = time.process_time()
            await anyio.lowlevel.checkpoint()
            longest_s = max(longest_s, time.process_time() - began)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        await anyio.lowlevel.checkpoint()
        answer = partial(service.answer, call, timeout_s=1.0)
        with suppress(ServiceError):  # an error is an outcome
            await processor.in_turn(call.initiator, answer, light=is_light(call.arguments), pure=service.effector.pure)
        over = True
    return longest_s


async def look_at_calls(services: Mapping[str, Service], seed: int, longest_s: float, initiator: PeerId) -> list[str]:
    """One line for each call that held longer than allowed, twice in a row."""
    told = []
    async with anyio.create_task_group() as tasks:
        processor = Processor(weight=equal, metrics=CollectorRegistry())
        processor.start(tasks)
        for service, what, call in calls(services, random.Random(seed), initiator):
            if await _longest(processor, service, call) > longest_s:
                took_s = await _longest(processor, service, call)
                if took_s > longest_s:
                    told.append(f"{what} with seed {seed} holds for {took_s * 1_000:.0f} ms")
        tasks.cancel_scope.cancel()
    return told


def look_at_builtins(services: Mapping[str, Service], seed: int, longest_s: float, initiator: PeerId) -> str:
    """As :func:`look_at_calls`, as one text."""
    return "\n".join(anyio.run(partial(look_at_calls, services, seed, longest_s, initiator)))
