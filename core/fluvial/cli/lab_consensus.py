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


@consensus.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False), metavar="SCHEDULE…")
@click.option("--algorithm", "names", required=True, metavar="NAME,NAME…", help="Which engines, as plugins offer them.")
@click.option("--seeds", type=click.IntRange(1, 1_000), default=1, show_default=True, help="Seeds of each schedule.")
@click.option(
    "--sizes", default="4,7,13", show_default=True, metavar="N,N…", help="Numbers of validators when all is well."
)
@click.option(
    "--loads", default="50,400,1600", show_default=True, metavar="N,N…", help="Payments in a second when all is well."
)
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("comparison.html"),
    show_default=True,
    help="Where the page is written.",
)
@common_options
@pass_invocation
def compare(
    invocation: Invocation, files: tuple[Path, ...], names: str, seeds: int, sizes: str, loads: str, report: Path
) -> None:
    """Run algorithms over the same schedules, seeds and loads; write a page with tables and plots, and print a summary."""
    from fluvial.consensus.lab import compare as comparing
    from fluvial.consensus.lab.comparison_page import page, text
    from fluvial.consensus.lab.schedule import read_schedule

    comparison = comparing.compare(
        [read_schedule(path) for path in files],
        [algorithm_of(invocation, name.strip()) for name in dict.fromkeys(names.split(","))],
        seeds=seeds,
        sizes=_numbers(sizes, "--sizes", 128),
        loads=_numbers(loads, "--loads", 100_000),
        progress=lambda line: click.echo(line, err=True),
    )
    report.write_text(page(comparison), encoding="utf-8")
    click.echo(text(comparison), nl=False)
    click.echo(f"The page is {report}.", err=True)


@consensus.command()
@click.option("--algorithm", "name", required=True, metavar="NAME", help="Which engine, as a plugin offers it.")
@click.option("--runs", type=click.IntRange(1, 1_000_000), default=100, show_default=True, help="How many schedules.")
@click.option("--first", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the first schedule.")
@click.option("--validators", type=(int, int), default=(4, 7), show_default=True, help="Fewest and most validators.")
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Where failing schedules are written.",
)
@common_options
@pass_invocation
@click.pass_context
def fuzz(
    ctx: click.Context,
    invocation: Invocation,
    name: str,
    runs: int,
    first: int,
    validators: tuple[int, int],
    keep: Path,
) -> None:
    """Run schedules that are made up by chance; what fails is made smaller and written as a schedule, and the exit status is 1."""
    import msgspec

    from fluvial.consensus.lab.fuzz import random_schedule, shrunk
    from fluvial.consensus.lab.play import play

    if not 1 <= validators[0] <= validators[1] <= 64:
        raise click.BadParameter("the first is at least 1, the second at most 64", param_hint="--validators")
    algorithm = algorithm_of(invocation, name)
    failed = 0
    for seed in range(first, first + runs):
        schedule = random_schedule(seed, nodes=validators)
        report = play(schedule, algorithm, seed)
        _summarize(report)
        if not report["passed"] and not report.get("skipped"):
            failed += 1
            small = shrunk(schedule, lambda one: not play(one, algorithm, one.seed)["passed"])
            path = keep / f"{schedule.name}.json"
            path.write_bytes(msgspec.json.format(msgspec.json.encode(small), indent=1) + b"\n")
            click.echo(f"{path} has what it takes to fail", err=True)
    click.echo(f"{runs - failed} of {runs} passed")
    ctx.exit(1 if failed else 0)


def _numbers(text: str, option: str, most: int) -> list[int]:
    try:
        numbers = sorted({int(one) for one in text.split(",") if one.strip()})
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no list of numbers", param_hint=option) from error
    if not all(1 <= one <= most for one in numbers):
        raise click.BadParameter(f"numbers are between 1 and {most}", param_hint=option)
    return numbers


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
