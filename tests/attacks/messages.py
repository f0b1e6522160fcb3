"""Attacks by messages on connections that are as they must be."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Final

import anyio
import anyio.lowlevel
from fluvial.air.data.content import ContentId
from fluvial.encoding import encode
from fluvial.particle import ParticleKey
from fluvial.particles.notice import PROTOCOL as NOTICE_PROTOCOL
from fluvial.particles.notice import SignedNotice, make_notice
from fluvial.particles.receipt import PROTOCOL, Receipt, encode_receipt
from fluvial.services.builtin import PING_PROTOCOL
from fluvial_transport_tcp.framing import Kind, Message, encode_frame

from tests.attacks.arena import AT_ONCE, GONE, Arena

TOGETHER: Final = 64
"""Messages that are written in one go."""
TOLD_MS: Final = 1_700_000_000_000

Make = Callable[[Arena], Iterator[Message]]


async def _say(arena: Arena, make: Make) -> None:
    """Say such messages on a few connections, and read what comes."""

    async def stay() -> None:
        while True:
            with suppress(*GONE, TimeoutError):
                async with arena.link() as link, anyio.create_task_group() as both:

                    async def read() -> None:
                        while await link.hear() is not None:
                            pass
                        both.cancel_scope.cancel()

                    both.start_soon(read)
                    messages = make(arena)
                    while True:
                        together = [next(messages) for _ in range(TOGETHER)]
                        await link.say_bytes(b"".join(b"".join(encode_frame(one)) for one in together))
                        arena.receipts["said"] += TOGETHER
                        await anyio.lowlevel.checkpoint()
            await anyio.sleep(0.2)

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(stay)


def pings(arena: Arena) -> Iterator[Message]:
    """Signs of life are asked for."""
    return (Message(Kind.PING, number & 0xFFFFFFFF) for number in count())


def ping_requests(arena: Arena) -> Iterator[Message]:
    """Requests that are answered with nothing."""
    return (Message(Kind.REQUEST, number & 0xFFFFFFFF, PING_PROTOCOL) for number in count())


def unknown(arena: Arena) -> Iterator[Message]:
    """Messages of protocols that nobody speaks, with ids as large as they can be."""
    for number in count():
        label = f"/{'ß' * arena.rng.randint(1, 120)}/{number}"
        yield (
            Message(arena.rng.choice((Kind.REQUEST, Kind.ONE_WAY)), 0, label, arena.rng.randbytes(100))
            if number % 2
            else (Message(Kind.REQUEST, 0xFFFFFFFF - number % 1_000, label))
        )


def answers(arena: Arena) -> Iterator[Message]:
    """Answers, errors and credit that nobody has asked for."""
    receipt = encode_receipt(Receipt())
    for number in count():
        yield arena.rng.choice(
            (
                Message(Kind.ANSWER, number & 0xFFFFFFFF, body=receipt),
                Message(Kind.ERROR, number & 0xFFFFFFFF, "F000", b"x" * 500),
                Message(Kind.PONG, number & 0xFFFFFFFF),
            )
        )


def notices(arena: Arena) -> Iterator[Message]:
    """Failure notices: well signed ones about particles that nobody has begun, badly signed ones, and noise."""
    keys, victim = arena.stranger(), arena.target.peer_id
    for number in count():
        key = ParticleKey(arena.rng.randbytes(32))
        notice = make_notice(key, keys.peer_id, "flow", "x" * 1_000, at_ms=TOLD_MS)
        signed = SignedNotice.sign(victim if number % 3 else arena.stranger().peer_id, notice, keys)
        body = encode(signed) if number % 5 else arena.rng.randbytes(300)
        yield Message(Kind.REQUEST, number & 0xFFFFFFFF, NOTICE_PROTOCOL, body)


def noise(arena: Arena) -> Iterator[Message]:
    """What is no delivery."""
    for number in count():
        size = arena.rng.choice((0, 10, 1_000, 60_000))
        yield Message(Kind.REQUEST, number & 0xFFFFFFFF, PROTOCOL, arena.rng.randbytes(size))


async def lies_about_lacks(arena: Arena) -> None:
    """The attacker takes part in a flow, and says of every delivery that it lacks values: they are sent again."""
    keys = arena.stranger()
    script = f"""
        (seq (call "{arena.target.peer_id}" ("op" "string_to_b58") ["{"y" * 4_000}"] x)
             (call "{keys.peer_id}" ("a" "b") [x]))"""

    async def stay() -> None:
        while True:
            with suppress(*GONE, TimeoutError):
                async with arena.link(keys) as link:
                    while (message := await link.hear()) is not None:
                        if message.kind is Kind.REQUEST:
                            lacks = tuple(ContentId(arena.rng.randbytes(32)) for _ in range(4))
                            receipt = encode_receipt(Receipt.refusal("missing", "it is not here", lacks))
                            await link.say(Message(Kind.ANSWER, message.id, body=receipt))
                            arena.receipts["lacked"] += 1
            await anyio.sleep(0.2)

    async def begin() -> None:
        while True:
            await arena.give(keys, script, ttl_ms=20_000)
            await anyio.sleep(0.05)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stay)
        tasks.start_soon(begin)


MESSAGES: Final[Mapping[str, Callable[[Arena], Awaitable[None]]]] = {
    **{
        make.__name__.replace("_", "-"): partial(_say, make=make)
        for make in (pings, ping_requests, unknown, answers, notices, noise)
    },
    "lacks": lies_about_lacks,
}
"""By name."""
