"""One function per instruction: from its brackets to its operands.

Each returns the finished instruction, or nothing if it has opened a frame for its inner instructions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias, cast

from fluvial.air.syntax import places
from fluvial.air.syntax.builder import Builder, Frame
from fluvial.air.syntax.errors import (
    AirSyntaxError,
    FailWithZero,
    TooLarge,
    UnknownInstruction,
    WrongOperand,
    WrongShape,
    shown,
)
from fluvial.air.syntax.reader import Group, Node, PlainCall, Quoted, Word
from fluvial.air.syntax.tree import (
    Ap,
    ApMap,
    CallInstruction,
    Canon,
    CanonMap,
    CanonStream,
    FailLiteral,
    FailValue,
    Fold,
    Instruction,
    Match,
    Mismatch,
    Never,
    New,
    Next,
    Null,
    PairService,
    Par,
    Scalar,
    Seq,
    Stream,
    StreamMap,
    Triplet,
    Value,
    Xor,
)
from fluvial.air.syntax.whitepaper import waiting_test
from fluvial.air.syntax.words import INSTRUCTIONS
from fluvial.suggestions import did_you_mean

ARGUMENTS_MAX = 10_000
"""Arguments of one call; far beyond what people or compilers write."""

Form: TypeAlias = Callable[[Builder, Group, list[Node]], Instruction | None]


def read_instruction(builder: Builder, group: Group) -> Instruction | None:
    """Read what a pair of brackets holds.

    Raises:
        AirSyntaxError: it holds no instruction, or one that is not right.
    """
    if group.call is not None:
        return _plain_call(builder, group, group.call)
    items = group.items
    head = items[0] if items else group
    form = FORMS.get(head.text) if type(head) is Word else None
    if form is not None and group.bracket == "(":
        return form(builder, group, items[1:])
    if type(head) is Word:
        hint = did_you_mean(head.text, FORMS) or f"instructions are {', '.join(FORMS)}"
        raise builder.error(UnknownInstruction, f"{shown(head.text)} is no instruction", head, hint)
    hint = f"begin with one of {', '.join(FORMS)}"
    raise builder.error(UnknownInstruction, "an instruction's name is missing", head, hint)


def _counted(builder: Builder, group: Group, parts: list[Node], least: int, most: int) -> list[Node]:
    """An instruction's parts, as many as there must be."""
    if least <= len(parts) <= most:
        return parts
    name = cast(Word, group.items[0]).text
    wanted = str(least) if least == most else f"{least} or {most}"
    problem = f"`{name}` takes {wanted} part{'' if wanted == '1' else 's'}, not {len(parts)}"
    raise builder.error(WrongShape, problem, group.items[0] if len(parts) < least else parts[most], _usage(name))


def _usage(name: str) -> str:
    hint = f"write {INSTRUCTIONS[name]}"
    if name in ("seq", "par", "xor"):
        hint += f"; for more of them nest: ({name} A ({name} B C))"
    return hint


def _inner(builder: Builder, node: Node, name: str) -> Group:
    """An inner instruction's brackets."""
    if type(node) is Group and node.bracket == "(":
        return node
    if type(node) is Word and node.text in INSTRUCTIONS:
        raise builder.error(
            AirSyntaxError, f"{shown(node.text)} needs brackets", node, f"write {INSTRUCTIONS[node.text]}"
        )
    raise builder.error(
        AirSyntaxError, f"an instruction in round brackets must stand here in `{name}`", node, _usage(name)
    )


def _no_parts(kind: type[Null] | type[Never]) -> Form:
    def form(builder: Builder, group: Group, parts: list[Node]) -> Instruction:
        _counted(builder, group, parts, 0, 0)
        return kind(number=builder.number(), at=builder.at(group))

    return form


def _two_inner(builder: Builder, group: Group, parts: list[Node], name: str) -> tuple[Group, Group]:
    left, right = _counted(builder, group, parts, 2, 2)
    return _inner(builder, left, name), _inner(builder, right, name)


def _branches(kind: type[Par] | type[Xor]) -> Form:
    name = kind.__name__.lower()

    def form(builder: Builder, group: Group, parts: list[Node]) -> None:
        left, right = _two_inner(builder, group, parts, name)
        number, at = builder.number(), builder.at(group)
        builder.open(
            Frame(kind, [right, left], lambda inner: kind(number=number, at=at, left=inner[0], right=inner[1])), group
        )

    return form


def _seq(builder: Builder, group: Group, parts: list[Node]) -> None:
    left, right = _two_inner(builder, group, parts, "seq")
    if not builder.in_seq:
        number, at = builder.number(), builder.at(group)
        builder.open(Frame(Seq, [], lambda inner: Seq(number=number, at=at, children=tuple(inner))), group)
    builder.put_in_seq(left, right)


