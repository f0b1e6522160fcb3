"""Services as a Markdown page, made from their interfaces and docstrings.

``python -m fluvial.services.reference > docs/services.md`` writes the reference page of the built-in services; a test compares it with the code.
"""

from __future__ import annotations

import sys
from typing import Final

from fluvial.services.accounts import OUTCOMES
from fluvial.services.builtin import BUILTINS
from fluvial.services.interface import Interface
from fluvial.services.service import describe
from fluvial.services.status import MEANINGS

_HEAD: Final = """# Built-in services

Every peer answers calls to these services. This page is made from the code by `python -m fluvial.services.reference`.

Types are written as in Aqua: `string`, `bool`, `f64` (a number, with or without a fraction), `i64`, `u64`, `u32`, `u8` (whole numbers
that fit), `[]T` (an array), `?T` (may be null, which also an empty array stands for; `[x]` stands for `x`), `{T}` (an object with any keys),
`⊤` (any value). `=…` marks an argument that may be left out, `*` one that may be given any number of times. A function without `->` gives null.
Where behaviour differs from the reference implementation on purpose, `deviations.md` says so.

## When a call fails

A failed call is an error that `xor` catches. Its code is one of these, or a service's own number.

| code | name | metric outcome | meaning |
| --- | --- | --- | --- |
"""


def page() -> str:
    """The whole page, as Markdown."""
    rows = "".join(
        f"| {status.value} | {status.name} | `{OUTCOMES[status]}` | {MEANINGS[status]} |\n" for status in MEANINGS
    )
    return _HEAD + rows + "".join(f"\n{chapter(describe(service))}" for service in BUILTINS)


def chapter(interface: Interface) -> str:
    """One service: its functions with their docstrings, and the records they name."""
    summary = _before_sections(interface.doc)
    parts: list[str] = [f"## {interface.service_id}\n\n{summary}\n"]
    for function in interface.functions.values():
        parts.append(f"### `{interface.service_id}.{function}`\n\n{function.doc}\n")
    if interface.records:
        lines = [
            f"- `{record.name}`: {', '.join(f'`{name}: {kind}`' for name, kind in record.fields)}"
            for record in interface.records
        ]
        parts.append("Records:\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def _before_sections(doc: str) -> str:
    """A class's docstring without its ``Args:``, which are for programmers."""
    return doc.split("\n\nArgs:", 1)[0]


if __name__ == "__main__":
    sys.stdout.write(page())
