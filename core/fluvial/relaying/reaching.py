"""A client waits for the first of its relays that answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import anyio

from fluvial.addresses import Contact
from fluvial.errors import Unreachable
from fluvial.guard.guarded import GuardedTransport

CONNECT_S: Final = 10.0


async def reach_one(transport: GuardedTransport, relays: Sequence[Contact], protocol: str) -> None:
    """Return when one of some relays has answered an empty request.

    Args:
        transport: the seat.
        relays: at least one; all are asked at the same time.
        protocol: one that every peer answers.

    Raises:
        Unreachable: none has answered within ten seconds.
    """
    failures: list[Unreachable] = []

    async def try_one(relay: Contact) -> None:
        try:
            await transport.request(relay, protocol, b"", timeout_s=CONNECT_S)
        except Unreachable as error:
            failures.append(error)
        else:
            tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        for relay in relays:
            tasks.start_soon(try_one, relay)
    if len(failures) == len(relays):
        raise Unreachable(
            f"{'the relay does not answer' if len(relays) == 1 else 'no relay answers'}: {failures[0].message}",
            hint="is it running, is it of the same network, and is its id right?",
        ) from failures[0]
