"""``fluvial testnet``: a ledger with its validators on this machine, for trying out."""

from __future__ import annotations

from pathlib import Path

import click

from fluvial.cli.context import Invocation, common_options, pass_invocation


@click.group()
def testnet() -> None:
    """Ledgers on this machine, for trying out."""


@testnet.command()
@click.option("--validators", type=click.IntRange(1, 64), default=4, show_default=True, help="How many.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("testnet"),
    show_default=True,
    help="Where to write; made if missing.",
)
@click.option("--name", default="testnet", show_default=True, help="Of the network and of the ledger.")
@click.option("--algorithm", default="simplex", show_default=True, help="Which engine takes the seat of consensus.")
@click.option("--port", type=click.IntRange(1, 65_000), default=7771, show_default=True, help="Of the first validator.")
@click.option("--delta", "delta_ms", type=click.IntRange(1, 60_000), default=500, show_default=True, help="Δ in ms.")
@click.option(
    "--idle",
    "idle_ms",
    type=click.IntRange(0, 60_000),
    default=1_000,
    show_default=True,
    help="Between empty blocks, ms.",
)
@common_options
@pass_invocation
def init(
    invocation: Invocation,
    validators: int,
    folder: Path,
    name: str,
    algorithm: str,
    port: int,
    delta_ms: int,
    idle_ms: int,
) -> None:
    """Write folders of validators, the genesis that they share, and the key of an administrator who owns all units.

    Nothing is ever overwritten.
    """
    from fluvial.clock import SystemClock
    from fluvial.hosting.testnet import TestnetPlan, make_testnet

    made = make_testnet(
        folder,
        TestnetPlan(
            name=name,
            validators=validators,
            algorithm=algorithm,
            first_port=port,
            delta_ms=delta_ms,
            idle_ms=idle_ms,
            time_ms=SystemClock().now_ms(),
        ),
    )
    data = {
        "genesis": str(made.genesis),
        "administrator": str(made.administrator),
        "validators": [{"folder": str(home), "peer": peer} for home, peer in made.folders],
    }
    first = made.folders[0][0] / "fluvial.toml"
    invocation.print(
        data,
        lambda: [
            f"wrote {made.genesis}, {made.administrator} and {len(made.folders)} validators; run each in a terminal of its own:",
            *(f"    fluvial --config {home / 'fluvial.toml'} run" for home, _ in made.folders),
            f"then: fluvial --config {first} consensus status",
        ],
    )
