"""The folders, settings and processes of the demo's peers."""

from __future__ import annotations

import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

import anyio
import msgspec
import tomlkit
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from fluvial.addresses import Address
from fluvial.errors import FluvialError
from fluvial.identity import KeyPair, PeerId

INITIATOR: Final = "alice"
MEMBERS: Final = ("bob", "carol")
SERVERS: Final = ("relay", "members", "history", *MEMBERS)
SEED: Final = "relay"
"""The one peer whose address the others are given; they find each other through the DHT."""
HOSTS: Final = ("members", "history")
"""Peers with a service in WebAssembly, of the same name; its source lies in the folder of that name."""
OPERATOR_KEY: Final = "state/wasm/operator.key"
"""The key in a peer's folder with which ``fluvial service`` acts for its owner."""
CHAT_ID: Final = "room-1"
CONFIG: Final = "fluvial.toml"
START_S: Final = 120.0
"""How long all peers together may take to start, in seconds; enough for a busy machine."""
STOP_S: Final = 5.0
LINE_BYTES_MAX: Final = 1_048_576

Heard = Callable[[str, dict[str, Any]], Awaitable[None]]
"""Called with a peer's name and one of its log events."""


@dataclass(frozen=True, slots=True)
class Member:
    """One peer of the demo.

    Attributes:
        name: how people call it.
        folder: where its settings, key and store are.
        peer_id: who it is.
        operator: who deploys for it.
        address: where it listens; None for the initiator, a client.
    """

    name: str
    folder: Path
    peer_id: PeerId
    operator: PeerId
    address: Address | None

    @property
    def config(self) -> Path:
        """Its settings."""
        return self.folder / CONFIG


