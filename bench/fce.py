"""What a call of a WebAssembly service costs: next to stock wasmtime-py in the same run, in a process, and over the whole way of a particle.

Rounds of both ways alternate, and the median round counts, so that what else the machine does meets both. ``python bench/fce.py``.
"""

from __future__ import annotations

import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
from fluvial.testing.nodes import nodes
from fluvial_fce_wasm.compiling import CodeCache, CompiledModule
from fluvial_fce_wasm.guest.engine import GuestEngine
from fluvial_fce_wasm.guest.instance import LinkedInstances, LoadedModule
from fluvial_fce_wasm.levels import ServicePlan
from fluvial_fce_wasm.limits import GuestLimits
from fluvial_fce_wasm.linking import link
from fluvial_fce_wasm.running import RunningService
from fluvial_fce_wasm.shapes import function_of
from wasmtime import Config, Engine, Store, component, wat2wasm

WAT = Path(__file__).resolve().parent.parent / "tests" / "conformance" / "fce"
ROUNDS = 9
POINTS = [{"x": i, "y": -1, "label": f"l{i}"} for i in range(1000)]
CALLS: dict[str, tuple[list[Any], int]] = {
    "add": ([2, 3], 2000),
    "echo": (["x" * 1024], 2000),
    "sum-points": ([POINTS], 20),
}
NAMES = {"add": "(s32, s32) -> s32", "echo": "string of 1 KB", "sum-points": "1000 records in"}


def seconds(work: Callable[[], object], times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - began) / times


class Nobody:
    """The host of guests that ask nothing."""

    def call(self, interface: str, function: str, arguments: list[Any]) -> Any:
        """Nothing."""
        return None


def stock(data: bytes) -> Callable[[str, list[Any]], Callable[[], object]]:
    """Calls by wasmtime-py's own codec, with the interruption that every host needs."""
    config = Config()
    config.epoch_interruption = True
    engine = Engine(config)
    linker, module = component.Linker(engine), component.Component(engine, data)
    with linker.root() as root, root.add_instance("fluvial:probe/env") as env:
        env.add_func("note", lambda store, text: None)
        env.add_func("twice", lambda store, n: 2 * n)
    store = Store(engine)
    store.set_epoch_deadline(10**9)
    instance = linker.instantiate(store, module)

    def calling(name: str, arguments: list[Any]) -> Callable[[], object]:
        function = instance.get_func(store, name)
        assert function is not None
        given = arguments
        if name == "sum-points":
            given = [[record(point) for point in arguments[0]]]
        return lambda: function(store, *given)

    return calling


def record(values: dict[str, Any]) -> component.Record:
    made = component.Record()
    for name, value in values.items():
        setattr(made, name, value)
    return made


async def compiled(folder: Path, *names: str) -> list[tuple[str, CompiledModule]]:
    paths = [(name, WAT / f"{name}.wat") for name in names]
    found = await CodeCache(folder).compiled(paths, counts_fuel=False, is_text=True)
    return list(zip(names, found, strict=True))


def instances(engine: GuestEngine, modules: list[tuple[str, CompiledModule]]) -> LinkedInstances:
    loaded = [LoadedModule(name, engine.load(one.path), one.shape, 1 << 24) for name, one in modules]
    plan = link([(one.name, one.shape) for one in loaded])
    return LinkedInstances(engine, loaded, plan, GuestLimits(), host=Nobody())


