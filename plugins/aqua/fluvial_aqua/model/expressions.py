"""Expressions to operands; what has to be done for a value becomes instructions before it is used."""

from __future__ import annotations

from typing import Final

from fluvial_aqua.checking.tree import (
    CallExpression,
    Checked,
    CheckedExpression,
    CopyRecord,
    ElementOf,
    FieldOf,
    FunctionValue,
    LengthOf,
    LiteralValue,
    MakeCollection,
    MakeRecord,
    MapMethod,
    Negation,
    Operation,
    RemoteCall,
    ServiceValue,
    VariableRead,
    WellKnown,
)
from fluvial_aqua.checking.types import AbilityType, ArrowType, DataType, OptionType, StreamType, is_float
from fluvial_aqua.folding import DoesNotFit, fold
from fluvial_aqua.model.emitter import Emitter, as_one
from fluvial_aqua.model.operands import (
    ERROR,
    FALSE,
    INIT_PEER,
    LENGTH,
    NOTHING,
    TIMESTAMP,
    TRUE,
    TTL,
    Constant,
    Operand,
    Reference,
)
from fluvial_aqua.model.parts import CallMaker
from fluvial_aqua.model.tree import (
    Alternative,
    Assign,
    Decide,
    Freeze,
    PutPair,
    Scoped,
    ServiceCall,
    Shortcut,
    StreamGate,
    Walk,
    Wherever,
)
from fluvial_aqua.model.values import AbilityValue, AquaValue, ClosureValue, ServiceArrow, StreamValue

MATH: Final = {"+": "add", "-": "sub", "*": "mul", "/": "div", "%": "rem", "**": "pow"}
COMPARE: Final = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}


_WELL_KNOWN: Final[dict[str, Operand]] = {
    "INIT_PEER_ID": INIT_PEER,
    "PARTICLE_TTL": TTL,
    "PARTICLE_TIMESTAMP": TIMESTAMP,
    "nil": NOTHING,
}


