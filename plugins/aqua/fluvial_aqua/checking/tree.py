"""The checked tree: every name resolved, every expression with its type, nothing left that could be in error."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct, field

from fluvial_aqua.checking.types import AbilityType, AquaType, ArrowType
from fluvial_aqua.text import AquaText, Span


class TextPlace(Struct, frozen=True, gc=False):
    """Where in which file something stands."""

    source: AquaText
    span: Span

    @property
    def line(self) -> int:
        """The line, from 1."""
        return self.source.line_column(self.span.start)[0]


class Variable(Struct, eq=False):
    """A name of a body: parameter, result, loop variable, stream or closure. Equal only to itself."""

    name: str
    type: AquaType
    place: TextPlace
    role: str = "value"
    used: bool = False


class Checked(Struct, eq=False, kw_only=True):
    """What expressions have."""

    type: AquaType
    place: TextPlace


class LiteralValue(Checked):
    """A literal, or a constant's value."""

    value: bool | int | float | str


class WellKnown(Checked):
    """``INIT_PEER_ID`` and its like."""

    name: str


class VariableRead(Checked):
    """The value of a variable."""

    variable: Variable


class FieldOf(Checked):
    """A field of a record or ability."""

    base: CheckedExpression
    name: str


class ElementOf(Checked):
    """An element by index; of a stream it is waited for."""

    base: CheckedExpression
    index: CheckedExpression


class LengthOf(Checked):
    """``.length``; ``waits_for`` if, in the paper dialect, the stream is waited for until it has so many elements."""

    base: CheckedExpression
    waits_for: int | None = None


class MakeCollection(Checked):
    """A literal of an array, option or stream; the type says which."""

    items: tuple[CheckedExpression, ...]


class MakeRecord(Checked):
    """A record, or an ability if the type is one."""

    fields: tuple[tuple[str, CheckedExpression], ...]


class CopyRecord(Checked):
    """A record with some fields replaced."""

    base: CheckedExpression
    fields: tuple[tuple[str, CheckedExpression], ...]


class Operation(Checked):
    """An infix operator."""

    operator: str
    left: CheckedExpression
    right: CheckedExpression


class Negation(Checked):
    """``!value``."""

    value: CheckedExpression


class FunctionValue(Checked):
    """A top-level function as a value, or called."""

    function: FunctionUnit


class ServiceValue(Checked):
    """A service as a value: its present instance."""

    service: ServiceUnit


class MapMethod(Checked):
    """``get``, ``getStream``, ``keys``, ``keysStream`` or ``contains`` of a stream map."""

    base: CheckedExpression
    method: str
    arguments: tuple[CheckedExpression, ...]


class CallExpression(Checked):
    """A call of whatever has an arrow type: function, closure, callback, arrow of a service or ability."""

    callee: CheckedExpression
    arrow: ArrowType
    arguments: tuple[CheckedExpression, ...]


class RemoteCall(Checked):
    """Paper dialect: a call on a value that says where.

    Attributes:
        service: its name; None if the value says it.
        peer_field: where in a record the peer is, and ``service_field`` the service.
        open_type: whether only the value itself will show what it is; ``default_service`` is for plain peers then.
    """

    target: CheckedExpression
    service: str | None
    function: str
    arguments: tuple[CheckedExpression, ...]
    peer_field: str | None = None
    service_field: str | None = None
    open_type: bool = False
    default_service: str = ""
    results: int = 1


CheckedExpression: TypeAlias = (
    LiteralValue
    | WellKnown
    | VariableRead
    | FieldOf
    | ElementOf
    | LengthOf
    | MakeCollection
    | MakeRecord
    | CopyRecord
    | Operation
    | Negation
    | FunctionValue
    | ServiceValue
    | MapMethod
    | CallExpression
    | RemoteCall
)


# --- steps of a body ------------------------------------------------------------------------------------------------


class CheckedStep(Struct, eq=False, kw_only=True):
    """What steps have."""

    place: TextPlace


class CallStep(CheckedStep):
    """A call whose results go to variables, one each; ``pushes`` says which of them are streams to push to."""

    call: CheckedExpression
    targets: tuple[Variable, ...]
    pushes: tuple[bool, ...]


class BindStep(CheckedStep):
    """A variable gets a value."""

    variable: Variable
    value: CheckedExpression


class DeclareStep(CheckedStep):
    """An empty stream or stream map."""

    variable: Variable


class PushStep(CheckedStep):
    """A value goes into a stream, or a pair into a map."""

    stream: Variable
    value: CheckedExpression
    key: CheckedExpression | None = None


class ClosureStep(CheckedStep):
    """A closure is made."""

    variable: Variable
    function: FunctionUnit
    anywhere: bool


class ServiceStep(CheckedStep):
    """A service has this id from here on."""

    service: ServiceUnit
    value: CheckedExpression


class JoinStep(CheckedStep):
    """Wait for values."""

    values: tuple[CheckedExpression, ...]


class OnStep(CheckedStep):
    """A body on another peer."""

    peer: CheckedExpression
    relays: tuple[CheckedExpression, ...]
    body: tuple[BodyStep, ...]


class ForStep(CheckedStep):
    """A loop; ``mode`` also has ``parseq``. A map's key and value are two variables."""

    variables: tuple[Variable, ...]
    iterable: CheckedExpression
    mode: str
    body: tuple[BodyStep, ...]


class IfStep(CheckedStep):
    """Two ways."""

    condition: CheckedExpression
    then: tuple[BodyStep, ...]
    otherwise: tuple[BodyStep, ...]


class TryStep(CheckedStep):
    """A body, and what to do if it fails; each handler may have a variable for the error."""

    body: tuple[BodyStep, ...]
    handlers: tuple[tuple[Variable | None, tuple[BodyStep, ...]], ...]


class ParStep(CheckedStep):
    """Branches at the same time."""

    branches: tuple[tuple[BodyStep, ...], ...]


class CoStep(CheckedStep):
    """Something begun and not waited for."""

    body: tuple[BodyStep, ...]


BodyStep: TypeAlias = (
    CallStep
    | BindStep
    | DeclareStep
    | PushStep
    | ClosureStep
    | ServiceStep
    | JoinStep
    | OnStep
    | ForStep
    | IfStep
    | TryStep
    | ParStep
    | CoStep
)


# --- what has a body or an id ---------------------------------------------------------------------------------------


class FunctionUnit(Struct, eq=False, kw_only=True):
    """A function or closure.

    Attributes:
        name: for messages.
        arrow: its type.
        parameters: its variables, abilities first.
        body: its steps; None until they are checked.
        results: what it returns.
    """

    name: str
    arrow: ArrowType
    place: TextPlace
    parameters: tuple[Variable, ...] = ()
    body: tuple[BodyStep, ...] = ()
    results: tuple[CheckedExpression, ...] = ()
    calls: list[FunctionUnit] = field(default_factory=list)
    valid: bool = True


class ServiceUnit(Struct, eq=False, kw_only=True):
    """A service: its arrows, and its id if nothing sets another one."""

    name: str
    type: AbilityType
    place: TextPlace
    id: CheckedExpression | None