def _plain_call(builder: Builder, group: Group, call: PlainCall) -> Instruction:
    """A call whose shape the reader has found to be right."""
    operands = builder.operands
    peer: Triplet = operands.read(call.peer, places.PEER, streams=True)
    service: Triplet = operands.read(call.service, places.SERVICE, streams=True)
    function = operands.function(call.function)
    return _finished_call(builder, group, (peer, service, function), call.arguments, call.output)


def _call(builder: Builder, group: Group, parts: list[Node]) -> Instruction:
    pair = len(parts) >= 3 and type(parts[1]) is not Group
    if len(parts) == 2 and type(parts[1]) is Group and parts[1].bracket == "(":
        builder.operands.paper = True  # neither arguments nor output
        arguments: list[Node] = []
        output = None
    else:
        parts = _counted(builder, group, parts, 3, 4)
        arguments = _arguments(builder, parts[2])
        output = parts[3] if len(parts) == 4 else None
    operands = builder.operands
    peer: Triplet = operands.read(parts[0], places.PEER, streams=True)
    if pair:
        if not isinstance(peer, Scalar | CanonStream | CanonMap):
            hint = "write `(SERVICE FUNCTION)`; only a value that names both peer and service goes without"
            raise builder.error(WrongShape, "the service is missing", parts[1], hint)
        operands.paper = True
        service: Triplet = PairService(peer)
        function: Triplet = operands.function(parts[1])
    else:
        service, function = _service_and_function(builder, parts[1])
    return _finished_call(builder, group, (peer, service, function), arguments, output)


def _finished_call(
    builder: Builder,
    group: Group,
    triplet: tuple[Triplet, Triplet, Triplet],
    arguments: Sequence[Node],
    output: Node | None,
) -> Instruction:
    operands = builder.operands
    peer, service, function = triplet
    if len(arguments) > ARGUMENTS_MAX:
        hint = "hand over an array, or collect the values in a stream"
        raise builder.error(TooLarge, f"a call has at most {ARGUMENTS_MAX:,} arguments", group, hint)
    values = tuple([operands.read(argument, places.ARGUMENT, streams=True) for argument in arguments])
    builder.fix_streams(group)
    peer = builder.calls(peer)
    target = operands.output(output) if output is not None else None
    if target is not None:
        builder.checks.define(target.name)
    return CallInstruction(
        number=builder.number(),
        at=builder.at(group),
        peer=peer,
        service=service,
        function=function,
        arguments=values,
        output=target,
    )


def _service_and_function(builder: Builder, node: Node) -> tuple[Triplet, Triplet]:
    if type(node) is not Group or node.bracket != "(" or len(node.items) != 2:
        raise builder.error(WrongShape, "service and function must stand here in round brackets", node, _usage("call"))
    service, function = node.items
    return builder.operands.read(service, places.SERVICE, streams=True), builder.operands.function(function)


def _arguments(builder: Builder, node: Node) -> list[Node]:
    if type(node) is not Group or node.bracket != "[":
        hint = "write `[]` if there are none; " + _usage("call")
        raise builder.error(WrongShape, "the arguments must stand here in square brackets", node, hint)
    return node.items


def _ap(builder: Builder, group: Group, parts: list[Node]) -> Instruction:
    pair, target = _counted(builder, group, parts, 2, 2)
    operands, at = builder.operands, builder.at(group)
    if type(pair) is Group and pair.bracket == "(":
        if len(pair.items) != 2:
            raise builder.error(WrongShape, "a pair for a stream map is a key and a value", pair, _usage("ap"))
        key = operands.read(pair.items[0], places.KEY)
        # as in AquaVM: a value that nothing defines is no static error here, the instruction waits for it
        value = operands.read(pair.items[1], places.AP_VALUE, checked=False)
        to_map = operands.read(target, places.MAP, checked=False)
        builder.checks.define(to_map.name)
        return ApMap(number=builder.number(), at=at, key=key, argument=value, target=to_map)
    argument = operands.read(pair, places.AP_VALUE)
    to = operands.output(target, places.AP_TARGET)
    builder.checks.define(to.name)
    return Ap(number=builder.number(), at=at, argument=argument, target=to)


