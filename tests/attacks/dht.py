"""Liars of the DHT as processes among honest ones: ``python -m tests.attacks.dht [--honest 5] [--liars 4] [--records 10000] [--keys 100000] [NAME …]``.

Honest peers and liars are processes that know one seed; half of the honest ones have weight. After each lie the honest ones must still find what honest
ones provide, and whom they look for, in time. Then come strangers that write past their own checks and floods of records; a crowd that joins with ids
nearest to a key; a process that is stopped and goes on. What must hold is asserted; the exit code is the number of trials in which it did not.
"""

from __future__ import annotations

import argparse
import math
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import anyio
import msgspec
import structlog
from anyio import to_thread
from anyio.streams.buffered import BufferedByteReceiveStream
from fluvial.addresses import Contact
from fluvial.client import Client, connect
from fluvial.config import from_values, load
from fluvial.errors import FluvialError
from fluvial.identity import KeyPair
from fluvial.node import Node, running
from fluvial.plugins import load_plugins
from fluvial_dht_kademlia import wire
from fluvial_dht_kademlia.machine import messages
from fluvial_dht_kademlia.machine.challenges import Challenge, open_challenge, owned_challenge
from fluvial_dht_kademlia.machine.messages import RecordStored
from fluvial_dht_kademlia.machine.records import sign_record
from fluvial_dht_kademlia.mandate import make_mandate

from tests.support.dht_lies import fields, tell
from tests.support.processes import NETWORK, PeerProcess, environment

