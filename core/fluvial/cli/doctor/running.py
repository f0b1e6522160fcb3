"""Asks the peer for its health, if it runs, and other peers for the time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Final

import anyio
import msgspec

from fluvial import health
from fluvial.addresses import Contact
from fluvial.cli.context import Invocation
from fluvial.cli.reaching import reach
from fluvial.client import Client, connect
from fluvial.config import Configuration, Settings
from fluvial.errors import ConfigError, FluvialError, Refused, RemoteProtocolError, Unreachable
from fluvial.findings import Finding
from fluvial.identity import KeyPair, PeerId

ASKED_MAX: Final = 5
"""Peers that are asked for the time."""
ASK_S: Final = 5.0
SKEW_WARNED_MS: Final = 1_000

TIME: Final = """
(seq (call relay ("peer" "identify") [] here)
     (seq (call there ("peer" "timestamp_ms") [] time)
          (call %init_peer_id% ("return" "") [time])))
"""


@dataclass(slots=True)
class Asked:
    """The result of asking the peer of the settings whether it runs.

    Attributes:
        running: whether it does; None if it could not be asked.
        way: its address, if it runs.
        connected: the peers with which it is connected, as it reports.
    """

    running: bool | None = None
    way: str = ""
    connected: Sequence[PeerId] = ()


def check_peer(invocation: Invocation, configuration: Configuration, asked: Asked) -> Iterator[Finding]:
    """Whether the peer of the settings answers at its own address, and what it reports about itself; fills ``asked``."""
    try:
        keys = KeyPair.load(configuration.settings.key_file)
        way = reach(invocation, relay=None, network=None, key_file=None).relay
    except ConfigError as error:
        yield _ok("peer", f"not asked whether it runs: {error.message}")
        return
    try:
        report = anyio.run(_report, way, keys, configuration)
    except Unreachable:
        asked.running = False
        yield _ok("peer", f"not running at {way}")
        return
    asked.running, asked.way = True, way
    yield _ok("peer", f"running at {way}")
    if report is None:
        yield _ok("peer", "not asked how it is: its version does not answer that")
        return
    asked.connected = [PeerId.parse(peer) for peer in report.connected]
    others = len(asked.connected)
    yield _ok("peer", f"version {report.version}, connected with {others} other peer{'' if others == 1 else 's'}")
    yield from report.findings


async def _report(way: str, keys: KeyPair, configuration: Configuration) -> health.Report | None:
    """The report of a running peer about itself; None if it does not know the question.

    Raises:
        Unreachable: it does not run there.
    """
    network = configuration.settings.network
    async with connect(way, network=network, plugins=configuration.plugins) as client:
        question = health.make_question(keys, client.peer_id, network=network, at_ms=time.time_ns() // 1_000_000)
        try:
            answer = await client.node.transport.request(
                Contact.configured(way), health.PROTOCOL, question, timeout_s=ASK_S
            )
        except RemoteProtocolError:
            return None
        report = health.read_report(answer)
        others = tuple(peer for peer in report.connected if peer != client.peer_id)
        return msgspec.structs.replace(report, connected=others)


def check_clock(configuration: Configuration, asked: Asked) -> Iterator[Finding]:
    """How far this machine's clock is from those of others: peers that the settings name, and neighbours of the running peer."""
    ways = _ways(configuration.settings, asked)
    if not ways:
        yield _ok("clock", "not checked: no other peer is known to compare it with")
        return
    skews = sorted(anyio.run(_skews, ways, configuration))
    if not skews:
        text = f"not checked: none of {len(ways)} other peers tells the time"
        yield Finding(level="warn", subject="clock", text=text, hint="do they run, and is this machine on the network?")
        return
    ahead_ms = skews[len(skews) // 2]
    most_ms = configuration.settings.particles.clock_skew_ms_max
    others = f"{len(skews)} other peer{'s' if len(skews) > 1 else ''}"
    if abs(ahead_ms) <= SKEW_WARNED_MS:
        yield _ok("clock", f"less than {SKEW_WARNED_MS / 1000:g} s from that of {others}")
        return
    yield Finding(
        level="fail" if abs(ahead_ms) > most_ms else "warn",
        subject="clock",
        text=f"{abs(ahead_ms) / 1000:.1f} s {'ahead of' if ahead_ms > 0 else 'behind'} {others} (median);"
        f" particles that begin more than {most_ms / 1000:g} s in the future are refused",
        hint="run a time service on this machine",
        code=Refused.code,
    )


def _ways(settings: Settings, asked: Asked) -> Mapping[PeerId, str]:
    """The peers through which others can be asked: themselves, if the settings have their addresses; else this peer, which is connected."""
    named = [Contact.configured(str(text)) for text in getattr(settings.seats["routing"].options, "peers", ())]
    ways: dict[PeerId, str] = {}
    for contact in (*settings.relays, *named):
        if direct := [str(way) for way in contact.addresses if way.relay is None]:
            ways[contact.peer] = direct[0]
    neighbours = {peer: asked.way for peer in asked.connected if peer not in ways}
    return dict(islice({**ways, **neighbours}.items(), ASKED_MAX))


async def _skews(ways: Mapping[PeerId, str], configuration: Configuration) -> Sequence[int]:
    """By how many milliseconds this machine's clock is ahead of those peers that answered."""
    skews: list[int] = []

    async def ask(peer: PeerId, way: str) -> None:
        network = configuration.settings.network
        with suppress(FluvialError), anyio.move_on_after(2 * ASK_S):  # a peer that does not answer gives no time
            async with connect(way, network=network, plugins=configuration.plugins) as client:
                skews.append(await _skew(client, peer))

    async with anyio.create_task_group() as tasks:
        for peer, way in ways.items():
            tasks.start_soon(ask, peer, way)
    return skews


async def _skew(client: Client, peer: PeerId) -> int:
    before_ns = time.time_ns()
    async with client.run(TIME, relay=client.relay_id, there=peer, ttl_s=ASK_S) as flow:
        (theirs_ms,) = await flow.result()
    middle_ms = (before_ns + time.time_ns()) // 2_000_000
    return middle_ms - int(theirs_ms)


def _ok(subject: str, text: str) -> Finding:
    return Finding(level="ok", subject=subject, text=text)
