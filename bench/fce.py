"""What a call of a WebAssembly service costs, next to others in the same run.

Our ways: the call alone; through the queue of a service in a thread, stateless or not, and in a process; over the whole way of a particle. Others: stock wasmtime-py,
and extism and Marine in Node where these are installed. Short rounds of all ways alternate, and the best one of each counts, so that what else the
machine does meets none. ``python bench/fce.py``.
"""

from __future__ import annotations

import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import anyio
from _guests import RESULTS, WAT, Stock, Way, others, timed
from fluvial.testing.nodes import nodes
from fluvial_fce_wasm.compiling import CodeCache, CompiledModule
from fluvial_fce_wasm.guest.engine import GuestEngine
from fluvial_fce_wasm.guest.instance import LinkedInstances, LoadedModule
from fluvial_fce_wasm.limits import GuestLimits
from fluvial_fce_wasm.linking import link
from fluvial_fce_wasm.running import RunningService
from fluvial_fce_wasm.service_plan import ServicePlan
from fluvial_fce_wasm.shapes import function_of
from fluvial_fce_wasm.threads import GuestThreads
from wasmtime import wat2wasm

ROUNDS = 31
POINTS = [{"x": i, "y": -1, "label": f"l{i}"} for i in range(1000)]
CALLS: dict[str, tuple[list[Any], int]] = {
    "add": ([2, 3], 500),
    "echo": (["x" * 1024], 500),
    "sum-points": ([POINTS], 4),
}
NAMES = {"add": "(s32, s32) -> s32", "echo": "string of 1 KB", "sum-points": "1000 records in"}


class Nobody:
    """The host of guests that ask nothing."""

    def call(self, interface: str, function: str, arguments: list[Any]) -> Any:
        """Nothing."""
        return None


async def compiled(folder: Path, *names: str) -> list[tuple[str, CompiledModule]]:
    paths = [(name, WAT / f"{name}.wat") for name in names]
    found = await CodeCache(folder).compiled(paths, counts_fuel=False, is_text=True)
    return list(zip(names, found, strict=True))


def instances(engine: GuestEngine, modules: list[tuple[str, CompiledModule]]) -> LinkedInstances:
    loaded = [LoadedModule(name, engine.load(one.path), one.shape, 1 << 24) for name, one in modules]
    plan = link([(one.name, one.shape) for one in loaded])
    return LinkedInstances(engine, loaded, plan, GuestLimits(), host=Nobody())


class Direct(Way):
    """Our codec on the instances of a service, in this thread."""

    name = "Fluvial, the call alone"

    def __init__(self, modules: list[tuple[str, CompiledModule]]) -> None:
        self._instances = instances(GuestEngine(), modules)
        self._shape = modules[-1][1].shape
        self._instances.start(10)

    def seconds(self, call: str, arguments: list[Any], times: int) -> float | None:
        """As in the base class."""
        function = function_of(self._shape, "", call)
        return timed(lambda: self._instances.call("", call, function, arguments, 10), call, times)

    def close(self) -> None:
        """Drop the instances."""
        self._instances.close()


async def queued_seconds(service: RunningService, call: str, arguments: list[Any], times: int) -> float:
    """What a call takes through the queue of a service."""
    assert await service.call(call, arguments, seconds=10) == RESULTS[call]
    began = time.perf_counter()
    for _ in range(times):
        await service.call(call, arguments, seconds=10)
    return (time.perf_counter() - began) / times


async def started(
    modules: list[tuple[str, CompiledModule]], isolation: str, *, stateless: bool = False
) -> RunningService:
    """A service at a level; says what its start took."""
    service = RunningService(
        ServicePlan(
            modules=[(name, one, 1 << 24) for name, one in modules],
            link=link([(name, one.shape) for name, one in modules]),
            limits=GuestLimits(),
            isolation=isolation,  # type: ignore[arg-type]
            stateless=stateless,
        ),
        lambda fuel: GuestEngine(counts_fuel=fuel),
        threads=GuestThreads(),
    )
    began = time.perf_counter()
    await service.start()
    print(f"cached start in a {isolation}: {(time.perf_counter() - began) * 1e3:.1f} ms")
    return service


async def compare(modules: list[tuple[str, CompiledModule]], folder: Path) -> None:
    """All ways side by side, a round of each in turn: µs of a call in the best round, and how that is to stock wasmtime-py."""
    ways = [Direct(modules), *others(folder)]
    services = {
        "Fluvial, in a thread, stateless": await started(modules, "thread", stateless=True),
        "Fluvial, in a thread": await started(modules, "thread"),
        "Fluvial, in a process": await started(modules, "process"),
    }
    print(f"\n| µs for a call | {' | '.join(NAMES.values())} |\n|{' --- |' * (len(NAMES) + 1)}")
    rows: dict[str, list[str]] = {name: [] for name in [*(way.name for way in ways), *services]}
    for call, (arguments, times) in CALLS.items():
        rounds: dict[str, list[float]] = {name: [] for name in rows}
        for _ in range(ROUNDS):
            for way in ways:
                if (took := way.seconds(call, arguments, times)) is not None:
                    rounds[way.name].append(took * 1e6)
            for name, service in services.items():
                rounds[name].append(await queued_seconds(service, call, arguments, max(2, times // 5)) * 1e6)
        for name, took_us in rounds.items():
            best = min(took_us, default=0)
            rows[name].append(f"{best:,.1f} ({best / min(rounds[Stock.name]):.2f})" if took_us else "–")
    for name, cells in rows.items():
        print(f"| {name} | {' | '.join(cells)} |")
    print()
    for service in services.values():
        await service.close()
    for way in ways:
        way.close()


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
        ways = {"a WebAssembly service": (service, "u8"), "a built-in one": ("op", "identity")}
        took: dict[str, list[float]] = {what: [] for what in ways}
        for _ in range(100):
            for what, target in ways.items():
                began = time.perf_counter()
                assert await ask(ada, *target, 7) == 7
                took[what].append(time.perf_counter() - began)
        for what, each in took.items():
            print(f"a call from AIR of {what}, over TCP: {statistics.median(each) * 1e3:.2f} ms")


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        modules = await compiled(Path(folder), "kit_env", "kit")
        print(f"cold: two modules compiled in {time.perf_counter() - began:.2f} s, in a child process")
        await compare(modules, Path(folder))
        density(modules)
        await whole_way(Path(folder))


if __name__ == "__main__":
    anyio.run(main)
