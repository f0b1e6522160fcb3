"""What names stand for while functions are inlined."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct, field

from fluvial_aqua.checking.tree import FunctionUnit, ServiceUnit, Variable
from fluvial_aqua.checking.types import ArrowType
from fluvial_aqua.model.operands import Operand
from fluvial_aqua.model.tree import Station


class StreamValue(Struct, eq=False):
    """A stream or stream map, by its name in AIR."""

    name: str


class ClosureValue(Struct, eq=False):
    """A function with what it captured; ``station`` is where it runs, None for wherever it is called."""

    unit: FunctionUnit
    frame: CallFrame | None
    station: Station | None


class CallbackValue(Struct, eq=False):
    """A function that the host gives: it runs on the peer that began the particle."""

    name: str
    arrow: ArrowType


class ServiceArrow(Struct, eq=False, gc=False):
    """A function of a service with its id."""

    service: Operand
    name: str
    arrow: ArrowType


class AbilityValue(Struct, eq=False):
    """Values and functions under names."""

    fields: dict[str, AquaValue]


AquaValue: TypeAlias = Operand | StreamValue | ClosureValue | CallbackValue | ServiceArrow | AbilityValue


class CallFrame(Struct, eq=False):
    """The variables of one inlined call, and the ids of services in it; a closure's frame has that of its maker as parent.

    What a closure captured has all ids as they were then (``captured``); ids set later in the maker's frame are not looked at.
    """

    parent: CallFrame | None = None
    values: dict[Variable, AquaValue] = field(default_factory=dict)
    services: dict[ServiceUnit, Operand] = field(default_factory=dict)
    captured: bool = False

    def value(self, variable: Variable) -> AquaValue:
        """What a variable stands for."""
        frame: CallFrame | None = self
        while frame is not None:
            if (found := frame.values.get(variable)) is not None:
                return found
            frame = frame.parent
        raise AssertionError(f"`{variable.name}` has no value yet")

    def all_services(self) -> dict[ServiceUnit, Operand]:
        """The ids of all services that were given one."""
        outer = self.parent.all_services() if self.parent is not None and not self.captured else {}
        return outer | self.services
