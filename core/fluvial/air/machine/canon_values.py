"""What ``canon`` has fixed: the contents of streams and maps, as values that scripts read whole or in part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from msgspec.structs import replace

from fluvial.air.machine.provenance import Provenance, Source
from fluvial.air.machine.values import Composite, MapKey, Value, key_of, pair_value


@dataclass(frozen=True)
class CanonStreamValue:
    """The content of a stream, fixed by ``peer``."""

    peer: str
    elements: tuple[Value, ...]

    @property
    def fixed(self) -> Sequence[Value]:
        """What was fixed, in order."""
        return self.elements

    @cached_property
    def whole(self) -> Value:
        """All of it as an argument: an array, with the tetraplet of each element."""
        return _array(self.elements)

    def bound(self) -> Value:
        """All of it as ``ap`` binds it: an array that the canon's peer vouches for."""
        return replace(self.whole, origins=(Provenance(self.peer),))


@dataclass(frozen=True)
class CanonMapValue:
    """The pairs of a stream map, fixed by ``peer``; each pair is an object with ``key`` and ``value``."""

    peer: str
    pairs: tuple[Value, ...]

    @property
    def fixed(self) -> Sequence[Value]:
        """What was fixed, in order."""
        return self.pairs

    def values(self, key: MapKey) -> Sequence[Value] | None:
        """The values of one key in order, each with the tetraplet of its pair; None if there is no such key."""
        return self._by_key.get(key)

    @cached_property
    def _by_key(self) -> dict[MapKey, list[Value]]:
        values: dict[MapKey, list[Value]] = {}
        for pair in self.pairs:
            values.setdefault(key_of(pair), []).append(pair_value(pair))
        return values

    def array(self, key: MapKey) -> Composite:
        """The values of one key as an array, which is made once: thousands may read it."""
        if (found := self._arrays.get(key)) is None:
            found = Composite(self._by_key.get(key, ()))
            if found.members:
                self._arrays[key] = found
        return found

    @cached_property
    def _arrays(self) -> dict[MapKey, Composite]:
        return {}

    @cached_property
    def whole(self) -> Value:
        """All of it as an argument: an object of arrays, with the tetraplet of each pair."""
        values: dict[str, list[Value]] = {}
        for pair in self.pairs:
            values.setdefault(str(key_of(pair)), []).append(pair_value(pair))
        whole = Composite([_array(array) for array in values.values()], tuple(values))
        return Value(whole.content, tuple(pair.origins[0] for pair in self.pairs), Source.CANON, whole)


def _array(elements: Sequence[Value]) -> Value:
    whole = Composite(elements)
    return Value(whole.content, tuple(element.origins[0] for element in elements), Source.CANON, whole)


def object_of(pairs: Sequence[Value], peer: str) -> Value:
    """The object that a peer has made of a map: keys as texts, the first value of a key wins."""
    fields: dict[str, Value] = {}
    for pair in pairs:
        fields.setdefault(str(key_of(pair)), pair_value(pair))
    whole = Composite(list(fields.values()), tuple(fields))
    return Value(whole.content, (Provenance(peer),), Source.CANON, whole)
