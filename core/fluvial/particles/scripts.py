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

    def of(self, particle: Particle) -> Script:
        """The parsed script of a particle whose script hash was checked.

        Raises:
            Refused: with reason ``script``, it does not parse.
        """
        key = particle.header.script_hash
        if (found := self._parsed.get(key)) is not None:
            self._parsed.move_to_end(key)
            return found[1]
        try:
            script = parse(particle.script)
        except AirSyntaxError as error:
            raise Refused(f"its script does not parse: {error}", reason="script") from error
        size = len(particle.script)
        self._parsed[key] = (size, script)
        self._bytes += size
        while self._bytes > self._bytes_max and len(self._parsed) > 1:
            _, (gone, _script) = self._parsed.popitem(last=False)
            self._bytes -= gone
        return script
