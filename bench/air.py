"""What the AIR interpreter takes: time and bytes for flows of several shapes, how both grow, and memory.

Usage: ``python bench/air.py [--json] [--repeat N] [--reference DIR]``; takes about 15 seconds.

*Interpreter time* is all that the peers of a simulated flow spend on decoding, verifying, parsing, running, signing and encoding; the median
of N cold flows. *Bytes* are the particle data that went from peer to peer. ``--reference`` (a folder with the AquaVM harness ``bench.mjs``) plays
the same scenarios there in turns with ours; its time is what its interpreter takes, without starting it. *With SQLite* every run is written to
the peer's own database before the flow goes on, as a peer does it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import msgspec
from _journalled import journalled
from fluvial.air.data.batch import Known
from fluvial.air.machine.machine import Machine
from fluvial.air.machine.outcomes import Answered
from fluvial.air.syntax import parse
from fluvial.identity import KeyPair
from fluvial.particle import Particle
from fluvial.simulation.network import simulate
from fluvial.simulation.scenario import Scenario, ServiceRow

ROUNDS: Final = 3
"""How often ours and the reference take turns."""

REFERENCE_SECONDS: Final = 40.0
MACHINES: Final = 10_000
MEGABYTE: Final = 1_000_000
LONG: Final = (200, 400, 800)
FOLDS: Final = (100, 400)


@dataclass(frozen=True, slots=True)
class Figure:
    """One shape; times in milliseconds.

    Attributes:
        interpreter_ms, bytes_sent: of fluvial.
        reference_ms, reference_bytes: of the reference; None if it was not asked or did not finish.
        stored_ms: of fluvial, with everything written to SQLite; None if that was not measured.
    """

    name: str
    interpreter_ms: float
    bytes_sent: int
    reference_ms: float | None = None
    reference_bytes: int | None = None
    stored_ms: float | None = None


# --- shapes


def flow(name: str, script: str, peers: Sequence[str], *rows: ServiceRow) -> Scenario:
    """A scenario; calls that no row answers return ``"ok"``, ``op.id`` its argument."""
    services = [*rows, ServiceRow(service="op", function="id", echo=0), ServiceRow(service="op", returns="ok")]
    return Scenario(name=name, script=script, init_peer=peers[0], peers=[*peers], services=services)


def nested(instruction: str, parts: Sequence[str]) -> str:
    """``(seq A (seq B C))``."""
    text = parts[-1]
    for part in reversed(parts[:-1]):
        text = f"({instruction} {part} {text})"
    return text


def one_call() -> Scenario:
    return flow("one-call", '(call %init_peer_id% ("op" "f") [] r)', ["client"])


def chain(length: int) -> Scenario:
    """A call on one peer after the other, each fed the result before."""
    calls = [f'(call "@p{n}" ("op" "id") [r{n - 1}] r{n})' for n in range(1, length)]
    script = nested("seq", ['(call "@p0" ("op" "f") [] r0)', *calls])
    return flow(f"chain-{length}", script, [f"p{n}" for n in range(length)])


def seq(length: int) -> Scenario:
    """Calls on one peer, each fed the result before."""
    calls = [f'(call %init_peer_id% ("op" "id") [r{n - 1}] r{n})' for n in range(1, length)]
    return flow(f"seq-{length}", nested("seq", ['(call %init_peer_id% ("op" "f") [] r0)', *calls]), ["client"])


def fold_par(length: int) -> Scenario:
    """One call per element at once."""
    script = """(seq (call %init_peer_id% ("op" "list") [] xs)
        (fold xs x (par (call %init_peer_id% ("op" "id") [x] $out) (next x))))"""
    return flow(f"fold-par-{length}", script, ["client"], elements(0, length))


def fold_seq(length: int) -> Scenario:
    """One call per element, each body waiting for the one before."""
    script = """(seq (call %init_peer_id% ("op" "list") [] xs)
        (fold xs x (seq (call %init_peer_id% ("op" "id") [x]) (next x))))"""
    return flow(f"fold-seq-{length}", script, ["client"], elements(0, length))


def fold_waiting(length: int) -> Scenario:
    """All bodies wait for one value of another peer."""
    script = """(seq (call %init_peer_id% ("op" "list") [] xs) (par (call "@far" ("op" "f") [] late)
        (seq (null) (fold xs x (par (call %init_peer_id% ("op" "id") [x late]) (next x))))))"""
    back = script.replace(
        '(call "@far" ("op" "f") [] late)', '(seq (call "@far" ("op" "f") [] late) (call %init_peer_id% ("op" "f") []))'
    )
    return flow(f"fold-waiting-{length}", back, ["client", "far"], elements(0, length))


def fold_stream(writers: int, each: int) -> Scenario:
    """Peers write to one stream, the first one folds over all of it."""
    branches = [
        f'(seq (seq (call "@w{n}" ("op" "list") [] xs{n}) (fold xs{n} x{n} (seq (ap x{n} $s) (next x{n})))) '
        '(call "@client" ("op" "noop") []))'
        for n in range(writers)
    ]
    fold = '(fold $s v (par (call %init_peer_id% ("op" "id") [v]) (next v)))'
    rows = [elements(n * each, (n + 1) * each, peer=f"w{n}") for n in range(writers)]
    script = f"(seq (par (null) {nested('par', branches)}) {fold})"
    return flow(f"fold-stream-{writers * each}", script, ["client", *(f"w{n}" for n in range(writers))], *rows)


def chat() -> Scenario:
    """The white paper's chat: a relay, a members peer, a history peer and five members besides the sender."""
    members = ["client", *(f"m{n}" for n in range(1, 6))]
    script = """
    (seq (seq (call %init_peer_id% ("load" "relay") [] relay)
      (seq (call %init_peer_id% ("load" "chat_id") [] chat_id) (call %init_peer_id% ("load" "message") [] message)))
     (seq (call relay ("app" "resolve_backend") [chat_id] backend)
     (seq (call backend.$.members.peer (backend.$.members.service "is_member") [%init_peer_id%] is_member)
     (xor (seq (mismatch is_member true (null)) (call %init_peer_id% ("chat" "error") ["no member"]))
     (seq (call backend.$.members.peer (backend.$.members.service "list") [] peers)
     (seq (par (fold peers p (par (xor (mismatch p %init_peer_id% (call p ("chat" "message") [message] $acc)) (null)) (next p))) (null))
     (seq (call backend.$.history.peer ("op" "identity") [])
     (seq (canon backend.$.history.peer $acc #acc)
     (xor (match #acc.length 2 (call %init_peer_id% ("chat" "delivered") [])) (null))))))))))"""
    backend = {part: {"peer": f"@{part}", "service": part} for part in ("members", "history")}
    return flow(
        "chat",
        script,
        [*members, "relay", "members", "history"],
        ServiceRow(function="relay", returns="@relay"),
        ServiceRow(function="chat_id", returns="room-1"),
        ServiceRow(function="resolve_backend", returns=backend),
        ServiceRow(function="is_member", returns=True),
        ServiceRow(function="list", returns=["@" + member for member in members]),
        ServiceRow(service="load", returns="hello"),
        ServiceRow(service="chat", returns=None),
    )


