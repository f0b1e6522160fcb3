"""The metrics over HTTP: read as Prometheus does, by those who never end, and by more than there are places."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.abc import SocketStream
from fluvial import metrics_page as page
from fluvial.errors import ConfigError
from fluvial.metrics_page import AT_ONCE, metrics_page
from fluvial.telemetry import make_logger
from prometheus_client import CollectorRegistry, Gauge

from tests.support.processes import free_port

GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


@asynccontextmanager
async def shown() -> AsyncIterator[tuple[int, Gauge]]:
    registry, port = CollectorRegistry(), free_port()
    gauge = Gauge("fluvial_tea", "Cups of tea", registry=registry)
    async with metrics_page(f"/ip4/127.0.0.1/tcp/{port}", registry, make_logger(log_format="json", log_level="error")):
        yield port, gauge


async def ask(port: int, request: bytes = GET) -> bytes:
    answer = b""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(request)
        async for part in stream:
            answer += part
    return answer


async def test_it_shows_what_is_counted() -> None:
    async with shown() as (port, gauge):
        gauge.set(3)
        head, _, body = (await ask(port)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=")
        assert b"fluvial_tea 3.0\n" in body
        assert f"Content-Length: {len(body)}".encode() in head
        assert (await ask(port, GET.replace(b"GET", b"HEAD"))).partition(b"\r\n\r\n")[2] == b""
        assert (await ask(port, b"GET / HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 404 ")
        assert (await ask(port, b"POST /metrics HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 405 ")


async def test_requests_that_never_end_get_nothing_and_keep_their_places_for_a_while_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(page, "REQUEST_S", 0.2)
    async with shown() as (port, _):
        assert await ask(port, b"GET /metrics HTTP/1.1\r\n" + b"x" * 20_000) == b""
        silent: list[SocketStream] = [await anyio.connect_tcp("127.0.0.1", port) for _ in range(3 * AT_ONCE)]
        with anyio.fail_after(30):
            assert (await ask(port)).startswith(b"HTTP/1.1 200 OK")
        for one in silent:
            await one.aclose()


async def test_a_reset_costs_that_connection() -> None:
    async with shown() as (port, _):
        for request in (b"", GET[:9], GET):
            with socket.create_connection(("127.0.0.1", port)) as rude:
                rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                rude.send(request)
        assert (await ask(port)).startswith(b"HTTP/1.1 200 OK")


async def test_many_who_ask_at_once_are_all_answered() -> None:
    got: list[bytes] = []

    async def one(port: int) -> None:
        got.append(await ask(port))

    async with shown() as (port, _), anyio.create_task_group() as tasks:
        for _ in range(5 * AT_ONCE):
            tasks.start_soon(one, port)
        while len(got) < 5 * AT_ONCE:  # noqa: ASYNC110 - of other tasks
            await anyio.sleep(0.01)
    assert all(answer.startswith(b"HTTP/1.1 200 OK") for answer in got)


async def test_a_port_that_is_taken_is_a_mistake_in_the_settings() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"/ip4/127.0.0.1/tcp/{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=r"metrics_listen: cannot listen on .*in use") as raised:
            async with metrics_page(where, CollectorRegistry(), make_logger(log_format="json", log_level="error")):
                pass
        assert "choose another one" in raised.value.hint
