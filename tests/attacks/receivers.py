"""Attacks by peers to which the target hands particles: they are there, take what comes, and answer as no peer should."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, TypeAlias

import anyio
from fluvial.encoding import encode
from fluvial.identity import KeyPair
from fluvial.particles.receipt import EXPLANATION_CHARACTERS_MAX, LACKS_MAX, RETRY_MS_MAX, Receipt, encode_receipt
from fluvial_transport_tcp.framing import Kind, Message

from tests.attacks.arena import GONE, Arena
from tests.attacks.values import sequence, text
from tests.plugins.transport_tcp.peers import Stranger

MANY: Final = 320
"""More receivers than a peer hands particles to at the same time."""
FEW: Final = 24
CALLED_AT_ONCE: Final = 40
"""Receivers of one particle."""
AGAIN_S: Final = 0.2
SLOW_S: Final = 14.0
"""Nearly as long as an answer is waited for."""

Answering: TypeAlias = Callable[[Arena, Message], Awaitable[Message | None]]
"""What a receiver says to a delivery, perhaps after a while; None: nothing."""


async def _receive(arena: Arena, keys: KeyPair, answering: Answering) -> None:
    """Be a receiver that is connected, again and again."""
    while True:
        with suppress(*GONE, TimeoutError):
            async with arena.link(keys) as link, anyio.create_task_group() as tasks:
                tasks.start_soon(_show_life, link, speaking := anyio.Lock())
                while (message := await link.hear()) is not None:
                    if message.kind is Kind.REQUEST:
                        arena.receipts["handed"] += 1
                        tasks.start_soon(_answer, arena, link, speaking, message, answering)
                tasks.cancel_scope.cancel()
        await anyio.sleep(AGAIN_S)


async def _show_life(link: Stranger, speaking: anyio.Lock) -> None:
    with suppress(*GONE, TimeoutError):
        while True:
            async with speaking:
                await link.say(Message(Kind.PING, 1))
            await anyio.sleep(3)


async def _answer(arena: Arena, link: Stranger, speaking: anyio.Lock, message: Message, answering: Answering) -> None:
    with suppress(*GONE, TimeoutError):
        if (answer := await answering(arena, message)) is not None:
            async with speaking:
                await link.say(answer)


async def _slowly(arena: Arena, message: Message) -> Message:
    """It is taken, as late as it may be."""
    await anyio.sleep(SLOW_S)
    return _receipt(message, Receipt())


async def _busily(arena: Arena, message: Message) -> Message:
    """It may be taken in a millisecond, it is said each time."""
    reason = arena.rng.choice(("busy", "memory", "quota", "storage", "missing"))
    return _receipt(message, Receipt(reason, "in a moment", retry_ms=1))


async def _oddly(arena: Arena, message: Message) -> Message | None:
    """Receipts of every odd shape, and what is none."""
    rng, number = arena.rng, message.id
    made: Sequence[Message | None] = (
        None,
        _receipt(message, Receipt("x" * 33, "")),
        _receipt(message, Receipt("no", "\x1b\n\u202e" * (EXPLANATION_CHARACTERS_MAX // 3))),
        _receipt(message, Receipt("quota", "", (), RETRY_MS_MAX)),
        _receipt(message, Receipt("quota", "", (), RETRY_MS_MAX + 1)),
        _receipt(message, Receipt("quota", "", (), -1)),
        _receipt(message, Receipt("busy", "", (), 0, True)),
        _receipt(message, Receipt("missing", "", tuple(rng.randbytes(32) for _ in range(LACKS_MAX)))),
        _receipt(message, Receipt("missing", "", (rng.randbytes(31),))),
        _receipt(message, Receipt(rng.randbytes(8).hex(), rng.randbytes(100).hex())),
        Message(Kind.ANSWER, number, body=rng.randbytes(rng.choice((0, 10, 100_000)))),
        Message(Kind.ANSWER, number, body=encode([[]] * 100_000)),
        Message(Kind.ANSWER, number, body=bytes(4_000_000)),
        Message(Kind.ERROR, number, "F" * 60, b"\xff" * 2_000),
        Message(Kind.ERROR, number, "F000", b"no"),
        Message(Kind.ANSWER, number ^ 1, body=encode_receipt(Receipt())),
    )
    return rng.choice(made)


def _receipt(message: Message, receipt: Receipt) -> Message:
    return Message(Kind.ANSWER, message.id, body=encode_receipt(receipt))


async def _called(arena: Arena, answering: Answering, *, receivers: int, doublings: int) -> None:
    """Flows of ever other initiators call a crowd of receivers with a value of a hundred bytes, doubled so often."""
    crowd = [arena.stranger() for _ in range(receivers)]

    async def throw() -> None:
        while True:
            calls = "(null)"
            for keys in arena.rng.sample(crowd, min(CALLED_AT_ONCE, receivers)):
                calls = f'(par (call "{keys.peer_id}" ("a" "b") [s]) {calls})'
            await arena.give(arena.stranger(), sequence(*text(arena, doublings), calls), ttl_ms=60_000)
            await anyio.sleep(0.02)

    async with anyio.create_task_group() as tasks:
        for keys in crowd[:CALLED_AT_ONCE]:
            tasks.start_soon(_receive, arena, keys, answering)
        for _ in range(2):
            tasks.start_soon(throw)
        for keys in crowd[CALLED_AT_ONCE:]:
            tasks.start_soon(_receive, arena, keys, answering)
            await anyio.sleep(0.002)


RECEIVERS: Final[Mapping[str, Callable[[Arena], Awaitable[None]]]] = {
    "slow-receivers": partial(_called, answering=_slowly, receivers=MANY, doublings=1),
    "busy-receivers": partial(_called, answering=_busily, receivers=FEW, doublings=1),
    "busy-receivers-of-much": partial(_called, answering=_busily, receivers=FEW, doublings=14),
    "odd-receivers": partial(_called, answering=_oddly, receivers=FEW, doublings=8),
}
"""By name."""
