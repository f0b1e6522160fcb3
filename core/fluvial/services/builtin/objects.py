"""``json`` and ``debug``: objects out of keys and values, and values as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from fluvial.air.data.weight import CHUNK, ITEM_BYTES, in_chunks
from fluvial.effectors import Effector, NoConfig, function
from fluvial.errors import ServiceError
from fluvial.services.status import Status, shortened
from fluvial.services.values import RESULT_BYTES_MAX, RESULT_FIELDS_MAX, RESULT_WEIGHT, why_not_json

NO_ARGUMENTS: Final = "<empty argument list>"

WEIGHT_MAX: Final = RESULT_WEIGHT * RESULT_BYTES_MAX
"""Memory of a value that is read from a text: what a result may take by default."""
ARRAYS_MAX: Final = 100_000
"""Arrays in a JSON text: to make more of them takes more than some hundredths of a second, in one go."""
ARRAY_BYTES: Final = 56
OBJECT_BYTES: Final = 64
"""What an array and an object take without anything in them."""
LIGHT_TEXT_BYTES: Final = 16_384
"""A text of this weight is read in a few milliseconds, whatever it stands for: its value may take thirty times as much memory."""
TEXT_PART: Final = 65_536
"""Characters of a text that are written or looked through as JSON together."""
_TWOFOLD: Final = b'\b\t\n\f\r"\\'
_SIXFOLD: Final = bytes(set(range(0x20)) - set(_TWOFOLD))
"""Characters that take two and six characters of JSON."""
_DIGITS: Final = bytes.maketrans(b"123456789", b"0" * 9)
_EXTREME: Final = b"0" * 280
"""Digits of a number that is very large or very small though it is written without an exponent, each of them a zero."""


def text_of(value: Any) -> str:
    """The JSON text of a value: compact, keys in ascending order, so that equal values have equal texts.

    Raises:
        ServiceError: status 7, the text would be longer than a result may be. A text in it may be there a thousand times, and a character of it take
            six, so this is found out before any of it is made.
    """
    if _least_length(value) > RESULT_BYTES_MAX:
        raise ServiceError(Status.NO_RESULT, f"the JSON of this would have more than {RESULT_BYTES_MAX:,} characters")
    if type(value) is str:
        return _quoted(value)
    return msgspec.json.encode(value, order="deterministic").decode()


def _quoted(text: str) -> str:
    """As :func:`text_of`. In parts, so that no step of Python takes long."""
    parts = [
        msgspec.json.encode(text[start : start + TEXT_PART]).decode()[1:-1]
        for start in range(0, max(len(text), 1), TEXT_PART)
    ]
    return f'"{"".join(parts)}"'


def _least_length(value: Any) -> int:
    """How long the JSON text of a value is at least; goes on until that is more than a result may have."""
    length = 0
    for chunk, kinds, _ in in_chunks((value,)):
        length += len(chunk)
        if str in kinds:
            texts = [item for item in chunk if type(item) is str]
            length += sum(map(len, texts))
            if length <= RESULT_BYTES_MAX:  # else one text may be there a thousand times
                length += _more_escaped("".join(texts))
        if length > RESULT_BYTES_MAX:
            break
    return length


def _more_escaped(text: str) -> int:
    """How many characters more than a text its JSON has, without the quotes."""
    data = text.encode(errors="surrogatepass")
    once = data.translate(None, _TWOFOLD)
    return len(data) - len(once) + 5 * (len(once) - len(once.translate(None, _SIXFOLD)))


def why_too_heavy(json: str) -> str:
    """Why the value of a JSON text is more than a peer makes in one go, found without making it; empty if it is not."""
    if not _why_too_heavy((json,)):
        return ""
    return _why_too_heavy(_outside_of_texts(json))


def _why_too_heavy(parts: Iterable[str]) -> str:
    """As :func:`why_too_heavy`, of the parts of a JSON text no sign of which is inside of a text."""
    weight = arrays = fields = 0
    for part in parts:
        arrays += part.count("[")
        if arrays > ARRAYS_MAX:
            return f"has more than {ARRAYS_MAX:,} arrays"
        weight += ARRAY_BYTES * part.count("[") + OBJECT_BYTES * part.count("{") + ITEM_BYTES * part.count(",")
        if weight > WEIGHT_MAX:
            return f"stands for more than {WEIGHT_MAX:,} bytes of memory"
        fields += part.count(":")
        if fields > RESULT_FIELDS_MAX:
            return f"has more than {RESULT_FIELDS_MAX:,} fields"
    return ""


def _number(text: str) -> float:
    """A number with a fraction or an exponent."""
    return float(text)


_DECODER: Final = msgspec.json.Decoder()
_DECODER_OF_EXTREMES: Final = msgspec.json.Decoder(float_hook=_number)


def _decoder_of(json: str) -> msgspec.json.Decoder[Any]:
    """What reads a text. Numbers such as 1e-320 take msgspec a hundred times as long as Python, and while it reads no other thread goes on."""
    if "e" in json or "E" in json:
        return _DECODER_OF_EXTREMES
    zeros = json.encode(errors="surrogatepass").translate(_DIGITS)
    return _DECODER_OF_EXTREMES if _EXTREME in zeros else _DECODER


def _outside_of_texts(json: str) -> Iterator[str]:
    """What stands outside of the texts in a JSON text. In parts, each character once: a text may be open at its end, and have a million quotes in it."""
    at, inside = 0, False
    while at < len(json):
        part = json[at : at + TEXT_PART]
        at += len(part)
        part = part.replace("\\\\", "").replace('\\"', "")
        if part.endswith("\\") and at < len(json):
            at -= 1  # it belongs to the character behind it
        pieces = part.split('"')
        yield "".join(pieces[inside::2])
        inside ^= len(pieces) % 2 == 0


class JsonService(Effector[NoConfig]):
    """JSON objects and texts."""

    service_id = "json"
    pure = True

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
        return _object_of({}, pairs)

    @function(inline=True)
    def puts_pairs(self, object_: dict[str, Any], pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """A copy of an object with further `[key, value]` pairs."""
        return _object_of(dict(object_), pairs)

    @function(inline=True, light_bytes=LIGHT_TEXT_BYTES)
    def parse(self, json: str) -> Any:
        """The value that a JSON text stands for (RFC 8259); of equal keys the last one counts. A value of more than 32 MiB of memory, 100,000 arrays or 100,000 fields is refused."""
        # Deviation: an integer beyond 64 bits is an error; the reference makes a rounded floating-point number of it.
        if problem := why_too_heavy(json):
            raise ServiceError(Status.NO_RESULT, f"the JSON {problem}")
        try:
            value = _decoder_of(json).decode(json)
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
    pure = True

    @function(inline=True)
    def stringify(self, *values: Any) -> str:
        """The JSON text of its argument; of several as an array; without any, of the string `<empty argument list>`."""
        return text_of(values[0] if len(values) == 1 else values or NO_ARGUMENTS)


def _object_of(begun: dict[str, Any], pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object with further pairs. In parts, so that no step of Python takes long."""
    for start in range(0, len(pairs), CHUNK):
        begun.update(pairs[start : start + CHUNK])
    return begun


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
