"""The linear memories that a component declares, read from its bytes.

Source: WebAssembly core specification 5.5 (sections, limits) and the Component Model's binary format (core modules and components nest).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

_COMPONENT: Final = b"\0asm\x0d\0\1\0"
_MODULE: Final = b"\0asm\1\0\0\0"
_CORE_MODULE: Final = 1
_COMPONENT_SECTION: Final = 4
_MEMORY: Final = 5
_HAS_MAXIMUM: Final = 0x01
_HAS_PAGE_SIZE: Final = 0x08
_PAGE_BITS: Final = 16
_DEPTH_MAX: Final = 100


def declared_memories(data: bytes, depth: int = 0) -> list[int]:
    """What each declared memory has at least, in bytes; for bytes that wasmtime has accepted.

    Raises:
        ValueError: the bytes are no component, or end too early.
    """
    if data[:8] != _COMPONENT or depth > _DEPTH_MAX:
        raise ValueError("this is no component")
    found: list[int] = []
    for kind, content in _sections(data):
        if kind == _CORE_MODULE and content[:8] == _MODULE:
            for inner, section in _sections(content):
                if inner == _MEMORY:
                    found += _memories(section)
        elif kind == _COMPONENT_SECTION:
            found += declared_memories(content, depth + 1)
    return found


def _sections(data: bytes) -> Iterator[tuple[int, bytes]]:
    place = 8
    while place < len(data):
        size, begin = _number(data, place + 1)
        if begin + size > len(data):
            raise ValueError("a section ends too early")
        yield data[place], data[begin : begin + size]
        place = begin + size


def _memories(section: bytes) -> Iterator[int]:
    count, place = _number(section, 0)
    for _ in range(count):
        flags = section[place]
        pages, place = _number(section, place + 1)
        if flags & _HAS_MAXIMUM:
            _, place = _number(section, place)
        bits = _PAGE_BITS
        if flags & _HAS_PAGE_SIZE:
            bits, place = _number(section, place)
        yield pages << bits


def _number(data: bytes, place: int) -> tuple[int, int]:
    """An unsigned LEB128 number, and the place behind it."""
    value = shift = 0
    while True:
        if place >= len(data) or shift > 63:
            raise ValueError("a number ends too early")
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
