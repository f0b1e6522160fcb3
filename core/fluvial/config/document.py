"""Where settings come from: the TOML file, the environment and ``--set``, merged, with the origin of every value.

Precedence, later wins: file, environment (``FLUVIAL_SECTION__KEY``), ``--set section.key=value``. An override replaces the whole
value at its key, tables included. Values of overrides are written as in TOML; what is no TOML value is taken as a plain string.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import msgspec

from fluvial.errors import ConfigError

KeyPath: TypeAlias = tuple[str | int, ...]
"""The keys (and places in arrays of tables) that lead to a value: ``("routing", "peers")``."""

ENVIRONMENT_PREFIX: Final = "FLUVIAL_"
NOT_SETTINGS: Final = frozenset({"FLUVIAL_CONFIG", "FLUVIAL_CONFORMANCE", "FLUVIAL_RELAY", "FLUVIAL_RELEASE"})
"""Variables with the prefix that are no overrides: where the file or a relay is, how the root is built or tested."""


class Origin(msgspec.Struct, frozen=True):
    """Where a value comes from; ``text`` is for people, such as ``fluvial.toml:9`` or ``--set network``."""

    kind: Literal["file", "env", "set"]
    text: str


class Document(msgspec.Struct, kw_only=True):
    """The merged, not yet checked values.

    Attributes:
        name: how messages call the file; its path as the user gave it.
        base_dir: the folder at which relative paths start.
        values: nested tables as ``tomllib`` gives them.
        origins: where the values of file and overrides come from, by key path; what lies deeper has the origin of its parent.
        texts: the raw text of every override, by key path.
    """

    name: str
    base_dir: Path
    values: dict[str, Any]
    origins: dict[KeyPath, Origin] = msgspec.field(default_factory=dict)
    texts: dict[KeyPath, str] = msgspec.field(default_factory=dict)

    def origin(self, path: KeyPath) -> Origin | None:
        """Where the value at a path comes from; None if nobody has set it."""
        if not self.has(path):
            return None
        for length in range(len(path), 0, -1):
            if (origin := self.origins.get(path[:length])) is not None:
                return origin
        return None

    def has(self, path: KeyPath) -> bool:
        """Whether somebody has set the value at a path, or a part of it."""
        value: Any = self.values
        for key in path:
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError):
                return False
        return True

    def where(self, path: KeyPath) -> str:
        """The place of a value or, if it is missing, of the nearest table around it."""
        for length in range(len(path), 0, -1):
            if (origin := self.origins.get(path[:length])) is not None:
                return origin.text
        inside = (origin.text for known, origin in self.origins.items() if known[: len(path)] == path)
        return next(inside, self.name)

    def override(self, path: KeyPath, text: str, origin: Origin) -> None:
        """Set the value at a path.

        Raises:
            ConfigError: a key on the way is no table.
        """
        table: Any = self.values
        for depth, key in enumerate(path[:-1], start=1):
            table = table.setdefault(key, {})
            if not isinstance(table, dict):
                raise ConfigError(f"{origin.text}: `{dotted(path[:depth])}` is no table, so nothing can be set in it")
        table[path[-1]] = parse_value(text)
        for known in (self.origins, self.texts):
            for inner in [one for one in known if one[: len(path)] == path]:
                del known[inner]
        self.origins[path] = origin
        self.texts[path] = text


def dotted(path: KeyPath) -> str:
    """A key path as people write it: ``transport.listen[0]``."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).lstrip(".")


def read_file(path: Path) -> Document:
    """The document of a TOML file.

    Raises:
        ConfigError: the file is missing, unreadable or no TOML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such file", hint="`fluvial init` writes one") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the file cannot be read: {error}") from error
    return read_text(text, name=str(path), base_dir=path.resolve().parent)


def read_text(text: str, *, name: str, base_dir: Path) -> Document:
    """The document of a TOML text; ``name`` is how messages call it.

    Raises:
        ConfigError: it is no TOML.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        match = re.search(r"^(.*) \(at line (\d+), column (\d+)\)$", str(error))
        reason, place = (match[1], f"{name}:{match[2]}:{match[3]}") if match else (str(error), name)
        raise ConfigError(f"{place}: this is no TOML: {reason}") from error
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits, or thousands of nested brackets
        raise ConfigError(f"{name}: this cannot be read: {error}") from error
    origins: dict[KeyPath, Origin] = {}
    for path, line in key_lines(text):
        origins.setdefault(path, Origin("file", f"{name}:{line}"))  # `a.b = 1` and `a.c = 2` both mention a
    return Document(name=name, base_dir=base_dir, values=values, origins=origins)


def apply_environment(document: Document, environment: Mapping[str, str]) -> None:
    """Override what variables ``FLUVIAL_SECTION__KEY`` say, in the order of their names."""
    for name in sorted(environment):
        if name.startswith(ENVIRONMENT_PREFIX) and name not in NOT_SETTINGS:
            path = tuple(name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__"))
            document.override(path, environment[name], Origin("env", f"env {name}"))


def apply_assignments(document: Document, assignments: Sequence[str]) -> None:
    """Override what texts ``section.key=value`` say, in their order.

    Raises:
        ConfigError: a text is no such assignment.
    """
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        try:
            path = _only_path(tomllib.loads(f"{key}=0")) if equals else ()
        except tomllib.TOMLDecodeError:
            path = ()
        if not path:
            raise ConfigError(
                f"--set {assignment}: this is no assignment", hint="write it like --set section.key=value"
            )
        document.override(path, value, Origin("set", f"--set {dotted(path)}"))


def parse_value(text: str) -> Any:
    """A TOML value, or the text itself if it is none."""
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # no TOML, or TOML that is too long or too deep to be parsed
        return text
    return table["value"] if len(table) == 1 else text


def key_lines(text: str) -> Iterator[tuple[KeyPath, int]]:
    """For every key and table header of a valid TOML text: its path and the line (from 1) on which its statement begins.

    Works statement by statement: lines are gathered until they parse, under the path of the header before them.
    """
    table: KeyPath = ()
    elements: dict[KeyPath, int] = {}
    statement, begin = "", 1
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        if not statement and (not line.strip() or line.lstrip().startswith("#")):
            begin = number + 1  # most lines of the file that `fluvial init` writes
            continue
        statement += line
        try:
            parsed = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue
        if statement.lstrip().startswith("["):
            table = _header_path(parsed, elements)
            yield table, begin
        else:
            for path in _paths(parsed):
                yield table + path, begin
        statement, begin = "", number + 1


def _header_path(parsed: Mapping[str, Any], elements: dict[KeyPath, int]) -> KeyPath:
    """The path that ``[a.b]`` or ``[[a.b]]`` opens, with the places of arrays of tables filled in; counts the latter."""
    path: KeyPath = ()
    value: Any = parsed
    while value:
        ((key, value),) = value.items()
        path = (*path, key)
        if isinstance(value, list):
            elements[path] = elements.get(path, -1) + 1
            return (*path, elements[path])
        if path in elements and value:
            path = (*path, elements[path])
    return path


def _paths(parsed: Mapping[str, Any], prefix: KeyPath = ()) -> Iterator[KeyPath]:
    for key, value in parsed.items():
        yield (*prefix, key)
        if isinstance(value, dict):
            yield from _paths(value, (*prefix, key))


def _only_path(parsed: Mapping[str, Any]) -> KeyPath:
    """The path of the only value in nested tables; empty if there are several."""
    paths = list(_paths(parsed))
    deepest = max(paths, key=len, default=())
    return deepest if len(paths) == len(deepest) else ()
