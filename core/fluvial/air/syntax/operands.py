"""The operands of instructions: their places, their names' definitions, the white paper's way to read a stream."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, TypeGuard, TypeVar, cast

from fluvial.air.syntax.checks import Checks
from fluvial.air.syntax.errors import AirSyntaxError, SourceText, WrongOperand, shown
from fluvial.air.syntax.places import FUNCTION, ITERATOR, OUTPUT, OperandSlot
from fluvial.air.syntax.reader import Group, Node, Word
from fluvial.air.syntax.tree import (
    ByName,
    CanonMap,
    CanonStream,
    InitPeerId,
    Lambda,
    Literal,
    Path,
    Scalar,
    Stream,
    StreamMap,
)
from fluvial.air.syntax.whitepaper import UNCLOSED_INIT_PEER_ID, FreshNames, StreamRead
from fluvial.air.syntax.words import Operand, operand_of

T = TypeVar("T")

_EMPTY_ARRAY = Literal(())
_NAMED = frozenset((Scalar, CanonStream, CanonMap, Stream, StreamMap))
_WITH_PATH = frozenset((Scalar, CanonStream, CanonMap))
"""As in AquaVM: a name in the lambda of an error register that nothing defines is no static error, the instruction waits for it."""


def _is_named(operand: Operand) -> TypeGuard[Scalar | CanonStream | CanonMap | Stream | StreamMap]:
    return type(operand) in _NAMED


def _may_have_path(operand: Operand) -> TypeGuard[Scalar | CanonStream | CanonMap]:
    return type(operand) in _WITH_PATH


class OperandParser:
    """Reads operands of one script.

    Args:
        source: the script.
        checks: what names are defined so far.

    Attributes:
        paper: whether an older form was met.
        reads: the streams that the present instruction reads as values, by name.
    """

    def __init__(self, source: SourceText, checks: Checks) -> None:
        self.paper = False
        self.reads: dict[str, StreamRead] = {}
        self._source = source
        self._checks = checks
        self._words: dict[str, Operand] = {}
        # by place and text, what was read before and may be read again: names stay defined to the end of the text
        self._settled: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        self._appended: set[str] = set()  # streams written as `name[]`, with their sigil
        self._fresh: FreshNames | None = None

    def take_reads(self) -> list[StreamRead]:
        """The streams that were read as values since the last time."""
        reads, self.reads = self.reads, {}
        return list(reads.values())

    def read(self, node: Node, place: OperandSlot[T], *, checked: bool = True, streams: bool = False) -> T:
        """The operand that a part of an instruction is.

        Args:
            node: the part.
            place: where it stands.
            checked: whether its names must be defined.
            streams: whether ``acc`` may stand for the content of a stream that is written as ``acc[]``.

        Raises:
            AirSyntaxError: it is nothing that may stand there.
        """
        settled = self._settled[place.name]
        text = "" if type(node) is Group else node.text
        if (known := settled.get(text)) is not None:
            return cast(T, known)
        operand = self._operand(node)
        if type(operand) is StreamMap and operand.name == UNCLOSED_INIT_PEER_ID and not place.takes(operand):
            self.paper = True
            operand = InitPeerId()
        content = self._content(operand) if streams and self._appended else None
        found = content or operand
        if not place.takes(found):
            raise self._misplaced(node, place)
        if checked and type(node) is Word:
            if content is None and _is_named(operand):
                self._checks.use(operand.name, node)
            if _may_have_path(operand) and operand.path is not None:
                self._use_path(operand.path, node)
        if checked and content is None and text:
            settled[text] = found
        return found

    def function(self, node: Node) -> Literal | Scalar | CanonStream | CanonMap:
        """A call's function; a bare word that is no name so far is a string."""
        if type(node) is Word:
            operand = self._operand(node)
            if type(operand) is Scalar and operand.path is None and not self._is_known(operand.name):
                self.paper = True
                return Literal(operand.name)
        return self.read(node, FUNCTION, streams=True)

    def output(self, node: Node, place: OperandSlot[Scalar | Stream] = OUTPUT) -> Scalar | Stream:
        """The target of a call or an ap: a scalar, a stream, or ``acc[]`` for the stream ``$acc``."""
        appended = self._appending(node) if type(node) is Word and node.text.endswith("[]") else None
        return appended or self.read(node, place, checked=False)

    def iterator(self, node: Node) -> Word:
        """The word of a fold's or next's iterator."""
        self.read(node, ITERATOR, checked=False)
        return cast(Word, node)  # nothing else is a plain scalar

    def error(self, kind: type[AirSyntaxError], problem: str, node: Node, hint: str = "") -> AirSyntaxError:
        """An error about a part of the script, to be raised."""
        end = node.end if type(node) is Group else node.start + len(node.text)
        return self._source.error(kind, problem, node.start, end - node.start, hint=hint)

    def _operand(self, node: Node) -> Operand:
        if type(node) is Word:
            operand = self._words.get(node.text)
            if operand is None:
                operand = self._words[node.text] = operand_of(node, self._source)
            return operand
        if type(node) is not Group:
            return Literal(node.text[1:-1])
        if node.bracket == "(":
            raise self.error(WrongOperand, "a value must stand here, not brackets", node)
        if node.items:
            hint = "pass the elements one by one, or append them to a stream and fix it with `canon`"
            raise self.error(WrongOperand, "the only array that can be written in a script is `[]`", node, hint)
        return _EMPTY_ARRAY

    def _use_path(self, path: Lambda, word: Word) -> None:
        for accessor in path.accessors if isinstance(path, Path) else ():
            if isinstance(accessor, ByName):
                self._checks.use(accessor.name, word)

    def _misplaced(self, node: Node, place: OperandSlot[T]) -> AirSyntaxError:
        text = self._source.text[node.start : node.end] if type(node) is Group else node.text
        return self.error(WrongOperand, f"{shown(text)} cannot be {place.name}", node, place.hint)

    # --- the white paper's streams

    def _appending(self, word: Word) -> Stream | None:
        """``acc[]`` as a target."""
        bare = Word(word.text.removesuffix("[]"), word.start)
        if not bare.text:
            return None
        operand = operand_of(bare, self._source)
        if not isinstance(operand, Scalar) or operand.path is not None:
            return None
        self.paper = True
        self._appended.add("$" + operand.name)
        return Stream("$" + operand.name)

    def _is_known(self, name: str) -> bool:
        return self._checks.is_defined(name) or self._is_appended(name)

    def _is_appended(self, name: str) -> bool:
        return "$" + name in self._appended

    def _content(self, operand: Operand) -> CanonStream | None:
        """The canonicalised content, if an operand has the name of a stream of the white paper's form and of nothing else."""
        if type(operand) is not Scalar or self._checks.is_defined(operand.name) or not self._is_appended(operand.name):
            return None
        self.paper = True
        stream = "$" + operand.name
        read = self.reads.get(stream)
        if read is None:
            self._fresh = self._fresh or FreshNames(self._source.text)
            read = self.reads[stream] = self._fresh.read_of(stream)
        return CanonStream(read.now, operand.path)
