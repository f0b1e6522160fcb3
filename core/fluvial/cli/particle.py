"""``fluvial particle``: the history of particles, read from this peer's store; the peer may run meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from fluvial.cli.context import Invocation, common_options, pass_invocation, table

if TYPE_CHECKING:
    from fluvial.config import Settings
    from fluvial.particle import ParticleKey
    from fluvial.storage import ParticleStore, ParticleSummary
    from fluvial.story.story import Story

RENDERERS: Final[dict[str, str]] = {
    "text": "fluvial.story.text",
    "json": "fluvial.story.data",
    "mermaid": "fluvial.story.mermaid",
    "svg": "fluvial.story.svg",
    "html": "fluvial.story.html",
}
"""Modules with a function ``render(story, names=…)``."""

SUFFIXES: Final[dict[str, str]] = {".txt": "text", ".json": "json", ".mmd": "mermaid", ".svg": "svg", ".html": "html"}
"""The format of a file of ``--output``, by its suffix, if there is no ``--format``."""

STEPS_MAX: Final = 100_000
"""Steps that are made once more to tell since when something waits: a few seconds."""
LIMIT: Final = 20
LIMIT_MAX: Final = 10_000
MATCHES_MAX: Final = 1_000
MATCHES_SHOWN: Final = 5


@click.group()
def particle() -> None:
    """Look at the particles that came to this peer."""


@particle.command("list")
@click.option("--limit", type=click.IntRange(1, LIMIT_MAX), default=LIMIT, show_default=True, help="How many at most.")
@common_options
@pass_invocation
def list_(invocation: Invocation, limit: int) -> None:
    """List the particles received last, newest first."""
    import anyio

    from fluvial.clock import SystemClock
    from fluvial.storage import open_store

    settings = invocation.configuration().settings

    async def read() -> list[ParticleSummary]:
        async with open_store(settings.storage_url, base_dir=settings.base_dir, read_only=True) as store:
            return await store.particles.recent(limit)

    now_ms = SystemClock().now_ms()
    rows = [_row(summary, now_ms) for summary in anyio.run(read)]
    invocation.print(rows, lambda: _table(rows))


@particle.command()
@click.argument("particle_id", metavar="ID")
@click.option("--format", "form", type=click.Choice(list(RENDERERS)), help="How to tell it.  [default: text]")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="A file to write instead of printing.")
@click.option("--name", "named", multiple=True, metavar="PEER=NAME", help="What to call a peer. May be repeated.")
@common_options
@pass_invocation
def show(
    invocation: Invocation, particle_id: str, form: str | None, output: Path | None, named: tuple[str, ...]
) -> None:
    """Tell the story of a particle, as far as this peer knows it.

    ID is the particle's id or the beginning of it. The story is told from facts that their peers have signed: who was asked what,
    what came back, where the particle went, and what it waits for.
    """
    import anyio

    from fluvial.clock import SystemClock
    from fluvial.story.story import as_of

    names = dict(_name(text) for text in named)
    if form is None:
        form = "json" if invocation.json else SUFFIXES.get(output.suffix.lower(), "text") if output else "text"
    elif invocation.json and form != "json":
        raise click.UsageError(f"--json and --format {form} contradict each other")
    now_ms = SystemClock().now_ms()
    story = as_of(anyio.run(_story, invocation.configuration().settings, particle_id), now_ms)
    text = _render(story, form, names, now_ms)
    if output is None:
        click.echo(text, nl=False)
    else:
        _write(output, text)
        click.echo(f"wrote {output}", err=True)


@particle.command()
@click.argument("particle_id", metavar="ID")
@common_options
@pass_invocation
def why(invocation: Invocation, particle_id: str) -> None:
    """Say which rule refused what of a particle here, and what other peers refused.

    ID is the particle's id or the beginning of it. A running peer remembers its newest refusals, also of particles that it did not take in; the
    store has the calls that were not allowed.
    """
    import anyio

    from fluvial.cli.why import remembered, told
    from fluvial.errors import ConfigError, StorageError

    found = remembered(invocation, particle_id)
    try:
        stored = told(anyio.run(_story, invocation.configuration().settings, particle_id))
    except (ConfigError, StorageError) as error:
        if not found:
            raise ConfigError(
                f"nothing is known here of a refusal: {error.message}",
                hint="ask the peer that refused, while it runs" if found is None else error.hint,
            ) from error
        stored = []
    rows = [*(found or ()), *(one for one in stored if one["what"] not in {row["what"] for row in found or ()})]
    invocation.print(rows, lambda: _reasons(rows))


def _reasons(rows: Sequence[dict[str, Any]]) -> list[str]:
    from fluvial.strangers import printable

    lines = ["nothing of it was refused here"] if not rows else []
    for row in rows:
        lines.append(printable(f"{_moment(row['at_ms'])}  {row['what']}, {row['other']}: {row['reason']}"))
        lines.append(f"    {printable(row['explanation'])}")
    return lines


def _moment(at_ms: int) -> str:
    """A time on this machine's clock; beyond the calendar, as another peer may say, the plain number."""
    from datetime import datetime

    try:
        return datetime.fromtimestamp(at_ms / 1000).astimezone().isoformat(sep=" ", timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return f"{at_ms} ms after 1970"


async def _story(settings: Settings, particle_id: str) -> Story:
    from fluvial.errors import ConfigError
    from fluvial.identity import KeyPair
    from fluvial.storage import open_store
    from fluvial.story.condensed import read_condensed
    from fluvial.story.story import tell

    me = KeyPair.load(settings.key_file).peer_id
    async with open_store(settings.storage_url, base_dir=settings.base_dir, read_only=True) as store:
        key = await _find(store.particles, particle_id)
        stored, kept = await store.particles.load(key), await store.particles.story(key)
        handed = await store.particles.handed(key)
    if stored is None and kept is not None:
        return read_condensed(kept)
    if stored is None:
        raise ConfigError(
            f"particle {particle_id!r} was forgotten this moment", hint="[storage] keep_ms says for how long they stay"
        )
    return tell(stored, me, handed, steps_max=STEPS_MAX)


async def _find(store: ParticleStore, particle_id: str) -> ParticleKey:
    """The key of the one particle that is meant.

    Raises:
        ConfigError: there is none, or more than one.
    """
    from fluvial.errors import ConfigError
    from fluvial.particle import ParticleKey
    from fluvial.strangers import printable

    found = await store.find(particle_id, limit=MATCHES_MAX)
    exact = [summary for summary in found if summary.id == particle_id]
    meant = exact or found
    if len(meant) == 1:
        return meant[0].key
    if meant:
        some = meant[:MATCHES_SHOWN]
        # Two initiators may choose the same id; keys are unique.
        names = [f"{one.key.hex()} (of {one.initiator})" if exact else printable(one.id) for one in some]
        what = "give its key instead" if exact else "give more of it"
        more = ", …" if len(meant) > len(some) else ""
        raise ConfigError(
            f"{particle_id!r} may be any of {len(meant)} particles", hint=f"{what}: {', '.join(names)}{more}"
        )
    try:
        key = ParticleKey(bytes.fromhex(particle_id))
    except ValueError:
        key = ParticleKey(b"")
    if await store.status(key) is not None:
        return key
    raise ConfigError(
        f"there is no particle whose id begins with {particle_id!r}",
        hint="`fluvial particle list` shows those that are here; [storage] keep_ms says how long they stay",
    )


def _render(story: Story, form: str, names: dict[str, str], now_ms: int) -> str:
    module = import_module(RENDERERS[form])
    if form == "text":
        return str(module.render(story, names=names, now_ms=now_ms))
    return str(module.render(story, names=names))


def _name(text: str) -> tuple[str, str]:
    """A peer and the name to show for it.

    Raises:
        BadParameter: the text is not written ``PEER=NAME``.
    """
    from fluvial.identity import PeerId

    peer, equals, name = text.partition("=")
    if not equals or not name.strip():
        raise click.BadParameter(f"{text!r} is not written PEER=NAME", param_hint="--name")
    try:
        return PeerId.parse(peer.strip()), name.strip()
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--name") from error


def _write(path: Path, text: str) -> None:
    from fluvial.errors import ConfigError

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path}: this cannot be written: {error.strerror}", hint="choose another --output"
        ) from error