K: Final = 4
"""Buckets and replicas are small, so that some liars are many."""
FOUND_S_MAX: Final = 4.0
CALL_S: Final = 20.0
SETTLE_S: Final = 30.0
CROWD_S: Final = 60.0
RSS_MB_MAX: Final = 512
ROOT_EXPONENT: Final = 5
OFFERS_AT_ONCE: Final = 32
KEYS_PER_STRANGER: Final = 200
LIAR: Final = "from tests.support.dht_lies import fluvial_register\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How large the trials are.

    Attributes:
        honest, liars, crowd: processes, and peers of the crowd that joins.
        keys_max: keys that a replica keeps; the flood of keys is larger.
        records: offers of strangers for one key.
        keys: offers for as many keys.
    """

    honest: int = 5
    liars: int = 4
    crowd: int = 8
    keys_max: int = 1_000
    records: int = 10_000
    keys: int = 100_000


@dataclass(slots=True)
class HonestPeer:
    """A process that keeps to the rules, and a client that asks it."""

    process: PeerProcess
    client: Client

    async def ask(self, function: str, *arguments: Any, ttl_s: float = CALL_S) -> Any:
        """The result of a function of its service ``dht``."""
        values = {f"argument_{number}": value for number, value in enumerate(arguments)}
        script = (
            f'(seq (call relay ("dht" "{function}") [{" ".join(values)}] found)'
            ' (call %init_peer_id% ("return" "") [found]))'
        )
        async with self.client.run(script, relay=self.process.peer_id, ttl_s=ttl_s, **values) as flow:
            (found,) = await flow.result()
        return found

    async def order(self, function: str, *arguments: Any) -> Any:
        """As its owner."""
        now_ms = time.time_ns() // 1_000_000
        mandate = make_mandate(self.process.keys, self.client.peer_id, network=NETWORK, at_ms=now_ms)
        return await self.ask(function, *arguments, msgspec.to_builtins(mandate))

    async def found(self, key: Any) -> set[tuple[str, str]]:
        """Who provides at a key, and what; the answer must come in time."""
        began = time.monotonic()
        rows = await self.ask("providers", key, 64)
        took_s = time.monotonic() - began
        assert took_s < FOUND_S_MAX + 1, f"the lookup of {key} took {took_s:.1f} s"
        return {(row["peer_id"], row["value"]) for row in rows}

    async def finds(self, key: Any, *records: tuple[str, str]) -> None:
        """Fails if it does not find just these at a key."""
        found = await self.found(key)
        assert found == set(records), (
            f"{self.process.folder.name} found {sorted(found)} at {key}, not {sorted(records)}"
        )

    def record(self, value: str) -> tuple[str, str]:
        """What others find of it."""
        return str(self.process.peer_id), value


@dataclass(slots=True)
class LyingGround:
    """All processes of the trials.

    Attributes:
        size: how large the trials are.
        honest: the seed first, then the others; the seed and every second one have weight for everybody.
        liars: processes.
        stranger: a peer in this process that does what it is told, whatever its own routing would say.
        keys: the stranger's.
        folder: for further processes.
    """

    size: Size
    honest: list[HonestPeer]
    liars: list[PeerProcess]
    stranger: Node
    keys: KeyPair
    folder: Path
    variables: Mapping[str, str]
    _trials: int = field(default=0)

    def lie(self, what: str) -> str:
        """All liars tell this from now on; returns a key for the trial."""
        for liar in self.liars:
            tell(liar.folder, what)
        self._trials += 1
        return f"topic:trial-{self._trials}"

    async def offer(self, to: HonestPeer, challenge: Challenge, keys: KeyPair, **more: Any) -> RecordStored:
        """Offer a record of a provider to one replica, from the stranger."""
        record = sign_record(keys, NETWORK, fields(keys.peer_id, challenge, time.time_ns() // 1_000_000, **more))
        request = wire.encode_request(messages.AddProvider(challenge, record))
        contact = Contact.configured(to.process.address)
        answer = await self.stranger.assembly.peers.request(contact, wire.PROTOCOL, request, timeout_s=CALL_S)
        stored = wire.decode_answer(answer)
        assert isinstance(stored, RecordStored)
        return stored

    async def flood(self, to: HonestPeer, offers: Sequence[tuple[Challenge, KeyPair]]) -> int:
        """Offer many records to one replica; how many it has taken."""
        waiting, taken = list(offers), 0

        async def work() -> None:
            nonlocal taken
            while waiting:
                challenge, keys = waiting.pop()
                with suppress(FluvialError):  # it may defend itself by not answering
                    stored = await self.offer(to, challenge, keys)
                    taken += stored.accepted

        async with anyio.create_task_group() as tasks:
            for _ in range(OFFERS_AT_ONCE):
                tasks.start_soon(work)
        return taken

    def rss_mb(self, of: HonestPeer) -> float:
        """The memory of a process now."""
        pages = int(Path(f"/proc/{of.process.pid}/statm").read_text().split()[1])
        return pages * 4096 / 1e6


@asynccontextmanager
async def ground(size: Size, folder: Path, variables: Mapping[str, str]) -> AsyncIterator[LyingGround]:
    """Start everybody, and wait until all honest ones know each other."""
    names = ["seed", *(f"h{number}" for number in range(1, size.honest))]
    keys_of = {name: KeyPair.generate() for name in names}
    processes: dict[str, PeerProcess] = {}
    async with AsyncExitStack() as stack:
        for name in [*names, *(f"l{number}" for number in range(size.liars))]:
            process = processes[name] = _process(size, name, keys_of, processes, folder, variables)
            stack.callback(process.close)
            if name not in names:
                tell(process.folder, "truth")
            await to_thread.run_sync(process.start)
        honest = [
            HonestPeer(
                processes[name], await stack.enter_async_context(connect([processes[name].address], network=NETWORK))
            )
            for name in names
        ]
        keys = KeyPair.generate()
        stranger = await stack.enter_async_context(_stranger(folder, keys))
        liars = [processes[name] for name in processes if name not in names]
        arena = LyingGround(size, honest, liars, stranger, keys, folder, variables)
        await eventually(lambda: _all_known(honest), "all honest peers find each other")
        yield arena


def _process(
    size: Size,
    name: str,
    honest: Mapping[str, KeyPair],
    known: Mapping[str, PeerProcess],
    folder: Path,
    variables: Mapping[str, str],
) -> PeerProcess:
    routing = {
        "kind": "kademlia" if name in honest else "liar",
        "peers": [known["seed"].address] if known else [],
        "k": K,
        "replicas": K,
        "keys_max": size.keys_max,
    }
    authorization = {
        "kind": "trust_graph",
        "roots": {str(honest[one].peer_id): ROOT_EXPONENT for one in list(honest)[::2]},
        "admit": [{"anyone": True}],
    }
    return PeerProcess(
        folder / name,
        variables,
        plugins={} if name in honest else {"lies": LIAR},
        keys=honest.get(name),
        routing=routing,
        authorization=authorization,
    )


@asynccontextmanager
async def _stranger(folder: Path, keys: KeyPair) -> AsyncIterator[Node]:
    values = {
        "network": NETWORK,
        "storage": {"url": "sqlite://"},
        "blobs": {"folder": ""},
        "routing": {"kind": "static"},
    }
    configuration = load(from_values(values, base_dir=folder), plugins=load_plugins())
    log = structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr), wrapper_class=structlog.make_filtering_bound_logger(40)
    )
    async with running(configuration, keys=keys, log=log) as node:
        yield node


async def _all_known(honest: Sequence[HonestPeer]) -> bool:
    for one in honest:
        for other in honest:
            if one is not other and await one.ask("resolve", str(other.process.peer_id)) is None:
                return False
    return True


async def eventually(true: Callable[[], Awaitable[bool]], what: str, *, within_s: float = SETTLE_S) -> None:
    """Return as soon as something is true; fail if it is not in time."""
    deadline = time.monotonic() + within_s
    while not await true():
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        await anyio.sleep(0.1)


# --- the trials

Trial: TypeAlias = Callable[[LyingGround], Awaitable[None]]


def lying(what: str) -> Trial:
    """While the liars tell this, records and peers are found by everybody, and nothing else."""

    async def trial(arena: LyingGround) -> None:
        key = arena.lie(what)
        provider = arena.honest[1]
        assert await provider.order("add_provider", key, "hello", "") > 0
        for one in arena.honest:
            await one.finds(key, provider.record("hello"))
            await one.finds(f"{key}-that-nobody-has")
            found = await one.ask("resolve", str(provider.process.peer_id))
            assert one is provider or found["addresses"] == [provider.process.address]

    return trial


async def victim(arena: LyingGround) -> None:
    """All liars name endless peers at the address of a victim, which hears of it a bounded number of times."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        await lying(f"invents {server.getsockname()[1]}")(arena)
        knocks = 0
        with suppress(BlockingIOError):
            while True:
                server.accept()[0].close()
                knocks += 1
        most = 3 * (len(arena.honest) + len(arena.liars))
        assert knocks <= most, f"the victim heard {knocks} knocks, and {most} are allowed"


