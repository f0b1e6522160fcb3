"""The demo's peers: their folders, written anew, and the peers while they run."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Final

import anyio
import tomlkit

from fluvial.addresses import Address
from fluvial.demo.processes import Heard, run_command, run_peer
from fluvial.demo.settings import (
    CHAT_ID,
    HOSTS,
    INITIATOR,
    MEMBERS,
    NETWORK,
    PERIMETER,
    SEED,
    SERVERS,
    VALIDATORS,
    Member,
    settings_of,
)
from fluvial.errors import FluvialError
from fluvial.hosting.genesis_file import GenesisDocument, GenesisParameters, GenesisValidator, genesis_text
from fluvial.identity import KeyPair, PeerId

OPERATOR_KEY: Final = "state/wasm/operator.key"
"""The key in a peer's folder with which ``fluvial service`` acts for its owner."""
START_S: Final = 120.0
"""How long all peers together may take to start, in seconds; enough for a busy machine."""


class Network:
    """The demo's peers, written to a folder by :meth:`prepare`.

    Attributes:
        folder: has all that they need.
        members: by name.
        developer: has made the chat: owns its perimeter and name on the ledger, and certifies who may use it.
    """

    def __init__(self, folder: Path, members: Mapping[str, Member], developer: KeyPair) -> None:
        self.folder: Final = folder
        self.members: Final = members
        self.developer: Final = developer

    @classmethod
    def prepare(cls, folder: Path) -> Network:
        """Write new keys, settings, the ledger's genesis and the script into a folder of the demo's own.

        Raises:
            FluvialError: the folder is there and is not an earlier demo's.
        """
        _clear(folder)
        package = resources.files("fluvial.demo")
        (folder / "plugins.d").mkdir()
        for file, place in (("chat.air", ""), ("chat.aqua", ""), ("chat_services.py", "plugins.d")):
            (folder / place / file).write_text((package / file).read_text(encoding="utf-8"), encoding="utf-8")
        for service in HOSTS:
            shutil.copytree(str(package / service), folder / "services" / service)
        ports = dict(zip(SERVERS, _free_ports(len(SERVERS)), strict=True))
        members = {name: _member(folder, name, ports.get(name)) for name in (INITIATOR, *SERVERS)}
        network = cls(folder, members, KeyPair.generate())
        network.developer.save(network.developer_key)
        network.genesis.write_bytes(genesis_text(network._first_document()))
        for member in members.values():
            settings = tomlkit.dumps(settings_of(member, members, folder, network.developer))
            member.config.write_text(settings, encoding="utf-8")
        return network

    def _first_document(self) -> GenesisDocument:
        return GenesisDocument(
            name=NETWORK,
            time_ms=time.time_ns() // 1_000_000,
            validators=tuple(GenesisValidator(str(self.peer(name))) for name in VALIDATORS),
            parameters=GenesisParameters(administrators=(str(self.developer.peer_id),)),
        )

    @property
    def names(self) -> dict[str, str]:
        """Names by peer id."""
        ids = {str(member.peer_id): member.name for member in self.members.values()}
        return {**ids, str(self.developer.peer_id): "developer"}

    @property
    def genesis(self) -> Path:
        """The file that the ledger begins with."""
        return self.folder / "genesis.json"

    @property
    def developer_key(self) -> Path:
        """The developer's key file."""
        return self.folder / "developer.key"

    @property
    def certificate(self) -> Path:
        """The developer's word for the initiator, as a file of credentials."""
        return self.folder / INITIATOR / "chat.cert"

    @property
    def revocation(self) -> Path:
        """The developer's word against the initiator, as a file of credentials."""
        return self.folder / "alice.revocation"

    def address(self, name: str) -> str:
        """The multiaddr of a peer that listens."""
        return str(self.members[name].address)

    def peer(self, name: str) -> PeerId:
        """The id of a peer."""
        return self.members[name].peer_id

    def flow_command(self, message: str, *, backend: str, ttl_s: float, aqua: bool = False) -> list[str]:
        """The arguments of ``fluvial`` that send a message to the chat as the initiator.

        Args:
            message: what to say.
            backend: the peer that knows the chat, as the ledger names it.
            ttl_s: how long the particle may live, in seconds.
            aqua: by the script in Aqua, not by the one in AIR.
        """
        alice = self.members[INITIATOR]
        script: Sequence[str] = ("flow", "run", str(self.folder / "chat.air"))
        if aqua:
            script = ("aqua", "run", str(self.folder / "chat.aqua"), "main")
        given = {"relay": backend, "chat_id": CHAT_ID, "message": message}
        return [
            *(*script, "--config", str(alice.config), "--relay", self.address(SEED)),
            *("--key", str(alice.folder / "secrets/peer.key"), "--credentials", str(self.certificate)),
            *(word for name, value in given.items() for word in ("--arg", f"{name}={value}")),
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
            await tasks.start(run_peer, name, self.members[name].config, heard)
            if name in HOSTS:
                manifest, home = self.folder / "services" / name, self.members[name].folder
                await run_command(home, "service", "deploy", manifest)
            if name == "members":
                await self._fill_members()
            waiting.remove(name)

        began = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            with anyio.move_on_after(START_S):
                async with anyio.create_task_group() as starting:
                    starting.start_soon(self._certify)
                    for name in sorted(waiting):
                        starting.start_soon(start, name)
            if waiting:
                raise FluvialError(f"{', '.join(sorted(waiting))} did not start within {START_S:g} s")
            yield anyio.current_time() - began
            tasks.cancel_scope.cancel()

    async def _certify(self) -> None:
        """The developer certifies the initiator: good for the chat alone, and not to be passed on."""
        scope = f"perimeter:{PERIMETER}"
        await self._as_developer("issue", self.certificate, "--scope", scope, "--depth", "0")

    async def revoke(self) -> None:
        """The developer takes that back, in the file :attr:`revocation`."""
        await self._as_developer("revoke", self.revocation)

    async def _as_developer(self, verb: str, out: Path, *options: str) -> None:
        identity = ("--key", self.developer_key, "--network", NETWORK)
        await run_command(self.folder, "trust", verb, self.peer(INITIATOR), *identity, "--out", out, *options)

    async def _fill_members(self) -> None:
        """Tell the members service who is in the chat: one flow of its owner."""
        member = self.members["members"]
        calls = "".join(
            f'(seq (call "{member.peer_id}" ("members" "add") ["{self.peer(name)}"])\n'
            for name in (INITIATOR, *MEMBERS)
        )
        script = member.folder / "fill.air"
        script.write_text(f'{calls}(call %init_peer_id% ("return" "") ["filled"]){")" * calls.count("(seq")}\n')
        identity = ("--relay", str(member.address), "--key", member.folder / OPERATOR_KEY)
        await run_command(member.folder, "flow", "run", script, *identity)


def _clear(folder: Path) -> None:
    """Make the folder, in place of an earlier demo's; raises FluvialError if it is somebody else's."""
    marker = folder / "THIS-IS-A-FLUVIAL-DEMO"
    if folder.exists():
        if not marker.exists():
            raise FluvialError(f"{folder} is there and was not made by the demo", hint="give another folder with --dir")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    marker.write_text("Made by `fluvial demo`, which deletes this folder at its next start.\n")


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


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
