"""Hostile services on a real peer, one attack after the other: ``python -m tests.attacks.wasm [--seed 7] [--seconds 60] [NAME …]``.

Each attack is deployed by a stranger who may deploy (so it runs in a process), and by the owner of the peer (so it runs in a thread where it needs no
WASI). Meanwhile two neighbours, one in a thread and one in a process, are called all the time over TCP. An attack is survived if both answer
within a second each time, the peer's memory stays under its limit and so does each process of a guest, the attack ends as it should, nothing is
written outside of the state directories, and the peer lives. The exit code is the number of attacks that were not survived.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio
import tomlkit
from anyio import to_thread
from fluvial.client import Client, connect
from fluvial.errors import FluvialError
from fluvial.identity import KeyPair
from fluvial_fce_wasm.seat.options import OPERATOR_KEY
from wasmtime import wat2wasm

from tests.attacks.guests import UNRELIABLE, WAT, Trial, attacks
from tests.support.processes import NETWORK, PeerProcess, environment

ANSWER_S_MAX: Final = 1.0
NODE_MB_MAX: Final = 512
CALL_S: Final = 1.0
MEMORY_MB: Final = 64
GUEST_MB_MAX: Final = MEMORY_MB + 256
"""Of a process of a guest: its memory, and what the process needs itself."""
SECONDS: Final = 60.0
"""For one attack; what has not ended then is left to itself, and the next one begins."""
GAP_S: Final = 0.02
LOOK_S: Final = 0.1
_STATUS: Final = re.compile(r"ret_code is (-?\d+)")


class Refused(Exception):
    """A call of the peer failed; has the status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(slots=True)
class Seen:
    """What was seen during one attack.

    Attributes:
        answers: how many answers neighbours gave.
        slowest_s: the slowest of them.
        node_mb, guest_mb, all_mb: the most memory of the peer, of a guest's process, and of the peer with all of its processes.
        faults: what was against the rules.
    """

    answers: int = 0
    slowest_s: float = 0.0
    node_mb: int = 0
    guest_mb: int = 0
    all_mb: int = 0
    faults: list[str] = field(default_factory=list)


