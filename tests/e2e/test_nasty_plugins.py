"""Plugins that try to end the process, against a running peer: it answers others all the while, and ends when it is told to."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Final

import anyio
import pytest
from fluvial.cli.process_end import EXIT_CODE
from fluvial.client import Client, connect

from tests.support.processes import NETWORK, PeerProcess, wait_until

ANSWER_S: Final = 60.0
"""A deadline and no measurement: it answers in a few milliseconds or never."""

NASTY: Final = '''
"""Everything by which a plugin may end a process, next to the calls that a guard makes."""
import asyncio
import sys
import threading
import time
import anyio
from fluvial import hookimpl
from fluvial.effectors import Effector, NoConfig, function

KEPT = []


async def ends(error):
    await asyncio.sleep(0)
    raise error


async def stays():
    while True:
        try:
            await asyncio.sleep(1_000)
        except BaseException:
            pass


def exits(*_):
    sys.exit(3)


class Nasty(Effector[NoConfig]):
    service_id = "nasty"

    @function
    async def task(self) -> None:
        KEPT.append(asyncio.create_task(ends(SystemExit(3))))

    @function
    async def interrupted_task(self) -> None:
        KEPT.append(asyncio.create_task(ends(KeyboardInterrupt())))

    @function
    async def awaited_task(self) -> None:
        await asyncio.create_task(ends(SystemExit(3)))

    @function
    async def group(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ends, SystemExit(3))

    @function
    async def callback(self) -> None:
        asyncio.get_running_loop().call_soon(exits)

    @function
    async def timer(self) -> None:
        asyncio.get_running_loop().call_later(0.01, exits)

    @function
    async def done_callback(self) -> None:
        asyncio.create_task(asyncio.sleep(0)).add_done_callback(exits)

    @function
    async def stop_loop(self) -> None:
        asyncio.get_running_loop().stop()

    @function
    def thread(self) -> None:
        threading.Thread(target=exits).start()

    @function
    def from_thread(self) -> None:
        anyio.from_thread.run_sync(exits)

    @function(timeout_s=0.1)
    async def swallows(self) -> None:
        await stays()

    @function
    async def leaves_a_task(self) -> None:
        KEPT.append(asyncio.create_task(stays()))

    @function(timeout_s=0.1)
    def leaves_a_thread(self) -> None:
        time.sleep(1_000)


@hookimpl
def fluvial_register(registry):
    registry.effector("nasty", Nasty)
'''
HARMLESS: Final = ("stop_loop", "thread")
"""Nothing comes out of these that could be told."""
FAILING: Final = (
    "task",
    "interrupted_task",
    "awaited_task",
    "group",
    "callback",
    "timer",
    "done_callback",
    "from_thread",
)


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory, variables: Mapping[str, str]) -> Iterator[PeerProcess]:
    folder = tmp_path_factory.mktemp("nasty")
    peer = PeerProcess(folder / "peer", variables, plugins={"nasty": NASTY}, effectors={"nasty": {}})
    peer.start()
    yield peer
    peer.close()


@pytest.fixture
async def client(peer: PeerProcess) -> AsyncIterator[Client]:
    async with connect(peer.address, network=NETWORK) as client:
        yield client


async def called(client: Client, function: str) -> None:
    """Call a function of the plugin, whatever becomes of it, and then see that the peer answers."""
    script = f'(xor (call relay ("nasty" "{function}") [] ) (null))'
    script = f'(seq {script} (call %init_peer_id% ("return" "") []))'
    async with client.run(script, relay=client.relay_id, ttl_s=10) as flow:
        await flow.result()
    await answers(client)


async def answers(client: Client) -> None:
    with anyio.fail_after(ANSWER_S):
        async with client.run(
            '(seq (call relay ("op" "identity") ["here"] x) (call %init_peer_id% ("return" "") [x]))',
            relay=client.relay_id,
            ttl_s=ANSWER_S,
        ) as flow:
            assert await flow.result() == ("here",)


@pytest.mark.parametrize("function", [*FAILING, *HARMLESS])
async def test_it_does_not_end_the_peer_and_is_named(function: str, client: Client, peer: PeerProcess) -> None:
    before = len(peer.events("plugin_call_failed"))
    await called(client, function)
    await anyio.sleep(0.05)
    await answers(client)
    if function in FAILING:
        wait_until(lambda: len(peer.events("plugin_call_failed")) > before, within_s=ANSWER_S, what="it is logged")
        failed = peer.events("plugin_call_failed")[before:]
        assert {event["plugin"] for event in failed} == {"nasty"}
        assert {event["call"].partition(":")[0] for event in failed} == {f"nasty.{function}"}
    assert len(peer.events("peer_started")) == 1


LINGERING: Final = """
import time
from fluvial import hookimpl
from fluvial.effectors import NoConfig
from fluvial.seats import Part


class Lingering(Part):
    def __init__(self, context, options):
        pass

    async def run(self, *, task_status):
        import anyio
        task_status.started()
        while True:
            try:
                await anyio.sleep_forever()
            except BaseException:
                pass


@hookimpl
def fluvial_register(registry):
    registry.extra("lingering", Lingering, options=NoConfig)
"""

ATEXIT: Final = """
import atexit
import sys

atexit.register(sys.exit, 5)
"""


@pytest.mark.long
async def test_a_peer_ends_whatever_plugins_leave_behind(tmp_path: Path, variables: Mapping[str, str]) -> None:
    plugins = {"nasty": NASTY, "lingering": LINGERING + ATEXIT}
    peer = PeerProcess(tmp_path / "peer", variables, plugins=plugins, effectors={"nasty": {}}, extras={"lingering": {}})
    try:
        peer.start()
        async with connect(peer.address, network=NETWORK) as client:
            for function in ("swallows", "leaves_a_task", "leaves_a_thread"):
                await called(client, function)
        assert [event["call"] for event in peer.events("plugin_call_left_behind")] == ["nasty.swallows"]
        assert peer.stop(signal.SIGTERM) == EXIT_CODE
        (left,) = peer.events("part_left_behind")
        assert left["part"].startswith("extra lingering")
        assert [event["signal"] for event in peer.events("peer_stopped")] == ["SIGTERM"]
        assert len(peer.events("peer_exit_forced")) == 1
    finally:
        peer.close()


async def test_a_peer_with_a_function_for_the_end_of_the_process_ends_as_it_should(
    tmp_path: Path, variables: Mapping[str, str]
) -> None:
    peer = PeerProcess(tmp_path / "peer", variables, plugins={"at_end": ATEXIT})
    try:
        peer.start()
        assert peer.stop(signal.SIGTERM) == 0
        assert not peer.events("peer_exit_forced")
    finally:
        peer.close()
