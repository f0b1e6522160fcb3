"""A function's parameters, read once from its type hints, and the check of a call's arguments against them."""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Callable
from typing import Any, Final, get_origin, get_type_hints

import msgspec

from fluvial.air.data.weight import CHUNK, is_light
from fluvial.effectors import Call
from fluvial.errors import PluginError, ServiceError
from fluvial.identity import PeerId
from fluvial.services.hints import Texts, cached_by_hints
from fluvial.services.interface import Parameter
from fluvial.services.status import Status, shortened
from fluvial.services.values import beginning

_PLACE: Final = re.compile(r"(?<=at `\$\[)\d+")
"""In an error of msgspec: which element of an array is wrong."""
SHOWN_CHARACTERS_MAX: Final = 60
"""Most characters of a wrong argument that an error shows."""


class Signature(msgspec.Struct, frozen=True):
    """How to call a function with a script's arguments.

    Attributes:
        parameters: names and types as texts.
        hints: the types of the parameters; of a variadic one, that of each argument.
        returns: type of the result as text.
        wants_call: the function takes the :class:`Call` before its arguments.
        least: how many arguments must be given.
    """

    parameters: tuple[Parameter, ...]
    hints: tuple[Any, ...]
    returns: str
    wants_call: bool
    least: int
    _record: type[msgspec.Struct]

    @classmethod
    def of(cls, method: Callable[..., Any], texts: Texts) -> Signature:
        """Read the hints of an unbound method, whose first parameter is ``self``.

        Raises:
            PluginError: a hint is missing, cannot be resolved, or is of a kind that no argument can have.
        """
        where = f"{method.__module__}.{method.__qualname__}"
        try:
            types = get_type_hints(method, include_extras=True)
        except (NameError, TypeError, AttributeError) as error:
            raise PluginError(
                f"{where}: cannot resolve its type hints: {error}", hint="name types that the module defines or imports"
            ) from error
        if "return" not in types:
            raise PluginError(f"{where}: says not what it returns", hint="add -> None, or the type of its result")
        declared = list(inspect.signature(method).parameters.values())[1:]
        wants_call = bool(declared) and types.get(declared[0].name) is Call
        read = [_parameter(each, types, texts, where) for each in declared[wants_call:]]
        hints = tuple(types[each.name] for each in declared[wants_call:])
        variadic = bool(read) and read[-1].variadic
        least = sum(not parameter.optional for parameter in read)
        return cls(tuple(read), hints, texts.text(types["return"]), wants_call, least, _record_of(hints, variadic))

    def read(self, call: Call) -> list[Any]:
        """The arguments with which to call the function.

        Raises:
            ServiceError: status 4; there are too few or too many, or one is not of its type.
        """
        given = list(call.arguments)
        self._check_count(call, len(given))
        values = self._values(given) if is_light(given) else None
        if values is None:
            # One by one: to name the wrong one; because Aqua writes an optional argument as an array of none or one; and not all that is heavy in one go.
            values = [self._single(call, index, argument) for index, argument in enumerate(given)]
        return [call, *values] if self.wants_call else values

    def _values(self, given: list[Any]) -> list[Any] | None:
        """The arguments as their types have them; None if one has another."""
        try:
            return self._converted(given)
        except msgspec.ValidationError:
            return None

    def _converted(self, given: list[Any]) -> list[Any]:
        if not self.parameters or not self.parameters[-1].variadic:
            record = msgspec.convert(given, self._record, dec_hook=_own_types)
            return list(msgspec.structs.astuple(record)[: len(given)])
        plain = len(self.parameters) - 1
        record = msgspec.convert([*given[:plain], given[plain:]], self._record, dec_hook=_own_types)
        *first, rest = msgspec.structs.astuple(record)
        return [*first, *rest]

    def _check_count(self, call: Call, given: int) -> None:
        # Deviation: the reference node does not look at surplus arguments of most functions; they are mistakes of the script.
        least = self.least
        variadic = bool(self.parameters) and self.parameters[-1].variadic
        most = len(self.parameters)
        if least <= given and (variadic or given <= most):
            return
        count = f"at least {least}" if variadic else str(most) if least == most else f"{least} to {most}"
        shape = f"{call.service}.{call.function}({', '.join(map(str, self.parameters))})"
        raise ServiceError(Status.BAD_ARGUMENTS, f"{shape}: number of arguments must be {count}; {given} given")

    def _single(self, call: Call, index: int, argument: Any) -> Any:
        place = min(index, len(self.parameters) - 1)
        parameter, hint = self.parameters[place], self.hints[place]
        try:
            return (
                _array(argument, hint)
                if _is_long(argument, hint)
                else msgspec.convert(argument, hint, dec_hook=_own_types)
            )
        except msgspec.ValidationError as error:
            if parameter.type.startswith("?") and isinstance(argument, list) and len(argument) <= 1:
                unwrapped = argument[0] if argument else None
                with contextlib.suppress(msgspec.ValidationError):  # then the first error is the one to report
                    return msgspec.convert(unwrapped, hint, dec_hook=_own_types)
            raise ServiceError(Status.BAD_ARGUMENTS, _mismatch(call, index, parameter, argument, error)) from error


