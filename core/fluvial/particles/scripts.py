"""Parsed scripts by their hash: many particles run the same script."""

from __future__ import annotations

import re
from collections import OrderedDict
from sys import getsizeof
from typing import Final
from weakref import WeakValueDictionary, finalize

from msgspec.structs import force_setattr

from fluvial.air.machine.closing import members_of
from fluvial.air.machine.meetings import meetings_of
from fluvial.air.machine.plan import plan_of
from fluvial.air.machine.reads import reads_of
from fluvial.air.machine.writers import writers_of
from fluvial.air.syntax import AirSyntaxError, Script, parse
from fluvial.errors import Refused
from fluvial.fairness import Payer
from fluvial.particle import Particle
from fluvial.particles.memory import MemoryBudget

CACHED_BYTES_MAX: Final = 16_777_216
"""Memory of all scripts that are kept though no particle runs them."""

CHUNK: Final = 16_384
"""Characters of a text that are looked at together."""

BRACKET_BYTES: Final = 160
"""Memory of an instruction, with what is worked out of it; measured, as the others."""
WORD_BYTES: Final = 80
"""Memory of a word or string without its characters, with what is worked out of its use."""
STEP_BYTES: Final = 100
"""Memory of a step of a lambda."""
SCRIPT_BYTES: Final = 2_000
"""Memory of the smallest script."""
PAPER_BYTES: Final = 750
"""Memory of an instruction in a script of an older form, of which a word may stand for an instruction and three names."""

AT_ONCE_BYTES: Final = 16_384
"""Size of a script that is parsed on the event loop: some milliseconds."""
PAPER_AT_ONCE_BYTES: Final = 2_048
"""The same, if it has ``acc[]`` of the older form: then it may grow tenfold."""
_APPENDED: Final = re.compile(r"[\w-]\[\]")


def is_parsed_at_once(text: str) -> bool:
    """Whether a script is parsed so quickly that nobody notices."""
    return len(text) <= PAPER_AT_ONCE_BYTES or (len(text) <= AT_ONCE_BYTES and _APPENDED.search(text) is None)


def script_weight(text: str, script: Script | None = None) -> int:
    """What a parsed script takes in memory with its text, in bytes, about; it is known better once it is parsed.

    The words are copies of parts of the text. Dots are mostly steps of lambdas, and all kinds of white space divide words.
    """
    brackets = text.count("(") + text.count("[")
    words = _stretches(text) + text.count('"') // 2
    characters = 2 * getsizeof(text)
    size = SCRIPT_BYTES + characters + BRACKET_BYTES * brackets + WORD_BYTES * words + STEP_BYTES * text.count(".")
    return max(size, PAPER_BYTES * script.size) if script is not None and script.paper else size


def _stretches(text: str) -> int:
    """How many stretches of a text are without white space; a long text is looked at in parts, so that little memory is taken."""
    return sum(len(text[at : at + CHUNK].split()) for at in range(0, len(text), CHUNK))


class Scripts:
    """The scripts that particles run, and a cache of those that were run last.

    Args:
        budget: where their memory is counted.
        bytes_max: memory of the scripts in the cache; one is always kept.
    """

    def __init__(self, budget: MemoryBudget, bytes_max: int = CACHED_BYTES_MAX) -> None:
        self._budget = budget
        self._bytes_max = bytes_max
        self._bytes = 0
        self._used: WeakValueDictionary[bytes, Script] = WeakValueDictionary()
        self._cached: OrderedDict[bytes, tuple[int, Script]] = OrderedDict()

    def parsed(self, particle: Particle) -> Script | None:
        """The parsed script of a particle whose script hash was checked; None if it is not here."""
        key = particle.header.script_hash
        script = self._used.get(key)
        if script is not None and key in self._cached:
            self._cached.move_to_end(key)
        return script

    def keep(self, particle: Particle, script: Script, payer: Payer) -> Script:
        """Put a particle's parsed script into the cache; what is kept of it. Whoever brings a script pays for it as long as it is here."""
        key, size = particle.header.script_hash, script_weight(particle.script, script)
        if (used := self._used.get(key)) is not None:
            return used
        self._used[key] = script
        self._budget.charge(("script", key), payer, size)
        finalize(script, self._budget.release_later, ("script", key)).atexit = False
        self._cached[key] = (size, script)
        self._bytes += size
        while self._bytes > self._bytes_max and len(self._cached) > 1:
            self._forget_oldest()
        return script

    def share_text(self, particle: Particle, script: Script) -> None:
        """Let a particle whose script this is have its text in common with others that run it."""
        force_setattr(particle, "script", script.analyses.setdefault("text", particle.script))  # an equal one

    def forget_unused(self) -> None:
        """Empty the cache: memory is short."""
        while self._cached:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        _, (size, _script) = self._cached.popitem(last=False)
        self._bytes -= size


def parse_script(particle: Particle) -> Script:
    """Parse a particle's script; raises Refused, ``script``, if it does not parse."""
    try:
        return parse(particle.script)
    except AirSyntaxError as error:
        raise Refused(f"its script does not parse: {error}", reason="script") from error


def analysed_script(particle: Particle) -> Script:
    """As :func:`parse_script`, with all that will be asked of the script: of a long one that takes as long as to parse it."""
    script = parse_script(particle)
    for analyse in ANALYSES:
        analyse(script)
    return script


ANALYSES: Final = (plan_of, writers_of, meetings_of, reads_of, members_of)
