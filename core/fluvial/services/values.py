"""Turns what a function returned into a JSON value that can be signed and sent, or says why this is not possible."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Mapping, Sequence, Set
from itertools import islice
from typing import Any, Final

import msgspec

from fluvial.air.data.content import JSON_DEPTH_MAX
from fluvial.air.data.weight import LIGHT_BYTES, EncodedJson, chunk_weight, in_chunks
from fluvial.encoding import encode
from fluvial.errors import ServiceError
from fluvial.seats import Json
from fluvial.services.status import Status

RESULT_BYTES_MAX: Final = 4 * 1024 * 1024
"""Default limit of one result in its canonical encoding: half of the default limit of a particle's data."""

RESULT_WEIGHT: Final = 8
"""A result may take so many times as much memory as bytes; texts and long arrays of numbers take less, arrays of small arrays more."""

RESULT_FIELDS_MAX: Final = 100_000
"""Fields of all objects in a result: to encode, decode, sort or copy more of them takes more than some hundredths of a second, in one go."""
PLAIN_BYTES: Final = 1_024
"""See :func:`is_plain`."""

DEPTH_MAX: Final = JSON_DEPTH_MAX + 1
"""How deep an item can lie: arrays and objects within each other, and what is in the innermost."""

INTEGER_MIN: Final = -(2**63)
INTEGER_MAX: Final = 2**64 - 1
_TEXT: Final = frozenset({str})
_PLAIN: Final = frozenset({type(None), bool, int, float, str, list, tuple, dict})


def to_json(value: Any, *, of: str, bytes_max: int = RESULT_BYTES_MAX) -> Json:
    """As :func:`to_result`, always decoded."""
    result = to_result(value, of=of, bytes_max=bytes_max)
    return result.json if type(result) is EncodedJson else result


