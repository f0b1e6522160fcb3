"""Checks that need nothing but the settings and what is installed."""

from __future__ import annotations

from collections.abc import Iterator

from fluvial.cli.context import Invocation
from fluvial.cli.deferred import load
from fluvial.cli.installed import plugin_commands
from fluvial.config import Configuration, InvalidSettings, installed_plugins, plugins_section
from fluvial.config import load as load_settings
from fluvial.errors import ConfigError, FluvialError, PluginError
from fluvial.findings import Finding
from fluvial.plugins import Plugins, disables_command
from fluvial.suggestions import did_you_mean


def check_settings(invocation: Invocation) -> tuple[Configuration | None, list[Finding]]:
    """The settings and the findings about them; None if they cannot be used."""
    try:
        document = invocation.document()
        configuration = load_settings(document)
    except InvalidSettings as error:
        return None, [
            Finding(level="fail", subject="config", text=f"{one.where}: {one.message}", hint=one.hint, code=error.code)
            for one in error.problems
        ]
    except FluvialError as error:
        return None, [
            Finding(level="fail", subject="config", text=error.message, hint=error.hint, code=error.code),
        ]
    seats = ", ".join(f"{seat} {choice.kind}" for seat, choice in configuration.settings.seats.items())
    return configuration, [Finding(level="ok", subject="config", text=f"{document.name}: valid; {seats}")]


def check_plugins(invocation: Invocation) -> Iterator[Finding]:
    """Which plugins and commands are loaded, failed, contested or misspelt."""
    from fluvial.cli.main import COMMANDS

    try:
        document = invocation.document()
        plugins = installed_plugins(document)
    except ConfigError:  # the check of the settings has reported it; the disabled plugins are not known then
        return
    commands = plugin_commands(COMMANDS)
    disabled = plugins_section(document).disabled
    loaded = sum(record.state == "loaded" for record in plugins.records)
    yield Finding(level="ok", subject="plugins", text=f"{loaded} loaded, {len(plugins.failed)} failed")
    for record in plugins.failed:
        yield _failed(f"{record.name} ({record.origin}) cannot be loaded: {record.error}")
    for text in oddities(plugins, disabled):
        yield Finding(level="warn", subject="plugins", text=text)
    for command in commands:
        if disables_command(disabled, command.name, command.distribution):
            continue
        try:
            load(command)
        except PluginError as error:
            yield Finding(level="fail", subject="plugins", text=error.message, hint=error.hint, code=error.code)


def oddities(plugins: Plugins, disabled: tuple[str, ...]) -> list[str]:
    """Oddities of the installed plugins, although each of them is usable: contested names, and misspelt ones in ``disabled``."""
    texts = [
        f"{same[0].kind} {same[0].name!r} is offered by {' and '.join(one.distribution for one in same)}; none can be used"
        for same in plugins.contested()
    ]
    names = [*(record.name for record in plugins.records), *(one.name for one in plugin_commands(()))]
    for name in disabled:
        if name not in names:
            hint = did_you_mean(name, names)
            texts.append(f"plugins.disabled: no plugin or command {name!r} is installed{f'; {hint}' if hint else ''}")
    return texts


def _failed(text: str) -> Finding:
    hint = "mend it, uninstall it, or add its name to `disabled` in [plugins]"
    return Finding(level="fail", subject="plugins", text=text, hint=hint, code=PluginError.code)