async def stale(arena: LyingGround) -> None:
    """A record that was replaced does not hide the newer one, nor does one come back that was withdrawn."""
    key = arena.lie("stale")
    provider = arena.honest[1]
    await provider.order("add_provider", key, "first", "")
    await provider.order("add_provider", key, "second", "")
    for one in arena.honest:
        await one.finds(key, provider.record("second"))
    await provider.order("remove_provider", key)
    for one in arena.honest:

        async def gone(one: HonestPeer = one) -> bool:
            return await one.found(key) == set()

        await eventually(gone, "the withdrawn record is gone")


async def owned(arena: LyingGround) -> None:
    """A stranger that skips its own checks writes to a key with an owner: every replica refuses."""
    owner = arena.honest[1]
    owner_id = owner.process.peer_id
    challenge, keys = owned_challenge(owner_id, 2), arena.keys
    for one in arena.honest:
        assert await arena.offer(one, challenge, keys, solution=b"I may") == RecordStored(False, "solution")
        assert await arena.offer(one, challenge, keys) == RecordStored(False, "solution")
    arena.lie("foreign")
    key = {"owner": str(owner_id), "path_length_max": 2, "nonce": ""}
    await arena.honest[0].finds(key)
    assert await owner.order("add_provider", key, "mine", "") > 0
    for one in arena.honest:
        await one.finds(key, owner.record("mine"))


async def records(arena: LyingGround) -> None:
    """Many strangers register at one key: a bounded number is kept, and who was there before stays."""
    key = arena.lie("withholds")
    first, heavy = arena.honest[1], arena.honest[0]
    await first.order("add_provider", key, "first", "")
    await heavy.order("add_provider", key, "heavy", "")
    challenge = open_challenge(key)
    for replica in arena.honest[:2]:
        offers = [(challenge, KeyPair.generate()) for _ in range(arena.size.records)]
        assert await arena.flood(replica, offers) > 0
        assert arena.rss_mb(replica) < RSS_MB_MAX
    for one in arena.honest:
        found = await one.found(key)
        assert {first.record("first"), heavy.record("heavy")} <= found
        assert len(found) <= 64


