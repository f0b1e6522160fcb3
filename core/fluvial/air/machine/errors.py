"""What can go wrong in a flow, with the reference's codes and, for the catchable ones, its messages, since scripts see both.

Codes 10000 to 19999 are catchable by ``xor``; from 20000 on an error ends the run, which is then undone.
Source: AquaVM 0.62, execution errors. The words of :class:`Uncatchable` errors are our own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from fluvial.air.data.content import Json
from fluvial.air.machine.provenance import Provenance
from fluvial.air.machine.shown import TEXT_BYTES_MAX, TOO_LONG, json_text
from fluvial.air.syntax import tree
from fluvial.air.syntax.printer import head

_SERVICE_FAILED: Final = re.compile(
    r"Local service error, ret_code is (-?\d{1,10}), error message is '(.*)'", re.DOTALL
)

NO_ERROR: Final[Json] = {"error_code": 0, "message": ""}
"""What ``:error:`` and ``%last_error%`` are before there was an error."""


CHARACTERS_PER_STEP: Final = 128
"""So many characters of an error's message are made in the time of a step."""

LIMITS: Final = frozenset({20013, 20100, 20102})
"""Codes of errors that more facts never take back."""


class AirError(Exception):
    """An error of a run.

    Attributes:
        code: the error's number.
        message: its text.
        instruction: the innermost instruction that failed, once it is known.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.instruction: tree.Instruction | None = None


class Catchable(AirError):
    """An error that ``xor`` catches.

    Attributes:
        peer: of a call or canon its peer, else the one that runs; set with the failing instruction.
        origin: tetraplet of the call that failed; None for other instructions.
        head: the text of the instruction, if it was made before.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.peer = ""
        self.head: str | None = None
        self.origin: Provenance | None = None

    @property
    def steps(self) -> int:
        """Of how many steps its message has taken the time."""
        size = len(self.message)
        if TOO_LONG in self.message:
            size += TEXT_BYTES_MAX
        return size // CHARACTERS_PER_STEP

    def report(self, *, with_peer: bool) -> Json:
        """The object that says what failed: ``%last_error%`` has the peer always, ``:error:`` for calls and canons only."""
        assert self.instruction is not None, "the innermost instruction that fails notes itself"
        report: dict[str, Json] = {
            "error_code": self.code,
            "message": self.message,
            "instruction": head(self.instruction) if self.head is None else self.head,
        }
        if with_peer or isinstance(self.instruction, (tree.CallInstruction, tree.Canon)):
            report["peer_id"] = self.peer
        return report


class NameCleared(Catchable):
    """A name is read inside its ``new`` before it was set there. When it is set, the reading may succeed.

    Attributes:
        name: the name.
    """

    def __init__(self, name: str) -> None:
        super().__init__(10009, f"variable with name '{name}' was cleared by new and then wasn't set")
        self.name = name


class Uncatchable(AirError):
    """An error that ends the run; what the run did is undone."""


class NameNotSet(Exception):
    """A name has no value yet: the instruction that needs it waits."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def service_failed(status: int, message: str) -> Catchable:
    """A call failed; ``message`` is what the service said, as it stands."""
    return Catchable(10000, f"Local service error, ret_code is {status}, error message is '{message}'")


def service_failure(text: str) -> tuple[int, str] | None:
    """Status and message of a failed call, from the text that :func:`service_failed` makes; None if it is another text, or was cut."""
    found = _SERVICE_FAILED.fullmatch(text)
    if found is None:
        return None
    try:
        return int(found[1]), msgspec.json.decode(found[2], type=str)
    except msgspec.DecodeError:
        return int(found[1]), found[2]


def no_match() -> Catchable:
    """``match`` of unequal values."""
    return Catchable(10001, "compared values do not match")


def no_mismatch() -> Catchable:
    """``mismatch`` of equal values."""
    return Catchable(10002, "compared values do not mismatch")


def not_set(name: str) -> Catchable:
    """``fail`` with a name that has no value yet; all other instructions wait for it."""
    return Catchable(10003, f"variable with name '{name}' wasn't defined during script execution")


def not_an_array(value: Json, expression: str) -> Catchable:
    """``fold`` over something that is no array."""
    return Catchable(
        10005, f"expression '{expression}' returned non-array value '{json_text(value)}' for fold iterable"
    )


def failed_by_script(error: Json) -> Catchable:
    """``fail`` with an error object."""
    return Catchable(10006, f"fail with '{json_text(error)}' is used without corresponding xor")


def bad_lambda(message: str) -> Catchable:
    """A path does not fit the value it is applied to."""
    return Catchable(10007, message)


def bad_error_object(message: str) -> Catchable:
    """``fail`` with something that is no error object."""
    return Catchable(10008, message)


def no_length(value: Json) -> Catchable:
    """``.length`` of something that is no array."""
    return Catchable(
        10010, f"the length functor could applied only to an array-like value, but it's applied to '{json_text(value)}'"
    )


def not_a_string(name: str, value: Json) -> Catchable:
    """Peer, service or function of a call is no string."""
    return Catchable(
        10011, f"call cannot resolve non-String triplet variable part `{name}` with value '{json_text(value)}'"
    )


def bad_map_key(name: str) -> Catchable:
    """The key of a pair is neither a string nor an integer; ``name`` has its sigil."""
    return Catchable(10012, f"unsupported type for {name} map's key")


def iterator_shadowed(name: str) -> Uncatchable:
    """An instruction would set a name that is the iterator of a fold around it."""
    return Uncatchable(20004, f"`{name}` is the iterator of a fold around this instruction and cannot be set")


def already_set(name: str) -> Uncatchable:
    """A scalar outside of folds is set a second time."""
    return Uncatchable(
        20007, f"`{name}` is set already; outside of fold a name can be set once only, use another name or `new {name}`"
    )


def stream_too_long(name: str, limit: int) -> Uncatchable:
    """A stream holds as many elements as it may."""
    return Uncatchable(20013, f"stream {name} would have more than {limit} elements")


def unfit_to_fix(name: str, problem: str) -> Uncatchable:
    """A canon would fix what other peers refuse; a limit of the interpreter that the reference does not have."""
    return Uncatchable(20100, f"canon cannot fix {name}: {problem}")


def too_much(what: str, limit: int) -> Uncatchable:
    """A limit of the interpreter is reached that the reference does not have."""
    return Uncatchable(20100, f"the flow has more than {limit} {what}, which is what this peer allows")


def memory_exceeded(limit: int) -> Uncatchable:
    """The machine would hold more than this peer allows; another peer may allow more."""
    return Uncatchable(
        20102, f"the flow needs more than {limit:,} bytes of memory here, which is what this peer allows"
    )


def value_missing(keys: Sequence[bytes]) -> Uncatchable:
    """Something is read that did not come along; whoever left it out has done so wrongly. With the values the run is made again."""
    named = ", ".join(key.hex()[:16] for key in keys)
    return Uncatchable(
        20101, f"a value that is read now is not here: {named}; the run is made when a copy of the particle brings it"
    )
