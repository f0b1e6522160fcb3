"""Accepting connections: sockets, and room for handshakes."""

from __future__ import annotations

import errno
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import anyio
import structlog
from anyio import CancelScope
from anyio.abc import SocketAttribute, SocketListener, SocketStream, TaskGroup
from fluvial.addresses import Address
from fluvial.errors import ConfigError

ACCEPT_PAUSE_S: Final = 0.1
"""Wait before accepting again when the process has no more file descriptors or memory for sockets."""
_PASSING: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED, errno.EINTR})


class Listener:
    """A listening socket and the address it really has."""

    def __init__(self, socket: SocketListener, asked: Address) -> None:
        self._socket = socket
        port = socket.extra(SocketAttribute.local_port)
        self.address: Final = replace(asked, port=port)

    async def serve(
        self,
        group: TaskGroup,
        handle: Callable[[SocketStream], Coroutine[Any, Any, None]],
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        """Accept until cancelled, one task of ``group`` for each connection."""
        while True:
            try:
                stream = await self._socket.accept()
            except OSError as error:
                if error.errno not in _PASSING:
                    raise
                log.warning("accept_failed", address=str(self.address), error=str(error))
                await anyio.sleep(ACCEPT_PAUSE_S)
            else:
                group.start_soon(handle, stream)

    async def aclose(self) -> None:
        """Stop listening."""
        await self._socket.aclose()


async def open_listeners(addresses: Sequence[Address]) -> list[Listener]:
    """Listen on all addresses.

    Raises:
        ConfigError: one is not available; none is left open then.
    """
    listeners: list[Listener] = []
    try:
        for address in addresses:
            opened = await anyio.create_tcp_listener(local_host=address.host, local_port=address.port)
            listeners.extend(Listener(one, address) for one in opened.listeners if isinstance(one, SocketListener))
    except OSError as error:
        await close_listeners(listeners)
        raise ConfigError(
            f"transport: cannot listen on {address}: {error.strerror or error}",
            hint="another process may hold the port; port 0 picks a free one",
        ) from error
    except BaseException:
        await close_listeners(listeners)
        raise
    return listeners


async def close_listeners(listeners: Sequence[Listener]) -> None:
    """Close them all, even when cancelled."""
    with anyio.CancelScope(shield=True):
        for listener in listeners:
            await listener.aclose()


class Waiting:
    """The accepted connections whose peer has not proven its key yet.

    At the limit the oldest makes room: an honest handshake takes milliseconds, so who floods with slow ones displaces its own.

    Args:
        most: the limit.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._scopes: dict[CancelScope, None] = {}

    @contextmanager
    def place(self) -> Iterator[CancelScope]:
        """A place for the body, which is cancelled when the place is needed; ``cancelled_caught`` tells afterwards."""
        if len(self._scopes) >= self._most:
            oldest = next(iter(self._scopes))
            del self._scopes[oldest]
            oldest.cancel()
        with anyio.CancelScope() as scope:
            self._scopes[scope] = None
            try:
                yield scope
            finally:
                self._scopes.pop(scope, None)
