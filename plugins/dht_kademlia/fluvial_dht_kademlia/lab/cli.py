"""``fluvial lab dht``: scenarios of the DHT in virtual time."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def dht() -> None:
    """Networks of the DHT in virtual time."""


@dht.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False), metavar="FILE…")
def run(files: tuple[Path, ...]) -> None:
    """Play scenarios; prints one JSON line for each."""
    import msgspec

    from fluvial_dht_kademlia.lab.play import play
    from fluvial_dht_kademlia.lab.scenario import read_scenario

    for path in files:
        click.echo(msgspec.json.encode(play(read_scenario(path))).decode())
