"""How statements come in, whoever brings them: looked at, verified, kept or left to wait; written before they count."""

from __future__ import annotations

from collections import Counter as Counted
from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeAlias

import anyio
import anyio.lowlevel
import msgspec
from fluvial.identity import PeerId
from prometheus_client import CollectorRegistry, Counter, Gauge

from fluvial_trust_graph.gossip.digest import StatementIndex
from fluvial_trust_graph.gossip.rates import SenderRates
from fluvial_trust_graph.gossip.waiting_room import WaitingRoom
from fluvial_trust_graph.live import LiveTrust
from fluvial_trust_graph.options import TrustGraphOptions
from fluvial_trust_graph.statements import Statement, TrustStatement, is_authentic, is_newer
from fluvial_trust_graph.storage.store import StatementStore

Outcome: TypeAlias = Literal["accepted", "known", "waiting", "expired", "future", "forged", "full", "busy"]
VERIFIED_AT_ONCE: Final = 8
"""Signatures that are verified before others get their turn: less than a millisecond."""
ENDS_AT_ONCE: Final = 512
"""Trusts that end in the same second and are looked at before others get their turn: 6 ms in a large graph, 15 if ten issuers made all of it. With fewer
at once, what follows from them for everybody else would be put right more often than it is worth."""
SWEPT_AT_ONCE: Final = 512
"""Statements that are looked at, and perhaps forgotten, before others get their turn."""
STRANGERS_SHARE: Final = 4.0
"""The tokens of all strangers together, as a multiple of those of one sender."""


class IntakeReport(msgspec.Struct, frozen=True):
    """What became of each statement, in their order.

    Args:
        outcomes: one word for each.
        fresh: those that count from now on, also some that had waited.
    """

    outcomes: Sequence[Outcome]
    fresh: Sequence[Statement]