def _parameter(each: inspect.Parameter, types: dict[str, Any], texts: Texts, where: str) -> Parameter:
    if each.kind in (each.KEYWORD_ONLY, each.VAR_KEYWORD):
        raise PluginError(f"{where}: scripts give arguments by position only, {each.name!r} cannot be given")
    if each.name not in types:
        raise PluginError(f"{where}: the parameter {each.name!r} has no type hint", hint="hints are the argument check")
    if types[each.name] is Call:
        raise PluginError(f"{where}: the call must be the first parameter, not {each.name!r}")
    try:
        text = texts.text(types[each.name])
    except PluginError as error:
        raise PluginError(f"{where}: parameter {each.name!r}: {error.message}") from error
    variadic = each.kind is each.VAR_POSITIONAL
    return Parameter(
        each.name.rstrip("_"), text, optional=variadic or each.default is not each.empty, variadic=variadic
    )


@cached_by_hints
def _record_of(hints: tuple[Any, ...], variadic: bool) -> type[msgspec.Struct]:
    """All parameters as one array-like Struct, which msgspec compiles once. An argument that is not given stays UNSET and is not passed on.

    Args:
        hints: the types of the parameters. Functions with the same ones share a Struct.
        variadic: whether the last parameter takes any number of arguments.
    """
    kinds = [*hints[:-1], list[hints[-1]]] if variadic else hints  # type: ignore[valid-type]  # made at run time
    fields: list[tuple[str, Any, Any]] = [(f"p{index}", kind, msgspec.UNSET) for index, kind in enumerate(kinds)]
    return msgspec.defstruct("Arguments", fields, array_like=True, forbid_unknown_fields=True)


def _own_types(kind: type[Any], value: Any) -> Any:
    """For msgspec: a peer id from its text."""
    if kind is PeerId and isinstance(value, str):
        return PeerId.parse(value)
    raise ValueError(f"Expected `{kind.__name__}`, got `{type(value).__name__}`")


def _mismatch(call: Call, index: int, parameter: Parameter, argument: Any, error: msgspec.ValidationError) -> str:
    shown = shortened(msgspec.json.encode(beginning(argument, SHOWN_CHARACTERS_MAX)).decode(), SHOWN_CHARACTERS_MAX)
    return (
        f"{call.service}.{call.function}: argument {index + 1}, {parameter.name!r}, must be {parameter.type}; "
        f"{shown} was given ({shortened(str(error), 200)})"
    )


def _is_long(argument: Any, hint: Any) -> bool:
    return get_origin(hint) is list and isinstance(argument, list) and len(argument) > CHUNK


def _array(argument: list[Any], hint: Any) -> list[Any]:
    """A long array as its type has it. In parts, so that no step of Python takes long; raises msgspec.ValidationError, as of the whole."""
    values: list[Any] = []
    for start in range(0, len(argument), CHUNK):
        try:
            values += msgspec.convert(argument[start : start + CHUNK], hint, dec_hook=_own_types)
        except msgspec.ValidationError as error:
            place = _PLACE.sub(lambda found, start=start: str(start + int(found[0])), str(error), count=1)  # type: ignore[misc]
            raise msgspec.ValidationError(place) from error
    return values