# --- the list


def _row(summary: ParticleSummary, now_ms: int) -> dict[str, Any]:
    expired = summary.state == "live" and summary.deadline_ms <= now_ms
    return {
        "id": summary.id,
        "key": summary.key.hex(),
        "initiator": summary.initiator,
        "sender": summary.sender,
        "state": "expired" if expired else summary.state.value,
        "received_at_ms": summary.received_at_ms,
        "deadline_ms": summary.deadline_ms,
        "age_ms": now_ms - summary.received_at_ms,
        "hops": summary.hops,
        "records": summary.entries,
        "waiting": summary.waiting,
    }


def _table(rows: Sequence[dict[str, Any]]) -> list[str]:
    from fluvial.strangers import printable

    if not rows:
        return ["no particles are here"]
    lines = [("ID", "INITIATOR", "STATE", "AGE", "HOPS", "RECORDS", "WAITING")]
    for row in rows:
        numbers = (str(row["hops"]), str(row["records"]), str(row["waiting"]))
        lines.append((printable(row["id"]), "…" + row["initiator"][-6:], row["state"], _age(row["age_ms"]), *numbers))
    return table(lines)


def _age(age_ms: int) -> str:
    """A length of time in the unit that fits: ``12 s``, ``3 min``, ``5 h``, ``2 d``."""
    seconds = max(age_ms, 0) // 1000
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
