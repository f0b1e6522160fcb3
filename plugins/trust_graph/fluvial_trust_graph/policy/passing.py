"""Functions whose results are whatever the caller wants: a result of theirs says nothing about where its content comes from.

Such a function only hands on its arguments, in another form or order: ``op.identity``, ``json.parse``, ``math.add``. Whoever may call it on a
peer gets that peer's signature on a value of one's own choice. So where a rule wants a value to be made on some peer, these do not count; a value that has
to pass through one of them goes to its reader as an argument of its own, with its own origin.
"""

from __future__ import annotations

from typing import Final

PASSING_SERVICES: Final = frozenset(("array", "cmp", "debug", "json", "math", "op"))
"""Built-in services all of whose functions hand on what they get."""
PASSING_FUNCTIONS: Final = frozenset((("peer", "timeout"),))
"""Such functions of other built-in services."""


def hands_on(service: str, function: str) -> bool:
    """Whether a function of a built-in service only hands on what it gets."""
    return service in PASSING_SERVICES or (service, function) in PASSING_FUNCTIONS
