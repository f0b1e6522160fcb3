"""Values for the names that a script reads and does not define: calls in front of it that load them; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from fluvial.air.syntax import UndefinedName, parse

LOAD: Final = "load"
"""The service on the initiator that knows the values, one function for each name."""
WRAPPINGS_MAX: Final = 64
"""Scripts of which it is remembered what they read."""


def with_values(script: str, values: Mapping[str, Any], *, name: str = "script.air") -> str:
    """The script with a call of ``load`` in front for every value whose name it reads and does not define.

    Args:
        script: AIR text.
        values: by name.
        name: the script's name in errors.

    Raises:
        AirSyntaxError: the script is wrong, or reads a name that has no value.
    """
    return wrapping_of(script, frozenset(values), name=name).around(script)


@dataclass(frozen=True, slots=True)
class Wrapping:
    """What :func:`with_values` puts around a script; in one line, so that the lines of the script stay what they are.

    Attributes:
        before, behind: texts.
        names: those that are loaded.
    """

    before: str = ""
    behind: str = ""
    names: tuple[str, ...] = ()

    def around(self, script: str) -> str:
        """The whole text."""
        return self.before + script + self.behind


@lru_cache(maxsize=WRAPPINGS_MAX)
def wrapping_of(script: str, values: frozenset[str], *, name: str = "script.air") -> Wrapping:
    """See :func:`with_values`; ``values`` are their names. Remembered, since most clients run one script again and again."""
    loaded: list[str] = []
    while True:
        try:
            parse(script, name=name, given=loaded)
        except UndefinedName as error:
            if error.undefined not in values:
                raise
            loaded.append(error.undefined)
        else:
            calls = [f'(seq (call %init_peer_id% ("{LOAD}" "{one}") [] {one}) ' for one in reversed(loaded)]
            return Wrapping("".join(calls), ")" * len(calls), tuple(loaded))