async def keys(arena: LyingGround) -> None:
    """Strangers register at many keys: a bounded number of keys is kept, and what honest ones with weight provide is still found."""
    key = arena.lie("withholds")
    heavy = arena.honest[0]
    await heavy.order("add_provider", key, "heavy", "")
    replica = arena.honest[-1]
    strangers = [KeyPair.generate() for _ in range(math.ceil(arena.size.keys / KEYS_PER_STRANGER))]
    offers = [
        (open_challenge(f"{key}/{number}"), strangers[number // KEYS_PER_STRANGER]) for number in range(arena.size.keys)
    ]
    assert await arena.flood(replica, offers) > 0
    assert arena.rss_mb(replica) < RSS_MB_MAX
    assert (await replica.order("table"))["keys"] <= arena.size.keys_max
    for one in arena.honest:
        await one.finds(key, heavy.record("heavy"))


async def crowd(arena: LyingGround) -> None:
    """Peers that made ids nearest to a key join and name each other alone: what a peer with weight provides there is still found."""
    key = arena.lie("withholds")
    program = [sys.executable, "-m", "tests.support.dht_crowd", arena.honest[0].process.address, key]
    async with await anyio.open_process([*program, str(arena.size.crowd)], stderr=None, env=arena.variables) as joining:
        try:
            assert joining.stdout is not None
            with anyio.fail_after(CROWD_S):
                said = await BufferedByteReceiveStream(joining.stdout).receive_until(b"\n", 100)
                assert said == b"joined", f"the crowd says {said!r}"
            heavy = arena.honest[0]
            assert await heavy.order("add_provider", key, "heavy", "") > 0, "nobody keeps the record"
            for one in arena.honest:
                await one.finds(key, heavy.record("heavy"))
        finally:
            joining.kill()


async def away(arena: LyingGround) -> None:
    """A peer that was cut off and returns finds what came meanwhile, and brings back nothing that was withdrawn."""
    key = arena.lie("truth")
    provider, absent = arena.honest[1], arena.honest[-1]
    await provider.order("add_provider", key, "before", "")
    absent.process.send(signal.SIGSTOP)
    try:
        await provider.order("remove_provider", key)
        await provider.order("add_provider", f"{key}-2", "meanwhile", "")
        await arena.honest[0].finds(f"{key}-2", provider.record("meanwhile"))
    finally:
        absent.process.send(signal.SIGCONT)
    for one in (absent, arena.honest[0]):

        async def returned(one: HonestPeer = one) -> bool:
            try:
                now = await one.found(f"{key}-2") == {provider.record("meanwhile")}
                return now and await one.found(key) == set()
            except FluvialError:  # its connections were given up
                return False

        await eventually(returned, "the peer that was away is there again")


TRIALS: Final[Mapping[str, Trial]] = {
    "silent": lying("silent"),
    "slow": lying("slow"),
    "withholds": lying("withholds"),
    "invents": lying("invents"),
    "victim": victim,
    "foreign": lying("foreign"),
    "forges": lying("forges"),
    "stale": stale,
    "owned": owned,
    "away": away,
    "crowd": crowd,
    "records": records,
    "keys": keys,
}


async def carry_out(names: Sequence[str], size: Size, folder: Path, variables: Mapping[str, str]) -> list[str]:
    """Carry out trials, and say how each went; returns the names of those in which something did not hold."""
    failed = []
    async with ground(size, folder, variables) as arena:
        for name in names:
            began = time.monotonic()
            try:
                await TRIALS[name](arena)
                outcome = "holds"
            except (AssertionError, FluvialError) as error:
                failed.append(name)
                outcome = f"DOES NOT HOLD: {error!r}"
            print(f"{name:10} {time.monotonic() - began:6.1f} s  {outcome}", flush=True)
    return failed


def main() -> int:
    """Carry out the trials that are named, or all."""
    usual = Size()
    parser = argparse.ArgumentParser(prog="python -m tests.attacks.dht")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(TRIALS)}; all by default")
    for name in ("honest", "liars", "crowd", "records", "keys"):
        parser.add_argument(f"--{name}", type=int, default=getattr(usual, name))
    options = vars(parser.parse_args())
    names = options.pop("names") or list(TRIALS)
    if unknown := set(names) - TRIALS.keys():
        parser.error(f"no trial {', '.join(sorted(unknown))}; there are {', '.join(TRIALS)}")
    with tempfile.TemporaryDirectory() as folder:
        return len(anyio.run(carry_out, names, Size(**options), Path(folder), environment(Path(folder) / "compiled")))


if __name__ == "__main__":
    sys.exit(main())