class StatementIntake:
    """See the module's docstring.

    Args:
        me: this peer.
        network: its network.
        trust: what it knows.
        index: the same for comparisons with others.
        store: where it is kept.
        options: the limits.
        now_s: the time, seconds of Unix time.
        metrics: get counters and gauges.
    """

    def __init__(
        self,
        me: PeerId,
        *,
        network: str,
        trust: LiveTrust,
        index: StatementIndex,
        store: StatementStore,
        options: TrustGraphOptions,
        now_s: Callable[[], float],
        metrics: CollectorRegistry,
    ) -> None:
        self._me = me
        self._network = network
        self._trust = trust
        self._index = index
        self._store = store
        self._options = options
        self._now_s = now_s
        self.waiting: Final = WaitingRoom(
            places=options.waiting_max, issuer_max=options.waiting_issuer_max, sender_max=options.waiting_sender_max
        )
        per_s = options.sender_per_s
        self._rates = SenderRates(per_s=per_s, burst=options.sender_burst, strangers_per_s=STRANGERS_SHARE * per_s)
        self._turn = anyio.Lock()
        self._lost: dict[PeerId, int] = {}
        """Since when issuers have no weight."""
        self._released: int | None = None
        """With which version of what is known all issuers whose statements wait were asked for."""
        self._short: set[PeerId] = set()
        """Issuers of whom this second's searches did not say whether they have weight."""
        self._asked_at = 0
        self._outcomes = Counter(
            "fluvial_trust_statements", "Statements handed to this peer, by outcome", ["outcome"], registry=metrics
        )
        kept = Gauge("fluvial_trust_statements_kept", "Statements that are kept", registry=metrics)
        kept.set_function(lambda: len(trust))
        waits = Gauge(
            "fluvial_trust_statements_waiting", "Statements that wait for their issuer's weight", registry=metrics
        )
        waits.set_function(lambda: len(self.waiting))

    def grant(self, sender: PeerId, wanted: int) -> int:
        """How many statements a sender may hand over now, at most ``wanted``; ask before they are decoded, which costs more than asking."""
        if sender == self._me:
            return wanted
        granted = self._rates.take(sender, wanted, self._now_s(), weight=self._trust.weight(sender))
        if granted < wanted:
            self._outcomes.labels("busy").inc(wanted - granted)
        return granted

    async def take(self, statements: Sequence[Statement], sender: PeerId) -> IntakeReport:
        """Take statements in.

        Args:
            statements: as decoded; nothing about them is believed yet. Whoever brings them had a grant for so many.
            sender: who brings them.

        Raises:
            StorageError: they, or some that had waited for them, cannot be written. These have changed nothing then, and what had waited waits on.
        """
        outcomes = await self._all_judged(statements, sender, int(self._now_s()))
        good = [one for one, outcome in zip(statements, outcomes, strict=True) if outcome == "accepted"]
        async with self._turn:
            fresh, rest = await self._keep(good, sender)
        for at, outcome in enumerate(outcomes):
            if outcome == "accepted":
                outcomes[at] = rest.pop(0)
        for outcome in outcomes:
            self._outcomes.labels(outcome).inc()
        return IntakeReport(outcomes, fresh)

    async def _all_judged(self, statements: Sequence[Statement], sender: PeerId, now: int) -> list[Outcome]:
        """What each statement alone says, those of issuers with weight first; others get their turn in between.

        Unless one of those is good and new, nothing here can give anybody weight. Then statements of other issuers can only wait, and where there is
        no place for that, no signature need be verified.
        """
        outcomes: list[Outcome] = ["full"] * len(statements)
        heard = [self._trust.is_heard(one.issuer) for one in statements]
        hopeful = False
        for number, at in enumerate(sorted(range(len(statements)), key=lambda at: not heard[at])):
            may_count = hopeful or heard[at] or self.waiting.may_take(statements[at], sender)
            outcomes[at] = self._judged(statements[at], now, may_count=may_count)
            hopeful = hopeful or (heard[at] and outcomes[at] == "accepted")
            if number % VERIFIED_AT_ONCE == VERIFIED_AT_ONCE - 1:
                await anyio.lowlevel.checkpoint()
        return outcomes

    def _judged(self, statement: Statement, now: int, *, may_count: bool) -> Outcome:
        """What the statement alone says; cheapest checks first."""
        known = self._trust.newest(statement.issuer, statement.subject)
        if known is not None and not is_newer(statement, known):
            return "known"
        if statement.issued_at > now:
            return "future"
        if isinstance(statement, TrustStatement) and statement.expires_at <= now and known is None:
            return "expired"
        if not may_count:
            return "full"
        return "accepted" if is_authentic(statement, self._network) else "forged"

    async def _keep(self, good: Sequence[Statement], sender: PeerId) -> tuple[list[Statement], list[Outcome]]:
        """Write and count those of issuers with weight, and what had waited for that; let the others wait."""
        await self.let_time_pass()
        outcomes: list[Outcome] = ["known"] * len(good)
        left = dict(enumerate(good))
        fresh: list[Statement] = []
        while True:  # each round may give weight to issuers whose statements came before
            batch = _Batch(self._trust, own=self._me, options=self._options)
            released = self._release()
            for at in [at for at, one in left.items() if self._hears(one.issuer)]:
                outcomes[at] = batch.put(left.pop(at))
            for one, _ in released:
                batch.put(one)
            if not batch.newest:
                break
            try:
                fresh += await self._write(list(batch.newest.values()))
            except BaseException:
                self._released = None
                for one, by in released:
                    self.waiting.put(one, by)
                raise
        for at, statement in left.items():
            outcomes[at] = "waiting" if self.waiting.put(statement, sender) else "full"
        return fresh, outcomes

    def _release(self) -> list[tuple[Statement, PeerId]]:
        """Take out of the waiting room what has got weight since the last call.

        That is nothing as long as nothing else is known than then, so whoever brings nothing new has nobody asked for. Only those for whom there were
        no steps left are asked for again, in another second.
        """
        version, now = self._trust.version, self._trust.now
        anew = version != self._released
        if not anew and (not self._short or now == self._asked_at):
            return []
        short, self._short = self._short, set()
        self._released, self._asked_at = version, now
        return self.waiting.release(self._hears, None if anew else short)

    def _hears(self, issuer: PeerId) -> bool:
        heard = self._trust.hears(issuer)
        if heard is None:
            self._short.add(issuer)
        return heard is True

    async def _write(self, batch: Sequence[Statement]) -> list[Statement]:
        await self._store.put(batch)
        fresh = self._trust.put(batch)
        for one in fresh:
            self._index.put(one)
        return fresh

    async def let_time_pass(self) -> None:
        """Let all trusts that have ended by now count no more; others get their turn in between if they are many."""
        while not self._trust.advance(int(self._now_s()), most=ENDS_AT_ONCE):
            await anyio.lowlevel.checkpoint()

    async def sweep(self) -> int:
        """Forget what has no meaning any more; returns how many statements. Raises StorageError: some may have been forgotten."""
        now = int(self._now_s())
        self.waiting.expire(lambda one: isinstance(one, TrustStatement) and one.expires_at <= now)
        gone, old = 0, []
        for number, one in enumerate(self._trust.statements(), start=1):
            if self._is_over(one, now):
                old.append(one)
            if number % SWEPT_AT_ONCE == 0:
                gone, old = gone + await self._forget(old, now), []
        return gone + await self._forget(old, now)

    async def _forget(self, old: Sequence[Statement], now: int) -> int:
        """Forget statements, unless what has come meanwhile says otherwise; others get their turn."""
        await anyio.lowlevel.checkpoint()
        if not old:
            return 0
        async with self._turn:
            over = [
                one for one in old if self._trust.newest(one.issuer, one.subject) is one and self._is_over(one, now)
            ]
            pairs = [(one.issuer, one.subject) for one in over]
            await self._store.remove(pairs)
            self._trust.remove(pairs)
            for one in over:
                self._index.remove(one)
        return len(over)

    def _is_over(self, statement: Statement, now: int) -> bool:
        if isinstance(statement, TrustStatement) and statement.expires_at + self._options.keep_expired_s <= now:
            return True
        since = self._weightless_since(statement.issuer, now)
        return since is not None and since + self._options.keep_weightless_s <= now

    def _weightless_since(self, issuer: PeerId, now: int) -> int | None:
        if self._trust.is_heard(issuer) or issuer == self._me:
            self._lost.pop(issuer, None)
            return None
        return self._lost.setdefault(issuer, now)


class _Batch:
    """Statements that are going to be kept together, within the limits."""

    def __init__(self, trust: LiveTrust, *, own: PeerId, options: TrustGraphOptions) -> None:
        self._trust = trust
        self._own = own
        self._options = options
        self._new: Counted[PeerId] = Counted()
        self.newest: dict[tuple[PeerId, PeerId], Statement] = {}

    def put(self, statement: Statement) -> Outcome:
        """Take one more, if there is a place for it and nothing newer."""
        pair = statement.issuer, statement.subject
        known = self.newest.get(pair) or self._trust.newest(*pair)
        if known is not None and not is_newer(statement, known):
            return "known"
        if known is None:
            if not self._has_place_for(statement.issuer):
                return "full"
            self._new[statement.issuer] += 1
        self.newest[pair] = statement
        return "accepted"

    def _has_place_for(self, issuer: PeerId) -> bool:
        """Whether one more statement of an issuer may be kept; this peer's own always."""
        return issuer == self._own or (
            len(self._trust) + self._new.total() < self._options.statements_max
            and self._trust.count_of(issuer) + self._new[issuer] < self._options.issuer_max
        )
