"""Finding out which of a peer's addresses answers, once for all who wait for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, TypeAlias, TypeVar

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
        addresses: where it tries.
        scope: cancel it to give up.
        progress: how far it has come, for people.
        silent: whether its only address has accepted the connection and sent nothing so far.
        over: set when there is a connection, or none.
        error: why there is none; empty if there is one.
    """

    def __init__(self, peer: PeerId, addresses: Sequence[Address]) -> None:
        self._peer = peer
        self.addresses: Final = tuple(addresses)
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
                found = await dial(self._peer, self.addresses, gate, partial(self._shake, shake))
                self.error = ""
                return found
        except Unreachable as error:
            self.error = error.message
        except TimeoutError:
            self.error = f"{self.progress}, given up after {timeout_s:g} s"
        return None

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
    while remaining := [address for address in addresses if address not in failures]:
        found = await (_only_one if len(remaining) == 1 else _first_connected)(peer, remaining, gate, failures)
        if found is None:
            break
        address, wire = found
        try:
            shaken = await shake(wire, address)
        except HandshakeFailed as error:
            failures[address] = error.message
            if error.found is not None:
                gate.answered(wire, address, error.found)
            gate.failed(wire, address, peer, error.message)
        else:
            gate.answered(wire, address, peer)
            return address, shaken
    raise Unreachable("; ".join(f"{address}: {why}" for address, why in failures.items()))


async def _only_one(
    peer: PeerId, addresses: Sequence[Address], gate: DialGate, failures: dict[Address, str]
) -> tuple[Address, Wire] | None:
    (address,) = addresses
    try:
        return address, await gate.connect(peer, address)
    except _FAILURES as error:
        failures[address] = str(error) or type(error).__name__
        return None


async def _first_connected(
    peer: PeerId, addresses: Sequence[Address], gate: DialGate, failures: dict[Address, str]
) -> tuple[Address, Wire] | None:
    """The first TCP connection that stands; attempts begin one after the other and run beside each other."""
    found: list[tuple[Address, Wire]] = []
    sockets = anyio.Semaphore(ATTEMPTS_AT_ONCE)

    async def attempt(address: Address, over: anyio.Event) -> None:
        try:
            async with sockets:
                found.append((address, await gate.connect(peer, address, within_s=ATTEMPT_S)))
        except _FAILURES as error:
            failures[address] = str(error) or type(error).__name__
            over.set()
        else:
            group.cancel_scope.cancel()

    try:
        async with anyio.create_task_group() as group:
            for address in addresses:
                over = anyio.Event()
                group.start_soon(attempt, address, over)
                with anyio.move_on_after(STAGGER_S):
                    await over.wait()
    except BaseException:
        _close(found)
        raise
    _close(found[1:])
    return found[0] if found else None


def _close(found: Sequence[tuple[Address, Wire]]) -> None:
    for _, wire in found:
        wire.close()
