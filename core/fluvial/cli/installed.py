"""The commands of plugins, found in the metadata of the installed distributions; nothing of a plugin is imported here.

A distribution announces commands in the entry-point group ``fluvial.commands``: ``trust = "fluvial_trust_graph.cli:trust"`` is the
command ``fluvial trust``; a name with a dot, ``lab.dht``, is ``fluvial lab dht``, next to what other distributions put below ``lab``.

The files are read directly: importing ``importlib.metadata`` takes 9 ms, a sixth of what ``fluvial --help`` takes, the reading 0.5 ms.
It is used for those places on ``sys.path`` that are no folders.
Source: PyPA specifications, "Entry points", "Recording installed projects" and "Core metadata".
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

GROUP: Final = "fluvial.commands"
_METADATA: Final = (".dist-info", ".egg-info")
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z][a-z0-9_-]*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginCommand:
    """A command as its distribution announces it.

    Attributes:
        name: entry-point name: ``trust``, ``lab.dht``.
        value: where it is: ``module:object``.
        distribution: name of the distribution.
        version: its version.
        error: why nobody can use it, in one line; empty if it can be used.
    """

    name: str
    value: str
    distribution: str
    version: str
    error: str = ""

    @property
    def origin(self) -> str:
        """Distribution and version in one text."""
        return f"{self.distribution} {self.version}".rstrip()

    @property
    def words(self) -> tuple[str, ...]:
        """What is typed after ``fluvial``."""
        return tuple(self.name.split("."))


def plugin_commands(reserved: Collection[str], *, path: Sequence[str] | None = None) -> Sequence[PluginCommand]:
    """The commands of all plugins, sorted by name; those that contest a name have an error.

    Args:
        reserved: the names of core's own commands.
        path: where to look; ``sys.path`` by default.
    """
    found = sorted(_announced(sys.path if path is None else path), key=lambda one: (one.name, one.distribution))
    return [_judged(one, found, reserved) for one in found]


def _judged(command: PluginCommand, all_of_them: Iterable[PluginCommand], reserved: Collection[str]) -> PluginCommand:
    """The command, with an error if its name is malformed, reserved or claimed twice. The order of installation never decides anything."""
    first, *below = command.words
    error = ""
    if not _NAME.fullmatch(command.name):
        error = f"{command.name!r} is no command's name: small letters, digits and dashes, with at most one dot"
    elif first in reserved:
        error = f"`fluvial {first}` is a command of fluvial itself"
    else:
        others = [one for one in all_of_them if one != command and one.words[0] == first]
        same = [one for one in others if one.name == command.name]
        clash = [one for one in others if bool(one.words[1:]) != bool(below)]
        if same:
            error = f"also a command of {' and '.join(one.origin for one in same)}; none can be used"
        elif clash:
            word = "the shared word of" if not below else "itself a command of"
            names = " and ".join(f"{one.name} ({one.origin})" for one in clash)
            error = f"`fluvial {first}` is {word} {names}; none can be used"
    return replace(command, error=error)


def _announced(path: Iterable[str]) -> Iterator[PluginCommand]:
    """All announced commands. If a distribution is installed twice, the one that comes first on the path counts, since that one is imported."""
    seen: set[str] = set()
    for place in dict.fromkeys(path):
        for distribution, version, entries in _distributions(place or "."):
            key = re.sub(r"[-_.]+", "-", distribution).lower()
            if key not in seen:
                seen.add(key)
                for name, value in entries:
                    yield PluginCommand(name=name, value=value, distribution=distribution, version=version)


def _distributions(place: str) -> Iterator[tuple[str, str, Sequence[tuple[str, str]]]]:
    """Name, version and commands of the distributions in one place."""
    if os.path.isfile(place):
        yield from _in_archive(place)
        return
    try:
        folders = sorted(one.path for one in os.scandir(place) if one.name.endswith(_METADATA))
    except OSError:  # places on the path need not exist
        return
    for folder in folders:
        text = _read(os.path.join(folder, "entry_points.txt"))
        entries = _entries(text) if GROUP in text else ()
        name, _, version = os.path.basename(folder).rpartition(".")[0].partition("-")
        if entries:
            about = _read(os.path.join(folder, "METADATA")) or _read(os.path.join(folder, "PKG-INFO"))
            name, version = _header(about, "Name") or name, _header(about, "Version") or version
        yield name, version, entries


def _in_archive(place: str) -> Iterator[tuple[str, str, Sequence[tuple[str, str]]]]:
    from importlib.metadata import distributions

    for one in distributions(path=[place]):
        yield one.name, one.version, [(entry.name, entry.value) for entry in one.entry_points if entry.group == GROUP]


def _entries(text: str) -> Sequence[tuple[str, str]]:
    """Names and values of the group in the text of an ``entry_points.txt``."""
    entries = []
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1].strip()
        elif section == GROUP and line and line[0] not in "#;":
            name, equals, value = line.partition("=")
            if equals:
                entries.append((name.strip(), value.strip()))
    return entries


def _header(metadata: str, name: str) -> str:
    """The value of a header field; the description after the first empty line is ignored."""
    for line in metadata.splitlines():
        if not line:
            break
        key, _, value = line.partition(":")
        if key == name:
            return value.strip()
    return ""


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:  # most distributions have no such file
        return ""
