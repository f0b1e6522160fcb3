"""``fluvial lab fce``: cases for the engine, without a peer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click


@click.group()
def fce() -> None:
    """Services of WebAssembly modules, made and called without a peer."""


@fce.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False), metavar="FILE…")
@click.option("--compose", is_flag=True, help="Make one component of the modules of each service, with wasm-tools.")
def run(files: tuple[Path, ...], *, compose: bool) -> None:
    """Play files of cases; prints one JSON line for each case."""
    import anyio
    import msgspec

    from fluvial_fce_wasm.composing import Composer
    from fluvial_fce_wasm.lab.cases import EngineCase, read_cases
    from fluvial_fce_wasm.lab.play import play

    composer = Composer.installed() if compose else None
    for path in files:
        cases = read_cases(path)

        async def all_cases(path: Path = path, cases: Sequence[EngineCase] = cases) -> None:
            async for line in play(cases, folder=path.parent, composer=composer):
                click.echo(msgspec.json.encode(line).decode())

        anyio.run(all_cases)
