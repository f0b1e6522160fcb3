"""Finding out which of a peer's addresses answers, once for all who wait for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from math import inf
from typing import Final, Generic, TypeAlias, TypeVar

import anyio
from fluvial.addresses import Address, Contact
from fluvial.errors import Unreachable
from fluvial.identity import PeerId

from fluvial_transport_tcp.gate import ATTEMPT_S, DialGate
from fluvial_transport_tcp.handshake import Link
from fluvial_transport_tcp.secure import HandshakeFailed
from fluvial_transport_tcp.wire import Wire

T = TypeVar("T")

STAGGER_S: Final = 0.25
"""Head start of an address before the next one is tried beside it (RFC 8305 8, "Connection Attempt Delay")."""
HANDSHAKE_STAGGER_S: Final = 0.75
"""What it has besides if it has accepted the connection by then: two handshakes with one peer that has much to do cost it twice as much."""
DIALS_OF_PEER_MAX: Final = 4
"""Dials of one peer at once: each sender has its own addresses, and what others tell may lead nowhere."""
ADDRESSES_DIALLED_MAX: Final = 16
"""Of one contact; whoever announces more is not worth the sockets."""
DIALS_MAX: Final = 64
"""Dials at once; who wants more is told that the peer cannot be reached now."""
DIALS_OF_STRANGERS_MAX: Final = 48
"""Of these, dials of peers that this node has had nothing to do with: others can make it dial addresses where nobody answers."""
ATTEMPTS_AT_ONCE: Final = 3
"""Addresses of one dial that are tried beside each other; with ``DIALS_MAX`` it bounds the sockets."""
_FAILURES: Final = (OSError, ValueError)
"""What connecting raises: a host name that IDNA cannot encode is a UnicodeError, one with a NUL a ValueError."""

Shake: TypeAlias = Callable[[Wire, Address], Awaitable[T]]
"""Authenticates the other end of a wire to an address, and closes the wire if that fails."""


class Dial:
    """A dial in progress, on which any number of senders may wait.

    Args:
        peer: who is dialled.
        addresses: where, best first.

    Attributes:
        peer: as above.
        addresses: where it tries.
        configured: whether the owner of this peer wrote one of these down.
        scope: cancel it to give up.
        progress: how far it has come, for people.
        silent: whether its only address has accepted the connection and sent nothing so far.
        over: set when there is a connection, or none.
        error: why there is none; empty if there is one.
    """

    def __init__(self, peer: PeerId, addresses: Sequence[Address]) -> None:
        self.peer: Final = peer
        self.addresses: Final = tuple(addresses)
        self.configured: Final = any(address.configured for address in addresses)
        self.scope: Final = anyio.CancelScope()
        self.over: Final = anyio.Event()
        self.error = "the dial was given up"
        self.progress = f"{', '.join(map(str, addresses))}: not connected so far"
        self.silent = False

    async def link(
        self, gate: DialGate, shake: Shake[Link[Wire]], *, timeout_s: float
    ) -> tuple[Address, Link[Wire]] | None:
        """The link that it leads to, and where it was found; None if there is none: ``error`` says why.

        Args:
            gate: connects.
            shake: makes a link of a wire.
            timeout_s: for all of it.
        """
        try:
            with self.scope, anyio.fail_after(timeout_s):
                found = await dial(self.peer, self.addresses, gate, partial(self._shake, shake))
                self.error = ""
                return found
        except Unreachable as error:
            self.error = error.message
        except TimeoutError:
            self.error = f"{self.progress}, given up after {timeout_s:g} s"
        return None

    def covers(self, addresses: Sequence[Address]) -> bool:
        """Whether who would dial these has as much of this dial."""
        configured = any(address.configured for address in addresses)
        return self.configured >= configured and set(self.addresses).issuperset(addresses)

    def heard(self) -> None:
        """Something has come."""
        self.silent = False

    async def _shake(self, shake: Shake[Link[Wire]], wire: Wire, address: Address) -> Link[Wire]:
        self.progress = f"{address}: connected, and no handshake so far"
        self.silent = len(self.addresses) == 1
        return await shake(wire, address)


def dialable(contact: Contact) -> tuple[Address, ...]:
    """The addresses of a contact that lead straight to it, best first; those through relays are another layer's work."""
    direct = (
        address
        for address in contact.addresses
        if address.relay is None and address.port and address.peer in (None, contact.peer)
    )
    return tuple(dict.fromkeys(direct))[:ADDRESSES_DIALLED_MAX]