class Range:
    """A peer under attack, its neighbours, and those who deploy.

    Args:
        peer: the process.
        neighbours: a client for the calls of neighbours.
        deployers: clients by what they are.
    """

    def __init__(self, peer: PeerProcess, neighbours: Client, deployers: Mapping[str, Client]) -> None:
        self._peer = peer
        self._neighbours = neighbours
        self._deployers = deployers

    async def prepare(self) -> None:
        """Deploy the neighbours, which stay."""
        module = {"arguments": bytes(wat2wasm((WAT / "arguments.wat").read_text()))}
        for who, name in (("owner", "thread-neighbour"), ("stranger", "process-neighbour")):
            client = self._deployers[who]
            service = await self._deploy(client, Trial(module))
            await self._ask(client, "srv", "add_alias", name, service)
            await self._ask(self._neighbours, name, "count")

    async def attack(self, trials: Sequence[Trial], seconds: float) -> Seen:
        """Carry out one attack by each of those who deploy, while neighbours are called."""
        seen = Seen()
        outside = set(self._outside())
        async with anyio.create_task_group() as watching:
            watching.start_soon(self._look, seen)
            for name in ("thread-neighbour", "process-neighbour"):
                watching.start_soon(self._call_neighbour, name, seen)
            with anyio.move_on_after(seconds) as time_of_all:
                for who, client in self._deployers.items():
                    for trial in trials:
                        await self._try(client, who, trial, seen)
            if time_of_all.cancelled_caught and not all(trial.may_fail for trial in trials):
                seen.faults.append(f"it did not end within {seconds:g} s")
            await anyio.sleep(2 * LOOK_S)
            watching.cancel_scope.cancel()
        if not self._peer.running:
            seen.faults.append("the peer is dead")
        if more := set(self._outside()) - outside:
            seen.faults.append(f"written outside: {sorted(map(str, more))}")
        if not seen.answers:
            seen.faults.append("no neighbour answered")
        return seen

    async def _try(self, client: Client, who: str, trial: Trial, seen: Seen) -> None:
        facade = list(trial.modules)[-1]
        try:
            service = await self._deploy(client, trial)
        except Refused as refused:
            if refused.status not in trial.refused and not trial.may_fail:
                seen.faults.append(f"{facade} of the {who} was not deployed: {refused}")
            return
        if trial.refused:
            seen.faults.append(f"{facade} of the {who} was deployed")
        for function, arguments, fails in trial.calls:
            try:
                await self._ask(client, service, function, *arguments)
                status = 0
            except Refused as refused:
                status = refused.status
            if status not in (fails or {0}) and not trial.may_fail:
                seen.faults.append(f"{facade}.{function} of the {who} ended with {status}, not {sorted(fails) or 0}")
        await self._ask(client, "srv", "remove", service)

    async def _deploy(self, client: Client, trial: Trial) -> str:
        blobs = [await client.node.blobs.put(data) for data in trial.modules.values()]
        body = {
            "name": "x",
            "dependencies": [{"/": str(one)} for one in blobs],
            "names": list(trial.modules),
            **trial.more,
        }
        blueprint = await self._ask(client, "dist", "add_blueprint", body)
        return str(await self._ask(client, "srv", "create", blueprint))

    async def _ask(self, client: Client, service: str, function: str, *arguments: Any) -> Any:
        values = {f"v{place}": value for place, value in enumerate(arguments)}
        script = (
            f'(xor (seq (call "{self._peer.peer_id}" ("{service}" "{function}") [{" ".join(values)}] x)'
            ' (call %init_peer_id% ("return" "") [x])) (call %init_peer_id% ("return" "error") [:error:]))'
        )
        async with client.run(script, ttl_s=110, until=("return",), **values) as flow:
            ending = await flow.ending()
        (answer,) = ending.arguments
        if ending.function != "error":
            return answer
        found = _STATUS.search(answer["message"])
        raise Refused(int(found[1]) if found else int(answer["error_code"]), answer["message"][:300])

    async def _call_neighbour(self, name: str, seen: Seen) -> None:
        while True:
            began = anyio.current_time()
            try:
                await self._ask(self._neighbours, name, "count")
                seen.answers += 1
            except (Refused, FluvialError) as error:
                seen.faults.append(f"{name}: {error}"[:300])
            finally:  # also of a call that is still under way when the attack ends
                seen.slowest_s = max(seen.slowest_s, anyio.current_time() - began)
            await anyio.sleep(GAP_S)

    async def _look(self, seen: Seen) -> None:
        while True:
            node, children = await to_thread.run_sync(_memory_mb, self._peer.pid)
            seen.node_mb = max(seen.node_mb, node)
            seen.guest_mb = max([seen.guest_mb, *(size for command, size in children if command == "guest")])
            seen.all_mb = max(seen.all_mb, node + sum(size for _, size in children))
            await anyio.sleep(LOOK_S)

    def _outside(self) -> list[Path]:
        """Files that guests must not have made."""
        above = [one for place in (self._peer.folder.parent, Path("/tmp")) for one in place.glob("*escaped*")]
        return above + list(self._peer.folder.rglob("*escaped*"))


def _memory_mb(pid: int) -> tuple[int, list[tuple[str, int]]]:
    """Resident memory of a peer, and of its child processes with what they are."""
    with suppress(OSError):
        children = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return _rss_mb(pid), [(_kind(one), _rss_mb(one)) for one in children]
    return 0, []


