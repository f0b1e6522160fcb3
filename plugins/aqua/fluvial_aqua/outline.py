"""What a file defines and exports, with types."""

from __future__ import annotations

from msgspec import Struct

from fluvial_aqua.checking.modules import Declared
from fluvial_aqua.checking.tree import FunctionUnit, LiteralValue, ServiceUnit
from fluvial_aqua.checking.types import AbilityType, AquaType, DataType, arrow_text, type_text
from fluvial_aqua.compiler import Compilation


class OutlineEntry(Struct, frozen=True):
    """A definition.

    Attributes:
        kind: ``function``, ``service``, ``type``, ``ability`` or ``constant``.
        name: its name.
        type: its type; of a record, ability or service its members are in ``fields``.
        exported: the name under which it is exported; empty if it is not.
        file: where it is, with ``line`` and ``column``, which count from 1.
    """

    kind: str
    name: str
    type: str
    fields: dict[str, str]
    exported: str
    file: str
    line: int
    column: int

    @property
    def text(self) -> str:
        """For people, one line."""
        inner = ", ".join(f"{name}: {kind}" for name, kind in self.fields.items())
        shown = f"{{{inner}}}" if self.fields else self.type
        exported = f"  (exported as {self.exported})" if self.exported else ""
        return f"{self.kind} {self.name}: {shown}{exported}"


def outline(compilation: Compilation) -> list[OutlineEntry]:
    """The definitions of a program's main file, in the order of the text."""
    exported = {id(unit): name for name, unit in compilation.program.exports.items()}
    return [_entry(declared, exported) for declared in compilation.program.module.own.values()]


def _entry(declared: Declared, exported: dict[int, str]) -> OutlineEntry:
    resolved = declared.resolved
    kind: AquaType
    if isinstance(resolved, FunctionUnit):
        kind = resolved.arrow
        text = arrow_text(resolved.arrow, names=True)
    elif isinstance(resolved, LiteralValue):
        kind = resolved.type
        text = type_text(kind)
    else:
        kind = resolved.type if isinstance(resolved, ServiceUnit) else resolved
        text = type_text(kind)
    fields = dict(kind.fields) if isinstance(kind, DataType | AbilityType) else {}
    line, column = declared.module.source.line_column(declared.syntax.name.span.start)
    return OutlineEntry(
        kind=declared.kind,
        name=declared.name,
        type=text,
        fields={name: type_text(one) for name, one in fields.items()},
        exported=exported.get(id(resolved), ""),
        file=declared.module.source.name,
        line=line,
        column=column,
    )