class ExpressionLowering:
    """Makes operands of expressions.

    Args:
        emitter: gets the instructions.
    """

    calls: CallMaker

    def __init__(self, emitter: Emitter) -> None:
        self._emitter = emitter

    def data(self, expression: CheckedExpression, name: str = "value") -> Operand:
        """An expression's value as data: streams are fixed."""
        value = self.value(expression)
        if isinstance(value, StreamValue):
            return self._emitter.frozen(value)
        assert isinstance(value, Constant | Reference), f"{name} is no data"
        return value

    def value(self, expression: CheckedExpression) -> AquaValue:
        """An expression's value, whatever it is."""
        match expression:
            case LiteralValue():
                return Constant(expression.value)
            case VariableRead():
                return self._emitter.frame.value(expression.variable)
            case WellKnown():
                return self._well_known(expression.name)
            case FieldOf():
                return self._field(expression)
            case ElementOf():
                return self._element(expression)
            case LengthOf():
                return self._length(expression)
            case CallExpression() | RemoteCall():
                results = self.calls.call(expression)
                return results[0] if results else NOTHING
            case FunctionValue():
                return ClosureValue(expression.function, None, None)
            case ServiceValue():
                return self._service(expression)
            case MakeCollection():
                return self._collection(expression)
            case MakeRecord() | CopyRecord():
                return self._record(expression)
            case Operation():
                return self._operation(expression)
            case Negation():
                return self._negation(expression)
            case MapMethod():
                return self._map_method(expression)
        raise AssertionError(f"no such expression: {expression}")

    def _well_known(self, name: str) -> Operand:
        emitter = self._emitter
        if name == "HOST_PEER_ID":
            return emitter.relay or INIT_PEER
        if name == "LAST_ERROR":
            return emitter.last_error or ERROR
        return _WELL_KNOWN[name]

    # --- parts ------------------------------------------------------------------------------------------------------

    def _field(self, expression: FieldOf) -> AquaValue:
        base = self.value(expression.base)
        if isinstance(base, AbilityValue):
            return base.fields[expression.name]
        assert isinstance(base, Constant | Reference)
        return self._reference(base, expression.name).part("." + expression.name)

    def _reference(self, operand: Operand, name: str) -> Reference:
        """An operand that may have a path."""
        if isinstance(operand, Reference):
            return operand
        target = self._emitter.fresh(name)
        self._emitter.emit(Assign(value=operand, target=target))
        return Reference(target)

    def _element(self, expression: ElementOf) -> Operand:
        base = self.value(expression.base)
        index = self.data(expression.index)
        if isinstance(base, StreamValue):
            return self.waited(base, index).part(self._accessor(index))
        assert isinstance(base, Constant | Reference)
        return self._reference(base, "items").part(self._accessor(index))

    def _accessor(self, index: Operand) -> str:
        if isinstance(index, Constant):
            return f".[{index.text}]"
        return f".[{self._emitter.named(index, 'index')}]"

    def waited(self, stream: StreamValue, index: Operand, *, counts: bool = False) -> Reference:
        """A stream's content once it has an element of this index, or so many elements."""
        emitter = self._emitter
        bare = stream.name.lstrip("$")
        if isinstance(index, Reference):
            index = Reference(emitter.named(index, "index"))
        target = "#" + emitter.fresh(f"{bare}_all")
        names = tuple(emitter.fresh(f"{bare}_{part}") for part in ("gate", "item", "seen", "there"))
        emitter.emit(StreamGate(stream=stream.name, index=index, counts=counts, target=target, names=names))
        return Reference(target)

    def _length(self, expression: LengthOf) -> Operand:
        base = self.value(expression.base)
        emitter = self._emitter
        if isinstance(base, StreamValue):
            if expression.waits_for is not None:
                whole = self.waited(base, Constant(expression.waits_for - 1))
                return Reference(whole.name, (LENGTH,))
            return Reference(emitter.frozen(base).name, (LENGTH,))
        assert isinstance(base, Constant | Reference)
        if isinstance(base, Constant):
            return Constant(0)
        if base.path:
            base = Reference(emitter.named(base, "items"))
        return Reference(base.name, (LENGTH,))

    def _service(self, expression: ServiceValue) -> AbilityValue:
        service = expression.service
        identity = self._emitter.frame.all_services().get(service)
        if identity is None:
            assert service.id is not None, "the checker has seen to it"
            identity = self.data(service.id)
        kind = service.type
        arrows: dict[str, AquaValue] = {
            name: ServiceArrow(identity, name, arrow) for name, arrow in kind.fields if isinstance(arrow, ArrowType)
        }
        return AbilityValue(arrows)

    # --- making values ----------------------------------------------------------------------------------------------

    def _collection(self, expression: MakeCollection) -> AquaValue:
        if not expression.items and not isinstance(expression.type, StreamType):
            return NOTHING
        emitter = self._emitter
        if isinstance(expression.type, StreamType):
            stream = emitter.stream("stream-inline")
            for item in expression.items:
                emitter.emit(Assign(value=self.data(item), target=stream.name))
            return stream
        inline = StreamValue("$" + emitter.fresh("array-inline"))
        target: Reference
        if isinstance(expression.type, OptionType):
            with emitter.collecting() as body:
                self._choices(expression.items, inline)
                target = emitter.frozen(inline)
        else:
            values = [self.data(item) for item in expression.items]
            with emitter.collecting() as body:
                for value in values:
                    emitter.emit(Assign(value=value, target=inline.name))
                target = emitter.frozen(inline)
        emitter.emit(Scoped(names=[inline.name], body=as_one(body)))
        return target

    def _choices(self, items: tuple[CheckedExpression, ...], into: StreamValue) -> None:
        """Of an option's values the first that can be had."""
        emitter = self._emitter
        choices = []
        for item in items:
            with emitter.collecting() as one:
                emitter.emit(Assign(value=self.data(item), target=into.name))
            choices.append(as_one(one))
        emitter.emit(Wherever(choices=choices))

    def _record(self, expression: MakeRecord | CopyRecord) -> AquaValue:
        kind = expression.type
        given = {name: self.value(value) for name, value in expression.fields}
        if isinstance(kind, AbilityType):
            if isinstance(expression, CopyRecord):
                base = self.value(expression.base)
                assert isinstance(base, AbilityValue)
                given = base.fields | given
            return AbilityValue({name: self._kept(value) for name, value in given.items()})
        assert isinstance(kind, DataType)
        emitter = self._emitter
        operands = {name: self._frozen_value(value) for name, value in given.items()}
        if isinstance(expression, CopyRecord):
            whole = self._reference(self.data(expression.base), "record")
            for name, _ in kind.fields:
                operands.setdefault(name, whole.part("." + name))
        fields = "%" + emitter.fresh(f"{kind.name}_fields")
        target = emitter.fresh(f"{kind.name}_record")
        with emitter.collecting() as body:
            for name, operand in operands.items():
                emitter.emit(PutPair(key=Constant(name), value=operand, target=fields))
            emitter.emit(Freeze(stream=fields, target=target))
        emitter.emit(Scoped(names=[fields], body=as_one(body)))
        return Reference(target)

    def _frozen_value(self, value: AquaValue) -> Operand:
        if isinstance(value, StreamValue):
            return self._emitter.frozen(value)
        assert isinstance(value, Constant | Reference)
        return value

    def _kept(self, value: AquaValue) -> AquaValue:
        """A value of an ability: a part of something is taken now."""
        if isinstance(value, Constant | Reference):
            return self._emitter.scalar(value, "field")
        return value

    # --- operators --------------------------------------------------------------------------------------------------

    def _operation(self, expression: Operation) -> Operand:
        operator = expression.operator
        if operator in ("&&", "||"):
            return self._shortcut(expression)
        left, right = self.data(expression.left), self.data(expression.right)
        if isinstance(left, Constant) and isinstance(right, Constant):
            if not (isinstance(left.value, tuple) or isinstance(right.value, tuple)):
                try:
                    known = fold(operator, left.value, right.value)
                except DoesNotFit:
                    known = None
                if known is not None:
                    return Constant(known)
            elif operator in ("==", "!="):
                return TRUE if (left.value == right.value) == (operator == "==") else FALSE
        if operator in ("==", "!="):
            target = self._emitter.fresh("eq" if operator == "==" else "neq")
            yes, no = (TRUE, FALSE) if operator == "==" else (FALSE, TRUE)
            left, right = self._emitter.scalar(left, "left"), self._emitter.scalar(right, "right")
            self._emitter.emit(Decide(left=left, right=right, target=target, equal=yes, unequal=no))
            return Reference(target)
        if operator in COMPARE:
            return self._helper("cmp", COMPARE[operator], left, right)
        floats = operator == "*" and _has_float(expression)
        return self._helper("math", "fmul" if floats else MATH[operator], left, right)

    def _helper(self, service: str, name: str, left: Operand, right: Operand) -> Operand:
        target = self._emitter.fresh(name)
        self._emitter.emit(
            ServiceCall(service=Constant(service), name=Constant(name), arguments=(left, right), output=target)
        )
        return Reference(target)

    def _shortcut(self, expression: Operation) -> Operand:
        stop = FALSE if expression.operator == "&&" else TRUE
        left = self.data(expression.left)
        if isinstance(left, Constant):
            return left if left == stop else self.data(expression.right)
        emitter = self._emitter
        left = emitter.scalar(left, "left")
        target = emitter.fresh("and" if expression.operator == "&&" else "or")
        with emitter.collecting() as body:
            emitter.emit(Assign(value=self.data(expression.right), target=target))
        emitter.emit(Shortcut(left=left, stop=stop, target=target, body=as_one(body)))
        return Reference(target)

    def _negation(self, expression: Negation) -> Operand:
        value = self.data(expression.value)
        if isinstance(value, Constant):
            return FALSE if value == TRUE else TRUE
        target = self._emitter.fresh("not")
        value = self._emitter.scalar(value, "turned")
        self._emitter.emit(Decide(left=value, right=TRUE, target=target, equal=FALSE, unequal=TRUE))
        return Reference(target)

    # --- maps -------------------------------------------------------------------------------------------------------

    def _map_method(self, expression: MapMethod) -> AquaValue:
        emitter = self._emitter
        base = self.value(expression.base)
        assert isinstance(base, StreamValue)
        if expression.method == "keysStream":
            return self._collected(base, ".key", None)
        if expression.method == "keys":
            return emitter.frozen(self._collected(base, ".key", None, live=False))
        key = emitter.scalar(self.data(expression.arguments[0]), "key")
        if expression.method == "getStream":
            return self._collected(base, ".value", key)
        found = emitter.frozen(base).part(f".[{emitter.named(key, 'key')}]")
        if expression.method == "get":
            return found
        values = emitter.named(found, "values")
        target = emitter.fresh("contains")
        length = Reference(values, (LENGTH,))
        emitter.emit(Decide(left=length, right=Constant(0), target=target, equal=FALSE, unequal=TRUE))
        return Reference(target)

    def _collected(self, base: StreamValue, part: str, key: Operand | None, *, live: bool = True) -> StreamValue:
        """A stream of the keys or values of a map; if live, of those to come as well."""
        emitter = self._emitter
        stream = emitter.stream("of_map")
        iterable = Reference(base.name) if live else emitter.frozen(base)
        iterator = emitter.fresh("pair")
        with emitter.collecting() as body:
            push = Assign(value=Reference(iterator, (part,)), target=stream.name)
            if key is None:
                emitter.emit(push)
            else:
                left = emitter.scalar(Reference(iterator, (".key",)), "key")
                emitter.emit(Alternative(left=left, right=key, equal=True, then=push))
        emitter.emit(Walk(iterable=iterable, iterator=iterator, mode="rec" if live else "", body=as_one(body)))
        return stream


def _has_float(expression: Operation) -> bool:
    sides: tuple[Checked, Checked] = (expression.left, expression.right)
    return any(is_float(side.type) for side in sides)
