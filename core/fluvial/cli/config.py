"""``fluvial config``: check, show and describe the settings."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from fluvial.cli.context import Invocation, common_options, pass_invocation, table

if TYPE_CHECKING:
    from fluvial.config import EffectiveValue


@click.group()
def config() -> None:
    """Check, show and describe the settings."""


@config.command()
@common_options
@pass_invocation
def check(invocation: Invocation) -> None:
    """Look for mistakes in the settings; all are reported at once."""
    from fluvial.cli.doctor.settings import oddities

    configuration = invocation.configuration()
    name, settings = configuration.document.name, configuration.settings
    failed = [f"plugin {one.name} ({one.origin}) failed: {one.error}" for one in configuration.plugins.failed]
    warnings = [*failed, *oddities(configuration.plugins, settings.plugins.disabled)]
    loaded = sum(record.state == "loaded" for record in configuration.plugins.records)
    seats = {seat: choice.kind for seat, choice in settings.seats.items()}
    data = {"config": name, "valid": True, "seats": seats, "plugins_loaded": loaded, "warnings": warnings}
    invocation.print(
        data,
        lambda: [
            f"ok    {name}: valid; {', '.join(f'{seat} {kind}' for seat, kind in seats.items())}",
            f"ok    plugins: {loaded} loaded",
            *(f"warn  {warning}" for warning in warnings),
        ],
    )


@config.command()
@click.argument("section", required=False)
@click.option("--origin", is_flag=True, help="Say where each value comes from.")
@common_options
@pass_invocation
def show(invocation: Invocation, section: str | None, origin: bool) -> None:
    """Print the settings in effect, of all sections or of one. Passwords in URLs are hidden."""
    from fluvial.config import entries
    from fluvial.errors import ConfigError
    from fluvial.suggestions import did_you_mean

    found = list(entries(invocation.configuration()))
    if section is not None:
        names = dict.fromkeys(str(entry.path[0]) for entry in found)
        found = [entry for entry in found if entry.key == section or entry.key.startswith(f"{section}.")]
        if not found:
            raise ConfigError(
                f"there is no section `{section}`", hint=did_you_mean(section, names) or f"sections: {', '.join(names)}"
            )
    data = [{"key": entry.key, "value": _safe(entry.value), "origin": entry.origin} for entry in found]
    invocation.print(data, lambda: _origin_table(found) if origin else _toml(found))


@config.command()
@common_options
@pass_invocation
def schema(invocation: Invocation) -> None:
    """Print the JSON Schema of fluvial.toml, the sections of the installed plugins included."""
    from msgspec.json import encode
    from msgspec.json import format as indent

    from fluvial.config import installed_plugins
    from fluvial.config.schema import json_schema

    found = json_schema(installed_plugins(invocation.document(required=False)))
    click.echo(indent(encode(found), indent=2).decode())


def _origin_table(found: list[EffectiveValue]) -> list[str]:
    from msgspec.json import encode

    return table([(entry.key, encode(_safe(entry.value)).decode(), entry.origin) for entry in found]) if found else []


def _toml(found: list[EffectiveValue]) -> list[str]:
    import tomlkit

    tables: dict[str, Any] = {}
    for entry in found:
        inner = tables
        for key in entry.path[:-1]:
            inner = inner.setdefault(str(key), {})
        if entry.value is not None:
            inner[str(entry.path[-1])] = _safe(entry.value)
    return tomlkit.dumps(tables).splitlines()


def _safe(value: Any) -> Any:
    """The value with the passwords of URLs replaced by stars."""
    if isinstance(value, str):
        return re.sub(r"(://[^:/@\s]*):[^/\s]*@", r"\1:***@", value)
    return [_safe(one) for one in value] if isinstance(value, list) else value