class Network:
    """The demo's peers, written to a folder by :meth:`prepare`."""

    def __init__(self, folder: Path, members: Mapping[str, Member]) -> None:
        self.folder: Final = folder
        self.members: Final = members

    @classmethod
    def prepare(cls, folder: Path) -> Network:
        """Write new keys, settings and the script into a folder of the demo's own.

        Raises:
            FluvialError: the folder is there and is not an earlier demo's.
        """
        marker = folder / "THIS-IS-A-FLUVIAL-DEMO"
        if folder.exists():
            if not marker.exists():
                raise FluvialError(
                    f"{folder} is there and was not made by the demo", hint="give another folder with --dir"
                )
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        marker.write_text("Made by `fluvial demo`, which deletes this folder at its next start.\n")
        package = resources.files("fluvial.demo")
        for script in ("chat.air", "chat.aqua"):
            (folder / script).write_text((package / script).read_text(encoding="utf-8"), encoding="utf-8")
        plugins = folder / "plugins.d"
        plugins.mkdir()
        (plugins / "chat_services.py").write_text(
            (package / "chat_services.py").read_text(encoding="utf-8"), encoding="utf-8"
        )
        for service in HOSTS:
            shutil.copytree(str(package / service), folder / "services" / service)
        ports = dict(zip(SERVERS, _free_ports(len(SERVERS)), strict=True))
        members = {name: _member(folder, name, ports.get(name)) for name in (INITIATOR, *SERVERS)}
        network = cls(folder, members)
        for member in members.values():
            settings = tomlkit.dumps(network._settings(member))
            member.config.write_text(settings, encoding="utf-8")
        return network

    @property
    def names(self) -> dict[str, str]:
        """Names by peer id."""
        return {member.peer_id: member.name for member in self.members.values()}

    def address(self, name: str) -> str:
        """The multiaddr of a peer that listens."""
        return str(self.members[name].address)

    def flow_command(self, message: str, *, ttl_s: float, aqua: bool = False) -> list[str]:
        """The arguments of ``fluvial`` that send a message to the chat as the initiator, by the script in AIR or in Aqua."""
        alice = self.members[INITIATOR]
        script: tuple[str, ...] = ("flow", "run", str(self.folder / "chat.air"))
        if aqua:
            script = ("aqua", "run", str(self.folder / "chat.aqua"), "main")
        return [
            *(*script, "--config", str(alice.config)),
            *("--relay", self.address("relay"), "--key", str(alice.folder / "secrets/peer.key")),
            *(
                "--arg",
                f"relay={self.members['relay'].peer_id}",
                "--arg",
                f"chat_id={CHAT_ID}",
                "--arg",
                f"message={message}",
            ),
            *("--until", "chat.delivered", "--until", "chat.error", "--ttl", f"{ttl_s:g}"),
        ]

    @asynccontextmanager
    async def running(self, offline: str | None, heard: Heard) -> AsyncIterator[float]:
        """Run all peers, except the initiator and an offline one, while the block runs; yields the seconds that they and their services took to start.

        Raises:
            FluvialError: one of them ended by itself, or they did not start within :data:`START_S`.
        """
        waiting = {name for name in SERVERS if name != offline}

        async def start(name: str) -> None:
            await tasks.start(run_peer, self.members[name], heard)
            if name in HOSTS:
                await deploy(self.members[name], self.folder / "services" / name)
            if name == "members":
                await self._fill_members()
            waiting.remove(name)

        began = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            with anyio.move_on_after(START_S):
                async with anyio.create_task_group() as starting:
                    for name in sorted(waiting):
                        starting.start_soon(start, name)
            if waiting:
                raise FluvialError(f"{', '.join(sorted(waiting))} did not start within {START_S:g} s")
            yield anyio.current_time() - began
            tasks.cancel_scope.cancel()

    async def _fill_members(self) -> None:
        """Tell the members service who is in the chat: one flow of its owner."""
        member = self.members["members"]
        calls = "".join(
            f'(seq (call "{member.peer_id}" ("members" "add") ["{self.members[name].peer_id}"])\n'
            for name in (INITIATOR, *MEMBERS)
        )
        script = member.folder / "fill.air"
        script.write_text(f'{calls}(call %init_peer_id% ("return" "") ["filled"]){")" * calls.count("(seq")}\n')
        key = member.folder / OPERATOR_KEY
        relay = str(member.address)
        await run_command(
            "flow", "run", str(script), "--config", str(member.config), "--relay", relay, "--key", str(key)
        )

    def _settings(self, member: Member) -> dict[str, Any]:
        seeds = [] if member.name == SEED else [self.address(SEED)]
        settings: dict[str, Any] = {
            "network": "demo",
            "plugins": {"path": str(self.folder / "plugins.d")},
            "transport": {"kind": "tcp", "listen": [] if member.address is None else [_listen(member.address)]},
            "routing": {"kind": "kademlia", "peers": seeds},
            "authorization": self._authorization(member),
            "telemetry": {"log_format": "json", "log_level": "debug"},
        }
        if member.address is None:
            settings["relays"] = [self.address("relay")]
        if effectors := self._effectors(member):
            settings["effectors"] = effectors
        if member.name in HOSTS:
            settings["extras"] = {"kv": {}}
            settings["execution"] = {
                "kind": "wasm",
                "grants": [{"effector": "kv", "owners": [str(member.peer_id)], "settings": {"bytes_max": 1_048_576}}],
            }
        return settings

    def _authorization(self, member: Member) -> dict[str, Any]:
        """The chat as a perimeter: flows of its people run here, and members take messages from them or from its services alone.

        Beside them the flows of a peer's own operator run, who alone deploys, and says who is in the chat.
        """
        people = [str(self.members[name].peer_id) for name in (INITIATOR, *MEMBERS)]
        peers = [str(self.members[name].peer_id) for name in SERVERS]
        chat = {"peers": peers, "services": ["app", "members", "history", "chat"], "authors": people}
        return {
            "kind": "trust_graph",
            "owners": [str(member.operator)],
            "admit": [{"perimeter": "chat"}],
            "services": {
                "chat": {"*": [{"perimeter": "chat", "inputs": "chat"}]},
                "members": {"add": [{"peers": [str(member.operator)]}]},
            },
            "perimeters": {"chat": chat},
        }

    def _effectors(self, member: Member) -> dict[str, Any]:
        backend = {
            "members": {"peer": str(self.members["members"].peer_id), "service": "members"},
            "history": {"peer": str(self.members["history"].peer_id), "service": "history"},
        }
        of: dict[str, dict[str, Any]] = {
            "relay": {"app": {"chats": {CHAT_ID: backend}}},
            "history": {"protocol": {}},
        }
        if member.name in MEMBERS:
            return {"chat": {"nickname": member.name}}
        return of.get(member.name, {})


