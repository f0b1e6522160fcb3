"""``json`` and ``debug``: objects out of keys and values, and values as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from fluvial.effectors import Effector, NoConfig, function
from fluvial.errors import ServiceError
from fluvial.services.status import Status, shortened
from fluvial.services.values import why_not_json

NO_ARGUMENTS: Final = "<empty argument list>"


def text_of(value: Any) -> str:
    """The JSON text of a value: compact, keys in ascending order, so that equal values have equal texts."""
    return msgspec.json.encode(value, order="deterministic").decode()


class JsonService(Effector[NoConfig]):
    """JSON objects and texts."""

    service_id = "json"

    @function(inline=True)
    def obj(self, *keys_and_values: Any) -> dict[str, Any]:
        """An object of keys and values in turn: `obj("a", 1, "b", 2)`."""
        return _pairs(keys_and_values)

    @function(inline=True)
    def put(self, object_: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
        """A copy of an object in which `key` has `value`."""
        return {**object_, key: value}

    @function(inline=True)
    def puts(self, object_: dict[str, Any], *keys_and_values: Any) -> dict[str, Any]:
        """A copy of an object with further keys and values, given in turn."""
        return {**object_, **_pairs(keys_and_values)}

    @function(inline=True)
    def obj_pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """An object of `[key, value]` pairs."""
        return dict(pairs)

    @function(inline=True)
    def puts_pairs(self, object_: dict[str, Any], pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """A copy of an object with further `[key, value]` pairs."""
        return {**object_, **dict(pairs)}

    @function(inline=True)
    def parse(self, json: str) -> Any:
        """The value that a JSON text stands for (RFC 8259); of equal keys the last one counts."""
        # Deviation: an integer beyond 64 bits is an error; the reference makes a rounded floating-point number of it.
        try:
            value = msgspec.json.decode(json)
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise ServiceError(Status.NO_RESULT, f"{shortened(json, 60)!r} is no JSON: {error}") from error
        except RecursionError as error:
            raise ServiceError(Status.NO_RESULT, "the JSON is nested too deep") from error
        if problem := why_not_json(value):
            raise ServiceError(Status.NO_RESULT, f"the JSON cannot be used: {problem}")
        return value

    @function(inline=True)
    def stringify(self, value: Any) -> str:
        """The compact JSON text of a value, keys in ascending order."""
        # Deviation: the reference keeps the order in which the keys came; equal values then have different texts.
        return text_of(value)


class Debug(Effector[NoConfig]):
    """For looking at values."""

    service_id = "debug"

    @function(inline=True)
    def stringify(self, *values: Any) -> str:
        """The JSON text of its argument; of several as an array; without any, of the string `<empty argument list>`."""
        return text_of(values[0] if len(values) == 1 else values or NO_ARGUMENTS)


def _pairs(keys_and_values: Sequence[Any]) -> dict[str, Any]:
    keys = keys_and_values[::2]
    for index, key in enumerate(keys):
        if not isinstance(key, str):
            raise ServiceError(
                Status.BAD_ARGUMENTS,
                f"keys and values come in turn and keys are strings; key {index + 1} is {shortened(text_of(key), 60)}",
            )
    if len(keys_and_values) % 2:
        raise ServiceError(Status.BAD_ARGUMENTS, f"the last key, {shortened(keys[-1], 60)!r}, has no value")
    return dict(zip(keys, keys_and_values[1::2], strict=True))
