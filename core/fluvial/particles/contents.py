"""Reads the data that came with a delivery: its shape, its values, its signatures."""

from __future__ import annotations

import math
from typing import Any, Final

from fluvial.air.data.batch import Known, check_data, decode_data
from fluvial.errors import RemoteProtocolError
from fluvial.particle import ParticleKey

DEPTH_MAX: Final = 256
"""Arrays and objects within each other in a received value: what a service may return (128), and as much again that scripts put around.

Far below Python's limit for recursion, so that what was accepted once can be read back wherever that happens."""

_PLAIN: Final = frozenset({type(None), bool, int, float, str, list, dict})


def read_data(key: ParticleKey, data: bytes) -> Known:
    """What a delivery brings, with nothing left to doubt.

    Args:
        key: the particle's.
        data: as in ``Delivery.data``.

    Raises:
        RemoteProtocolError: something is malformed, missing, altered or not signed for this particle.
    """
    try:
        decoded = decode_data(data)
    except TypeError as error:  # the encoder, which puts keys in order, meets one that is no text
        raise RemoteProtocolError(f"this is no particle data: {error}") from error
    if problem := _why_not_json(decoded.contents):
        raise RemoteProtocolError(f"a content is no JSON value: {problem}")
    return check_data(key, decoded)


def _why_not_json(values: tuple[Any, ...]) -> str:
    """Why decoded MessagePack values are no JSON values; empty if they are: MessagePack knows more than JSON does."""
    level: list[Any] = list(values)
    for _ in range(DEPTH_MAX + 1):
        below: list[Any] = []
        for item in level:
            if type(item) not in _PLAIN:
                return f"it holds a {type(item).__name__}"
            if type(item) is float and not math.isfinite(item):
                return f"it holds {item}"
            if type(item) is list:
                below.extend(item)
            elif type(item) is dict:
                below.extend(item.values())
        if not below:
            return ""
        level = below
    return f"it is nested deeper than {DEPTH_MAX} levels"