async def deploy(member: Member, manifest: Path) -> None:
    """Deploy a service on its own peer, as its owner does. Raises FluvialError."""
    await run_command("service", "deploy", str(manifest), "--config", str(member.config))


async def run_command(*words: str) -> None:
    """Run a command of ``fluvial`` to its end. Raises FluvialError: it failed; with what it said."""
    done = await anyio.run_process([sys.executable, "-m", "fluvial", *words], check=False, start_new_session=True)
    if done.returncode:
        raise FluvialError(f"`fluvial {' '.join(words[:2])}` failed: {done.stderr.decode(errors='replace').strip()}")


async def run_peer(member: Member, heard: Heard, *, task_status: anyio.abc.TaskStatus[None]) -> None:
    """Run ``fluvial run`` as a process of its own until cancelled; ``started()`` when the peer logs that it has started.

    The process has a session of its own: Ctrl-C in a terminal is for the demo, which then stops its peers.

    Raises:
        FluvialError: the process ended by itself.
    """
    command = [sys.executable, "-m", "fluvial", "run", "--config", str(member.config)]
    async with await anyio.open_process(
        command, stdin=None, stdout=None, cwd=member.folder, start_new_session=True
    ) as process:
        started = False
        try:
            async for event in events(process):
                await heard(member.name, event)
                if event.get("event") == "peer_started" and not started:
                    started = True
                    task_status.started()
            raise FluvialError(f"{member.name} ended by itself", hint=f"try `fluvial run --config {member.config}`")
        finally:
            await stop(process)


async def events(process: Process) -> Any:
    """The log events that a process writes to stderr; other lines as ``{"event": "output", "text": …}``."""
    assert process.stderr is not None
    stream = BufferedByteReceiveStream(process.stderr)
    while True:
        try:
            line = await stream.receive_until(b"\n", LINE_BYTES_MAX)
        except (anyio.IncompleteRead, anyio.ClosedResourceError):
            return
        try:
            event = msgspec.json.decode(line)
        except msgspec.DecodeError:
            event = {"event": "output", "text": line.decode(errors="replace")}
        yield event if isinstance(event, dict) else {"event": "output", "text": str(event)}


async def stop(process: Process) -> None:
    """End a process that we started: with SIGTERM, then with SIGKILL."""
    with anyio.CancelScope(shield=True):
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            with anyio.move_on_after(STOP_S):
                await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()


def _member(folder: Path, name: str, port: int | None) -> Member:
    home = folder / name
    (home / "state").mkdir(parents=True)
    keys = KeyPair.generate()
    keys.save(home / "secrets" / "peer.key")
    operator = KeyPair.generate()
    if name in HOSTS:
        (home / OPERATOR_KEY).parent.mkdir(parents=True, mode=0o700)
        operator.save(home / OPERATOR_KEY)
    address = None if port is None else Address(host_kind="ip4", host="127.0.0.1", port=port, peer=keys.peer_id)
    return Member(name, home, keys.peer_id, operator.peer_id, address)


def _listen(address: Address) -> str:
    return str(Address(host_kind=address.host_kind, host=address.host, port=address.port))


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
