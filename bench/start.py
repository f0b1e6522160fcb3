"""What a peer costs before it does anything: the CPU of its start and of its end, the time until it is ready, and its memory while it is idle.

Usage: ``python bench/start.py [--json] [--rounds N] [--idle S] [--against PROGRAM]``

Each round makes a peer with ``fluvial init`` in a new folder, runs it until it says ``peer_started``, leaves it idle, and stops it with SIGINT;
then once more in the same folder, where the database is there already, with an address at which ``fluvial call op.identity`` reaches it: the CPU of
that command is what a user waits for. The least of all rounds is shown: whatever else the machine does only adds. ``--against`` names the ``fluvial`` of another installation, measured in
turns with this one, and adds what this one takes as a part of what that one takes. Compiled modules must be there: each program runs once before.

CPU is of all threads, user and system, in milliseconds. Resident memory is what ``ps`` shows; its private part is what a second peer on the same
machine would take as well. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Final

FLUVIAL: Final = Path(sys.executable).parent / "fluvial"
READY: Final = b"peer_started"
CALL: Final = 'op.identity("x")'
ENVIRONMENT: Final = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


@dataclass(frozen=True, slots=True)
class Costs:
    """Of one round, or the least of several."""

    first_ready_cpu_ms: float
    first_whole_cpu_ms: float
    again_ready_cpu_ms: float
    again_whole_cpu_ms: float
    ready_ms: float
    idle_cpu_ms: float
    resident_mib: float
    private_mib: float
    call_cpu_ms: float


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a peer."""

    ready_ms: float
    ready_cpu_ms: float
    idle_cpu_ms: float
    whole_cpu_ms: float
    resident_mib: float
    private_mib: float


def free_port() -> int:
    """A port of loopback at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def cpu_ms(pid: int) -> float:
    """Of all threads that there are, in steps of nanoseconds where ``/proc/PID/stat`` has ticks of 10 ms."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e6


def memory_mib(pid: int, *names: str) -> float:
    """The sum of some lines of ``smaps_rollup``."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(kib) for name in names for kib in re.findall(rf"^{name}:\s+(\d+)", text, re.MULTILINE)) / 1024


def ended_cpu_ms(process: subprocess.Popen[bytes]) -> float:
    """The CPU of a process from its beginning to its end, which is waited for.

    Raises:
        SystemExit: it failed.
    """
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{process.args!r} ended with exit code {process.returncode}")
    return (usage.ru_utime + usage.ru_stime) * 1000


def call_cpu_ms(program: Path, folder: Path, *settings: str) -> float:
    """Of a command that calls the peer that runs."""
    call = subprocess.Popen([program, *settings, "call", CALL], cwd=folder, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
    return ended_cpu_ms(call)


def run_peer(program: Path, folder: Path, *settings: str, meanwhile: Callable[[], None]) -> Run:
    """Start a peer, do something, stop it."""
    began = time.monotonic()
    process = subprocess.Popen(
        [program, *settings, "run"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=ENVIRONMENT
    )
    assert process.stdout is not None
    if not any(READY in line for line in process.stdout):
        sys.exit(f"{program} run did not become ready")
    ready_ms, ready_cpu_ms = (time.monotonic() - began) * 1000, cpu_ms(process.pid)
    meanwhile()
    idle_cpu_ms = cpu_ms(process.pid)
    resident, private = memory_mib(process.pid, "Rss"), memory_mib(process.pid, "Private_Clean", "Private_Dirty")
    process.send_signal(signal.SIGINT)
    process.stdout.read()
    return Run(ready_ms, ready_cpu_ms, idle_cpu_ms, ended_cpu_ms(process), resident, private)


def measure(program: Path, idle_s: float) -> Costs:
    """One round of one program."""
    with tempfile.TemporaryDirectory(prefix="fluvial-start-") as name:
        folder = Path(name)
        subprocess.run([program, "init"], cwd=folder, check=True, capture_output=True, env=ENVIRONMENT)
        first = run_peer(program, folder, meanwhile=lambda: time.sleep(idle_s))
        listening = ("--set", f'transport.listen=["/ip4/127.0.0.1/tcp/{free_port()}"]')
        calls: list[float] = []
        again = run_peer(
            program,
            folder,
            *listening,
            meanwhile=lambda: calls.append(call_cpu_ms(program, folder, *listening)),
        )
        return Costs(
            first_ready_cpu_ms=first.ready_cpu_ms,
            first_whole_cpu_ms=first.whole_cpu_ms,
            again_ready_cpu_ms=again.ready_cpu_ms,
            again_whole_cpu_ms=again.whole_cpu_ms,
            ready_ms=first.ready_ms,
            idle_cpu_ms=first.idle_cpu_ms,
            resident_mib=first.resident_mib,
            private_mib=first.private_mib,
            call_cpu_ms=calls[0],
        )


def of_all(rounds: Sequence[Costs], choose: Callable[[list[float]], float]) -> Costs:
    """One value for each figure."""
    return Costs(**{one.name: choose([getattr(costs, one.name) for costs in rounds]) for one in fields(Costs)})


def show(found: dict[str, Costs]) -> None:
    """Print one line for each figure, a column for each program, and the ratio of the first to the second."""
    programs = list(found)
    print(f"{'':20}" + "".join(f"{name:>10}" for name in programs) + ("     ratio" if len(programs) > 1 else ""))
    for one in fields(Costs):
        values = [getattr(found[name], one.name) for name in programs]
        ratio = f"{values[0] / values[1]:10.2f}" if len(values) > 1 else ""
        print(f"{one.name:20}" + "".join(f"{value:10.1f}" for value in values) + ratio)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured")
    parser.add_argument("--idle", type=float, default=5.0, help="seconds that a peer is idle before its memory is read")
    parser.add_argument("--against", type=Path, help="the program `fluvial` of another installation")
    options = parser.parse_args()
    if not Path("/proc/self/smaps_rollup").exists():
        sys.exit("memory and CPU of other processes are read from /proc, which this system has not")
    programs = {"this": FLUVIAL} | ({"other": options.against.absolute()} if options.against else {})
    for program in programs.values():
        measure(program, 0)
    rounds: dict[str, list[Costs]] = {name: [] for name in programs}
    for _ in range(options.rounds):
        for name, program in programs.items():
            rounds[name].append(measure(program, options.idle))
    found = {name: of_all(costs, min) for name, costs in rounds.items()}
    if options.json:
        print(json.dumps({name: asdict(costs) for name, costs in found.items()}, indent=2))
    else:
        show(found)


if __name__ == "__main__":
    main()
