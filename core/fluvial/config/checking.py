"""Checks values against a msgspec Struct and reports all problems at once, each with its place and a suggestion."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, TypeVar, get_args, get_origin

import msgspec

from fluvial.config.document import Document, KeyPath, dotted
from fluvial.errors import ConfigError
from fluvial.suggestions import did_you_mean

StructT = TypeVar("StructT", bound=msgspec.Struct)


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong: where, what, and what can be done about it."""

    where: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        """Place and message in one line, the hint indented below."""
        return f"{self.where}: {self.message}" + (f"\n    {self.hint}" if self.hint else "")


class InvalidSettings(ConfigError):
    """The settings do not match the schemas of core and of the chosen plugins; ``problems`` lists everything that was found."""

    code = "F103"

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


def unknown_key(document: Document, path: KeyPath, offered: Iterable[str], *, by: str = "") -> Problem:
    """The problem of an unknown key; ``by`` names the owner of the known keys."""
    key, names = str(path[-1]), sorted(offered)
    inside = f" in [{dotted(path[:-1])}]" if len(path) > 1 else ""
    hints = [did_you_mean(key, names), f"keys offered{f' by {by}' if by else ''}: {', '.join(names) or 'none'}"]
    return Problem(document.where(path), f"unknown key `{key}`{inside}", "   ".join(hint for hint in hints if hint))


def check(
    document: Document,
    values: Any,
    kind: type[StructT],
    *,
    at: KeyPath,
    problems: list[Problem],
    by: str = "",
) -> StructT | None:
    """The Struct that a table stands for.

    Args:
        document: where the table comes from; only asked for places and raw texts.
        values: the table.
        kind: the Struct that describes its keys.
        at: the path of the table.
        problems: gets what is wrong, in the order of the table.
        by: the owner of these keys, for messages.

    Returns:
        None if anything was wrong.
    """
    before = len(problems)
    if not isinstance(values, Mapping):
        problems.append(Problem(document.where(at), f"`{dotted(at)}` must be a table, not {values!r}"))
        return None
    fields = _fields(kind)
    good: dict[str, Any] = {}
    for key, value in values.items():
        path = (*at, key)
        if key not in fields:
            problems.append(unknown_key(document, path, fields, by=by))
            continue
        inner = _struct_in(fields[key].type)
        if inner is not None:
            good[key] = check(document, value, inner, at=path, problems=problems, by=by)
        else:
            good[key] = _convert(document, value, fields[key].type, at=path, problems=problems)
    for name, one in fields.items():
        if one.required and name not in values:
            problems.append(Problem(document.where(at), f"`{dotted((*at, name))}` is missing"))
    if len(problems) > before:
        return None
    try:
        return kind(**{fields[key].name: value for key, value in good.items()})
    except ConfigError as error:  # raised by the Struct's __post_init__, like ValueError
        problems.append(Problem(document.where(at), f"[{dotted(at)}] {error.message}", error.hint))
    except ValueError as error:
        problems.append(Problem(document.where(at), f"[{dotted(at)}] {error}"))
    return None


@lru_cache(maxsize=256)
def _fields(kind: type[msgspec.Struct]) -> Mapping[str, msgspec.structs.FieldInfo]:
    """The fields of a Struct by their keys; remembered, since its annotations are texts that are evaluated anew each time."""
    return {one.encode_name: one for one in msgspec.structs.fields(kind)}


def _convert(document: Document, value: Any, kind: Any, *, at: KeyPath, problems: list[Problem]) -> Any:
    # `--set network=7` is meant as text where text is asked for.
    readings = [value, document.texts[at]] if at in document.texts else [value]
    errors = []
    for reading in readings:
        try:
            return msgspec.convert(reading, kind)
        except msgspec.ValidationError as error:
            errors.append(error)
    message, inner = _split(str(errors[0]))
    problems.append(Problem(document.where(at), f"`{dotted(at)}{inner}`: {message}"))
    return None


def _split(text: str) -> tuple[str, str]:
    """A message of msgspec, and the path below the value to which it refers: ``[3]``."""
    match = re.fullmatch(r"(.*?) - at (?:`?key`? in )?`\$(.*)`", text, re.DOTALL)
    message, inner = (match[1], match[2]) if match else (text, "")
    return message[:1].lower() + message[1:], inner


def _struct_in(kind: Any) -> type[msgspec.Struct] | None:
    """The Struct that a field holds directly, else None."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    return kind if isinstance(kind, type) and issubclass(kind, msgspec.Struct) else None
