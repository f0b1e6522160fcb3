"""``fluvial dht`` and ``fluvial peer``: look into the table through a running peer, and change what it provides."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, Final, TypedDict

import click
from fluvial.commands import (
    Invocation,
    Reach,
    common_options,
    pass_invocation,
    reach,
    reach_options,
    run,
    shaped,
    table,
)

TTL_S: Final = 20.0


class _Peer(TypedDict):
    """A peer, as the one that is asked says; see ``shell/service.py`` for these."""

    peer_id: str
    addresses: list[str]


class _Provider(_Peer):
    service: str
    value: str
    weight: int


class _Table(TypedDict):
    peers: list[_Peer]
    keys: int
    published: int
    address_book: int


@click.group()
def dht() -> None:
    """The distributed hash table, through a running peer."""


def _find(invocation: Invocation, peer_id: str, way: Reach) -> None:
    from fluvial.errors import Unreachable

    answer = _call(way, "resolve", [peer_id])
    if answer is None:
        raise Unreachable(f"{peer_id} cannot be found", hint="does it run, and has it joined this network?")
    found = shaped(answer, _Peer, what="peer with its addresses")
    invocation.print(found, lambda: table([(found["peer_id"], address) for address in found["addresses"]]))


@dht.command("find")
@click.argument("peer_id", metavar="PEER")
@reach_options
@common_options
@pass_invocation
def find(invocation: Invocation, peer_id: str, relay: str | None, network: str | None, key_file: Path | None) -> None:
    """Where PEER can be reached."""
    _find(invocation, peer_id, reach(invocation, relay=relay, network=network, key_file=key_file))


@click.command("find")
@click.argument("peer_id", metavar="PEER")
@reach_options
@common_options
@pass_invocation
def find_peer(
    invocation: Invocation, peer_id: str, relay: str | None, network: str | None, key_file: Path | None
) -> None:
    """Where PEER can be reached."""
    _find(invocation, peer_id, reach(invocation, relay=relay, network=network, key_file=key_file))


@dht.command("near")
@click.argument("key")
@click.option("--count", type=click.IntRange(1, 64), default=20, show_default=True, help="How many peers.")
@reach_options
@common_options
@pass_invocation
def near(
    invocation: Invocation, key: str, count: int, relay: str | None, network: str | None, key_file: Path | None
) -> None:
    """The peers nearest to KEY, a peer id or any text."""
    way = reach(invocation, relay=relay, network=network, key_file=key_file)
    found = shaped(_call(way, "neighbourhood", [key, count]), list[_Peer], what="list of peers")
    invocation.print(found, lambda: table([(one["peer_id"], " ".join(one["addresses"])) for one in found]))


def _owner_options(command: Any) -> Any:
    for decorate in (
        click.option("--nonce", default="", help="Of a key with an owner: makes it another key."),
        click.option(
            "--path-length",
            type=click.IntRange(0, 16),
            default=1,
            show_default=True,
            help="Of a key with an owner: edges of a trust path.",
        ),
        click.option("--owner", metavar="PEER", help="A key with this owner, in place of a capability."),
        click.argument("capability", required=False),
    ):
        command = decorate(command)
    return command


@dht.command("providers")
@_owner_options
@click.option("--limit", type=click.IntRange(1, 64), default=8, show_default=True, help="How many at most.")
@reach_options
@common_options
@pass_invocation
def providers(
    invocation: Invocation,
    capability: str | None,
    owner: str | None,
    path_length: int,
    nonce: str,
    limit: int,
    relay: str | None,
    network: str | None,
    key_file: Path | None,
) -> None:
    """Who provides CAPABILITY, such as service:weather, heaviest first."""
    way = reach(invocation, relay=relay, network=network, key_file=key_file)
    answer = _call(way, "providers", [_key(capability, owner, path_length, nonce), limit])
    found = shaped(answer, list[_Provider], what="list of providers")
    rows = [(one["peer_id"], str(one["weight"]), one["service"] or "-", one["value"] or "-") for one in found]
    invocation.print(found, lambda: table([("PEER", "WEIGHT", "SERVICE", "VALUE"), *rows]) if rows else ["nobody"])


@dht.command("provide")
@_owner_options
@click.option("--value", default="", help="What the record says, up to 1,000 bytes.")
@click.option("--service", default="", help="The service that answers.")
@click.option("--withdraw", is_flag=True, help="Provide it no more.")
@common_options
@pass_invocation
def provide(
    invocation: Invocation,
    capability: str | None,
    owner: str | None,
    path_length: int,
    nonce: str,
    value: str,
    service: str,
    withdraw: bool,
) -> None:
    """Let the peer of ./fluvial.toml, which runs, provide CAPABILITY from now on: topic:chat, or a key with an owner."""
    key = _key(capability, owner, path_length, nonce)
    if withdraw:
        removed = _call_as_owner(invocation, "remove_provider", [key])
        invocation.print({"removed": removed}, lambda: ["withdrawn" if removed else "it was not provided"])
        return
    replicas = _call_as_owner(invocation, "add_provider", [key, value, service])
    invocation.print({"replicas": replicas}, lambda: [f"{replicas} peers keep the record"])


@dht.command("table")
@common_options
@pass_invocation
def show_table(invocation: Invocation) -> None:
    """What the peer of ./fluvial.toml, which runs, has of the table."""
    found = shaped(_call_as_owner(invocation, "table", []), _Table, what="table of peers")
    rows = [(one["peer_id"], " ".join(one["addresses"])) for one in found["peers"]]
    counts = f"{found['keys']} keys kept, {found['published']} records published, {found['address_book']} peers known"
    invocation.print(found, lambda: [*table(rows), counts])


@dht.command("aqua")
def aqua() -> None:
    """Print the declarations of the service for programs in Aqua."""
    click.echo((resources.files("fluvial_dht_kademlia") / "dht.aqua").read_text(encoding="utf-8"), nl=False)


def _key(capability: str | None, owner: str | None, path_length: int, nonce: str) -> Any:
    if (capability is None) == (owner is None):
        raise click.UsageError("give a capability such as service:weather, or --owner PEER")
    if owner is None:
        return capability
    return {"owner": owner, "path_length_max": path_length, "nonce": nonce}


def _call(way: Reach, function: str, arguments: list[Any]) -> Any:
    """The result of a function of the service ``dht`` of the peer to go through."""

    async def ask() -> Any:
        async with way.connect() as client:
            return await _ask(client, function, arguments)

    return run(ask)


def _call_as_owner(invocation: Invocation, function: str, arguments: list[Any]) -> Any:
    """As :func:`_call`, of the peer of the settings, with a mandate by its key."""
    import time

    import msgspec
    from fluvial.identity import KeyPair

    from fluvial_dht_kademlia.mandate import make_mandate

    way = reach(invocation, relay=None, network=None, key_file=None)
    keys = KeyPair.load(invocation.configuration().settings.key_file)

    async def ask() -> Any:
        async with way.connect() as client:
            now_ms = time.time_ns() // 1_000_000
            mandate = make_mandate(keys, client.peer_id, network=way.network, at_ms=now_ms)
            return await _ask(client, function, [*arguments, msgspec.to_builtins(mandate)])

    return run(ask)


async def _ask(client: Any, function: str, arguments: list[Any]) -> Any:
    values = {f"argument_{number}": value for number, value in enumerate(arguments)}
    script = (
        f'(seq (call relay ("dht" "{function}") [{" ".join(values)}] found)'
        ' (call %init_peer_id% ("return" "") [found]))'
    )
    async with client.run(script, relay=client.relay_id, ttl_s=TTL_S, **values) as flow:
        (found,) = await flow.result()
    return found
