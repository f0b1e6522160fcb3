"""The metrics of a node over HTTP, as Prometheus asks for them: one page, for few at a time, each within a bounded time.

Whoever can reach the address can read it, and no more: it is for the owner's network. Those beyond the few wait in the system's queue; the page is made at
most once in a second, however many ask.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import anyio
import structlog
from anyio.abc import ByteStream, SocketListener, TaskGroup
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from fluvial.addresses import Address
from fluvial.errors import ConfigError
from fluvial.faults import describe

PATH: Final = "/metrics"
AT_ONCE: Final = 16
REQUEST_BYTES_MAX: Final = 8_192
REQUEST_S: Final = 1.0
"""For a request to come: those who say nothing have the places of others."""
ANSWER_S: Final = 5.0
"""For its answer to be taken."""
FRESH_S: Final = 1.0
PAUSE_S: Final = 1.0
"""Before the next try after a connection could not be accepted."""


@asynccontextmanager
async def metrics_page(
    listen: str, registry: CollectorRegistry, log: structlog.stdlib.BoundLogger
) -> AsyncIterator[None]:
    """Show the metrics while the block runs.

    Args:
        listen: an address such as ``/ip4/127.0.0.1/tcp/9464``; empty: nowhere.
        registry: what is shown.
        log: told where, and what goes wrong.

    Raises:
        ConfigError: it cannot be listened on.
    """
    if not listen:
        yield
        return
    page, listeners = _Page(registry, log), await _opened(listen)
    async with anyio.create_task_group() as tasks:
        for listener in listeners:
            tasks.start_soon(page.serve, listener, tasks)
        log.info("metrics_shown", address=listen, path=PATH)
        yield
        tasks.cancel_scope.cancel()


async def _opened(listen: str) -> list[SocketListener]:
    address = Address.parse(listen)
    try:
        opened = await anyio.create_tcp_listener(local_host=address.host, local_port=address.port)
    except OSError as error:
        raise ConfigError(
            f"[telemetry] metrics_listen: cannot listen on {address}: {error.strerror or error}",
            hint="another process may hold the port: choose another one",
        ) from error
    return [one for one in opened.listeners if isinstance(one, SocketListener)]


class _Page:
    def __init__(self, registry: CollectorRegistry, log: structlog.stdlib.BoundLogger) -> None:
        self._registry = registry
        self._log = log
        self._places = anyio.Semaphore(AT_ONCE)
        self._text = b""
        self._made_s = float("-inf")

    async def serve(self, listener: SocketListener, tasks: TaskGroup) -> None:
        """Until cancelled."""
        async with listener:
            while True:
                await self._places.acquire()
                try:
                    stream = await listener.accept()
                except OSError as error:
                    self._places.release()
                    self._log.warning("metrics_not_shown", error=str(error))
                    await anyio.sleep(PAUSE_S)
                except BaseException:
                    self._places.release()
                    raise
                else:
                    tasks.start_soon(self._answer, stream)

    async def _answer(self, stream: ByteStream) -> None:
        """The root of a task: whatever the other side does costs this connection."""
        try:
            request = None
            with anyio.move_on_after(REQUEST_S):
                request = await _request(stream)
            if request is not None:
                with anyio.move_on_after(ANSWER_S):
                    await stream.send(self._response(request))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            pass  # whoever asked has gone
        finally:
            self._places.release()
            await anyio.aclose_forcefully(stream)

    def _response(self, request: str) -> bytes:
        method, _, rest = request.partition(" ")
        if method not in ("GET", "HEAD"):
            return _response("405 Method Not Allowed", b"only GET\n", "text/plain")
        if rest.partition(" ")[0].partition("?")[0] != PATH:
            return _response("404 Not Found", b"the metrics are at /metrics\n", "text/plain")
        try:
            body = self._fresh()
        except Exception as error:  # noqa: BLE001 - a plugin's metrics may do anything
            self._log.warning("metrics_not_shown", error=describe(error))
            return _response("500 Internal Server Error", b"the peer's log has the cause\n", "text/plain")
        return _response("200 OK", body, CONTENT_TYPE_LATEST, with_body=method == "GET")

    def _fresh(self) -> bytes:
        now = anyio.current_time()
        if now - self._made_s >= FRESH_S:
            self._text, self._made_s = generate_latest(self._registry), now
        return self._text


async def _request(stream: ByteStream) -> str | None:
    """The first line of a request, when all of its header has come; None if that is too long or never comes."""
    header = b""
    while b"\r\n\r\n" not in header:
        if len(header) > REQUEST_BYTES_MAX:
            return None
        try:
            header += await stream.receive(REQUEST_BYTES_MAX)
        except anyio.EndOfStream:
            return None
    return header.partition(b"\r\n")[0].decode("latin-1")


def _response(status: str, body: bytes, kind: str, *, with_body: bool = True) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + (body if with_body else b"")
