"""The pages of the documentation: their fenced blocks, and the stretches that are made from the code.

``python -m tests.docs.pages`` at the root of the checkout writes those stretches anew; a test compares them with the code.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, get_args, get_origin

import msgspec
from fluvial import hooks
from fluvial.cli.explain import explanations
from fluvial.config.settings import INIT_SEATS, SEAT_DEFAULTS, CoreSections
from fluvial.plugins import load_plugins

ROOT: Final = Path(__file__).resolve().parents[2]
PAGES: Final = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("plugins/*/README.md")])
_FENCE: Final = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE: Final = re.compile(r"<!-- file: (\S+) -->\n\Z")
_MADE: Final = re.compile(r"(?<=<!-- made from the code: )(?P<what>[\w ]+) -->\n(?P<text>.*?)<!-- end -->", re.DOTALL)
_HOOK_PART: Final = re.compile(r"\s*\b(When|May / must not|Results|Order|Errors|Since):\s+")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: where it begins, its language and further words, its text, and the file it repeats."""

    page: str
    line: int
    info: tuple[str, ...]
    text: str
    file: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(*info: str) -> list[Block]:
    """All blocks whose info string begins with these words."""
    return [block for page in PAGES for block in _blocks(page) if block.info[: len(info)] == info]


def _blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        file = _FILE.search(text[: found.start()])
        line = text.count("\n", 0, found.start()) + 1
        name = page.relative_to(ROOT).as_posix()
        yield Block(name, line, tuple(found["info"].split()), found["text"], file[1] if file else "")


def section(page: str, heading: str) -> str:
    """The text below a heading of a page of ``docs``, up to the next one of its level or a higher one."""
    level = heading.partition(" ")[0]
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^#{{1,{len(level)}}} |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"{page} has no heading {heading!r}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The cells of all table rows in a text, heads left out."""
    lines = re.findall(r"^\|(.*)\|$", text, re.MULTILINE)
    cells = [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)] for line in lines]
    rules = [number for number, row in enumerate(cells) if all(set(cell) == {"-"} for cell in row)]
    return [row for number, row in enumerate(cells) if number not in rules and number + 1 not in rules]


def words(cell: str) -> list[str]:
    """What stands in back quotes in a cell."""
    return re.findall(r"`([^`]+)`", cell)


# --- what is made from the code ---------------------------------------------------------------------------------------


def made(page: Path) -> Iterator[tuple[str, str]]:
    """The stretches of a page that are made from the code: what, and the present text."""
    for found in _MADE.finditer(page.read_text(encoding="utf-8")):
        yield found["what"], found["text"]


def static_checks() -> str:
    """The codes of ``AirSyntaxError`` with their explanations."""
    table = [("code", "what is wrong", "meaning")]
    for code, text in explanations().items():
        if code.startswith("A"):
            meaning = " ".join(text["meaning"].split())
            table.append((code, text["title"].removeprefix("AIR: "), meaning))
    return _table(table)


def settings() -> str:
    """All keys of ``fluvial.toml``: core's, then those of whoever takes a seat by default."""
    fields = msgspec.structs.fields(CoreSections)
    parts = [_keys("", [one for one in fields if not isinstance(one.default, msgspec.Struct)])]
    for one in fields:
        if isinstance(one.default, msgspec.Struct):
            parts.append(_keys(f"[{one.name}]", msgspec.structs.fields(type(one.default))))
    plugins = load_plugins()
    for seat, kind in [*SEAT_DEFAULTS.items(), *INIT_SEATS.items()]:
        options = msgspec.structs.fields(plugins.select(seat, kind).options)
        parts.append(_keys(f'[{seat}] kind = "{kind}"', options))
    return "\n".join(parts)


def hook_contracts() -> str:
    """Every hook with its contract."""
    parts = []
    for name, hook in vars(hooks).items():
        if not (name.startswith("fluvial_") and inspect.isfunction(hook)):
            continue
        doc = " ".join((inspect.getdoc(hook) or "").replace("``", "`").split())
        first, *pieces = _HOOK_PART.split(doc)
        arguments = ", ".join(inspect.signature(hook).parameters)
        lines = [f"- {part}: {text}" for part, text in zip(pieces[::2], pieces[1::2], strict=True)]
        parts.append("\n".join([f"### `{name}({arguments})`", "", first, "", *lines, ""]))
    return "\n".join(parts)


MAKERS: Final[dict[str, Callable[[], str]]] = {
    "static checks": static_checks,
    "settings": settings,
    "hooks": hook_contracts,
}


def _keys(head: str, fields: Any) -> str:
    title = f"### `{head}`\n\n" if head else "### At the top\n\n"
    if not fields:
        return f"{title}No further keys.\n"
    return title + _table([("key", "default", "meaning"), *map(_key, fields)])


def _key(field: msgspec.structs.FieldInfo) -> tuple[str, str, str]:
    default = "required" if field.required else f"`{_value(_default(field))}`"
    meta = get_args(field.type)[1:] if get_origin(field.type) is Annotated else ()
    texts = [one.description for one in meta if isinstance(one, msgspec.Meta) and one.description]
    return f"`{field.encode_name}`", default, " ".join(texts) or MEANINGS[field.encode_name]


def _default(field: msgspec.structs.FieldInfo) -> Any:
    return field.default if field.default is not msgspec.NODEFAULT else field.default_factory()


MEANINGS: Final = {
    "services": 'Python services to run, as `"module:Class"`',
}
"""Of options that do not describe themselves."""


def _value(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:_}"
    return msgspec.json.encode(value).decode()


def _table(lines: Sequence[tuple[str, ...]]) -> str:
    head, *rest = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in [head, ["---"] * len(head), *rest])


def rewrite() -> None:
    """Write all stretches anew."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        new = _MADE.sub(lambda found: f"{found['what']} -->\n{MAKERS[found['what']]()}<!-- end -->", text)
        if new != text:
            page.write_text(new, encoding="utf-8")
            print(f"wrote {page.relative_to(ROOT)}")


if __name__ == "__main__":
    rewrite()
