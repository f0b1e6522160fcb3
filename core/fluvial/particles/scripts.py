"""A cache of parsed scripts by their hash: many particles run the same script."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from fluvial.air.syntax import AirSyntaxError, Script, parse
from fluvial.errors import Refused
from fluvial.particle import Particle

CACHED_BYTES_MAX: Final = 16_777_216
"""Size of the text of all cached scripts together, in characters."""


class Scripts:
    """A cache of parsed scripts. The least recently used one is forgotten first.

    Args:
        bytes_max: size of the text of all cached scripts together; one script is always kept.
    """

    def __init__(self, bytes_max: int = CACHED_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._parsed: OrderedDict[bytes, tuple[int, Script]] = OrderedDict()

    def cached(self, particle: Particle) -> Script | None:
        """The parsed script of a particle whose script hash was checked; None if it is not in the cache."""
        found = self._parsed.get(particle.header.script_hash)
        if found is None:
            return None
        self._parsed.move_to_end(particle.header.script_hash)
        return found[1]

    def keep(self, particle: Particle, script: Script) -> Script:
        """Put a particle's parsed script into the cache."""
        key, size = particle.header.script_hash, len(particle.script)
        if key in self._parsed:
            return script
        self._parsed[key] = (size, script)
        self._bytes += size
        while self._bytes > self._bytes_max and len(self._parsed) > 1:
            _, (gone, _script) = self._parsed.popitem(last=False)
            self._bytes -= gone
        return script


def parse_script(particle: Particle) -> Script:
    """Parse a particle's script; raises Refused, ``script``, if it does not parse."""
    try:
        return parse(particle.script)
    except AirSyntaxError as error:
        raise Refused(f"its script does not parse: {error}", reason="script") from error