async def dial(peer: PeerId, addresses: Sequence[Address], gate: DialGate, shake: Shake[T]) -> tuple[Address, T]:
    """What ``shake`` makes of a wire to the first of the addresses where the right peer answers; the caller sets the deadline.

    Args:
        peer: who is dialled.
        addresses: best first.
        gate: connects, and is told who answered.
        shake: authenticates a wire, and closes it if that fails.

    Raises:
        Unreachable: none of them will do; the message says what became of each.
    """
    # Most of what strangers tell is not tried now; that is found out without a task for each address.
    failures = {address: why for address in addresses if (why := gate.not_now(peer, address))}
    remaining = [address for address in addresses if address not in failures]
    attempts = _Attempts(peer, gate, shake, failures)
    if len(remaining) == 1:
        await attempts.make(remaining[0])
    elif remaining:
        try:
            await attempts.race(remaining)
        except BaseException:
            attempts.close()
            raise
    if attempts.found is not None:
        return attempts.found
    raise Unreachable("; ".join(f"{address}: {why}" for address, why in failures.items()))


class _Attempts(Generic[T]):
    """Those of one dial; ``found`` is what the first one that succeeded led to, and where. Arguments as for :func:`dial`."""

    def __init__(self, peer: PeerId, gate: DialGate, shake: Shake[T], failures: dict[Address, str]) -> None:
        self._peer = peer
        self._gate = gate
        self._shake = shake
        self._failures = failures
        self._shaking: set[Address] = set()
        self._wire: Wire | None = None  # of what was found
        self.found: tuple[Address, T] | None = None

    async def make(self, address: Address, *, connect_s: float = inf, handshake_s: float = inf) -> None:
        """Try an address."""
        try:
            wire = await self._gate.connect(self._peer, address, within_s=connect_s)
        except _FAILURES as error:
            self._failures[address] = str(error) or type(error).__name__
            return
        self._shaking.add(address)
        try:
            with anyio.fail_after(None if handshake_s == inf else handshake_s):
                shaken = await self._shake(wire, address)
        except HandshakeFailed as error:
            if error.found is not None:
                self._gate.answered(wire, address, error.found)
            self._failed(wire, address, error.message)
        except TimeoutError:
            self._failed(wire, address, f"no handshake within {handshake_s:g} s")
        else:
            self._gate.answered(wire, address, self._peer)
            if self.found is None:
                self.found, self._wire = (address, shaken), wire
            else:
                wire.close()

    def close(self) -> None:
        """Nobody wants what was found."""
        if self._wire is not None:
            self._wire.close()

    def _failed(self, wire: Wire, address: Address, why: str) -> None:
        self._failures[address] = why
        self._gate.failed(wire, address, self._peer, why)

    async def race(self, addresses: Sequence[Address]) -> None:
        """Try them beside each other, until one succeeds; each has a head start, and one of which others tell may lead to somebody who stays silent."""
        sockets = anyio.Semaphore(ATTEMPTS_AT_ONCE)

        async def attempt(address: Address, over: anyio.Event) -> None:
            async with sockets:
                handshake_s = inf if address == addresses[-1] else ATTEMPT_S
                await self.make(address, connect_s=ATTEMPT_S, handshake_s=handshake_s)
            over.set()
            if self.found is not None:
                group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            for address in addresses:
                over = anyio.Event()
                group.start_soon(attempt, address, over)
                with anyio.move_on_after(STAGGER_S):
                    await over.wait()
                if address in self._shaking:
                    with anyio.move_on_after(HANDSHAKE_STAGGER_S):
                        await over.wait()
