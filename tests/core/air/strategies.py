"""Random AIR for property tests: valid typed trees, and texts that are nearly AIR.

``scripts()`` draws trees as the parser makes them: numbered in pre-order, nested ``seq`` flattened, every name defined before it is
read, at most one ``next`` per fold and nothing behind it where that is not allowed. So ``parse(to_text(script.root))`` is the script.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from fluvial.air.syntax.tree import (
    Accessor,
    Ap,
    ApMap,
    ByName,
    CallInstruction,
    Canon,
    CanonMap,
    CanonStream,
    Error,
    FailLiteral,
    FailValue,
    Field,
    Fold,
    Index,
    InitPeerId,
    Instruction,
    Iterable,
    Lambda,
    LastError,
    Length,
    Literal,
    Match,
    Mismatch,
    Never,
    New,
    Next,
    Null,
    Par,
    Path,
    Scalar,
    Script,
    Seq,
    Stream,
    StreamMap,
    Timestamp,
    Triplet,
    Ttl,
    Value,
    Xor,
)
from hypothesis import strategies as st
from msgspec.structs import replace

DEPTH_MAX = 4

STRINGS = st.text(st.characters(exclude_characters='"\0', exclude_categories=["Cs"]), max_size=12)
FLOATS = st.builds(
    lambda negative, whole, digits: float(f"{'-' if negative else ''}{whole}.{digits}"),
    st.booleans(),
    st.integers(0, 99_999),
    st.text("0123456789", min_size=1, max_size=4),
)
LITERALS = st.one_of(STRINGS, st.integers(-(2**63), 2**63 - 1), FLOATS, st.booleans(), st.just(())).map(Literal)
FIELD_NAMES = st.from_regex(r"[A-Za-z_\-é][A-Za-z0-9_\-é]{0,6}", fullmatch=True)


@dataclass
class _Scope:
    """What is known at a place, and the next number."""

    names: list[str] = field(default_factory=list)
    numbers: list[int] = field(default_factory=lambda: [0])
    made: list[int] = field(default_factory=lambda: [0])
    iterators: tuple[str, ...] = ()

    def number(self) -> int:
        self.numbers[0] += 1
        return self.numbers[0] - 1

    def fresh(self, sigil: str) -> str:
        self.made[0] += 1
        return f"{sigil}{'xyz'[self.made[0] % 3]}{self.made[0]}"

    def define(self, name: str) -> str:
        if name not in self.names:
            self.names.append(name)
        return name

    def known(self, *sigils: str) -> list[str]:
        return [name for name in self.names if _sigil(name) in sigils]


def _sigil(name: str) -> str:
    return next((sigil for sigil in ("#%", "#", "$", "%") if name.startswith(sigil)), "")


class _Drawing:
    """Draws the parts of one tree, in text order."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw

    def chance(self, one_in: int) -> bool:
        return self.draw(st.integers(1, one_in)) == 1

    def path(self, scope: _Scope) -> Lambda:
        if self.chance(4):
            return Length()
        kinds: list[st.SearchStrategy[Accessor]] = [
            st.builds(Field, FIELD_NAMES),
            st.builds(Index, st.integers(0, 2**32 - 1)),
        ]
        if scalars := scope.known(""):
            kinds.append(st.builds(ByName, st.sampled_from(scalars)))
        return Path(tuple(self.draw(st.lists(st.one_of(kinds), min_size=1, max_size=3))))

    def variable(self, scope: _Scope, *sigils: str, part: bool | None = None) -> Scalar | CanonStream | CanonMap | None:
        names = scope.known(*sigils)
        if not names:
            return None
        name = self.draw(st.sampled_from(names))
        has_path = self.chance(2) if part is None else part
        path = self.path(scope) if has_path else None
        kinds: dict[str, Callable[[str, Lambda | None], Scalar | CanonStream | CanonMap]] = {
            "": Scalar,
            "#": CanonStream,
            "#%": CanonMap,
        }
        return kinds[_sigil(name)](name, path)

    def value(self, scope: _Scope) -> Value:
        if self.chance(2) and (found := self.variable(scope, "", "#", "#%")):
            return found
        if self.chance(5):
            path = self.path(scope) if self.chance(2) else None
            return Error(path) if self.chance(2) else LastError(path)
        places: list[Value] = [InitPeerId(), Timestamp(), Ttl()]
        return self.draw(st.sampled_from(places)) if self.chance(4) else self.draw(LITERALS)

    def ap_value(self, scope: _Scope) -> Value:
        value = self.value(scope)
        return Literal("whole map") if isinstance(value, CanonMap) and value.path is None else value

    def word(self, scope: _Scope) -> Literal | Scalar | CanonStream | CanonMap:
        if self.chance(3) and (found := self.variable(scope, "")):
            return found
        if self.chance(6) and (found := self.variable(scope, "#", "#%", part=True)):
            return found
        return Literal(self.draw(STRINGS))

    def peer(self, scope: _Scope) -> Triplet:
        return InitPeerId() if self.chance(2) else self.word(scope)

    def target(self, scope: _Scope) -> Scalar | Stream:
        sigil = self.draw(st.sampled_from(["", "$"]))
        known = scope.known("$") if sigil else []
        name = self.draw(st.sampled_from(known)) if known and self.chance(2) else scope.fresh(sigil)
        return Stream(name) if sigil else Scalar(name)

    # --- instructions

    def instruction(self, scope: _Scope, depth: int, *, tail: str | None = None, in_seq: bool = False) -> Instruction:
        """One instruction; it ends in the ``next`` of ``tail`` if there is one."""
        if tail is not None:
            return self.ending(scope, depth, tail, in_seq=in_seq)
        leaves = [self.call, self.ap, self.ap_map, self.canon, self.fail, self.bare]
        inner = [self.par, self.xor, self.test, self.fold, self.new]
        if depth <= 0:
            return self.draw(st.sampled_from(leaves))(scope)
        if not in_seq and self.chance(3):
            return self.seq(scope, depth, None)
        if self.chance(2):
            return self.draw(st.sampled_from(leaves))(scope)
        return self.draw(st.sampled_from(inner))(scope, depth)

    def ending(self, scope: _Scope, depth: int, tail: str, *, in_seq: bool) -> Instruction:
        shape = self.draw(st.integers(0, 4)) if depth > 0 else 0
        if shape == 1 and not in_seq:
            return self.seq(scope, depth, tail)
        if shape == 2:
            number = scope.number()
            left = self.instruction(scope, depth - 1)
            return Par(number=number, left=left, right=self.instruction(scope, depth - 1, tail=tail))
        if shape == 3:
            number, value = scope.number(), self.value(scope)
            body = self.instruction(scope, depth - 1, tail=tail)
            return Match(number=number, left=value, right=self.value_like(value), body=body)
        if shape == 4:
            number = scope.number()
            left = self.instruction(scope, depth - 1, tail=tail)
            return Xor(number=number, left=left, right=self.instruction(scope, depth - 1))
        return Next(number=scope.number(), iterator=tail)

    def value_like(self, value: Value) -> Value:
        return replace(value) if self.chance(2) else Literal(1)

    def seq(self, scope: _Scope, depth: int, tail: str | None) -> Instruction:
        number = scope.number()
        count = self.draw(st.integers(2, 4))
        children = [self.instruction(scope, depth - 1, in_seq=True) for _ in range(count - 1)]
        children.append(self.instruction(scope, depth - 1, tail=tail, in_seq=True))
        return Seq(number=number, children=tuple(children))

    def call(self, scope: _Scope) -> Instruction:
        peer, service, function = self.peer(scope), self.word(scope), self.word(scope)
        arguments = tuple(self.value(scope) for _ in range(self.draw(st.integers(0, 3))))
        output = self.target(scope) if self.chance(2) else None
        if output is not None:
            scope.define(output.name)
        number = scope.number()
        return CallInstruction(
            number=number, peer=peer, service=service, function=function, arguments=arguments, output=output
        )

    def ap(self, scope: _Scope) -> Instruction:
        argument, target = self.ap_value(scope), self.target(scope)
        scope.define(target.name)
        return Ap(number=scope.number(), argument=argument, target=target)

    def ap_map(self, scope: _Scope) -> Instruction:
        found = self.variable(scope, "") if self.chance(2) else None
        key = found if isinstance(found, Scalar) else Literal(self.draw(st.one_of(STRINGS, st.integers(-5, 5))))
        argument = self.ap_value(scope)
        target = StreamMap(scope.define(scope.fresh("%")))
        return ApMap(number=scope.number(), key=key, argument=argument, target=target)

    def canon(self, scope: _Scope) -> Instruction:
        peer = self.peer(scope)
        source: Stream | StreamMap
        target: CanonStream | CanonMap | Scalar
        if self.chance(2):
            source, target = Stream(scope.fresh("$")), CanonStream(scope.fresh(self.draw(st.sampled_from(["#", "#$"]))))
        elif self.chance(2):
            source, target = StreamMap(scope.fresh("%")), CanonMap(scope.fresh("#%"))
        else:
            source, target = StreamMap(scope.fresh("%")), Scalar(scope.fresh(""))
        scope.define(target.name)
        return Canon(number=scope.number(), peer=peer, source=source, target=target)

    def fail(self, scope: _Scope) -> Instruction:
        if self.chance(2):
            code = self.draw(st.integers(-5, 5).filter(bool))
            return FailLiteral(number=scope.number(), error_code=code, message=self.draw(STRINGS))
        found = self.variable(scope, "")
        if isinstance(found, Scalar):
            return FailValue(number=scope.number(), value=found)
        return FailValue(number=scope.number(), value=Error() if self.chance(2) else LastError())

    def bare(self, scope: _Scope) -> Instruction:
        return self.draw(st.sampled_from([Null, Never]))(number=scope.number())

    def par(self, scope: _Scope, depth: int) -> Instruction:
        number = scope.number()
        left = self.instruction(scope, depth - 1)
        return Par(number=number, left=left, right=self.instruction(scope, depth - 1))

    def xor(self, scope: _Scope, depth: int) -> Instruction:
        number = scope.number()
        left = self.instruction(scope, depth - 1)
        return Xor(number=number, left=left, right=self.instruction(scope, depth - 1))

    def test(self, scope: _Scope, depth: int) -> Instruction:
        kind = self.draw(st.sampled_from([Match, Mismatch]))
        number, left, right = scope.number(), self.value(scope), self.value(scope)
        return kind(number=number, left=left, right=right, body=self.instruction(scope, depth - 1))

    def new(self, scope: _Scope, depth: int) -> Instruction:
        number = scope.number()
        kinds: dict[str, Callable[[str], Scalar | Stream | StreamMap | CanonStream | CanonMap]] = {
            "": Scalar,
            "$": Stream,
            "%": StreamMap,
            "#": CanonStream,
            "#%": CanonMap,
        }
        sigil = self.draw(st.sampled_from(sorted(kinds)))
        target = kinds[sigil](scope.define(scope.fresh(sigil)))
        return New(number=number, target=target, body=self.instruction(scope, depth - 1))

    def fold(self, scope: _Scope, depth: int) -> Instruction:
        number, iterable = scope.number(), self.iterable(scope)
        iterator = scope.define(scope.fresh(""))
        tail = None if self.chance(4) else iterator
        body = self.instruction(scope, depth - 1, tail=tail)
        last = self.instruction(scope, depth - 2) if self.chance(4) else None
        return Fold(number=number, iterable=iterable, iterator=iterator, body=body, last=last)

    def iterable(self, scope: _Scope) -> Iterable:
        sources: list[Iterable] = [Stream(name) for name in scope.known("$")]
        sources += [StreamMap(name) for name in scope.known("%")]
        if sources and self.chance(2):
            return self.draw(st.sampled_from(sources))
        found = self.variable(scope, "", "#%") if self.chance(2) else self.variable(scope, "#", part=False)
        return found or Literal(())


