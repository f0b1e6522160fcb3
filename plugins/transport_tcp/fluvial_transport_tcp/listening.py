"""Accepting connections."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from logging import WARNING
from typing import Final

import anyio
from anyio.abc import SocketAttribute, SocketListener
from fluvial.addresses import Address
from fluvial.errors import ConfigError
from fluvial.throttling import ThrottledLog

ACCEPT_PAUSE_S: Final = 0.1
"""Wait before accepting again when the process has no more file descriptors or memory for sockets, or nothing else helps."""
FAILURES_WITHOUT_PAUSE: Final = 10
"""Errors in a row that belong to the connection being accepted; a pause after each would let strangers stop the listener."""
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Listener:
    """A listening socket and the address it really has."""

    def __init__(self, listener: SocketListener, asked: Address) -> None:
        self._listener = listener
        self._socket = listener.extra(SocketAttribute.raw_socket)
        self.address: Final = replace(asked, port=self._socket.getsockname()[1])

    async def serve(self, handle: Callable[[socket.socket], None], log: ThrottledLog) -> None:
        """Accept until cancelled, and hand over each socket.

        Whatever accepting fails with is logged and tried again: Linux reports errors of the *new* connection in this way (accept(2)).
        """
        failures = 0
        while True:
            try:
                await anyio.wait_readable(self._socket)
                accepted, _ = self._socket.accept()
            except BlockingIOError:
                continue
            except OSError as error:
                failures += 1
                log.note(
                    "accept_failed",
                    errno.errorcode.get(error.errno or 0, "other"),
                    level=WARNING,
                    address=str(self.address),
                    error=str(error),
                )
                if error.errno in _EXHAUSTED or failures > FAILURES_WITHOUT_PAUSE:
                    await anyio.sleep(ACCEPT_PAUSE_S)
            else:
                failures = 0
                handle(accepted)

    async def aclose(self) -> None:
        """Stop listening."""
        await self._listener.aclose()


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
