"""Finding out which of a peer's addresses answers, once for all who wait for it."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import anyio
from fluvial.addresses import Address, Contact
from fluvial.errors import Unreachable

from fluvial_transport_tcp.handshake import Link
from fluvial_transport_tcp.secure import HandshakeFailed
from fluvial_transport_tcp.wire import Wire

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
ATTEMPT_S: Final = 3.0
"""How long an address is waited for, if it is not the only one."""
HOSTS_MAX: Final = 4
"""Addresses of a ``dns`` name that are tried, one after the other."""
_FAMILIES: Final = {"dns4": socket.AF_INET, "dns6": socket.AF_INET6}
_FAILURES: Final = (OSError, ValueError)
"""What connecting raises: a host name that IDNA cannot encode is a UnicodeError, one with a NUL a ValueError."""


class Dial:
    """A dial in progress, on which any number of senders may wait.

    Attributes:
        addresses: where it tries.
        scope: cancel it to give up.
        over: set when there is a connection, or none.
        error: why there is none; empty if there is one.
    """

    def __init__(self, addresses: Sequence[Address]) -> None:
        self.addresses: Final = tuple(addresses)
        self.scope: Final = anyio.CancelScope()
        self.over: Final = anyio.Event()
        self.error = "the dial was given up"

    async def link(self, shake: Callable[[Wire], Awaitable[Link]], *, timeout_s: float) -> Link | None:
        """The link that it leads to; None if there is none: ``error`` says why.

        Args:
            shake: authenticates a stream, and closes it if that fails.
            timeout_s: for all of it.
        """
        try:
            with self.scope, anyio.fail_after(timeout_s):
                link = await dial(self.addresses, shake)
                self.error = ""
                return link
        except Unreachable as error:
            self.error = error.message
        except TimeoutError:
            self.error = f"no connection within {timeout_s:g} s over {', '.join(map(str, self.addresses))}"
        return None


def dialable(contact: Contact) -> tuple[Address, ...]:
    """The addresses of a contact that lead straight to it, best first; those through relays are another layer's work."""
    direct = (
        address
        for address in contact.addresses
        if address.relay is None and address.port and address.peer in (None, contact.peer)
    )
    return tuple(dict.fromkeys(direct))[:ADDRESSES_DIALLED_MAX]


async def dial(addresses: Sequence[Address], shake: Callable[[Wire], Awaitable[Link]]) -> Link:
    """A link over the first of the addresses where the right peer answers; the caller sets the deadline.

    Args:
        addresses: best first.
        shake: authenticates a stream, and closes it if that fails.

    Raises:
        Unreachable: none of them will do; the message says what became of each.
    """
    failures: dict[Address, str] = {}
    while remaining := [address for address in addresses if address not in failures]:
        found = await (_only_one if len(remaining) == 1 else _first_connected)(remaining, failures)
        if found is None:
            break
        address, stream = found
        try:
            return await shake(stream)
        except HandshakeFailed as error:
            failures[address] = error.message
    raise Unreachable("; ".join(f"{address}: {why}" for address, why in failures.items()))


async def _only_one(addresses: Sequence[Address], failures: dict[Address, str]) -> tuple[Address, Wire] | None:
    (address,) = addresses
    try:
        return address, await _connect(address)
    except _FAILURES as error:
        failures[address] = str(error) or type(error).__name__
        return None


async def _first_connected(addresses: Sequence[Address], failures: dict[Address, str]) -> tuple[Address, Wire] | None:
    """The first TCP connection that stands; attempts begin one after the other and run beside each other."""
    found: list[tuple[Address, Wire]] = []
    sockets = anyio.Semaphore(ATTEMPTS_AT_ONCE)

    async def attempt(address: Address, over: anyio.Event) -> None:
        try:
            async with sockets:
                with anyio.fail_after(ATTEMPT_S):
                    found.append((address, await _connect(address)))
        except _FAILURES as error:
            failures[address] = str(error) or f"no answer within {ATTEMPT_S:g} s"
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


async def _connect(address: Address) -> Wire:
    if address.host_kind.startswith("ip"):
        return await Wire.connect(address.host, address.port)
    family = _FAMILIES.get(address.host_kind, socket.AF_UNSPEC)
    found = await anyio.getaddrinfo(address.host, address.port, family=family, type=socket.SOCK_STREAM)
    hosts = list(dict.fromkeys(str(one[4][0]) for one in found))
    failure: OSError | None = None
    for host in hosts[: 1 if family else HOSTS_MAX]:
        try:
            with anyio.fail_after(ATTEMPT_S):
                return await Wire.connect(host, address.port)
        except OSError as error:
            failure = failure or error
    raise failure or OSError(f"{address.host} has no address")


def _close(found: Sequence[tuple[Address, Wire]]) -> None:
    for _, wire in found:
        wire.close()
