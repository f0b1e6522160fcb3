"""Types and signatures."""

from __future__ import annotations

from typing import Final

from fluvial_aqua.syntax.cursor import Cursor, Mistake
from fluvial_aqua.syntax.tokens import CLASS, NAME
from fluvial_aqua.syntax.tree import ArrowSyntax, CollectionType, NamedType, ParameterSyntax, TypeSyntax
from fluvial_aqua.text import Span

TYPE_DEPTH_MAX: Final = 100
_BEGINS_TYPE: Final = (NAME, CLASS, "[", "?", "*", "**", "%", "⊤", "⊥", "(", "{", "->")


def read_type(cursor: Cursor) -> TypeSyntax:
    """A type; what stands before ``->`` and has commas is one arrow, as far as no new parameter begins."""
    start = cursor.token
    _deeper(cursor)
    try:
        if cursor.at("{"):
            return _arrow(cursor, _abilities(cursor), start.span)
        if cursor.at("->"):
            return _arrow(cursor, (), start.span)
        first = _simple(cursor)
        mark = cursor.index
        domain = [first]
        while cursor.at(",") and cursor.ahead().kind in _BEGINS_TYPE and cursor.ahead(2).kind != ":":
            cursor.next()
            if cursor.at("->", "{"):
                break
            domain.append(_simple(cursor))
        if cursor.at("->"):
            parameters = tuple(ParameterSyntax(name=None, type=one, span=one.span) for one in domain)
            return _results(cursor, (), parameters, start.span)
        cursor.index = mark
        return first
    finally:
        cursor.depth -= 1


def read_signature(cursor: Cursor) -> ArrowSyntax:
    """``{Abilities}(a: A, b: B) -> R, S`` as functions, closures and service arrows have it."""
    start = cursor.token.span
    abilities = _abilities(cursor) if cursor.at("{") else ()
    cursor.expect("(")
    parameters = cursor.listed(lambda: _parameter(cursor), ")")
    return _results(cursor, abilities, parameters, start)


def _deeper(cursor: Cursor) -> None:
    cursor.depth += 1
    if cursor.depth > TYPE_DEPTH_MAX:
        raise Mistake(cursor.token.span, "Q107", f"types and values are nested more than {TYPE_DEPTH_MAX} deep")


def _abilities(cursor: Cursor) -> tuple[NamedType, ...]:
    cursor.expect("{")
    return cursor.listed(lambda: _named(cursor), "}")


def _parameter(cursor: Cursor) -> ParameterSyntax:
    name = cursor.any_name("the name of a parameter")
    cursor.expect(":", "`:` and the parameter's type")
    kind = read_type(cursor)
    return ParameterSyntax(name=name, type=kind, span=name.span.to(kind.span))


def _arrow(cursor: Cursor, abilities: tuple[NamedType, ...], start: Span) -> ArrowSyntax:
    parameters: list[ParameterSyntax] = []
    while not cursor.at("->"):
        kind = _simple(cursor)
        parameters.append(ParameterSyntax(name=None, type=kind, span=kind.span))
        if not cursor.take(","):
            break
    return _results(cursor, abilities, tuple(parameters), start, required=True)


def _results(
    cursor: Cursor,
    abilities: tuple[NamedType, ...],
    parameters: tuple[ParameterSyntax, ...],
    start: Span,
    *,
    required: bool = False,
) -> ArrowSyntax:
    """Read what a function returns, from its ``->`` on, if there is one."""
    results: list[TypeSyntax] = []
    if required and not cursor.at("->"):
        raise cursor.wanted("`->`")
    if cursor.take("->"):
        if cursor.at("(") and cursor.ahead().kind == ")":
            cursor.next()
            cursor.next()
        else:
            results.append(read_type(cursor))
            while cursor.at(",") and cursor.ahead().kind in _BEGINS_TYPE and cursor.ahead(2).kind != ":":
                cursor.next()
                results.append(read_type(cursor))
            # The colon behind the last result may be the one that opens the function's body.
            if cursor.at(",") and cursor.ahead(3).kind != ":" and _last_result_before_body(cursor):
                cursor.next()
                results.append(read_type(cursor))
    return ArrowSyntax(
        abilities=abilities, parameters=parameters, results=tuple(results), span=start.to(cursor.before.span)
    )


def _last_result_before_body(cursor: Cursor) -> bool:
    """Whether ``, T :`` ends the line, so that the colon opens a body and ``T`` is no parameter's name."""
    return cursor.ahead(2).kind == ":" and cursor.ahead(3).kind == "end"


def _simple(cursor: Cursor) -> TypeSyntax:
    """A type that is no bare arrow."""
    start = cursor.token.span
    _deeper(cursor)
    try:
        if cursor.at("["):
            cursor.next()
            cursor.expect("]", "`]` of an array's type")
            element = _simple(cursor)
            return CollectionType(sigil="[]", element=element, span=start.to(element.span))
        if cursor.take("**"):  # the lexer takes two stars for one sign
            element = CollectionType(sigil="*", element=_simple(cursor), span=start)
            return CollectionType(sigil="*", element=element, span=start.to(cursor.before.span))
        if cursor.at("?", "*", "%"):
            sigil = cursor.next().kind
            element = _simple(cursor)
            return CollectionType(sigil=sigil, element=element, span=start.to(element.span))
        if cursor.at("⊤", "⊥"):
            return NamedType(path=(cursor.next().kind,), span=start)
        if cursor.take("("):
            inner = read_type(cursor)
            cursor.expect(")")
            return inner
        return _named(cursor)
    finally:
        cursor.depth -= 1


def _named(cursor: Cursor) -> NamedType:
    first = cursor.any_name("a type")
    path = [first.text]
    while cursor.at(".") and cursor.ahead().kind in (NAME, CLASS):
        cursor.next()
        path.append(cursor.next().text)
    return NamedType(path=tuple(path), span=first.span.to(cursor.before.span))
