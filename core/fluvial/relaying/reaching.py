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
HUNG_S: Final = 2.0
"""Who has shaken hands and sends not a byte for so long, though it was asked something that every peer answers at once, is given up as well ..."""
HANDSHAKES: Final = 10
"""... unless its handshake was slow: it is waited for as long as so many of these take, for who is far away or has much to do is slow in both."""
GLANCE_S: Final = 0.05
"""Time is counted in glances: where this process gets no processor, another one on its machine perhaps gets none either."""


class _Watch:
    """How long a relay has been silent, in glances."""

    __slots__ = ("_connected", "_handshake", "_silent")

    def __init__(self) -> None:
        self._connected = False
        self._handshake = self._silent = 0

    def look(self, *, connected: bool, silent: bool) -> None:
        """A glance has passed."""
        if not connected:
            self._handshake += 1
        elif not self._connected:
            self._connected, self._silent = True, 0
        self._silent = self._silent + 1 if silent else 0

    def given_up(self, progress: str) -> str:
        """Why the relay is given up, its ``progress`` included; empty if it is not."""
        patience_s = max(HUNG_S, HANDSHAKES * self._handshake * GLANCE_S) if self._connected else SILENT_S
        if self._silent * GLANCE_S < patience_s:
            return ""
        return f"{progress}, and not a byte in {patience_s:g} s"


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
        Unreachable: none has answered within ten seconds; or each has failed, or accepts connections or shakes hands and stays silent.
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
        watches = {relay.peer: _Watch() for relay in relays}
        given_up: dict[PeerId, str] = {}
        while not given_up or any(not why for why in given_up.values()):
            await anyio.sleep(GLANCE_S)
            connected = transport.connected()
            for peer, watch in watches.items():
                watch.look(connected=peer in connected, silent=transport.silent(peer))
            given_up = {
                peer: watch.given_up(transport.dialling(peer) or f"{peer}: connected")
                for peer, watch in watches.items()
                if peer not in failures
            }
        failures.update({peer: Unreachable(why) for peer, why in given_up.items()})
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