def large_value() -> Scenario:
    """A value of 1 MB passes through ten peers, of which two read one field."""
    reading = (4, 8)
    calls = [f'(call "@p{n}" ("op" "f") [{"v.$.name" if n in reading else ""}])' for n in range(1, 10)]
    script = nested("seq", ['(call "@p0" ("op" "large") [] v)', *calls])
    row = ServiceRow(function="large", returns={"name": "small", "body": "x" * MEGABYTE})
    return flow("large-value", script, [f"p{n}" for n in range(10)], row)


def elements(start: int, stop: int, *, peer: str | None = None) -> ServiceRow:
    return ServiceRow(peer=peer, service="op", function="list", returns=list(range(start, stop)))


# --- measurements


def measure(scenario: Scenario, repeat: int, reference: Path | None) -> Figure:
    """Ours and the reference in turns; medians."""
    ours, theirs = [], []
    rounds = ROUNDS if reference else 1
    for _ in range(rounds):
        timing = simulate(scenario, repeat=repeat).timing
        assert timing is not None
        ours.append(timing)
        if reference and (found := ask_reference(reference, scenario, repeat)):
            theirs.append(found)
    return Figure(
        scenario.name,
        round(statistics.median(timing.interpreter_ms for timing in ours), 3),
        ours[0].bytes_sent,
        round(statistics.median(ms for ms, _ in theirs), 3) if theirs else None,
        theirs[0][1] if theirs else None,
    )


def with_storage(figures: Sequence[Figure], scenarios: Sequence[Scenario], repeat: int) -> list[Figure]:
    """The figures of these scenarios, with what they take when every run is written to SQLite."""
    stored = []
    with tempfile.TemporaryDirectory() as folder, journalled(Path(folder)) as machine:
        for figure, scenario in zip(figures, scenarios, strict=True):
            simulate(scenario, machine=machine)  # the databases are made
            timing = simulate(scenario, machine=machine, repeat=repeat).timing
            assert timing is not None
            stored.append(replace(figure, stored_ms=round(timing.interpreter_ms, 3)))
    return stored


def measure_growing(scenarios: Sequence[Scenario], repeat: int) -> list[Figure]:
    """All in turns, so that what else the machine does falls on all alike; of each the fastest round's median."""
    rounds = [[measure(scenario, repeat, None) for scenario in scenarios] for _ in range(ROUNDS)]
    return [min(figures, key=lambda figure: figure.interpreter_ms) for figures in zip(*rounds, strict=True)]


