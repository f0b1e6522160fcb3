"""Peers as numbers, and the links between them by number: indices into lists are several times as quick to follow as names are.

A number is given once and stays, also when the last link of its peer has gone: so whoever keeps arrays beside a graph needs no news of that. It costs
some hundred bytes for each peer that had a link since the process started, and only statements of peers with weight make links.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, TypeAlias

from fluvial.identity import PeerId

TUPLE_MAX: Final = 64
"""Up to so many links of one peer are a tuple, which is quick to go through and small; more are a set, to which one is added at once."""
NUMBERS_AT_ONCE: Final = 1_024
"""Numbers are made in blocks, so that they lie side by side in memory: following links takes a third less time then."""
Ends: TypeAlias = list[Collection[int]]
"""By number of a peer: the other ends of its links."""


class NumberedLinks:
    """Links by number and by bound: how many peers a trust may lead to, the subject included.

    Args:
        bound_max: a bound that limits nothing; higher ones count as this one.

    Attributes:
        names: by number.
        after: by bound, then by number of an issuer: whom it trusts with that bound.
        before: the same by number of the subject.
    """

    def __init__(self, bound_max: int) -> None:
        self.names: Final[list[PeerId]] = []
        self._bound_max: Final = bound_max
        self._after: Final[dict[int, Ends]] = {}
        self._before: Final[dict[int, Ends]] = {}
        self._numbers: dict[PeerId, int] = {}
        self._ready: list[int] = []

    def find(self, peer: PeerId) -> int | None:
        """The number of a peer, if it has one."""
        return self._numbers.get(peer)

    @property
    def after(self) -> Mapping[int, Ends]:
        """See the class's docstring."""
        return self._after

    @property
    def before(self) -> Mapping[int, Ends]:
        """See the class's docstring."""
        return self._before

    def number(self, peer: PeerId) -> int:
        """The number of a peer; a new one if it has none yet."""
        known = self._numbers.get(peer)
        if known is None:
            if not self._ready:
                self._ready = list(reversed(range(len(self.names), len(self.names) + NUMBERS_AT_ONCE)))
            known = self._numbers[peer] = self._ready.pop()
            self.names.append(peer)
            for ends in (*self._after.values(), *self._before.values()):
                ends.append(())
        return known

    def put(self, issuer: PeerId, subject: PeerId, depth: int) -> None:
        """Note a link that is not there yet.

        Args:
            issuer: who trusts.
            subject: whom.
            depth: how many links may follow.
        """
        one, other, bound = self.number(issuer), self.number(subject), self._bound(depth)
        if bound not in self._after:
            self._after[bound] = [()] * len(self.names)
            self._before[bound] = [()] * len(self.names)
        _add(self._after[bound], one, other)
        _add(self._before[bound], other, one)

    def discard(self, issuer: PeerId, subject: PeerId, depth: int) -> None:
        """Forget a link that was put with that depth."""
        one, other, bound = self._numbers[issuer], self._numbers[subject], self._bound(depth)
        _remove(self._after[bound], one, other)
        _remove(self._before[bound], other, one)

    def _bound(self, depth: int) -> int:
        return min(depth + 1, self._bound_max)


def _add(ends: Ends, at: int, one: int) -> None:
    known = ends[at]
    if isinstance(known, set):
        known.add(one)
    else:
        ends[at] = (*known, one) if len(known) < TUPLE_MAX else {*known, one}


def _remove(ends: Ends, at: int, one: int) -> None:
    known = ends[at]
    if isinstance(known, set):
        known.remove(one)
    else:
        ends[at] = tuple(other for other in known if other != one)
