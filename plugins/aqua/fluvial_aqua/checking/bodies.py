"""Bodies of functions: lines to steps, with the names that they make."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from fluvial.suggestions import did_you_mean

from fluvial_aqua.checking.blocks import BlockChecker
from fluvial_aqua.checking.context import BodyContext
from fluvial_aqua.checking.expressions import WELL_KNOWN, ExpressionChecker
from fluvial_aqua.checking.joins import never_filled
from fluvial_aqua.checking.modules import Declared
from fluvial_aqua.checking.returns import ReturnChecker
from fluvial_aqua.checking.scopes import NameScope
from fluvial_aqua.checking.tree import (
    BindStep,
    BodyStep,
    CallStep,
    CheckedExpression,
    ClosureStep,
    DeclareStep,
    ElementOf,
    FieldOf,
    JoinStep,
    PushStep,
    ServiceStep,
    TextPlace,
    Variable,
    VariableRead,
)
from fluvial_aqua.checking.types import (
    STRING,
    UNKNOWN,
    AquaType,
    StreamMapType,
    StreamType,
    UnknownType,
    accepts,
    frozen_value,
    is_data,
    type_text,
)
from fluvial_aqua.syntax.tree import (
    BindLine,
    BlockSyntax,
    BodyLine,
    BrokenLine,
    CallLine,
    CallSyntax,
    ClosureLine,
    CollectionSyntax,
    DeclareLine,
    Expression,
    Identifier,
    IfBlock,
    JoinLine,
    PushLine,
    ReturnLine,
    ServiceLine,
    TakeApartLine,
)
from fluvial_aqua.text import Span


class BodyChecker:
    """Checks one function, closures inside of it included."""

    def __init__(self, context: BodyContext) -> None:
        self.context: Final = context
        self.expressions: Final = ExpressionChecker(context)
        self._returns = ReturnChecker(context, self.expressions)
        self._blocks = BlockChecker(self)

    def function(self, block: BlockSyntax, span: Span) -> None:
        """Check the body of the function: its steps and results go to the unit."""
        unit = self.context.unit
        for parameter in unit.parameters:
            self.add(parameter, parameter.place.span)
        lines = block.lines
        last = lines[-1] if lines and isinstance(lines[-1], ReturnLine) else None
        steps = self.steps(lines[:-1] if last is not None else lines)
        readable = not any(isinstance(line, BrokenLine) for line in lines)
        results = self._returns.results(last, unit.place.span) if last is not None or readable else None
        if results is not None and last is not None:
            gathering, unit.results = results
            steps = (*steps, *gathering)
        gathered = (DeclareStep(place=one.place, variable=one) for one in self.context.gathered)
        unit.body = (*gathered, *steps)
        never_filled(unit, self.context)

    # --- names ------------------------------------------------------------------------------------------------------

    def add(self, variable: Variable, at: Span, *, outside: bool = False) -> Variable:
        """Make a variable known; another one of its name may not be visible."""
        self._check_free(variable.name, at)
        self.context.declared.append(variable)
        self.context.mention(at, variable)
        if outside:
            self.context.scope.add_outside(variable)
        else:
            self.context.scope.add(variable)
        return variable

    def _check_free(self, name: str, at: Span) -> None:
        context = self.context
        other = context.scope.find(name)
        if other is not None:
            hint = f"the other one is on line {other.place.line}; choose another name"
            context.error(at, "Q310", f"there is a `{name}` here already", hint)
            return
        declared = context.module.names.get(name)
        if declared is not None and declared.kind in ("function", "constant") and self._is_before(declared):
            context.error(at, "Q310", f"there is a {declared.kind} `{name}` already", "choose another name")
        elif name in WELL_KNOWN:
            context.error(at, "Q310", f"`{name}` has a meaning everywhere", "choose another name")

    def _is_before(self, declared: Declared) -> bool:
        """Functions further down may be hidden by names of bodies."""
        if declared.module is not self.context.module:
            return True
        return declared.syntax.span.start < self.context.position

    def variable(self, name: Identifier, kind: AquaType, role: str = "value") -> Variable:
        """A variable that a name in the text makes."""
        return Variable(name.text, kind, self.context.place(name.span), role)

    @contextmanager
    def scope(self, *, names: bool = True) -> Iterator[None]:
        """A block: its names are known inside of it, or not even those are its own."""
        around = self.context.scope
        self.context.scope = NameScope(around, shares_names=not names)
        yield
        self.context.scope = around

    @contextmanager
    def parallel(self) -> Iterator[None]:
        """What is inside runs beside other things."""
        self.context.parallel += 1
        yield
        self.context.parallel -= 1

    # --- lines ------------------------------------------------------------------------------------------------------

    def steps(self, lines: tuple[BodyLine, ...]) -> tuple[BodyStep, ...]:
        """The steps of lines."""
        steps: list[BodyStep] = []
        for index, line in enumerate(lines):
            following = lines[index + 1 :]
            if self.context.paper is not None and isinstance(line, IfBlock) and line.otherwise is None and following:
                line.otherwise = BlockSyntax(lines=following, span=following[0].span.to(following[-1].span))
                steps += self._step(line)
                break
            steps += self._step(line)
        return tuple(steps)

    def _step(self, line: BodyLine) -> list[BodyStep]:
        place = self.context.place(line.span)
        match line:
            case BrokenLine():
                for name in line.names:
                    made = self.variable(name, UNKNOWN)
                    made.used = True
                    self.context.scope.add(made)
                self.context.unit.valid = False
                return []
            case CallLine():
                return [self._call(line, place)]
            case TakeApartLine():
                return self._take_apart(line, place)
            case BindLine():
                return [self._bind(line, place)]
            case ClosureLine():
                return [self._closure(line, place)]
            case DeclareLine():
                return [self._declare(line, place)]
            case PushLine():
                return self._push(line, place)
            case ServiceLine():
                return self._service(line, place)
            case JoinLine():
                values = tuple(self._joined(one) for one in line.values)
                return [JoinStep(place=place, values=values)]
            case ReturnLine():
                hint = "it is the last line of the function's own level"
                self.context.error(line.span, "Q430", "`<-` returns nothing from here", hint)
                return []
            case _:
                return [self._blocks.step(line, place)]

    def _call(self, line: CallLine, place: TextPlace) -> BodyStep:
        call, results = self.expressions.call(line.value)
        targets = line.targets
        if not targets:
            if results and not isinstance(results[0], UnknownType):
                self.context.warning(line.value.span, "Q904", "the result of the call is not used")
            return CallStep(place=place, call=call, targets=(), pushes=())
        if not results:
            self.context.error(line.value.span, "Q411", "the call returns nothing that could be given a name")
            results = (UNKNOWN,)
        elif len(targets) > len(results) and not isinstance(results[0], UnknownType):
            shown = f"{len(results)} result" + "s" * (len(results) > 1)
            problem = f"the call has {shown}, {len(targets)} names stand in front"
            self.context.error(targets[len(results)].span, "Q411", problem)
        pair = self.context.scope.find(targets[0].text) if len(targets) == 1 else None
        if pair is not None and isinstance(pair.type, StreamMapType):
            return self._push_pair(line, place, call, results, pair)
        if len(targets) < len(results):
            count = len(results) - len(targets)
            self.context.warning(line.value.span, "Q904", f"{count} of the call's results are not used")
        variables, pushes = [], []
        for index, target in enumerate(targets):
            kind = results[index] if index < len(results) else UNKNOWN
            variable, push = self._target(target, kind, gather=line.gather, is_call=isinstance(line.value, CallSyntax))
            variables.append(variable)
            pushes.append(push)
        return CallStep(place=place, call=call, targets=tuple(variables), pushes=tuple(pushes))

    def _push_pair(
        self, line: CallLine, place: TextPlace, call: CheckedExpression, results: tuple[AquaType, ...], stream: Variable
    ) -> BodyStep:
        """``map <- f()``: a call with two results, key and value."""
        element = stream.type.element if isinstance(stream.type, StreamMapType) else UNKNOWN
        fits = len(results) == 2 and accepts(STRING, results[0]) and accepts(element, results[1])
        if not fits and not isinstance(results[0], UnknownType):
            shown = ", ".join(f"`{type_text(one)}`" for one in results)
            problem = f"the map takes a key and `{type_text(element)}`, the call returns {shown}"
            self.context.error(line.value.span, "Q406", problem)
        return CallStep(place=place, call=call, targets=(stream,), pushes=(True,))

    def _target(self, name: Identifier, kind: AquaType, *, gather: bool, is_call: bool) -> tuple[Variable, bool]:
        """The variable that a result goes to, and whether it is pushed."""
        found = self.context.scope.find(name.text)
        if found is not None and isinstance(found.type, StreamType):
            if not accepts(found.type.element, kind):
                problem = f"`{name.text}` holds `{type_text(found.type.element)}`, the result is `{type_text(kind)}`"
                self.context.error(name.span, "Q406", problem)
            self.context.mention(name.span, found)
            return found, True
        if gather:
            element = frozen_value(kind)
            made = self.variable(name, StreamType(element if is_data(element) else UNKNOWN), "stream")
            made.used = True
            self.add(made, name.span, outside=True)
            self.context.gathered.add(made)
            return made, True
        return self.add(self.variable(name, kind, "result"), name.span), False

    def _take_apart(self, line: TakeApartLine, place: TextPlace) -> list[BodyStep]:
        call, results = self.expressions.call(line.value)
        if len(results) != 1:
            problem = f"one result is taken apart, the call has {len(results) or 'none'}"
            self.context.error(line.value.span, "Q411", problem)
        kind = results[0] if results else UNKNOWN
        whole = Variable("taken", kind, place, "result", used=True)
        steps: list[BodyStep] = [CallStep(place=place, call=call, targets=(whole,), pushes=(False,))]
        for one in line.fields:
            base = VariableRead(type=kind, place=place, variable=whole)
            value = self.expressions.field(base, one.text, one.span, one.span)
            variable = self.add(self.variable(one, value.type), one.span)
            if isinstance(value, FieldOf):
                steps.append(BindStep(place=place, variable=variable, value=value))
        return steps

    def _bind(self, line: BindLine, place: TextPlace) -> BodyStep:
        if isinstance(line.value, CollectionSyntax) and not line.value.items and line.value.sigil != "*":
            hint = "write `[]` where it is used, or declare a stream: `x: *T`"
            self.context.error(line.value.span, "Q417", "an empty collection has no type", hint)
        value = self.expressions.check(line.value)
        variable = self.add(self.variable(line.name, value.type), line.name.span)
        return BindStep(place=place, variable=variable, value=value)

    def _closure(self, line: ClosureLine, place: TextPlace) -> BodyStep:
        context = self.context
        unit = context.declarations.unit(line.name.text, line.arrow, context.module, line.name.span)
        inner = BodyContext(
            module=context.module,
            declarations=context.declarations,
            unit=unit,
            scope=NameScope(context.scope, function=True),
            declared=context.declared,
            paper=None,
            parallel=context.parallel,
            position=context.position,
        )
        BodyChecker(inner).function(line.body, line.span)
        context.unit.calls += unit.calls
        context.unit.valid &= unit.valid
        variable = self.add(self.variable(line.name, unit.arrow, "closure"), line.name.span)
        return ClosureStep(place=place, variable=variable, function=unit, anywhere=line.anywhere)

    def _declare(self, line: DeclareLine, place: TextPlace) -> BodyStep:
        kind = self.context.declarations.type_of(line.type, self.context.module)
        if not isinstance(kind, StreamType | StreamMapType | UnknownType):
            hint = f"`{line.name.text}: *T` declares a stream; other values come from `=` and `<-`"
            self.context.error(line.type.span, "Q418", "only streams are declared", hint)
            kind = UNKNOWN
        variable = self.add(self.variable(line.name, kind, "stream"), line.name.span)
        return DeclareStep(place=place, variable=variable)

    def _push(self, line: PushLine, place: TextPlace) -> list[BodyStep]:
        name = line.stream.text
        found = self.context.scope.find(name)
        if found is not None and isinstance(found.type, StreamMapType) and len(line.values) == 1:
            as_call = CallLine(targets=(line.stream,), value=line.values[0], span=line.span)
            return [self._push_pair(as_call, place, *self.expressions.call(line.values[0]), found)]
        values = [self.expressions.check(one) for one in line.values]
        if found is None:
            hint = did_you_mean(name, self.context.scope.names()) or f"declare it first: `{name}: *T`"
            self.context.error(line.stream.span, "Q305", f"there is no stream `{name}` here", hint)
            return []
        self.context.mention(line.stream.span, found)
        kind = found.type
        if isinstance(kind, UnknownType):
            return []
        if not isinstance(kind, StreamType | StreamMapType):
            problem = f"`{name}` is `{type_text(kind)}`, only streams are pushed to"
            self.context.error(line.stream.span, "Q406", problem)
            return []
        wanted = 2 if isinstance(kind, StreamMapType) else 1
        if len(values) != wanted:
            problem = "a map takes a key and a value" if wanted == 2 else "a stream takes one value"
            self.context.error(line.values[0].span, "Q406", problem)
            return []
        if wanted == 2:
            self.expressions.fits(values[0], STRING, line.values[0].span, "a key")
        element = kind.element
        value = values[-1]
        if isinstance(element, UnknownType):
            found.type = StreamType(frozen_value(value.type))
        elif not accepts(element, value.type):
            problem = f"`{name}` holds `{type_text(element)}`, this is `{type_text(value.type)}`"
            self.context.error(line.values[-1].span, "Q406", problem)
        else:
            self.expressions.fits(value, element, line.values[-1].span, f"an element of `{name}`")
        return [PushStep(place=place, stream=found, value=value, key=values[0] if wanted == 2 else None)]

    def _service(self, line: ServiceLine, place: TextPlace) -> list[BodyStep]:
        value = self.expressions.wanted(line.value, STRING, "the id of a service")
        module = self.context.module
        name = line.service[-1]
        names = module.names if len(line.service) == 1 else module.spaces.get(".".join(line.service[:-1]), {})
        declared = names.get(name)
        module.used.add(name)
        shown = ".".join(line.service)
        at = Span(line.span.start, line.span.start + len(shown))
        if shown in module.file.broken:
            return []
        if declared is None or declared.kind != "service":
            services = [one for one, what in names.items() if what.kind == "service"]
            self.context.error(at, "Q309", f"there is no service `{shown}`", did_you_mean(shown, services))
            return []
        self.context.mention(Span(at.end - len(name), at.end), declared)
        unit = self.context.declarations.service(declared)
        self.context.scope.set_id(unit)
        return [ServiceStep(place=place, service=unit, value=value)]

    def _joined(self, syntax: Expression) -> CheckedExpression:
        value = self.expressions.check(syntax)
        if not isinstance(value, VariableRead | ElementOf | FieldOf):
            hint = "join variables, and elements of streams: `join s[2]`"
            self.context.error(syntax.span, "Q419", "there is nothing to wait for", hint)
        return value
