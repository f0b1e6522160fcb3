"""The links and bans that hold at one moment, for one scope: what remains of statements when newest, live and covering are decided."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec
from fluvial.identity import PeerId

from fluvial_trust_graph.numbering import NumberedLinks
from fluvial_trust_graph.statements import Statement, TrustStatement, is_newer

EXPONENT_MAX: Final = 16
"""A root weighs at most ``2**16``. Source: trust-graph of the reference, ``WEIGHT_FACTOR``."""


ENDS_MIN: Final = 1_024
"""From how many noted expiries on those of replaced trusts are forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustRoot:
    """A peer that the owner of a node trusts by decree.

    Args:
        peer: who.
        exponent: it weighs ``2**exponent``, and its chains have at most so many links; what is above 16 counts as 16.
    """

    peer: PeerId
    exponent: int

    def __post_init__(self) -> None:
        """Refuse what is no weight.

        Raises:
            ValueError: the exponent is negative.
        """
        if self.exponent < 0:
            raise ValueError(f"the exponent of root {self.peer} is negative: {self.exponent}")


class TrustGraph(msgspec.Struct):
    """Links by both ends, bans, and peers that signed themselves, kept up with statements and time.

    Statements are taken as authentic: verify them before. Any order of the same statements gives the same graph, as long as none is dated in the
    future of ``now`` when it comes; :func:`fluvial_trust_graph.evaluation.evaluate` leaves those out.

    Args:
        now: the moment, in whole seconds of Unix time.
        scope: what trusts must be good for; empty if they must be good for everything, None if for anything.
    """

    now: int
    scope: str | None = None
    newest: dict[PeerId, dict[PeerId, Statement]] = msgspec.field(default_factory=dict)
    """By subject, then by issuer."""
    following: dict[PeerId, dict[PeerId, int]] = msgspec.field(default_factory=dict)
    """By issuer: whom it trusts, and the delegation depth."""
    preceding: dict[PeerId, dict[PeerId, int]] = msgspec.field(default_factory=dict)
    """By subject: who trusts it, and the delegation depth."""
    banners: dict[PeerId, set[PeerId]] = msgspec.field(default_factory=dict)
    """By subject: who bans it; nobody here bans itself."""
    anchored: dict[PeerId, int] = msgspec.field(default_factory=dict)
    """Who signed itself, and the delegation depth."""
    links: NumberedLinks = msgspec.field(default_factory=lambda: NumberedLinks(EXPONENT_MAX))
    """The same links by number."""
    _ends: list[tuple[int, PeerId, PeerId]] = msgspec.field(default_factory=list)
    _ends_max: int = ENDS_MIN

    def put(self, statement: Statement) -> bool:
        """Take a statement; whether it is the newest one of its issuer about its subject."""
        about = self.newest.setdefault(statement.subject, {})
        known = about.get(statement.issuer)
        if known is not None and not is_newer(statement, known):
            return False
        about[statement.issuer] = statement
        self._settle(statement)
        return True

    def fill(self, statements: Iterable[Statement]) -> None:
        """Take many statements."""
        for statement in statements:
            self.put(statement)

    @property
    def behind(self) -> bool:
        """Whether there are links of trusts that have ended: :meth:`advance` has left some."""
        return bool(self._ends) and self._ends[0][0] <= self.now

    def advance(self, now: int, *, most: int | None = None) -> Collection[tuple[PeerId, PeerId]]:
        """Let time pass; returns the pairs (issuer, subject) whose trust has ended, of no more than ``most`` that do so if that is given."""
        self.now = max(self.now, now)
        ended = []
        for _ in itertools.count() if most is None else range(most):
            if not self.behind:
                break
            _, issuer, subject = heapq.heappop(self._ends)
            statement = self.newest.get(subject, {}).get(issuer)
            if isinstance(statement, TrustStatement) and statement.expires_at <= self.now:
                self._settle(statement)
                ended.append((issuer, subject))
        return ended

    def remove(self, issuer: PeerId, subject: PeerId) -> None:
        """Forget the newest statement of a peer about another one."""
        about = self.newest.get(subject, {})
        if about.pop(issuer, None) is None:
            return
        if not about:
            del self.newest[subject]
        if issuer == subject:
            self.anchored.pop(subject, None)
            return
        self._unlink(issuer, subject)
        self._unban(issuer, subject)

    def holds(self, statement: Statement) -> bool:
        """Whether a statement is a trust that is live now and good for the scope."""
        return (
            isinstance(statement, TrustStatement)
            and self.now < statement.expires_at
            and (self.scope is None or statement.covers(self.scope))
        )

    def _settle(self, statement: Statement) -> None:
        issuer, subject = statement.issuer, statement.subject
        if isinstance(statement, TrustStatement) and self.holds(statement):
            self._note_end(statement)
            if issuer == subject:
                self.anchored[subject] = statement.depth
            else:
                self._link(issuer, subject, statement.depth)
        elif issuer == subject:
            self.anchored.pop(subject, None)
        else:
            self._unlink(issuer, subject)
        if isinstance(statement, TrustStatement):
            self._unban(issuer, subject)
        elif issuer != subject:
            self.banners.setdefault(subject, set()).add(issuer)

    def _link(self, issuer: PeerId, subject: PeerId, depth: int) -> None:
        following = self.following.setdefault(issuer, {})
        known = following.get(subject)
        if known != depth:
            if known is not None:
                self.links.discard(issuer, subject, known)
            following[subject] = depth
            self.preceding.setdefault(subject, {})[issuer] = depth
            self.links.put(issuer, subject, depth)

    def _unlink(self, issuer: PeerId, subject: PeerId) -> None:
        known = self.following.get(issuer, {}).get(subject)
        if known is not None:
            _discard(self.following, issuer, subject)
            _discard(self.preceding, subject, issuer)
            self.links.discard(issuer, subject, known)

    def _unban(self, issuer: PeerId, subject: PeerId) -> None:
        if subject in self.banners:
            self.banners[subject].discard(issuer)
            if not self.banners[subject]:
                del self.banners[subject]

    def _note_end(self, trust: TrustStatement) -> None:
        """Remember when a trust ends; the list stays in proportion to the trusts, however often they are renewed."""
        heapq.heappush(self._ends, (trust.expires_at, trust.issuer, trust.subject))
        if len(self._ends) > self._ends_max and not self.behind:
            known = (one for about in self.newest.values() for one in about.values())
            live = (one for one in known if isinstance(one, TrustStatement) and self.holds(one))
            self._ends = sorted((one.expires_at, one.issuer, one.subject) for one in live)
            self._ends_max = ENDS_MIN + 2 * len(self._ends)

    def bans(self, issuer: PeerId, subjects: Iterable[PeerId]) -> bool:
        """Whether a peer bans one of some others."""
        return any(issuer in self.banners.get(subject, ()) for subject in subjects)


def _discard(links: dict[PeerId, dict[PeerId, int]], one: PeerId, other: PeerId) -> None:
    del links[one][other]
    if not links[one]:
        del links[one]


class Anchored(Protocol):
    """Knows who signed itself."""

    @property
    def anchored(self) -> Mapping[PeerId, int]:
        """Who did, and the delegation depth."""
        ...


def anchors(graph: Anchored, roots: Mapping[PeerId, int]) -> dict[PeerId, tuple[int, int]]:
    """The roots from which chains start: exponent and delegation depth of those that signed themselves."""
    return {peer: (exponent, graph.anchored[peer]) for peer, exponent in roots.items() if peer in graph.anchored}
