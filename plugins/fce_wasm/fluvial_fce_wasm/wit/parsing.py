"""Reads a WIT package with one interface, as host interfaces and services declare it.

Understood are records, variants, enums, flags, type aliases and functions. Worlds are skipped; resources, ``use`` and several interfaces are refused.

Source: the WIT grammar of the Component Model.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

from fluvial_fce_wasm.wit.types import (
    INTEGERS,
    WitEnum,
    WitFlags,
    WitFunction,
    WitInterface,
    WitList,
    WitOption,
    WitPrimitive,
    WitRecord,
    WitResult,
    WitTuple,
    WitType,
    WitVariant,
)

T = TypeVar("T")

_TOKEN: Final = re.compile(
    r"(?P<skip>\s+|//[^\n]*|/\*.*?\*/)|(?P<version>@\d+\.\d+\.\d+[0-9A-Za-z.+-]*)"
    r"|(?P<name>%?[A-Za-z][A-Za-z0-9]*(?:-[A-Za-z0-9]+)*)|(?P<sign>->|[{}()<>:;,=/_])",
    re.DOTALL,
)
_PRIMITIVES: Final = frozenset({*INTEGERS, "bool", "f32", "f64", "char", "string"})
_DEPTH_MAX: Final = 50


class WitSyntaxError(ValueError):
    """The text is no such package; ``str`` says where and why."""


def parse_interface(text: str) -> tuple[str, WitInterface]:
    """The full name, ``ns:package/interface@version``, and the interface of a package.

    Raises:
        WitSyntaxError: the text is no WIT package with one interface that is understood.
    """
    return _Parser(text).package()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, str, int]] = []
        place = 0
        while place < len(text):
            match = _TOKEN.match(text, place)
            if match is None:
                raise WitSyntaxError(f"line {_line(text, place)}: {text[place]!r} does not belong there")
            if match.lastgroup != "skip":
                self._tokens.append((match.lastgroup or "", match[0], place))
            place = match.end()
        self._at = 0
        self._types: dict[str, WitType] = {}

    def package(self) -> tuple[str, WitInterface]:
        self._expect("package")
        base = f"{self._name()}{self._expect(':')}{self._name()}"
        version = self._next() if self._kind() == "version" else ""
        self._expect(";")
        found: list[tuple[str, WitInterface]] = []
        while self._at < len(self._tokens):
            word = self._next()
            if word == "interface":
                found.append((f"{base}/{self._name()}{version}", self._interface()))
            elif word == "world":
                self._skip_block()
            else:
                raise self._wrong(f"an interface, not {word!r}")
        if len(found) != 1:
            raise WitSyntaxError(f"there must be one interface, not {len(found)}")
        return found[0]

    def _skip_block(self) -> None:
        depth = 0
        while True:
            word = self._next()
            depth += (word == "{") - (word == "}")
            if word == "}" and not depth:
                return

    def _interface(self) -> WitInterface:
        functions: dict[str, WitFunction] = {}
        self._expect("{")
        while not self._accept("}"):
            word = self._peek()
            if word in ("record", "variant", "enum", "flags", "type"):
                self._next()
                self._declare(word)
            elif word in ("resource", "use"):
                raise self._wrong(f"no {word!r} in an interface for hosts")
            else:
                name = self._name()
                if name in functions:
                    raise self._wrong(f"one function {name!r} only")
                self._expect(":")
                functions[name] = self._function()
        return WitInterface(functions, self._types)

    def _declare(self, word: str) -> None:
        name = self._name()
        if name in self._types:
            raise self._wrong(f"one type {name!r} only")
        kind: WitType
        if word == "type":
            self._expect("=")
            kind = self._type()
            self._expect(";")
        elif word == "record":
            kind = WitRecord(self._block(self._field))
        elif word == "variant":
            kind = WitVariant(self._block(self._case))
        else:
            names = self._block(self._name)
            kind = WitEnum(names) if word == "enum" else WitFlags(names)
        self._types[name] = kind

    def _block(self, item: Callable[[], T]) -> tuple[T, ...]:
        self._expect("{")
        return self._until("}", item)

    def _until(self, end: str, item: Callable[[], T]) -> tuple[T, ...]:
        found: list[T] = []
        while not self._accept(end):
            found.append(item())
            if not self._accept(","):
                self._expect(end)
                break
        return tuple(found)

    def _field(self) -> tuple[str, WitType]:
        name = self._name()
        self._expect(":")
        return name, self._type()

    def _case(self) -> tuple[str, WitType | None]:
        name = self._name()
        if not self._accept("("):
            return name, None
        kind = self._type()
        self._expect(")")
        return name, kind

    def _function(self) -> WitFunction:
        self._expect("func")
        self._expect("(")
        parameters = self._until(")", self._field)
        result = self._type() if self._accept("->") else None
        self._expect(";")
        return WitFunction(parameters, result)

    def _type(self, depth: int = 0) -> WitType:
        if depth > _DEPTH_MAX:
            raise self._wrong("a shallower type")
        word = self._name(keywords=True)
        if word in _PRIMITIVES:
            return WitPrimitive(word)  # type: ignore[arg-type]  # it is one of them
        if word == "result" and not self._follows("<"):
            return WitResult()
        if word in ("list", "option", "result", "tuple"):
            self._expect("<")
            parts = self._until(">", lambda: None if self._accept("_") else self._type(depth + 1))
            return self._made(word, parts)
        if word.removeprefix("%") in self._types:
            return self._types[word.removeprefix("%")]
        raise self._wrong(f"a type that is declared before, not {word!r}")

    def _made(self, word: str, parts: tuple[Any, ...]) -> WitType:
        if word == "result" and len(parts) in (1, 2) and not (len(parts) == 1 and parts[0] is None):
            return WitResult(*parts)
        if None not in parts and parts:
            if word == "tuple":
                return WitTuple(parts)
            if len(parts) == 1:
                return WitList(parts[0]) if word == "list" else WitOption(parts[0])
        raise self._wrong(f"other parameters of {word}<…>")

    # --- tokens -------------------------------------------------------------------------------------------------------

    def _peek(self) -> str:
        return self._tokens[self._at][1] if self._at < len(self._tokens) else ""

    def _kind(self) -> str:
        return self._tokens[self._at][0] if self._at < len(self._tokens) else ""

    def _follows(self, text: str) -> bool:
        return self._peek() == text

    def _next(self) -> str:
        word = self._peek()
        if not word:
            raise self._wrong("more text")
        self._at += 1
        return word

    def _accept(self, text: str) -> bool:
        if self._follows(text):
            self._at += 1
            return True
        return False

    def _expect(self, text: str) -> str:
        if not self._accept(text):
            raise self._wrong(repr(text))
        return text

    def _name(self, *, keywords: bool = False) -> str:
        if self._kind() != "name":
            raise self._wrong("a name")
        word = self._next()
        return word if keywords else word.removeprefix("%")

    def _wrong(self, wanted: str) -> WitSyntaxError:
        place = self._tokens[self._at][2] if self._at < len(self._tokens) else len(self._text)
        found = self._peek() or "the end"
        return WitSyntaxError(f"line {_line(self._text, place)}: here must be {wanted}; there is {found!r}")


def _line(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1
