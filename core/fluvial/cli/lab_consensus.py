"""``fluvial lab consensus``: schedules of faults and liars for consensus algorithms, in virtual time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fluvial.cli.context import Invocation, common_options, pass_invocation

if TYPE_CHECKING:
    from fluvial.consensus.lab.run import Algorithm


@click.group()
def consensus() -> None:
    """Consensus algorithms in virtual time."""


@consensus.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False), metavar="SCHEDULE…")
@click.option(
    "--algorithm", "names", required=True, metavar="NAME[,NAME…]", help="Which engines, as plugins offer them."
)
@click.option("--seeds", type=click.IntRange(1, 10_000), help="Run the seeds S, S+1000, … of each schedule.")
@click.option(
    "--report", type=click.Path(path_type=Path, dir_okay=False), help="Write the reports there, not to stdout."
)
@common_options
@pass_invocation
@click.pass_context
def run(
    ctx: click.Context,
    invocation: Invocation,
    files: tuple[Path, ...],
    names: str,
    seeds: int | None,
    report: Path | None,
) -> None:
    """Run schedules; the exit status is 0 if all that they expect holds, 1 if not, 2 if one could not be run.

    One schedule with one algorithm and without --seeds gives one report; otherwise it is a list of reports.
    """
    import msgspec

    from fluvial.consensus.lab.play import exit_status, play_seeds
    from fluvial.consensus.lab.schedule import read_schedule

    schedules = [read_schedule(path) for path in files]
    algorithms = [algorithm_of(invocation, name.strip()) for name in names.split(",")]
    reports: list[dict[str, Any]] = []
    for schedule in schedules:
        for algorithm in algorithms:
            for one in play_seeds(schedule, algorithm, seeds or 1):
                reports.append(one)
                _summarize(one)
    alone = seeds is None and len(reports) == 1
    data = msgspec.json.encode(reports[0] if alone else reports)
    if report is None:
        click.echo(data.decode())
    else:
        report.write_bytes(data)
    ctx.exit(exit_status(reports))


def algorithm_of(invocation: Invocation, name: str) -> Algorithm:
    """The algorithm that an installed plugin offers under a name.

    Raises:
        ConfigError: nobody offers it.
    """
    from fluvial.config import installed_plugins
    from fluvial.consensus.engine import EngineTraits
    from fluvial.consensus.lab.run import Algorithm
    from fluvial.errors import ConfigError

    plugins = installed_plugins(invocation.document(required=False))
    offer = plugins.registry.get("engine", name)
    if offer is None:
        known = ", ".join(one.name for one in plugins.registry.offers("engine")) or "none"
        raise ConfigError(f"no consensus engine is called {name!r}", hint=f"installed are: {known}")
    return Algorithm(name=name, make=offer.factory, options=offer.options(), traits=offer.traits or EngineTraits())


def _summarize(report: dict[str, Any]) -> None:
    """A line for people on stderr."""
    word = "passed" if report["passed"] else "SKIPPED" if report.get("skipped") else "FAILED"
    bad = "; ".join(f"{one['check']}: {one['detail']}" for one in report["verdicts"] if not one["ok"])
    line = f"{word} {report['schedule']} with {report['algorithm']}, seed {report['seed']}"
    click.echo(f"{line}: {bad}" if bad else line, err=True)
