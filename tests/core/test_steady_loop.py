"""An event loop that only those stop who run it, and who is named for what others try."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from fluvial.guard.blame import BLAME
from fluvial.guard.steady_loop import SteadyLoop
from fluvial.memory.network import Memory
from fluvial.testing.nodes import nodes, until

uvloop = pytest.importorskip("fluvial.guard.steady_uvloop", reason="not offered: uvloop")
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": SteadyLoop, "uvloop": uvloop.SteadyUvloop}


@pytest.fixture(params=LOOPS)
def loops(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    return LOOPS[request.param]


@pytest.fixture(params=LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return ("asyncio", {"loop_factory": LOOPS[request.param]})


async def ends(error: BaseException) -> None:
    await asyncio.sleep(0)
    raise error


def leaves(*_: object) -> None:
    sys.exit(3)


def in_task() -> object:
    return asyncio.create_task(ends(SystemExit(3)))


def in_interrupted_task() -> object:
    return asyncio.create_task(ends(KeyboardInterrupt()))


def in_callback() -> object:
    return asyncio.get_running_loop().call_soon(leaves)


def in_timer() -> object:
    return asyncio.get_running_loop().call_later(0.001, leaves)


def in_callback_of_a_task() -> object:
    task = asyncio.create_task(asyncio.sleep(0))
    task.add_done_callback(leaves)
    return task


WAYS = [in_task, in_interrupted_task, in_callback, in_timer, in_callback_of_a_task]


Loops: TypeAlias = Callable[[], asyncio.AbstractEventLoop]


def steadily(main: Callable[[], Any], loops: Loops) -> Any:
    with asyncio.Runner(loop_factory=loops) as runner:
        return runner.run(main())


@pytest.mark.parametrize("way", WAYS)
def test_the_loop_goes_on_and_tells_whose_it_was(way: Callable[[], object], loops: Loops) -> None:
    """``Handle._context`` of asyncio is what says whose; this holds it. uvloop says so only of tasks."""
    told: list[BaseException] = []

    async def main() -> str:
        token = BLAME.set(told.append)
        kept = way()
        BLAME.reset(token)
        await asyncio.sleep(0.01)
        if isinstance(kept, asyncio.Task) and way is not in_callback_of_a_task:
            assert kept.exception() is told[0]
        return "went on"

    assert steadily(main, loops) == "went on"
    if loops is not SteadyLoop and way not in (in_task, in_interrupted_task):
        assert not told
        return
    assert [type(error) for error in told] == [KeyboardInterrupt if way is in_interrupted_task else SystemExit]


def test_what_was_told_is_not_told_again(caplog: pytest.LogCaptureFixture, loops: Loops) -> None:
    """As "Task exception was never retrieved", when the task is forgotten."""

    async def main() -> None:
        BLAME.set(lambda _: None)
        in_task()
        await asyncio.sleep(0.01)

    steadily(main, loops)
    gc.collect()
    assert not caplog.records


def test_nothing_that_is_ready_is_lost(loops: Loops) -> None:
    order: list[int] = []

    async def main() -> None:
        BLAME.set(lambda _: order.append(0))
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: order.append(0))
        loop.call_soon(order.append, 1)
        loop.call_soon(leaves)
        loop.call_soon(order.append, 2)
        await asyncio.sleep(0.01)

    steadily(main, loops)
    assert sorted(order) == [0, 1, 2]


def test_what_belongs_to_nobody_is_told_the_handler_of_the_loop(loops: Loops) -> None:
    told: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        asyncio.get_running_loop().call_soon(leaves)
        await asyncio.sleep(0.01)

    steadily(main, loops)
    assert [type(context["exception"]) for context in told] == [SystemExit]


def test_others_cannot_stop_it(loops: Loops) -> None:
    async def main() -> str:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0.01)
        return "went on"

    assert steadily(main, loops) == "went on"


def test_an_exit_together_with_the_end_is_no_reason_to_go_on(loops: Loops) -> None:
    """The loop is told to stop, and the next callback of the same turn exits."""

    async def main() -> str:
        BLAME.set(lambda _: None)
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, leaves)
        await asyncio.sleep(0)
        return "at its end"

    assert steadily(main, loops) == "at its end"


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_what_the_main_coroutine_raises_comes_out(error: BaseException, loops: Loops) -> None:
    async def main() -> None:
        raise error

    with pytest.raises(type(error)):
        steadily(main, loops)


def test_without_anything_that_is_awaited_it_is_a_loop_as_every_other(loops: Loops) -> None:
    loop = loops()
    loop.call_soon(leaves)
    with pytest.raises(SystemExit):
        loop.run_forever()
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()


PLUGIN = """
import asyncio
from fluvial import hookimpl
from fluvial.effectors import Effector, NoConfig, function
from fluvial.seats import Contributions, Part

async def ends():
    raise SystemExit(3)

class Nasty(Effector[NoConfig]):
    service_id = "nasty"

    def __init__(self, part):
        super().__init__()
        self.kept = []

    @function
    async def begin(self) -> None:
        self.kept.append(asyncio.create_task(ends()))

class Part(Part):
    def __init__(self, context, options):
        self.kept = []

    def contributions(self):
        return Contributions(services=(Nasty(self),), watchers=(self,))

    @hookimpl
    def fluvial_call_done(self):
        self.kept.append(asyncio.create_task(ends()))

    async def run(self, *, task_status):
        import anyio
        self.kept.append(asyncio.create_task(ends()))
        task_status.started()
        await anyio.sleep_forever()

@hookimpl
def fluvial_register(registry):
    registry.extra("nasty", Part, options=NoConfig)
"""


async def test_the_metrics_of_a_node_name_the_plugin(tmp_path: Path) -> None:
    (tmp_path / "nasty.py").write_text(PLUGIN)
    script = '(seq (call ada ("nasty" "begin") []) (call %init_peer_id% ("return" "") ["done"]))'
    async with nodes(base_dir=tmp_path, plugins={"nasty": tmp_path / "nasty.py"}, memory=Memory()) as network:
        ada = await network.start("ada", extras={"nasty": {}})
        async with ada.run(script, ada=ada.peer_id) as flow:
            assert await flow.result() == ("done",)
        failures = {"plugin": "nasty", "cause": "error"}
        await until(lambda: ada.metric("fluvial_plugin_failures_total", **failures) == 2)
        hook = {"plugin": "nasty", "hook": "fluvial_call_done"}
        await until(lambda: ada.metric("fluvial_observer_failures_total", **hook))
        async with ada.run('(call %init_peer_id% ("return" "") ["again"])') as flow:
            assert await flow.result() == ("again",)
