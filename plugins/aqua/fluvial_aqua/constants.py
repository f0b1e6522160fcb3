"""Constants that are given from outside as texts ``NAME = literal``."""

from __future__ import annotations

from collections.abc import Iterable

from fluvial.errors import ConfigError

from fluvial_aqua.diagnostics import DiagnosticCollector
from fluvial_aqua.folding import KnownValue
from fluvial_aqua.syntax import parse
from fluvial_aqua.syntax.tree import ConstantSyntax, LiteralSyntax
from fluvial_aqua.text import AquaText


def parse_constants(texts: Iterable[str]) -> dict[str, KnownValue]:
    """The values by name.

    Raises:
        ConfigError: a text is not ``NAME = literal``.
    """
    values: dict[str, KnownValue] = {}
    for text in texts:
        reporter = DiagnosticCollector()
        file = parse(AquaText("constant", f"aqua C\nconst {text}"), reporter)
        definition = file.definitions[0] if len(file.definitions) == 1 else None
        if reporter.failed or not isinstance(definition, ConstantSyntax):
            raise ConfigError(f"{text!r} is no constant", hint="write `NAME = literal`, for example `LIMIT = 5`")
        if not isinstance(definition.value, LiteralSyntax):
            raise ConfigError(f"{text!r} is no constant: its value is no literal", hint="strings stand in quotes")
        values[definition.name.text] = definition.value.value
    return values
