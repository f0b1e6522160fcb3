"""What an editor asks about a program: what stands at a place, where it is defined and mentioned, what could be written there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, TypeAlias

from msgspec import Struct

from fluvial_aqua.checking.expressions import WELL_KNOWN
from fluvial_aqua.checking.modules import Declared
from fluvial_aqua.checking.tree import FunctionUnit, LiteralValue, ServiceUnit, TextPlace, Variable
from fluvial_aqua.checking.types import SCALARS, AbilityType, AquaType, ArrowType, DataType, arrow_text, type_text
from fluvial_aqua.compiler import Compilation
from fluvial_aqua.text import AquaText, Span

EditorTarget: TypeAlias = Variable | Declared

KEYWORDS: Final = (
    *("func", "service", "data", "ability", "alias", "const", "import", "use", "from", "as", "export"),
    *("on", "via", "for", "par", "parseq", "if", "else", "try", "catch", "otherwise", "co", "join", "rec", "not"),
)
_BEFORE: Final = re.compile(r"(?:([A-Za-z]\w*)\s*\.\s*)?([A-Za-z]\w*)?$")
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


class Suggestion(Struct, frozen=True):
    """Something that could be written; ``kind`` is ``keyword``, ``function``, ``variable``, ``field``, ``type`` or ``service``."""

    text: str
    kind: str
    detail: str


class EditorView:
    """Answers questions about a checked program.

    Args:
        compilation: the program.
    """

    def __init__(self, compilation: Compilation) -> None:
        self._program = compilation.program
        self._mentions = compilation.program.declarations.mentions

    def at(self, path: str, offset: int) -> tuple[EditorTarget, Span] | None:
        """What the name at a place stands for, and the name's characters."""
        for mention in self._mentions:
            span = mention.place.span
            if mention.place.source.name == path and span.start <= offset <= span.end:
                return mention.target, span
        return None

    def definition(self, target: EditorTarget) -> TextPlace:
        """Where something is defined."""
        if isinstance(target, Variable):
            return target.place
        return TextPlace(target.module.source, target.syntax.name.span)

    def places(self, target: EditorTarget) -> list[TextPlace]:
        """Where something is mentioned, its definition included, each place once."""
        found = {
            (one.place.source.name, one.place.span.start): one.place for one in self._mentions if one.target is target
        }
        name = target.name
        return [
            place
            for _, place in sorted(found.items())
            if place.source.text[place.span.start : place.span.end] == name  # not under another name
        ]

    def hover(self, target: EditorTarget) -> str:
        """What something is, as Aqua writes it."""
        if isinstance(target, Variable):
            return f"{target.name}: {type_text(target.type)}"
        resolved = target.resolved
        if isinstance(resolved, FunctionUnit):
            return f"func {target.name}{arrow_text(resolved.arrow, names=True)}"
        if isinstance(resolved, LiteralValue):
            return f"const {target.name} = {resolved.value!r}"
        kind = resolved.type if isinstance(resolved, ServiceUnit) else resolved
        if isinstance(kind, DataType | AbilityType):
            inner = "\n".join(f"  {_field(name, one)}" for name, one in kind.fields)
            return f"{'data' if target.kind == 'type' else target.kind} {target.name}:\n{inner}"
        return f"alias {target.name}: {type_text(kind)}" if kind is not None else target.name

    def rename_problem(self, target: EditorTarget, name: str) -> str:
        """Why something cannot be given a name; empty if it can."""
        if not _NAME.fullmatch(name) or (name[0].isupper() != target.name[0].isupper()):
            return f"`{name}` is no name for this: it begins with {'a capital' if target.name[0].isupper() else 'a small'} letter"
        if any(one.target.name == name and one.target is not target for one in self._mentions):
            return f"there is a `{name}` already"
        return ""

    def suggestions(self, source: AquaText, offset: int) -> list[Suggestion]:
        """What could be written at a place: members behind a dot, else names that are known there."""
        before = source.text[max(0, source.text.rfind("\n", 0, offset) + 1) : offset]
        found = _BEFORE.search(before)
        owner = found[1] if found is not None else None
        if owner is not None:
            return list(self._members(owner, source, offset))
        return [*self._names(source, offset), *(Suggestion(word, "keyword", "") for word in KEYWORDS)]

    def _members(self, owner: str, source: AquaText, offset: int) -> Iterator[Suggestion]:
        kind: AquaType | None = None
        for variable in self._visible(source, offset):
            if variable.name == owner:
                kind = variable.type
        module = self._program.modules.get(source.name, self._program.module)
        declared = module.names.get(owner)
        if kind is None and declared is not None and isinstance(declared.resolved, ServiceUnit):
            kind = declared.resolved.type
        if isinstance(kind, DataType | AbilityType):
            for name, one in kind.fields:
                yield Suggestion(name, "function" if isinstance(one, ArrowType) else "field", type_text(one))
        for name, inner in module.spaces.get(owner, {}).items():
            yield Suggestion(name, inner.kind, self.hover(inner))

    def _names(self, source: AquaText, offset: int) -> Iterator[Suggestion]:
        seen: set[str] = set()
        for variable in self._visible(source, offset):
            if variable.name not in seen:
                seen.add(variable.name)
                yield Suggestion(variable.name, "variable", type_text(variable.type))
        module = self._program.modules.get(source.name, self._program.module)
        for name, declared in module.names.items():
            yield Suggestion(name, declared.kind, self.hover(declared))
        for name, kind in WELL_KNOWN.items():
            yield Suggestion(name, "variable", type_text(kind))
        for name in sorted(SCALARS):
            yield Suggestion(name, "type", "")

    def _visible(self, source: AquaText, offset: int) -> Iterator[Variable]:
        """Variables of the function around a place that are defined before it, the nearest first."""
        starts = [one.syntax.span.start for one in self._program.module.own.values() if one.syntax.span.start <= offset]
        start = max(starts, default=0)
        for variable in reversed(self._program.variables):
            place = variable.place
            if place.source.name == source.name and start <= place.span.start < offset:
                yield variable


def _field(name: str, kind: AquaType) -> str:
    return f"{name}{arrow_text(kind, names=True)}" if isinstance(kind, ArrowType) else f"{name}: {type_text(kind)}"
