"""Expressions: a Pratt parser. Each infix operator has the binding power of its left and right side."""

from __future__ import annotations

from typing import Final

from fluvial_aqua.syntax.cursor import Cursor, Mistake
from fluvial_aqua.syntax.tokens import CLASS, DECIMAL, INTEGER, NAME, SPECIAL, STRING, Token
from fluvial_aqua.syntax.tree import (
    ArgumentSyntax,
    BinarySyntax,
    CallSyntax,
    CollectionSyntax,
    CopySyntax,
    Expression,
    Identifier,
    IndexSyntax,
    LiteralSyntax,
    MemberSyntax,
    NameSyntax,
    UnarySyntax,
)

DEPTH_MAX: Final = 100
"""Brackets and operators inside each other."""

POWERS: Final[dict[str, tuple[int, int]]] = {
    "||": (1, 2),
    "&&": (3, 4),
    "==": (5, 6),
    "!=": (5, 6),
    "<": (7, 8),
    "<=": (7, 8),
    ">": (7, 8),
    ">=": (7, 8),
    "+": (9, 10),
    "-": (9, 10),
    "*": (11, 12),
    "/": (11, 12),
    "%": (11, 12),
    "**": (14, 13),
}
"""Left and right binding power of the infix operators, loosest first; ``**`` alone groups to the right."""
_NOT_WORD: Final = 5
_NOT_SIGN: Final = 15
_DO_NOT_CHAIN: Final = frozenset(("<", "<=", ">", ">="))


def read_expression(cursor: Cursor, power: int = 0) -> Expression:
    """An expression whose operators bind at least as tightly as ``power``."""
    cursor.depth += 1
    if cursor.depth > DEPTH_MAX:
        raise Mistake(cursor.token.span, "Q107", f"types and values are nested more than {DEPTH_MAX} deep")
    left = _prefix(cursor)
    while (powers := POWERS.get(cursor.token.kind)) is not None and powers[0] >= power:
        operator = cursor.next()
        right = read_expression(cursor, powers[1])
        left = BinarySyntax(operator=operator.kind, left=left, right=right, span=left.span.to(right.span))
        if operator.kind in _DO_NOT_CHAIN and cursor.token.kind in _DO_NOT_CHAIN:
            hint = "write `a < b && b < c`"
            raise Mistake(cursor.token.span, "Q114", "comparisons cannot be chained", hint)
    cursor.depth -= 1
    return left


def _prefix(cursor: Cursor) -> Expression:
    start = cursor.token
    if cursor.at_word("not") and _is_operator(start, cursor.ahead()):
        cursor.next()
        value = read_expression(cursor, _NOT_WORD)
        return UnarySyntax(value=value, span=start.span.to(value.span))
    if cursor.take("!"):
        value = read_expression(cursor, _NOT_SIGN)
        return UnarySyntax(value=value, span=start.span.to(value.span))
    if cursor.take("-"):
        if not cursor.at(INTEGER, DECIMAL):
            hint = "a sign stands only in front of a number; write `0 - x`"
            raise Mistake(start.span, "Q113", "`-` is no sign here", hint)
        literal = _number(cursor.next(), -1)
        literal.span = start.span.to(literal.span)
        return _postfix(cursor, literal)
    return _postfix(cursor, _atom(cursor))


def _is_operator(word: Token, following: Token) -> bool:
    """Whether the word ``not`` is no name here."""
    if following.kind == "(":
        return following.start > word.end
    return following.kind in (NAME, CLASS, "!", "-", SPECIAL, STRING, INTEGER)


def _atom(cursor: Cursor) -> Expression:
    token = cursor.token
    if cursor.at(INTEGER, DECIMAL):
        return _number(cursor.next(), 1)
    if cursor.take(STRING):
        return LiteralSyntax(kind="string", value=token.text[1:-1], span=token.span)
    if cursor.take(SPECIAL):
        return NameSyntax(name="INIT_PEER_ID", span=token.span)
    if cursor.at(NAME, CLASS):
        cursor.next()
        if token.text in ("true", "false"):
            return LiteralSyntax(kind="bool", value=token.text == "true", span=token.span)
        return _called(cursor, NameSyntax(name=token.text, span=token.span))
    if cursor.at("[", "?", "*"):
        return _collection(cursor)
    if cursor.take("("):
        inner = read_expression(cursor)
        cursor.expect(")")
        return inner
    raise cursor.wanted("a value")


