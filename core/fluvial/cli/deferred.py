"""The commands of plugins in the tree of commands: imported when they run or when their own help is asked for, not before."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from fluvial.cli.context import CONFIG_FILE, Invocation
from fluvial.cli.installed import PluginCommand, plugin_commands
from fluvial.errors import PluginError


class Deferred(click.Command):
    """A command of a plugin before its import: only its name and its distribution are known.

    A name that two distributions claim is such a command, too: using it raises an error that names both.
    """

    def __init__(self, *candidates: PluginCommand) -> None:
        first = candidates[0]
        origins = " and ".join(one.origin for one in candidates)
        about = f"Contested by {origins}." if first.error else f"From {origins}."
        super().__init__(first.words[-1], short_help=about, help=about)
        self._about = first

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """The context of the real command, which takes over from here.

        Raises:
            PluginError: the plugin is disabled, contests its name, cannot be imported, or announces something else.
        """
        try:
            refuse_disabled(self._about, parent.find_object(Invocation) if parent is not None else None)
            command = load(self._about)
        except PluginError:
            if extra.get("resilient_parsing"):  # completion: there is nothing to offer
                return super().make_context(info_name, args, parent, **extra)
            raise
        return command.make_context(info_name, args, parent, **extra)


def load(about: PluginCommand) -> click.Command:
    """Import a command.

    Raises:
        PluginError: the import failed in any way; the message names the distribution.
    """
    from fluvial.faults import describe

    who = f"the command {' '.join(about.words)!r} of {about.origin}"
    if about.error:
        raise PluginError(f"{who} cannot be used: {about.error}", hint="uninstall what you do not need")
    module, _, path = about.value.partition("[")[0].strip().partition(":")
    try:
        found: Any = import_module(module)
        for name in path.split(".") if path else ():
            found = getattr(found, name)
    except (Exception, SystemExit) as error:  # the plugin boundary: anything may go wrong in there
        raise PluginError(
            f"{who} cannot be imported from {about.value!r}: {describe(error)}",
            hint="mend or uninstall that distribution; all other commands work",
        ) from error
    if not isinstance(found, click.Command):
        raise PluginError(
            f"{who} is no command: {about.value!r} is of the type {type(found).__name__}, not click.Command"
        )
    return found


def commands_of_plugins(reserved: Collection[str]) -> Mapping[str, click.Command]:
    """The commands of plugins by name, and groups for the words that several of them share."""
    tree: dict[str, click.Command] = {}
    found = [one for one in plugin_commands(reserved) if one.words[0] not in reserved]
    for word in dict.fromkeys(one.words[0] for one in found):
        beside = [one for one in found if one.words[0] == word]
        if any(len(one.words) == 1 or len(one.words) > 2 for one in beside):
            tree[word] = Deferred(*beside)
            continue
        origins = " and ".join(dict.fromkeys(one.origin for one in beside))
        names = dict.fromkeys(one.words[1] for one in beside)
        tree[word] = click.Group(
            word,
            commands={name: Deferred(*(one for one in beside if one.words[1] == name)) for name in names},
            help=f"Commands from {origins}.",
        )
    return tree


def refuse_disabled(about: PluginCommand, invocation: Invocation | None) -> None:
    """Ensure that the settings do not disable a command.

    The settings that are known before the command itself is parsed count, since a disabled one must not be imported: ``fluvial --config
    FILE NAME``, ``FLUVIAL_CONFIG``, or the ``fluvial.toml`` in the working directory.

    Raises:
        PluginError: they disable it. ConfigError: they cannot be read.
    """
    if not _may_disable(invocation or Invocation()):
        return
    from fluvial.config import plugins_section
    from fluvial.plugins import disables_command

    disabled = plugins_section((invocation or Invocation()).document(required=False)).disabled
    if disables_command(disabled, about.name, about.distribution):
        raise PluginError(
            f"the command {' '.join(about.words)!r} of {about.origin} is disabled",
            hint="`disabled` in [plugins] names it, or the plugin that it came with",
        )


def _may_disable(invocation: Invocation) -> bool:
    """A quick check, so that most invocations need not read all settings with their places."""
    import tomllib

    if any(name.startswith("FLUVIAL_PLUGINS") for name in os.environ):
        return True
    if any(one.startswith("plugins") for one in invocation.assignments):
        return True
    path = invocation.config or Path(CONFIG_FILE)
    try:
        section = tomllib.loads(path.read_text(encoding="utf-8")).get("plugins", {})
    except FileNotFoundError:
        return invocation.config is not None
    except (OSError, ValueError, RecursionError):
        return True
    return not isinstance(section, dict) or bool(section.get("disabled", ()))
