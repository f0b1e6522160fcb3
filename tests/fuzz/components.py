"""Mutated component files: each is refused, or started and called in a process of its own, and this process goes on.

``python -m tests.fuzz.components --count 5000 --seed 7 --seconds 1800 [FILE.wasm …]``; without files the components of the conformance cases are
mutated. A mutant is *refused* if compiling, linking or starting it fails with an error of its kind; it is *harmless* if it was started and called,
however its calls ended, and its service could be started again afterwards. All else is *other*: it is shown with the mutant's number, and makes the
exit code 1.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
from fluvial_fce_wasm.compiling import CodeCache
from fluvial_fce_wasm.failures import FailureKind, GuestError
from fluvial_fce_wasm.guest.engine import GuestEngine
from fluvial_fce_wasm.levels import ServicePlan
from fluvial_fce_wasm.limits import GuestLimits
from fluvial_fce_wasm.linking import link
from fluvial_fce_wasm.running import RunningService
from fluvial_fce_wasm.shares import shares
from fluvial_fce_wasm.threads import GuestThreads
from fluvial_fce_wasm.wit.types import WitFunction, WitPrimitive
from wasmtime import WasmtimeError, wat2wasm

FOLDER = Path(__file__).resolve().parent.parent / "conformance" / "fce"
LIMITS = GuestLimits(call_s=0.3, memory_bytes=16 * 1_048_576, disk_bytes=0)
CALLS = 3


def originals(files: list[Path]) -> list[bytes]:
    if files:
        return [path.read_bytes() for path in files]
    found = []
    for path in sorted(FOLDER.glob("*.wat")):
        try:
            data = bytes(wat2wasm(path.read_text()))
        except WasmtimeError:
            continue
        if data[4] == 0x0D:  # a component
            found.append(data)
    return found


def mutated(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    match rng.randrange(6):
        case 0:
            del changed[rng.randrange(8, len(changed)) :]
        case 1:
            begin = rng.randrange(8, len(changed))
            del changed[begin : begin + rng.randint(1, 16)]
        case 2:
            begin = rng.randrange(8, len(changed))
            changed[begin:begin] = rng.randbytes(rng.randint(1, 8))
        case _:
            for _ in range(rng.randint(1, 4)):
                changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def anything(function: WitFunction, rng: random.Random) -> list[Any]:
    """Arguments that may fit."""
    values = {"bool": True, "char": "x", "string": "x" * rng.randrange(50), "f32": 0.5, "f64": 0.5}
    return [
        values.get(kind.name, rng.randrange(128)) if isinstance(kind, WitPrimitive) else []
        for _, kind in function.parameters
    ]


async def try_one(path: Path, cache: CodeCache, rng: random.Random) -> str:
    """What became of a file: the kind of its failure, or ``ran``."""
    try:
        (compiled,) = await cache.compiled([("mutant", path)], counts_fuel=False)
        plan = link([("mutant", compiled.shape)], wasi=True)
        (share,) = shares(LIMITS.memory_bytes, [(compiled.shape.memories, None)])
        service = RunningService(
            ServicePlan(modules=[("mutant", compiled, share)], link=plan, limits=LIMITS, isolation="process"),
            lambda fuel: GuestEngine(counts_fuel=fuel),
            threads=GuestThreads(),
        )
        try:
            for name, one in list(service.functions.items())[:CALLS]:
                try:
                    await service.call(name, anything(one.type, rng), seconds=1)
                except GuestError as error:
                    if error.kind is FailureKind.LINK:
                        raise
            await service.start()
        finally:
            await service.close()
    except GuestError as error:
        return error.kind.value
    return "ran"


def summary(fates: Counter[str]) -> str:
    """Figures of what became of mutants."""
    refused = sum(fates[kind.value] for kind in FailureKind)
    return f"{refused} refused, {fates['ran']} harmless, {fates.total() - refused - fates['ran']} other {dict(fates)}"


async def play(files: list[Path], *, count: int, seed: int, seconds: float) -> tuple[Counter[str], list[str]]:
    """What became of mutants, as many as asked for or as the time allows, and the errors that nobody should see."""
    rng, seeds = random.Random(seed), originals(files)
    fates: Counter[str] = Counter()
    errors: list[str] = []
    ends = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        cache = CodeCache(Path(folder) / "code", compile_s=20)
        for number in range(count):
            if time.monotonic() > ends:
                break
            path = Path(folder) / "mutant.wasm"
            path.write_bytes(mutated(rng.choice(seeds), rng))
            try:
                fates[await try_one(path, cache, rng)] += 1
            except Exception as error:  # noqa: BLE001 - it is what this looks for
                errors.append(f"mutant {number}: {type(error).__name__}: {error}")
                fates[type(error).__name__] += 1
            if number % 500 == 499:
                print(f"{number + 1}: {summary(fates)}", flush=True)
    return fates, errors


def main() -> int:
    """Play, and print figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.components")
    parser.add_argument(
        "files", nargs="*", type=Path, metavar="FILE", help="components; those of the conformance cases by default"
    )
    parser.add_argument("--count", type=int, default=500, help="mutants, at most")
    parser.add_argument("--seconds", type=float, default=1_800, help="at most")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of all that is random")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    began = time.monotonic()
    fates, errors = anyio.run(
        lambda: play(options.files, count=options.count, seed=options.seed, seconds=options.seconds)
    )
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(
        f"{fates.total()} mutants in {time.monotonic() - began:.0f} s: {summary(fates)}; {memory} MB", *errors, sep="\n"
    )
    return bool(errors)


if __name__ == "__main__":
    sys.exit(main())