def _canon(builder: Builder, group: Group, parts: list[Node]) -> Instruction:
    parts = _counted(builder, group, parts, 3, 3)
    operands = builder.operands
    # as in AquaVM: a peer that nothing defines is no static error here, the instruction waits for it
    peer = builder.peer(operands.read(parts[0], places.PEER, checked=False))
    source = operands.read(parts[1], places.CANON_SOURCE, checked=False)
    target: CanonStream | CanonMap | Scalar
    if isinstance(source, Stream):
        target = operands.read(parts[2], places.STREAM_CANON, checked=False)
    else:
        target = operands.read(parts[2], places.MAP_CANON, checked=False)
    builder.checks.define(target.name)
    return Canon(number=builder.number(), at=builder.at(group), peer=peer, source=source, target=target)


def _test(kind: type[Match] | type[Mismatch]) -> Form:
    name = kind.__name__.lower()

    def form(builder: Builder, group: Group, parts: list[Node]) -> Instruction | None:
        parts = _counted(builder, group, parts, 2, 3)
        left: Value = builder.operands.read(parts[0], places.COMPARED, streams=True)
        right: Value = builder.operands.read(parts[1], places.COMPARED, streams=True)
        at = builder.at(group)
        if len(parts) == 2:
            builder.operands.paper = True
            reads = builder.operands.take_reads()
            if reads:
                return waiting_test(
                    kind, (left, right), reads, peer=builder.last_peer, at=at, take_number=builder.number
                )
            number, body = builder.number(), Null(number=builder.number(), at=at)
            return kind(number=number, at=at, left=left, right=right, body=body)
        inside = _inner(builder, parts[2], name)
        builder.fix_streams(group)
        number = builder.number()
        builder.open(
            Frame(kind, [inside], lambda inner: kind(number=number, at=at, left=left, right=right, body=inner[0])),
            group,
        )
        return None

    return form


def _fold(builder: Builder, group: Group, parts: list[Node]) -> None:
    parts = _counted(builder, group, parts, 3, 4)
    iterable = builder.operands.read(parts[0], places.ITERABLE)
    word = builder.operands.iterator(parts[1])
    inside = [_inner(builder, part, "fold") for part in parts[2:]]
    number, at, iterator = builder.number(), builder.at(group), word.text

    def build(inner: list[Instruction]) -> Instruction:
        last = inner[1] if len(inner) == 2 else None
        return Fold(number=number, at=at, iterable=iterable, iterator=iterator, body=inner[0], last=last)

    over_stream = type(iterable) in (Stream, StreamMap)
    mark = builder.checks.mark
    builder.checks.open_fold(word, group.start, over_stream=over_stream)
    frame = Frame(Fold, inside[::-1], build, iterator=iterator, over_stream=over_stream, mark=mark)
    builder.open_fold(frame, group)


def _next(builder: Builder, group: Group, parts: list[Node]) -> Instruction:
    (part,) = _counted(builder, group, parts, 1, 1)
    word = builder.operands.iterator(part)
    builder.checks.next(word)
    return Next(number=builder.number(), at=builder.at(group), iterator=word.text)


def _new(builder: Builder, group: Group, parts: list[Node]) -> None:
    name, body = _counted(builder, group, parts, 2, 2)
    target = builder.operands.read(name, places.NEW_TARGET, checked=False)
    inside = _inner(builder, body, "new")
    builder.checks.new(cast(Word, name))
    number, at = builder.number(), builder.at(group)
    builder.open(Frame(New, [inside], lambda inner: New(number=number, at=at, target=target, body=inner[0])), group)


def _fail(builder: Builder, group: Group, parts: list[Node]) -> Instruction:
    parts = _counted(builder, group, parts, 1, 2)
    at = builder.at(group)
    if len(parts) == 1:
        # as in AquaVM: a value that nothing defines is no static error here
        value = builder.operands.read(parts[0], places.FAIL_SOURCE, checked=False)
        return FailValue(number=builder.number(), at=at, value=value)
    code, message = parts
    if not isinstance(message, Quoted):
        raise builder.error(WrongOperand, "the message of `fail` must be a string", message, _usage("fail"))
    error_code = cast(int, builder.operands.read(code, places.FAIL_CODE).value)
    if error_code == 0:
        raise builder.error(FailWithZero, "`fail` with code 0 would mean success", code, "choose another code")
    return FailLiteral(number=builder.number(), at=at, error_code=error_code, message=message.text[1:-1])


FORMS: Mapping[str, Form] = MappingProxyType(
    {
        "call": _call,
        "ap": _ap,
        "canon": _canon,
        "seq": _seq,
        "par": _branches(Par),
        "xor": _branches(Xor),
        "match": _test(Match),
        "mismatch": _test(Mismatch),
        "fold": _fold,
        "next": _next,
        "new": _new,
        "fail": _fail,
        "null": _no_parts(Null),
        "never": _no_parts(Never),
    }
)
"""Every instruction's form by its name."""