def ask_reference(directory: Path, scenario: Scenario, repeat: int) -> tuple[float, int] | None:
    """Time of its interpreter, milliseconds, and bytes that it sent; None if it took too long."""
    with tempfile.TemporaryDirectory() as name:
        file, report = Path(name, "scenario.json"), Path(name, "report.json")
        file.write_bytes(msgspec.json.encode(scenario))
        options = ["--engine", "direct", "--repeat", str(repeat), "--json", str(report), str(file)]
        try:
            subprocess.run(
                ["node", "bench.mjs", *options],
                cwd=directory,
                capture_output=True,
                timeout=REFERENCE_SECONDS,
                check=True,
            )
        except subprocess.TimeoutExpired:
            return None
        (entry,) = json.loads(report.read_bytes())["scenarios"]
        (engine,) = entry["engines"].values()
        return engine["interpreter_total_ms"], entry["bytes"]["delivered_total"]


def machine_memory(count: int) -> float:
    """Kilobytes of one live machine that waits for another peer, its parsed script included."""
    keys, other = KeyPair.generate(), KeyPair.generate().peer_id
    script = f'(seq (call %init_peer_id% ("op" "f") [] x) (seq (call "{other}" ("op" "g") [x] y) (call %init_peer_id% ("op" "h") [y])))'
    alive, before = [live_machine(keys, script, 0)], resident_kb()
    alive += [live_machine(keys, script, number) for number in range(1, count + 1)]
    return (resident_kb() - before) / (len(alive) - 1)


def live_machine(keys: KeyPair, script: str, number: int) -> Machine:
    particle = Particle.create(
        keys, script, particle_id=f"{number}", timestamp_ms=0, ttl_ms=1, max_hops=9, network="bench"
    )
    machine = Machine(
        parse(particle.script), particle.key, keys.peer_id, initiator=particle.initiator, timestamp_ms=0, ttl_ms=1
    )
    effects = machine.merge(Known((), {}))
    machine.resolve({request.instance: Answered(number) for request in effects.requests})
    machine.seal(keys.sign)
    return machine


def resident_kb() -> int:
    """Memory that this process holds now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise SystemExit("this system does not tell how much memory a process has: /proc/self/status has no VmRSS")


def growth(figures: Sequence[Figure]) -> dict[str, float]:
    """How often longer the longer one of two shapes takes."""
    ms = {figure.name: figure.interpreter_ms for figure in figures}
    steps = [(f"seq-{one}", f"seq-{other}") for one, other in (*pairwise((100, *LONG)), (100, LONG[-1]))]
    steps += [(f"{kind}-{FOLDS[0]}", f"{kind}-{FOLDS[1]}") for kind in ("fold-seq", "fold-waiting")]
    return {f"{one} to {other}": round(ms[other] / ms[one], 2) for one, other in steps}


def table(figures: Sequence[Figure]) -> str:
    head = f"{'shape':<18}{'ms':>10}{'SQLite ms':>12}{'bytes':>10}"
    lines = [f"{head}{'AquaVM ms':>12}{'bytes':>10}{'time':>8}{'bytes':>8}"]
    for one in figures:
        stored = "-" if one.stored_ms is None else f"{one.stored_ms:,.2f}"
        line = f"{one.name:<18}{one.interpreter_ms:>10,.2f}{stored:>12}{one.bytes_sent:>10,}"
        if one.reference_ms is not None and one.reference_bytes is not None:
            line += f"{one.reference_ms:>12,.2f}{one.reference_bytes:>10,}{one.interpreter_ms / one.reference_ms:>8.2f}"
            line += f"{one.bytes_sent / one.reference_bytes:>8.2f}" if one.reference_bytes else f"{'-':>8}"
        lines.append(line)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--repeat", type=int, default=5, help="flows per shape; the median counts")
    parser.add_argument("--reference", type=Path, default=None, help="folder with the harness of the reference")
    options = parser.parse_args()
    if options.reference is not None and not (options.reference / "bench.mjs").is_file():
        parser.error(f"--reference {options.reference}: there is no bench.mjs")
    memory_kb = round(machine_memory(MACHINES), 1)
    shapes = [one_call(), chain(10), chat(), fold_par(50), fold_stream(5, 10), seq(100), large_value()]
    growing = [*map(seq, (100, *LONG)), *map(fold_seq, FOLDS), *map(fold_waiting, FOLDS)]
    figures = [measure(scenario, options.repeat, options.reference) for scenario in shapes]
    figures = with_storage(figures, shapes, options.repeat)
    if options.reference is not None:  # which takes seconds for each
        figures += [measure(scenario, 3, options.reference) for scenario in map(seq, LONG)]
    grown = measure_growing(growing, options.repeat)
    report: dict[str, Any] = {
        "shapes": [asdict(figure) for figure in figures],
        "growing": [asdict(figure) for figure in grown],
        "growth": growth(grown),
        "machine_kb": memory_kb,
        "machines": MACHINES,
    }
    if options.json:
        json.dump(report, sys.stdout, indent=1)
        print()
        return
    print(table(figures))
    print()
    print(table(grown))
    for step, ratio in report["growth"].items():
        print(f"{step}: {ratio:.2f} times the time")
    print(f"memory: {memory_kb} KB per live machine of a small flow ({MACHINES:,} of them)")


if __name__ == "__main__":
    main()
