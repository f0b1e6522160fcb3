"""Where inlining is: the frame, the station, the instructions so far, fresh names, and the limits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from fluvial.air.syntax.words import INSTRUCTIONS

from fluvial_aqua.checking.tree import TextPlace
from fluvial_aqua.model.operands import Constant, Operand, Reference, is_plain
from fluvial_aqua.model.tree import Assign, Freeze, Instruction, Scoped, Sequence, Station
from fluvial_aqua.model.values import CallFrame, StreamValue

INSTRUCTIONS_MAX: Final = 400_000
"""Instructions of one function after inlining; calls of calls of calls grow without bound otherwise."""
DEPTH_MAX: Final = 400
"""Calls inside each other."""


_RESERVED: Final = (*INSTRUCTIONS, "true", "false")
"""Words that AIR has for something else."""


class ProgramTooLarge(Exception):
    """A function inlines to more than the compiler takes."""


class Emitter:
    """Collects instructions.

    Args:
        home: the station of the peer that begins the particle.
        relay: the relay's id, if the function is compiled for a client behind one.
    """

    def __init__(self, home: Station, relay: Operand | None) -> None:
        self.home: Final = home
        self.relay: Final = relay
        self.station = home
        self.frame = CallFrame()
        self.out: list[Instruction] = []
        self.streams: list[str] = []
        self.place: TextPlace | None = None
        self.function = ""
        self.last_error: Operand | None = None
        self.depth = 0
        self._count = 0
        self._numbers: dict[str, int] = dict.fromkeys(_RESERVED, 0)

    def fresh(self, name: str) -> str:
        """A name that nothing else has: the name itself, then with a number; dots and other signs become ``_``."""
        base = name if name.isidentifier() and name.isascii() else "".join(_plain_char(char) for char in name)
        number = self._numbers.get(base, -1)
        self._numbers[base] = number + 1
        return base if number < 0 else f"{base}-{number}"

    def emit(self, op: Instruction) -> None:
        """Add an instruction."""
        self._count += 1
        if self._count > INSTRUCTIONS_MAX:
            raise ProgramTooLarge(f"inlining makes more than {INSTRUCTIONS_MAX} instructions of it")
        if op.place is None:
            op.place = self.place
            op.function = self.function
        self.out.append(op)

    @contextmanager
    def collecting(self) -> Iterator[list[Instruction]]:
        """Instructions made inside go to a list of their own."""
        around, self.out = self.out, []
        inner = self.out
        yield inner
        self.out = around

    @contextmanager
    def loop_scope(self) -> Iterator[list[Instruction]]:
        """As :meth:`collecting`; streams that are declared inside are fresh in every iteration."""
        streams, self.streams = self.streams, []
        with self.collecting() as inner:
            yield inner
        if self.streams:
            body = Scoped(names=self.streams, body=as_one(list(inner)), place=self.place, function=self.function)
            inner[:] = [body]
        self.streams = streams

    @contextmanager
    def services_scope(self) -> Iterator[None]:
        """Ids of services that are set inside are forgotten at the end."""
        frame = self.frame
        services = dict(frame.services)
        yield
        frame.services = services

    @contextmanager
    def at(self, station: Station) -> Iterator[None]:
        """What is inside runs at a station."""
        around, self.station = self.station, station
        yield
        self.station = around

    def stream(self, name: str, sigil: str = "$") -> StreamValue:
        """A new stream of the present scope."""
        made = sigil + self.fresh(name)
        self.streams.append(made)
        return StreamValue(made)

    def frozen(self, stream: StreamValue) -> Reference:
        """A stream's content here and now."""
        bare = stream.name.lstrip("$%")
        sigil = "#" if stream.name[0] == "$" else "#%"
        target = sigil + self.fresh(bare)
        self.emit(Freeze(stream=stream.name, target=target))
        return Reference(target)

    def scalar(self, operand: Operand, name: str) -> Operand:
        """A literal or whole value equal to an operand; taking a part of something fails here, if it fails."""
        if is_plain(operand):
            return operand
        target = self.fresh(name)
        self.emit(Assign(value=operand, target=target))
        return Reference(target)

    def named(self, operand: Operand, name: str) -> str:
        """A scalar's name with an operand's value, as needed for an index."""
        if isinstance(operand, Reference) and not operand.path and operand.name[0] not in "#%:":
            return operand.name
        target = self.fresh(name)
        self.emit(Assign(value=operand, target=target))
        return target


def as_one(ops: list[Instruction]) -> Instruction:
    """A list of instructions as one."""
    return ops[0] if len(ops) == 1 else Sequence(steps=ops)


def integer(operand: Operand) -> int | None:
    """An operand's value, if it is a known integer."""
    if isinstance(operand, Constant) and type(operand.value) is int:
        return operand.value
    return None


def _plain_char(char: str) -> str:
    return char if char.isascii() and (char.isalnum() or char in "_-") else "_"
