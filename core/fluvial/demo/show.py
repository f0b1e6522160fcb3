"""The demo from beginning to end: the acts around the message, the message itself, its figures and drawings."""

from __future__ import annotations

import shlex
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

import anyio
import click

from fluvial.demo.acts import Acts
from fluvial.demo.drawing import draw
from fluvial.demo.network import Network
from fluvial.demo.processes import events, stop
from fluvial.demo.settings import INITIATOR, NETWORK, SEED, SERVERS
from fluvial.demo.telling import Tally, Teller

TTL_S: Final = 30.0
TTL_LOST_S: Final = 6.0
"""For a message that cannot reach everybody."""

Say: TypeAlias = Callable[[str], None]
"""Prints a line for people."""


class Show:
    """See the module's docstring.

    Args:
        network: prepared.
        offline: the member that is not there.
        aqua: whether the message travels by the script in Aqua.
        say: prints a line for people.

    Attributes:
        figures: what came of it, as data.
    """

    def __init__(self, network: Network, *, offline: str | None, aqua: bool, say: Say) -> None:
        self._network, self._offline, self._aqua, self._say = network, offline, aqua, say
        self._teller = Teller(network.names, say, lambda text, colour: click.style(text, fg=colour))
        self._acts = Acts(network, offline, say)
        self._backend = network.peer(SEED)
        self._particle, self._refused_particle = "", ""
        self.figures: dict[str, Any] = {}

    @asynccontextmanager
    async def played(self, message: str, *, revoke: bool) -> AsyncIterator[bool]:
        """Play it; yields whether all came as it should. The network stays up while the block runs.

        Args:
            message: what alice says.
            revoke: whether alice is revoked afterwards, and says something else.
        """
        acts = self._acts
        async with self._network.running(self._offline, self._teller.hear) as seconds:
            self._introduce(seconds)
            async with acts.as_developer() as developer:
                await acts.find_each_other(developer)
                await acts.write_ledger(developer)
                await acts.let_in(developer)
                self._backend = await acts.resolve_name()
                as_expected = await self._message(message)
                if revoke:
                    await acts.revoke(developer)
                    as_expected = await self._refused_message() and as_expected
            await self._finish()
            yield as_expected

    def _introduce(self, seconds: float) -> None:
        up = len(SERVERS) - (self._offline is not None)
        self._say(
            f"{up} peers up in {seconds:.1f} s on 127.0.0.1 (tcp, tls 1.3, ed25519); "
            f"data in {self._network.folder}, alice is the {_ordinal(up + 1)} process\n"
        )

    # --- the message

    async def _message(self, message: str) -> bool:
        """Send it; returns whether it came to everybody, or missed just the one that is offline."""
        self._say("\nflow")
        delivered = await self._send(message)
        tally, offline = self._teller.tally, self._offline
        self._sum_up(tally, delivered)
        self._particle = self._teller.particle
        self.figures = {
            "delivered": delivered,
            "offline": offline,
            "calls": tally.calls,
            "hops": tally.hops,
            "longest_path": tally.longest_path,
            "bytes": tally.bytes,
            "signatures": tally.signatures,
            "took_ms": _took_ms(tally),
            "unreachable": tally.unreachable,
        }
        return delivered if offline is None else not delivered and set(tally.unreachable) == {offline}

    async def _refused_message(self) -> bool:
        """Send another one after the revocation; returns whether the first peer refused it."""
        self._say("\nflow")
        delivered = await self._send("can you still hear me?")
        self._refused_particle = self._teller.particle
        self._acts.refused(self._teller.tally.refused)
        return not delivered and set(self._teller.tally.refused) == {SEED}

    async def _send(self, message: str) -> bool:
        """Run the flow in alice's process; True if the chat reported that the message was delivered."""
        ttl_s = TTL_LOST_S if self._offline else TTL_S
        words = self._network.flow_command(message, backend=self._backend, ttl_s=ttl_s, aqua=self._aqua)
        command = [sys.executable, "-m", "fluvial", *words, "--store", "--log", "debug", "--json"]
        self._teller.begin(INITIATOR)
        async with await anyio.open_process(command, stdin=None, start_new_session=True) as process:
            output = b""

            async def read() -> None:
                nonlocal output
                assert process.stdout is not None
                async for chunk in process.stdout:
                    output += chunk

            try:
                async with anyio.create_task_group() as reading:
                    reading.start_soon(read)
                    async for event in events(process):
                        await self._teller.hear(INITIATOR, event)
                await process.wait()
            finally:
                await stop(process)
        return b"chat.delivered" in output

    # --- what came of it

    def _sum_up(self, tally: Tally, delivered: bool) -> None:
        figures = (
            f"{tally.calls} calls, {tally.hops} hops (longest path {tally.longest_path}), {tally.bytes:,} bytes, "
            f"{tally.signatures} signatures checked, {_took_ms(tally)} ms"
        )
        if delivered:
            self._say(f"\n{click.style('✓ delivered', fg='green', bold=True)} to bob and carol: {figures}\n")
            return
        lost = ", ".join(f"{name} ({error})" for name, error in tally.unreachable.items()) or "nobody"
        mark = click.style("✗ not delivered to everybody", fg="yellow", bold=True)
        self._say(f"\n{mark}: {figures}\n  lost on the way to: {lost}")
        if self._offline:
            self._say(f"  {self._offline} was offline; the others have the message, and every peer is well\n")

    async def _finish(self) -> None:
        page = await draw(self._network, self._particle, "chat", self._acts.lines)
        self._say(f"\ndrawn from the peers' stores: {page}")
        if self._refused_particle:
            refused = await draw(self._network, self._refused_particle, "refused", self._acts.lines)
            self._say(f"and the message that was refused: {refused}")
        config = str(self._network.members[SEED].config)
        self._say(f"the same as text: {_typed(['particle', 'show', self._particle, '--config', config])}")
        self.figures |= {
            **self._acts.figures,
            "folder": str(self._network.folder),
            "drawing": str(page),
            "peers": {name: peer for peer, name in self._network.names.items()},
        }

    async def keep(self) -> None:
        """Say what can be done while the network is up, and leave it so until this is cancelled."""
        network = self._network
        self._teller.tell_all()
        message = network.flow_command("hello again", backend=self._backend, ttl_s=TTL_S, aqua=self._aqua)
        identity = ["--key", str(network.developer_key), "--network", NETWORK]
        out = str(network.revocation)
        revoking = ["trust", "revoke", network.peer(INITIATOR), *identity, "--out", out]
        bringing = ["consensus", "submit", "revoke", out, "--relay", network.address(SEED), *identity]
        config, pair = str(network.members[SEED].config), f"{network.developer.peer_id}:{network.peer(INITIATOR)}"
        proof = ["consensus", "query", "revocations", pair, "--config", config, *identity]
        for what, commands in (
            ("The network stays up. Send more messages with", [message]),
            ("Revoke alice on the ledger, and her next message is refused", [revoking, bringing]),
            ("See what the ledger says of her, with its proof checked", [proof]),
        ):
            self._say("\n".join([f"\n{what}:\n", *(f"  {_typed(one)}" for one in commands)]))
        self._say("\nCtrl-C ends it.")
        await anyio.sleep_forever()


def _took_ms(tally: Tally) -> int:
    return round((tally.last_s - tally.first_s) * 1000)


def _typed(words: Sequence[str]) -> str:
    return shlex.join(["fluvial", *words])


def _ordinal(number: int) -> str:
    return {5: "fifth", 6: "sixth"}.get(number, f"{number}th")
