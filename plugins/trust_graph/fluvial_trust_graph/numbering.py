"""Peers as numbers, and the links between them by number: indices into arrays are several times as quick to follow as names are.

A number is given once and stays, also when the last link of its peer has gone: so whoever keeps arrays beside a graph needs no news of that. It costs
some hundred bytes for each peer that had a link since the process started, and only statements of peers with weight make links.
"""

from __future__ import annotations

from typing import Final

from fluvial.identity import PeerId


class NumberedLinks:
    """See the module's docstring.

    Attributes:
        names: by number.
        following: by number of an issuer: whom it trusts, and how many peers that trust may lead to, the subject included: its depth plus one.
        preceding: the same by number of the subject.
    """

    def __init__(self) -> None:
        self.names: Final[list[PeerId]] = []
        self.following: Final[list[dict[int, int]]] = []
        self.preceding: Final[list[dict[int, int]]] = []
        self._numbers: dict[PeerId, int] = {}

    def number(self, peer: PeerId) -> int:
        """The number of a peer; a new one if it has none yet."""
        known = self._numbers.get(peer)
        if known is None:
            known = self._numbers[peer] = len(self.names)
            self.names.append(peer)
            self.following.append({})
            self.preceding.append({})
        return known

    def put(self, issuer: PeerId, subject: PeerId, depth: int) -> None:
        """Note a link, or its new depth."""
        one, other = self.number(issuer), self.number(subject)
        self.following[one][other] = self.preceding[other][one] = depth + 1

    def discard(self, issuer: PeerId, subject: PeerId) -> None:
        """Forget a link, if there is one."""
        one, other = self._numbers.get(issuer), self._numbers.get(subject)
        if one is not None and other is not None:
            self.following[one].pop(other, None)
            self.preceding[other].pop(one, None)