@st.composite
def scripts(draw: st.DrawFn, depth: int = DEPTH_MAX) -> Script:
    """Valid scripts in today's AIR, at most ``depth`` instructions deep."""
    scope = _Scope()
    root = _Drawing(draw).instruction(scope, depth)
    return Script(root, scope.numbers[0])


PIECES = st.one_of(
    st.sampled_from(
        [
            "(",
            ")",
            "[",
            "]",
            '"',
            ";",
            "\n",
            ".",
            "-",
            "call",
            "ap",
            "canon",
            "seq",
            "par",
            "xor",
            "match",
            "mismatch",
            "fold",
            "next",
            "new",
            "fail",
            "null",
            "never",
            "(null)",
            "[]",
            "x",
            "i",
            "$s",
            "%m",
            "#c",
            "#%m",
            "x.$.a",
            "x.length",
            "x.$.[0]",
            "x.$.[i]",
            "#c.$.[0]",
            "#%m.$.k",
            ":error:",
            "%last_error%.$.message",
            "%init_peer_id%",
            "%init_peer_id",
            "%ttl%",
            "true",
            "1",
            "-1",
            "1.5",
            "0",
            "acc[]",
            "acc",
            "acc.length",
        ]
    ),
    STRINGS.map(lambda text: f'"{text}"'),
    st.text(max_size=4),
)
NEARLY_AIR = st.lists(PIECES, max_size=40).map(" ".join)
"""Texts of AIR's words and brackets in any order."""


@st.composite
def mutated(draw: st.DrawFn, text: str) -> str:
    """A text with a few pieces taken out, doubled or replaced."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 8)))
        text = text[:start] + draw(PIECES) * draw(st.integers(0, 2)) + text[end:]
    return text
