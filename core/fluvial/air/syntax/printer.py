"""Typed tree to text, in today's AIR.

``to_text`` writes a whole tree so that parsing it gives the same tree; ``head`` writes one instruction without its inner ones,
as AquaVM shows it in error objects, where scripts can read it.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TypeAlias

from fluvial.air.syntax.lambdas import lambda_text
from fluvial.air.syntax.layout import set_nodes
from fluvial.air.syntax.reader import Group, Node, Quoted, Word
from fluvial.air.syntax.tree import (
    Ap,
    ApMap,
    CallInstruction,
    Canon,
    CanonMap,
    CanonStream,
    Error,
    FailLiteral,
    FailValue,
    Fold,
    InitPeerId,
    Instruction,
    LastError,
    Literal,
    Match,
    Mismatch,
    New,
    Next,
    PairPeer,
    PairService,
    Scalar,
    Seq,
    Stream,
    StreamMap,
    Timestamp,
    Ttl,
    children,
)
from fluvial.air.syntax.words import FLOAT_CHARS_MAX

Printable: TypeAlias = (
    Literal
    | InitPeerId
    | Timestamp
    | Ttl
    | Error
    | LastError
    | Scalar
    | CanonStream
    | CanonMap
    | Stream
    | StreamMap
    | PairPeer
    | PairService
)


def to_text(instruction: Instruction) -> str:
    """A whole tree as a script, set as the formatter does; an n-ary ``seq`` is written as a chain.

    ``parse(to_text(script.root)).root == script.root`` for every parsed script without the white paper's pairs. Those are written
    as the paper writes them: ``(call part "function" [])``.

    Raises:
        ValueError: the tree was made by hand and holds a value that scripts cannot express, such as a string with a quote.
    """
    finished: list[Node] = []
    waiting: list[tuple[Instruction, bool]] = [(instruction, False)]
    while waiting:
        one, inner_done = waiting.pop()
        inner = children(one)
        if not inner_done and inner:
            waiting.append((one, True))
            waiting += [(child, False) for child in reversed(inner)]
            continue
        cut = len(finished) - len(inner)
        finished[cut:] = [_group(one, finished[cut:])]
    return set_nodes(finished)


def head(instruction: Instruction, arguments_max: int | None = None) -> str:
    """One instruction's text without its inner instructions, letter by letter as AquaVM writes it.

    A call without output ends in a blank. Source: the ``Display`` implementations of AquaVM's parser.

    Args:
        instruction: which.
        arguments_max: so many arguments of a call are shown at most, for whoever shows only the beginning of the text.
    """
    name = _name(instruction)
    match instruction:
        case CallInstruction():
            arguments = " ".join(map(_shown, instruction.arguments[:arguments_max]))
            output = _shown(instruction.output) if instruction.output else ""
            triplet = f"{_shown(instruction.peer)} ({_shown(instruction.service)} {_shown(instruction.function)})"
            return f"{name} {triplet} [{arguments}] {output}"
        case Ap():
            return f"{name} {_shown(instruction.argument)} {_shown(instruction.target)}"
        case ApMap():
            return f"{name} ({_shown(instruction.key)} {_shown(instruction.argument)}) {_shown(instruction.target)}"
        case Canon():
            return f"{name} {_shown(instruction.peer)} {_shown(instruction.source)} {_shown(instruction.target)}"
        case Match() | Mismatch():
            return f"{name} {_shown(instruction.left)} {_shown(instruction.right)}"
        case Fold():
            return f"{name} {_shown(instruction.iterable)} {instruction.iterator}"
        case Next():
            return f"{name} {instruction.iterator}"
        case New():
            return f"{name} {_shown(instruction.target)}"
        case FailLiteral():
            return f'{name} {instruction.error_code} "{instruction.message}"'
        case FailValue():
            return f"{name} {_shown(instruction.value)}"
        case _:
            return name


def _name(instruction: Instruction) -> str:
    match instruction:
        case CallInstruction():
            return "call"
        case ApMap():
            return "ap"
        case FailLiteral() | FailValue():
            return "fail"
        case _:
            return type(instruction).__name__.lower()


def _shown(operand: Printable) -> str:
    """An operand as AquaVM shows it: floats without a needless fraction, strings in quotes as they are."""
    if type(operand) is Scalar and operand.path is None:  # the most, and of thousands of arguments each
        return operand.name
    if type(operand) is Literal and type(operand.value) is int:
        return str(operand.value)
    match operand:
        case Literal(float() as number):
            return _decimal(number).removesuffix(".0")
        case Literal(str() as text):
            return f'"{text}"'
        case Literal(True):
            return "true"
        case Literal(False):
            return "false"
        case Literal(()):
            return "[]"
        case Literal(value):
            return str(value)
        case InitPeerId():
            return "%init_peer_id%"
        case Timestamp():
            return "%timestamp%"
        case Ttl():
            return "%ttl%"
        case Error(path):
            return ":error:" + lambda_text(path)
        case LastError(path):
            return "%last_error%" + lambda_text(path)
        case Stream(name) | StreamMap(name):
            return name
        case Scalar(name, path) | CanonStream(name, path) | CanonMap(name, path):
            return name + lambda_text(path)
        case PairPeer(value) | PairService(value):
            return _shown(value)


def _decimal(number: float) -> str:
    """The shortest digits of a float, without exponent, with a dot."""
    text = format(Decimal(repr(number)), "f")
    return text if "." in text else text + ".0"


def _operand(operand: Printable) -> Node:
    """An operand as a script writes it."""
    match operand:
        case Literal(()):
            return _brackets("[", [])
        case Literal(str() as text):
            if '"' in text or "\0" in text:
                raise ValueError(f"AIR has no way to write a string with a quote or NUL in it: {text[:60]!r}")
            return Quoted(f'"{text}"', -1)
        case Literal(None):
            raise ValueError("AIR has no way to write null")
        case Literal(float() as number):
            text = _decimal(number)
            if len(text) > FLOAT_CHARS_MAX:
                text = text.removesuffix("0") if text.endswith(".0") else text
            if len(text) > FLOAT_CHARS_MAX:
                raise ValueError(f"AIR has no way to write {number}: more than {FLOAT_CHARS_MAX} characters")
            return Word(text, -1)
        case _:
            return Word(_shown(operand), -1)


def _brackets(bracket: str, items: list[Node]) -> Group:
    return Group(bracket, -1, -1, items)


def _round(*items: Node) -> Group:
    return _brackets("(", list(items))


def _group(instruction: Instruction, inner: list[Node]) -> Group:
    """An instruction's brackets around its inner ones."""
    name = Word(_name(instruction), -1)
    match instruction:
        case Seq():
            chain = inner[-1]
            for step in reversed(inner[:-1]):
                chain = _round(name, step, chain)
            return chain if isinstance(chain, Group) else _round(name, *inner)
        case CallInstruction():
            return _call(name, instruction)
        case ApMap():
            pair = _round(_operand(instruction.key), _operand(instruction.argument))
            return _round(name, pair, _operand(instruction.target))
        case FailLiteral():
            message = _operand(Literal(instruction.message))
            return _round(name, Word(str(instruction.error_code), -1), message)
        case _:
            return _round(name, *map(_operand, _operands(instruction)), *inner)


def _call(name: Word, call: CallInstruction) -> Group:
    arguments = _brackets("[", [_operand(argument) for argument in call.arguments])
    output = [_operand(call.output)] if call.output else []
    if isinstance(call.service, PairService):
        return _round(name, _operand(call.peer), _operand(call.function), arguments, *output)
    return _round(
        name, _operand(call.peer), _round(_operand(call.service), _operand(call.function)), arguments, *output
    )


def _operands(instruction: Instruction) -> tuple[Printable, ...]:
    match instruction:
        case Ap():
            return (instruction.argument, instruction.target)
        case Canon():
            return (instruction.peer, instruction.source, instruction.target)
        case Match() | Mismatch():
            return (instruction.left, instruction.right)
        case Fold():
            return (instruction.iterable, Scalar(instruction.iterator))
        case Next():
            return (Scalar(instruction.iterator),)
        case New():
            return (instruction.target,)
        case FailValue():
            return (instruction.value,)
        case _:
            return ()
