"""Where values come from: what services see of it as a tetraplet, and what decides how much of that ``ap`` keeps.

A provenance never travels. Every peer finds it while it evaluates, from facts that are signed: the result of a call has the peer that signed it,
the content of a canon what the instructions have written that it names (``origins``).
"""

from __future__ import annotations

from enum import IntEnum

import msgspec


class Provenance(msgspec.Struct, frozen=True, gc=False):
    """Where a value comes from: the call that made it and the path into its result; texts are empty where nothing applies."""

    peer: str
    service: str = ""
    function: str = ""
    lens: str = ""


class Source(IntEnum):
    """How a value came about; decides how much of its tetraplet ``ap`` keeps.

    COUNTED is the length of something canonicalised, counted by the peer that runs: its peer is each peer's own, until a canon fixes it.
    """

    LITERAL = 0
    CALL = 1
    CANON = 2
    COUNTED = 3