def to_result(value: Any, *, of: str, bytes_max: int = RESULT_BYTES_MAX) -> Json | EncodedJson:
    """``value`` converted to None, bool, int, float, str, list and dict; encoded, if that is heavy.

    Structs, dataclasses, tuples, sets (sorted), enums, dates and the like are converted as msgspec does.

    Args:
        value: what the function returned.
        of: ``service.function``, for the error.
        bytes_max: limit of the canonical encoding in bytes.

    Raises:
        ServiceError: status 5; it is no JSON value, too large, too dense (:data:`RESULT_WEIGHT`), too deep, or has too many fields.
    """
    if is_plain(value, bytes_max=bytes_max):
        return value
    weight_max = max(RESULT_WEIGHT * bytes_max, LIGHT_BYTES)
    try:
        weight, plain = _survey(value, weight_max)
        if not plain and weight <= weight_max:
            value = msgspec.to_builtins(value, order="deterministic", enc_hook=_plain_base)
            if problem := why_not_json(value):
                raise _unusable(of, problem)
            weight, _ = _survey(value, weight_max)
        # A few references to one large text are little here, and gigabytes once they are encoded.
        if weight > weight_max:
            raise _unusable(of, f"it would take more than {weight_max:,} bytes of memory, which is the limit")
        data = encode(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise _unusable(of, str(error)) from error
    except RecursionError as error:
        raise _unusable(of, f"it is nested deeper than {JSON_DEPTH_MAX} levels") from error
    if len(data) > bytes_max:
        raise _unusable(of, f"its {len(data):,} bytes are more than the limit of {bytes_max:,}")
    if weight > LIGHT_BYTES:
        return EncodedJson(data, weight)
    # Lists in place of tuples, and a copy that shares nothing with objects that the function keeps.
    return msgspec.msgpack.decode(data)


def is_plain(value: Any, *, bytes_max: int = RESULT_BYTES_MAX) -> bool:
    """Whether a value is a result as it stands, as many are: a number or short text of Python's own, with which nothing is wrong; runs no code of its author."""
    if bytes_max < PLAIN_BYTES:
        return False
    kind = type(value)
    if kind is str:
        return len(value) < PLAIN_BYTES - 8 and value.isascii()
    return value is None or kind is bool or (kind is int and INTEGER_MIN <= value <= INTEGER_MAX)


def beginning(value: Json, most: int) -> Json:
    """A value whose JSON text begins as that of ``value`` does, for so many characters: the text of the whole may have hundreds of megabytes."""
    left = most

    def shown(item: Json) -> Json:
        nonlocal left
        left -= 1
        if isinstance(item, str):
            text = item[: max(left, 0) + 1]
            left -= len(text)
            return text
        if isinstance(item, list | tuple):
            return [shown(one) for one in item[:most] if left > 0]
        if isinstance(item, dict):
            return {shown(key): shown(one) for key, one in islice(item.items(), most) if left > 0}
        return item

    return shown(value)


def why_not_json(value: Any) -> str:
    """Why a value of Python's own types is no JSON value, naming the place; empty if it is one."""
    for chunk, kinds, depth in in_chunks((value,)):
        if depth > DEPTH_MAX:
            return f"it is nested deeper than {JSON_DEPTH_MAX} levels"
        if _has_problem(chunk, kinds):
            return _located(value)
    return ""


def _survey(value: Any, most: int) -> tuple[int, bool]:
    """What a value takes in memory, and whether it is made of JSON's own types and has no problem; goes on until it is more than ``most``.

    Raises ValueError: there are too many fields.
    """
    size, fields, plain = 0, 0, True
    for chunk, kinds, depth in in_chunks((value,)):
        if depth > DEPTH_MAX:
            return size, False
        size += chunk_weight(chunk, kinds)
        if dict in kinds:
            fields += sum([len(item) for item in chunk if type(item) is dict])
            if fields > RESULT_FIELDS_MAX:
                raise ValueError(
                    f"its objects have more than {RESULT_FIELDS_MAX:,} fields together, which is the limit"
                )
        plain = plain and kinds <= _PLAIN and not _has_problem(chunk, kinds)
        if size > most:
            break
    return size, plain


# A large value has millions of items: what is asked of each of them is asked without a step of Python.


def _has_problem(chunk: Sequence[Any], kinds: Collection[type]) -> bool:
    """Whether an item has one, regardless of its children."""
    if float in kinds and not all(map(math.isfinite, [item for item in chunk if type(item) is float])):
        return True
    if int in kinds:
        integers = chunk if len(kinds) == 1 else [item for item in chunk if type(item) is int]
        if min(integers) < INTEGER_MIN or max(integers) > INTEGER_MAX:
            return True
    return dict in kinds and not all(_TEXT.issuperset(map(type, item)) for item in chunk if type(item) is dict)


def _problem(item: Any) -> str:
    """What is wrong with one item, regardless of its children."""
    kind = type(item)
    if kind is float and not math.isfinite(item):
        return f"{item} is no JSON number"
    if kind is int and not INTEGER_MIN <= item <= INTEGER_MAX:
        return "the integer does not fit in 64 bits"
    if kind is dict:
        return next((f"the key {key!r} is not a string" for key in item if type(key) is not str), "")
    return ""


def _located(value: Any) -> str:
    """The first problem of a value that has one, with the path to it."""
    pending = deque([(value, "$")])
    while pending:
        item, path = pending.popleft()
        if problem := _problem(item):
            return f"{problem}, at {path}"
        if type(item) in (list, tuple):
            pending.extend((child, f"{path}[{index}]") for index, child in enumerate(item))
        elif type(item) is dict:
            pending.extend((child, f"{path}.{key}") for key, child in item.items())
    raise AssertionError("a value without a problem was asked for its problem")


def _plain_base(value: Any) -> Any:
    """For msgspec, which knows only the exact types: subclasses of them (such as PeerId), and other mappings and sets."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, list | tuple | Set):
        return list(value)
    raise TypeError(f"a {type(value).__module__}.{type(value).__qualname__} is no JSON value")


def _unusable(of: str, problem: str) -> ServiceError:
    return ServiceError(Status.FAILED, f"{of} returned what cannot be used: {problem}")
