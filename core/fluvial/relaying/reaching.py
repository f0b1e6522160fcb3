"""A client waits for the first of its relays that answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import anyio

from fluvial.addresses import Contact
from fluvial.errors import Unreachable
from fluvial.guard.guarded import GuardedTransport
from fluvial.identity import PeerId

CONNECT_S: Final = 10.0
SLOW_S: Final = 0.75
"""After so long without an answer it is said what is waited for."""
SILENT_S: Final = 0.9
"""What accepts connections and sends not a byte for so long is given up: a handshake costs a relay a few milliseconds, and asks for no answer first."""
GLANCE_S: Final = 0.05


async def reach_one(
    transport: GuardedTransport, relays: Sequence[Contact], protocol: str, *, on_slow: Callable[[str], object]
) -> None:
    """Return when one of some relays has answered an empty request.

    Args:
        transport: the seat.
        relays: at least one; all are asked at the same time.
        protocol: one that every peer answers.
        on_slow: told once what is waited for, if no relay has answered within a moment.

    Raises:
        Unreachable: none has answered within ten seconds; or each has failed, or accepts connections and stays silent.
    """
    failures: dict[PeerId, Unreachable] = {}

    async def try_one(relay: Contact) -> None:
        try:
            await transport.request(relay, protocol, b"", timeout_s=CONNECT_S)
        except Unreachable as error:
            failures[relay.peer] = error
        else:
            tasks.cancel_scope.cancel()

    async def say_what_is_waited_for() -> None:
        await anyio.sleep(SLOW_S)
        on_slow("; ".join(transport.dialling(relay.peer) or f"{relay.peer}: no answer so far" for relay in relays))

    async def give_up_on_silence() -> None:
        """Time is counted in glances: where this process gets no processor, another one on its machine perhaps gets none either."""
        glances = 0
        while glances * GLANCE_S < SILENT_S:
            await anyio.sleep(GLANCE_S)
            silent = [relay for relay in relays if relay.peer not in failures and transport.silent(relay.peer)]
            glances = glances + 1 if silent and len(silent) + len(failures) == len(relays) else 0
        for relay in silent:
            failures[relay.peer] = Unreachable(f"{transport.dialling(relay.peer)}, and not a byte in {SILENT_S:g} s")
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(say_what_is_waited_for)
        tasks.start_soon(give_up_on_silence)
        async with anyio.create_task_group() as asking:
            for relay in relays:
                asking.start_soon(try_one, relay)
        tasks.cancel_scope.cancel()
    if len(failures) == len(relays):
        first = next(iter(failures.values()))
        raise Unreachable(
            f"{'the relay does not answer' if len(relays) == 1 else 'no relay answers'}: {first.message}",
            hint="is it running, is it of the same network, and is its id right?",
        ) from first