def _kind(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").rpartition(b"\0")[2].decode(errors="replace")
    return ""


def _rss_mb(pid: int) -> int:
    with suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text()
        return next((int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmRSS")), 0)
    return 0


@asynccontextmanager
async def attacked_peer() -> AsyncIterator[Range]:
    """A peer that runs in a process of its own, with its neighbours deployed."""
    with tempfile.TemporaryDirectory(prefix="fluvial-guests-") as temporary:
        folder = Path(temporary)
        stranger = KeyPair.generate()
        peer = PeerProcess(folder / "peer", environment(folder / "caches"), plugins={"unreliable": UNRELIABLE})
        owners = [str(peer.peer_id), str(stranger.peer_id)]
        document = tomlkit.parse(peer.config.read_text())
        document.update(
            {
                "extras": {"unreliable": {}},
                "execution": {
                    "kind": "wasm",
                    "deployers": [str(stranger.peer_id)],
                    "grants": [{"effector": "unreliable", "owners": owners}],
                    "limits": {"call_s": CALL_S, "memory_bytes": MEMORY_MB << 20, "disk_bytes": 4 << 20},
                },
            }
        )
        peer.config.write_text(tomlkit.dumps(document))
        try:
            await to_thread.run_sync(peer.start)
            operator = KeyPair.load(peer.folder / "state" / "wasm" / OPERATOR_KEY)
            async with (
                connect(peer.address, network=NETWORK) as neighbours,
                connect(peer.address, network=NETWORK, keys=operator) as owner,
                connect(peer.address, network=NETWORK, keys=stranger) as other,
            ):
                attacked = Range(peer, neighbours, {"owner": owner, "stranger": other})
                await attacked.prepare()
                yield attacked
        finally:
            peer.close()


def faults_of(seen: Seen) -> list[str]:
    """Why an attack was not survived."""
    return [
        *dict.fromkeys(seen.faults),
        *([f"a neighbour took {seen.slowest_s:.2f} s"] if seen.slowest_s > ANSWER_S_MAX else []),
        *([f"{seen.node_mb} MB of the peer"] if seen.node_mb > NODE_MB_MAX else []),
        *([f"{seen.guest_mb} MB of a guest's process"] if seen.guest_mb > GUEST_MB_MAX else []),
    ]


async def carry_out(names: Sequence[str], *, seconds: float, seed: int) -> dict[str, Seen]:
    """The attacks of these names, one after the other on one peer; prints a line for each."""
    made, found = attacks(seed), {}
    async with attacked_peer() as attacked:
        for name in names:
            began = time.monotonic()
            trials = await to_thread.run_sync(made[name])
            found[name] = seen = await attacked.attack(trials, seconds)
            faults = faults_of(seen)
            print(
                f"{name:20} {'NOT SURVIVED' if faults else 'survived'} in {time.monotonic() - began:4.1f} s: {seen.answers} answers of neighbours, "
                f"the slowest in {seen.slowest_s * 1e3:.0f} ms; memory of the peer {seen.node_mb} MB, of a guest's process {seen.guest_mb} MB, "
                f"of all together {seen.all_mb} MB",
                *(f"\n    {fault}" for fault in faults),
                flush=True,
            )
    return found


def main() -> int:
    """Carry out the attacks that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.attacks.wasm")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(attacks(0))}; all by default")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each attack, at most")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of all that is random")
    options = parser.parse_args()
    if unknown := set(options.names) - attacks(0).keys():
        parser.error(f"no attack {', '.join(sorted(unknown))}; there are {', '.join(attacks(0))}")
    print(f"seed {options.seed}", flush=True)
    found = anyio.run(lambda: carry_out(options.names or list(attacks(0)), seconds=options.seconds, seed=options.seed))
    survived = sum(not faults_of(one) for one in found.values())
    slowest, node = max(one.slowest_s for one in found.values()), max(one.node_mb for one in found.values())
    print(
        f"{survived} of {len(found)} survived; slowest answer {slowest * 1e3:.0f} ms, most memory of the peer {node} MB"
    )
    return len(found) - survived


if __name__ == "__main__":
    sys.exit(main())
