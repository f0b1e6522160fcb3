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


@dht.command()
@click.option("--peers", "sizes", multiple=True, type=click.IntRange(2, 100_000), help="A size; may be repeated.")
@click.option(
    "--lookups", type=click.IntRange(1, 100_000), default=300, show_default=True, help="Lookups of each size."
)
@click.option("--svg", type=click.Path(path_type=Path, dir_okay=False), help="Where to draw the figures.")
def scaling(sizes: tuple[int, ...], lookups: int, svg: Path | None) -> None:
    """How hops and messages grow with the network; prints one JSON line for each size.

    The networks begin with full tables, as they are once everybody has joined.
    """
    import msgspec

    from fluvial_dht_kademlia.lab.scaling import draw, measure

    rows = []
    for peers in sorted(sizes or (100, 316, 1_000, 3_162, 10_000)):
        rows.append(measure(peers, lookups=lookups))
        click.echo(msgspec.json.encode(rows[-1]).decode())
    if svg is not None:
        svg.write_text(draw(rows), encoding="utf-8")
