"""``fluvial plugins``: what is installed, what it offers and what failed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from fluvial.cli.context import Invocation, common_options, pass_invocation, table
from fluvial.strangers import printable

if TYPE_CHECKING:
    from fluvial.config import Document
    from fluvial.offers import Offer
    from fluvial.plugins import PluginRecord, Plugins

_BROKEN: Final = ("failed", "contested")


@click.group()
def plugins() -> None:
    """Look at the installed plugins."""


@plugins.command("list")
@common_options
@pass_invocation
def list_(invocation: Invocation) -> None:
    """List the installed plugins, what they offer, their commands, and the errors of those that failed."""
    from fluvial.config import installed_plugins

    document = invocation.document(required=False)
    found = installed_plugins(document)
    rows = [row for record in found.records for row in _rows(found, document, record)]
    rows += _command_rows(document)
    invocation.print(rows, lambda: _table(rows), styled=True)


def _rows(found: Plugins, document: Document, record: PluginRecord) -> Iterator[dict[str, Any]]:
    """One row for each offer of a plugin; one row for a plugin that offers nothing."""
    common = {"plugin": record.name, "distribution": record.distribution, "version": record.version}
    if not record.offers:
        state = "watching" if record.state == "loaded" else record.state
        yield {"seat": None, "name": None, **common, "state": state, "error": record.error or None}
    for offer in record.offers:
        rivals = [one.distribution for one in found.offers_of(offer.kind, offer.name) if one is not offer]
        error = f"also offered by {' and '.join(rivals)}; none can be used" if rivals else None
        standing = "contested" if rivals else "in use" if _used(document, offer) else "installed"
        yield {"seat": offer.kind, "name": offer.name, **common, "state": standing, "error": error}


def _command_rows(document: Document) -> Iterator[dict[str, Any]]:
    """One row for each command; none is imported for it."""
    from fluvial.cli.installed import plugin_commands
    from fluvial.cli.main import COMMANDS
    from fluvial.config import plugins_section
    from fluvial.plugins import disables_command

    disabled = plugins_section(document).disabled
    for one in plugin_commands(COMMANDS):
        off = disables_command(disabled, one.name, one.distribution)
        yield {
            "seat": "command",
            "name": one.name,
            "plugin": one.name,
            "distribution": one.distribution,
            "version": one.version,
            "state": "disabled" if off else "contested" if one.error else "installed",
            "error": None if off else one.error or None,
        }


def _used(document: Document, offer: Offer) -> bool:
    """Whether the config names the offer; looks at the raw values, so that mistakes elsewhere in the config do not matter."""
    from fluvial.config import SEAT_DEFAULTS
    from fluvial.config.loading import SWITCHED

    for section, kind in SWITCHED.items():
        if offer.kind == kind:
            return document.has((section, offer.name))
    seat = "consensus" if offer.kind in ("engine", "ordering") else offer.kind
    section = document.values.get(seat, {})
    default = dict(SEAT_DEFAULTS).get(seat)  # type: ignore[call-overload]  # a seat's name
    return isinstance(section, dict) and section.get("kind", default) == offer.name


def _table(rows: list[dict[str, Any]]) -> list[str]:
    lines = [("SEAT", "NAME", "PLUGIN", "VERSION", "STATE")]
    for row in rows:
        state = row["state"].upper() if row["state"] in _BROKEN else row["state"]
        lines.append(
            (
                row["seat"] or "–",
                row["name"] or row["plugin"],
                row["distribution"],
                row["version"] or "–",
                f"{state} {row['error']}" if row["error"] else state,
            )
        )
    heading, *found = table(lines)
    return [
        heading,
        *(_coloured(line, row, cells[-1]) for line, row, cells in zip(found, rows, lines[1:], strict=True)),
    ]


def _coloured(line: str, row: dict[str, Any], last: str) -> str:
    """A line of the table, with a state that is none to be happy about in red."""
    if row["state"] not in _BROKEN:
        return line
    start, end = len(line) - len(printable(last).rstrip()), len(row["state"])
    return line[:start] + click.style(line[start : start + end], fg="red") + line[start + end :]