def _number(token: Token, sign: int) -> LiteralSyntax:
    if token.kind == DECIMAL:
        return LiteralSyntax(kind="decimal", value=sign * float(token.text), span=token.span)
    if len(token.text) > 1 and token.text[0] == "0":
        raise Mistake(token.span, "Q115", "a number does not begin with 0", "write it without the leading zeros")
    if len(token.text) > 20:
        raise Mistake(token.span, "Q116", "the number does not fit 64 bits")
    return LiteralSyntax(kind="integer", value=sign * int(token.text), span=token.span)


def _collection(cursor: Cursor) -> Expression:
    start = cursor.token.span
    sigil = "[]"
    if cursor.at("?", "*"):
        sigil = cursor.next().kind
    cursor.expect("[", f"`[` behind `{sigil}`" if sigil != "[]" else "`[`")
    items = cursor.listed(lambda: read_expression(cursor), "]")
    return CollectionSyntax(sigil=sigil, items=items, span=start.to(cursor.before.span))


def _postfix(cursor: Cursor, value: Expression) -> Expression:
    """What hangs on a value: fields, calls, indices."""
    while True:
        if cursor.at("."):
            value = _member(cursor, value)
        elif cursor.at("[") and not (isinstance(value, LiteralSyntax) and value.kind != "string"):
            cursor.next()
            index = read_expression(cursor)
            closing = cursor.expect("]")
            _check_index(index)
            value = IndexSyntax(base=value, index=index, bang=False, span=value.span.to(closing.span))
        elif cursor.at("!"):
            value = _bang(cursor, value)
        else:
            return value


def _member(cursor: Cursor, value: Expression) -> Expression:
    cursor.expect(".")
    name = cursor.any_name("the name of a field or function")
    span = value.span.to(name.span)
    if name.text == "copy" and cursor.at("("):
        arguments = _arguments(cursor)
        return CopySyntax(base=value, arguments=arguments, span=value.span.to(cursor.before.span))
    return _called(cursor, MemberSyntax(base=value, name=name, span=span))


def _bang(cursor: Cursor, value: Expression) -> Expression:
    bang = cursor.next()
    index = LiteralSyntax(kind="integer", value=0, span=bang.span)
    if cursor.at(INTEGER) and cursor.token.start == bang.end:
        index = _number(cursor.next(), 1)
    return IndexSyntax(base=value, index=index, bang=True, span=value.span.to(index.span))


def _check_index(index: Expression) -> None:
    if isinstance(index, LiteralSyntax) and isinstance(index.value, int) and index.value < 0:
        raise Mistake(index.span, "Q117", "an index counts from 0 and cannot be negative")


def _called(cursor: Cursor, callee: NameSyntax | MemberSyntax) -> Expression:
    """A callee with its brackets, if it has any."""
    abilities: tuple[Expression, ...] = ()
    if cursor.at("{") and cursor.ahead().kind in (NAME, CLASS):
        cursor.next()
        abilities = cursor.listed(lambda: read_expression(cursor), "}")
        if not cursor.at("("):
            raise cursor.wanted("`(` and the arguments")
    elif not (cursor.at("(") and cursor.token.start == cursor.before.end):
        return callee
    arguments = _arguments(cursor)
    span = callee.span.to(cursor.before.span)
    return CallSyntax(callee=callee, abilities=abilities, arguments=arguments, span=span)


def _arguments(cursor: Cursor) -> tuple[ArgumentSyntax, ...]:
    cursor.expect("(")
    return cursor.listed(lambda: _argument(cursor), ")")


def _argument(cursor: Cursor) -> ArgumentSyntax:
    if cursor.at(NAME, CLASS) and cursor.ahead().kind == "=":
        token = cursor.next()
        cursor.next()
        value = read_expression(cursor)
        name = Identifier(text=token.text, span=token.span)
        return ArgumentSyntax(name=name, value=value, span=token.span.to(value.span))
    value = read_expression(cursor)
    return ArgumentSyntax(name=None, value=value, span=value.span)