def compare(modules: list[tuple[str, CompiledModule]]) -> None:
    """Our way next to the stock one, a round of each in turn."""
    ours, shape = instances(GuestEngine(), modules), modules[-1][1].shape
    ours.start(10)
    theirs = stock(bytes(wat2wasm((WAT / "kit.wat").read_text())))
    for name, (arguments, times) in CALLS.items():
        function = function_of(shape, "", name)
        mine: Callable[[], object] = lambda f=function, n=name, a=arguments: ours.call("", n, f, a, 10)  # noqa: E731
        other = theirs(name, arguments)
        pairs = [(seconds(mine, times), seconds(other, times)) for _ in range(ROUNDS)]
        a, b = statistics.median(one for one, _ in pairs) * 1e6, statistics.median(one for _, one in pairs) * 1e6
        ratio = statistics.median(one / two for one, two in pairs)
        print(f"{NAMES[name]:20} {a:10.1f} µs, stock wasmtime-py {b:10.1f} µs: {ratio:.2f} of it")


async def levels(modules: list[tuple[str, CompiledModule]]) -> None:
    """Through the queue of a service: in a worker thread, and in a process."""
    plan = link([(name, one.shape) for name, one in modules])
    for isolation in ("thread", "process"):
        service = RunningService(
            ServicePlan(
                modules=[(name, one, 1 << 24) for name, one in modules],
                link=plan,
                limits=GuestLimits(),
                isolation=isolation,  # type: ignore[arg-type]
            ),
            lambda fuel: GuestEngine(counts_fuel=fuel),
        )
        began = time.perf_counter()
        await service.start()
        started = time.perf_counter() - began
        took = []
        for _ in range(ROUNDS * 50):
            began = time.perf_counter()
            await service.call("add", [2, 3], seconds=10)
            took.append(time.perf_counter() - began)
        print(f"a call in a {isolation}: {statistics.median(took) * 1e6:.0f} µs; cached start {started * 1e3:.1f} ms")
        await service.close()


def density(modules: list[tuple[str, CompiledModule]]) -> None:
    """What an idle service takes."""
    engine, count = GuestEngine(), 500
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    kept = [instances(engine, modules) for _ in range(count)]
    for one in kept:
        one.start(10)
    each = (time.perf_counter() - began) / count
    size = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / count
    print(
        f"{count} services of two modules: {each * 1e6:.0f} µs and {size:.0f} KiB each, {2**20 / max(size, 1):,.0f} in a GiB"
    )
    for one in kept:
        one.close()


async def whole_way(folder: Path) -> None:
    """From a client's flow to a deployed service and back, over TCP on this machine."""
    listens = {"transport": {"kind": "tcp", "listen": ["/ip4/127.0.0.1/tcp/0"]}}
    async with nodes(base_dir=folder, **listens, execution={"kind": "wasm"}) as network:
        ada, bob = await network.start("ada"), await network.start("bob")
        network.introduce()
        blob = await bob.node.blobs.put(bytes(wat2wasm((WAT / "arguments.wat").read_text())))

        async def ask(by: Any, service: str, function: str, *arguments: Any) -> Any:
            values = {f"v{place}": value for place, value in enumerate(arguments)}
            script = f'(seq (call "{bob.peer_id}" ("{service}" "{function}") [{" ".join(values)}] x) (call %init_peer_id% ("return" "") [x]))'
            async with by.run(script, at=bob.peer_id, **values) as flow:
                (answer,) = await flow.result()
            return answer

        blueprint = await ask(bob, "dist", "add_blueprint", {"name": "x", "dependencies": [{"/": str(blob)}]})
        service = await ask(bob, "srv", "create", blueprint)
        for what, target in (("a WebAssembly service", (service, "u8")), ("a built-in one", ("op", "identity"))):
            took = []
            for _ in range(100):
                began = time.perf_counter()
                assert await ask(ada, *target, 7) == 7
                took.append(time.perf_counter() - began)
            print(f"a call from AIR of {what}, over TCP: {statistics.median(took) * 1e3:.2f} ms")


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        modules = await compiled(Path(folder), "kit_env", "kit")
        print(f"cold: two modules compiled in {time.perf_counter() - began:.2f} s, in a child process")
        compare(modules)
        await levels(modules)
        density(modules)
        await whole_way(Path(folder))


if __name__ == "__main__":
    anyio.run(main)
