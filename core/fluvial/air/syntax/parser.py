"""Text to a checked tree.

``reader`` nests the brackets, ``forms`` reads each instruction's operands, ``builder`` holds the instructions around the one being
read and numbers them, ``checks`` knows the names. All of them go through the text once, in text order and without Python's
stack. A script with an older form of the white paper goes through ``builder`` a second time, then with pairs as peers (``paper``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from fluvial.air.syntax.builder import Builder
from fluvial.air.syntax.errors import AirSyntaxError, SourceText, UnreadableText
from fluvial.air.syntax.forms import read_instruction
from fluvial.air.syntax.reader import Group, Node, read
from fluvial.air.syntax.tree import Script

DEFAULT_NAME = "script.air"


def parse(text: str, *, name: str = DEFAULT_NAME, given: Collection[str] = ()) -> Script:
    """Read and check a script.

    Args:
        text: the script; today's AIR, or the older forms of the white paper.
        name: what errors call it, such as the file's name.
        given: names that have values before the script begins.

    Raises:
        AirSyntaxError: the text is no script that can be run; says where, what and what to do.
    """
    source = SourceText(text, name)
    nodes = read(source)
    builder = _builder(source, nodes, given, paper=False)
    script = _build(builder, nodes)
    if builder.operands.paper:
        return _build(_builder(source, nodes, given, paper=True), nodes)
    return script


def _builder(source: SourceText, nodes: list[Node], given: Iterable[str], *, paper: bool) -> Builder:
    builder = Builder(source, nodes, paper=paper)
    for name in given:
        builder.checks.define(name)
    return builder


def parse_bytes(data: bytes, *, name: str = DEFAULT_NAME) -> Script:
    """Read and check a script from its UTF-8 bytes.

    Raises:
        AirSyntaxError: the bytes are no UTF-8, or as for ``parse``.
    """
    return parse(decode(data, name=name), name=name)


def decode(data: bytes, *, name: str = DEFAULT_NAME) -> str:
    """The text of a file.

    Raises:
        UnreadableText: the bytes are no UTF-8.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        before = len(data[: error.start].decode())
        source = SourceText(data.decode(errors="replace"), name)
        problem = f"the byte 0x{data[error.start]:02x} is no UTF-8 here"
        raise source.error(UnreadableText, problem, before, hint="save the file as UTF-8") from error


def _build(builder: Builder, nodes: list[Node]) -> Script:
    group = _outermost(builder, nodes)
    while True:
        instruction = read_instruction(builder, group)
        root = builder.deliver(instruction) if instruction is not None else None
        if root is not None:
            return Script(root, builder.size, paper=builder.operands.paper)
        group = builder.next_part()


def _outermost(builder: Builder, nodes: list[Node]) -> Group:
    if not nodes:
        end = max(0, len(builder.source.text.rstrip()) - 1)
        hint = "a script is one instruction; the shortest is (null)"
        raise builder.source.error(AirSyntaxError, "the script is empty", end, hint=hint)
    first = nodes[0]
    if not isinstance(first, Group) or first.bracket != "(":
        raise builder.error(AirSyntaxError, "a script begins with an instruction in round brackets", first)
    if len(nodes) > 1:
        hint = "a script is one instruction; join several with (seq A B) or (par A B)"
        raise builder.error(AirSyntaxError, "something is left over behind the script's end", nodes[1], hint)
    return first
