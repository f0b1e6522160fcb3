"""Exhaustive exploration of Simplex with four validators, one of them a traitor: every order of deliveries, timeouts and lies, up to some view.

``python -m tests.plugins.consensus_bft.explore --views 2`` explores until nothing new is found, or the time is over. Three validators are the shipped engine; the
fourth is whatever the environment likes: it signs every vote for every block, and in a view that it leads it proposes two blocks on every parent that can be justified.
Messages may come at any time, in any order, or never; timers may fire at any time.

How so many orders are gone through:

1. *Whole certificates.* The rules read votes only through certificates, so a step delivers a proposal, a certificate, or a timeout. A certificate can be
   delivered as soon as two correct validators have signed it, since the traitor signs everything.
2. *Engines one by one.* What an engine does depends on what was delivered to it alone. Each of its states is made once, by forking the real engine, and its steps
   are remembered (:class:`EngineStates`). Engines that lead none of the views behave alike, and share them: this is the symmetry.
3. *What others see.* All that an engine does to others is in the statements that it has signed. A state of the world is therefore the three sets of signed statements.
   Deliveries that lead to no new statement have no order among each other (partial order): an engine with certain statements is taken to be in *any* state that deliveries of
   what has been sent so far can bring it into. That allows some behaviours that no real order has, and leaves none out. So what holds in each state found here, holds in
   each state that can be reached.

Checked in each state: no two blocks can be certified as final unless one stands on the other, no view has two notarizations, or a nullification beside a finalization; no
correct validator has signed an offence; and whatever an engine commits is a chain that ends with a block that is certified as final.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations
from typing import Any, Final, TypeAlias

from fluvial.consensus.effects import Broadcast, BuildPayload, CheckPayload, Commit, Effect
from fluvial.consensus.engine import EngineSetup
from fluvial.consensus.events import Event, MessageReceived, PayloadBuilt, PayloadChecked, TimerFired
from fluvial.consensus.lab.keys import keys_of, verify_once
from fluvial.encoding import encode
from fluvial.ledger.blocks import Anchor, BlockHeader, LedgerBlock
from fluvial.ledger.statements import (
    FINALIZE,
    NOTARIZE,
    NOTHING,
    NULLIFY,
    Certificate,
    Validator,
    ValidatorSet,
    offence,
    signed_bytes,
)
from fluvial_consensus_bft.messages import Proof, Proposal, Vote, read_message
from fluvial_consensus_bft.simplex import Simplex
from fluvial_consensus_bft.view import SimplexView

KEYS = [keys_of(f"node {number}") for number in range(4)]
VALIDATORS = ValidatorSet(Validator(str(keys.peer_id)) for keys in KEYS)
CHAIN: Final = bytes(32)
CORRECT: Final = (0, 1, 2)
TRAITOR: Final = 3
NEEDED: Final = 2
"""Correct validators that must have signed a statement, beside the traitor, so that it has a quorum."""

Statement: TypeAlias = tuple[int, int, bytes]
"""(view, kind, digest)."""
Delivery: TypeAlias = Statement | bytes | None
"""What can happen to an engine: a certificate of a statement, the proposal of a block, or a timeout (None)."""
Signed: TypeAlias = frozenset[Statement]


class Unsafe(Exception):
    """A state that must not be reachable."""


@dataclass
class Blocks:
    """All blocks that somebody has proposed somewhere.

    Attributes:
        start: the view before the first one.
        last: the last one.
        headers: by id; the block with which everything begins is none of them.
        proposals: messages, by id.
    """

    start: int
    last: int
    headers: dict[bytes, BlockHeader] = field(default_factory=dict)
    proposals: dict[bytes, bytes] = field(default_factory=dict)

    def note(self, proposal: bytes, block: LedgerBlock) -> None:
        """A leader has proposed a block."""
        self.headers.setdefault(block.id, block.header)
        self.proposals.setdefault(block.id, proposal)

    def lie(self, view: int, parent: bytes) -> Sequence[bytes]:
        """The two blocks that the traitor proposes in a view on a parent."""
        return [self._lie(view, parent, number) for number in (0, 1)]

    def _lie(self, view: int, parent: bytes, number: int) -> bytes:
        above = self.headers.get(parent)
        height = 1 + (above.height if above is not None else 0)
        header = BlockHeader(
            CHAIN, 0, view, height, parent, NOTHING, bytes(32), VALIDATORS.digest, TRAITOR, 10 * view + number
        )
        since = above.slot if above is not None else self.start
        proof = [] if above is None else [_certificate((above.slot, NOTARIZE, parent))]
        proof += [_certificate((between, NULLIFY, NOTHING)) for between in range(since + 1, view)]
        block = LedgerBlock(header)
        self.note(encode(Proposal(block, _sign(TRAITOR, NOTARIZE, view, block.id), tuple(proof))), block)
        return block.id

    def stands_on(self, block: bytes, other: bytes) -> bool:
        """Whether a block is another one, or one of its descendants."""
        while block != other:
            header = self.headers.get(block)
            if header is None:
                return False
            block = header.parent
        return True


@dataclass
class EngineState:
    """An engine with what it has signed, and where deliveries lead it."""

    engine: Simplex
    signed: Signed
    after: dict[Delivery, EngineState] = field(default_factory=dict)


class EngineStates:
    """All states that one engine has been in, each made once.

    Args:
        number: which validator.
        kind: the engine, or a mutant of it.
        blocks: what is proposed anywhere.
    """

    def __init__(self, number: int, kind: type[Simplex], blocks: Blocks) -> None:
        self._blocks = blocks
        self._known: dict[object, EngineState] = {}
        self._reached: dict[frozenset[Delivery], dict[Signed, set[Signed]]] = {}
        setup = EngineSetup(
            me=KEYS[number].peer_id,
            sign=KEYS[number].sign,
            verify=verify_once,
            chain=CHAIN,
            epoch=0,
            validators=VALIDATORS,
            anchor=Anchor(0, blocks.start, NOTHING, bytes(32), 0),
            delta_ms=100,
        )
        engine = kind(setup)
        self.first = self._state(engine, self._done(engine, engine.start([], 0)), frozenset())

    def __len__(self) -> int:
        return len(self._known)

    def steps(self, sent: frozenset[Delivery]) -> dict[Signed, set[Signed]]:
        """What an engine may sign next, by what it has signed, if everything in ``sent`` can be delivered."""
        found = self._reached.get(sent)
        if found is None:
            found = self._reached[sent] = {}
            seen = {id(self.first)}
            pending = [self.first]
            while pending:
                state = pending.pop()
                for delivery in self._useful(state.engine, sent):
                    after = state.after.get(delivery) or self._step(state, delivery)
                    if after.signed != state.signed:
                        found.setdefault(state.signed, set()).add(after.signed)
                    if id(after) not in seen:
                        seen.add(id(after))
                        pending.append(after)
        return found

    def _useful(self, engine: Simplex, sent: frozenset[Delivery]) -> Iterator[Delivery]:
        """Deliveries that could change something, and could not wait.

        A proposal matters in its view, and later once its block is certified. Behind the last view only notarizations and finalizations matter.
        """
        views, current = engine._views, engine._current
        over = current > self._blocks.last
        for delivery in sent:
            if isinstance(delivery, bytes):
                slot = self._blocks.headers[delivery].slot
                if over or not views.final.slot < slot <= current:
                    continue
                view = views.open.get(slot)
                certified = view is not None and view.certified is not None and view.certified.digest == delivery
                if (slot == current or certified) and (view is None or delivery not in view.proposals):
                    yield delivery
            elif delivery is not None and delivery[0] > views.final.slot and not (over and delivery[1] == NULLIFY):
                view = views.open.get(delivery[0])
                if view is None or not view.has(_certificate(delivery)):
                    yield delivery
        if not over and NULLIFY not in getattr(views.open.get(current), "own", {}):
            yield None

    def _step(self, state: EngineState, delivery: Delivery) -> EngineState:
        engine = _forked(state.engine)
        event: Event = TimerFired("view")
        if isinstance(delivery, bytes):
            event = MessageReceived(KEYS[TRAITOR].peer_id, self._blocks.proposals[delivery])
        elif delivery is not None:
            event = MessageReceived(KEYS[TRAITOR].peer_id, encode(Proof(_certificate(delivery))))
        state.after[delivery] = after = self._state(engine, self._done(engine, engine.handle(event, 1)), state.signed)
        return after

    def _state(self, engine: Simplex, said: set[Statement], before: Signed) -> EngineState:
        signed = before | said
        for (view, kind, digest), (other, what, block) in combinations(sorted(signed), 2):
            if view == other and offence(kind, digest, what, block):
                raise Unsafe(f"a correct validator has signed an offence in view {view}")
        mark = (signed, _mark(engine))
        return self._known.setdefault(mark, EngineState(engine, signed))

    def _done(self, engine: Simplex, effects: Sequence[Effect]) -> set[Statement]:
        """Carry effects out, with a host that finds every payload right; returns what was signed in the views that are explored."""
        said: set[Statement] = set()
        pending = list(effects)
        while pending:
            effect = pending.pop(0)
            match effect:
                case Broadcast(data):
                    said |= self._signed_in(data)
                case BuildPayload(request):
                    pending += engine.handle(PayloadBuilt(request, b"", bytes(32), 10 * request + 5), 1)
                case CheckPayload(block):
                    pending += engine.handle(PayloadChecked(block.id), 1)
                case Commit(blocks, proof):
                    last = proof.certificate
                    chain = [block.id for block in blocks]
                    follows = all(
                        after.header.parent == before for before, after in zip(chain, blocks[1:], strict=False)
                    )
                    if last.kind != FINALIZE or chain[-1:] != [last.digest] or not follows:
                        raise Unsafe("what was committed is not what was certified")
        return said

    def _signed_in(self, data: bytes) -> set[Statement]:
        match read_message(data):
            case Vote(kind=kind, view=view, digest=digest) if view <= self._blocks.last:
                return {(view, kind, digest)}
            case Proposal(block) if block.header.slot <= self._blocks.last:
                self._blocks.note(data, block)
                return {(block.header.slot, NOTARIZE, block.id)}
        return set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Explored:
    """What was found.

    Attributes:
        states: of the world.
        engine_states: of all engines together.
        final_blocks: how many different blocks can become final in some of them.
        whole: whether nothing was left out.
    """

    states: int
    engine_states: int
    final_blocks: int
    whole: bool


class Exploration:
    """All worlds that can be reached.

    Args:
        views: how many are explored.
        kind: the engine, or a mutant of it.
        start: the view before the first one; with 2 the traitor leads the first.
        needed: correct validators that must sign so that a statement has a quorum; less than 2 breaks the algorithm.
    """

    def __init__(self, views: int, kind: type[Simplex] = Simplex, *, start: int = 2, needed: int = NEEDED) -> None:
        self._blocks = Blocks(start, start + views)
        self._views = range(start + 1, start + views + 1)
        self._needed = needed
        leaders = {view % 4 for view in self._views}
        follower = next((number for number in CORRECT if number not in leaders), 0)
        made: dict[int, EngineStates] = {}
        for number in CORRECT:
            like = number if number in leaders else follower
            made.setdefault(like, EngineStates(like, kind, self._blocks))
        self._engines = [made[number if number in leaders else follower] for number in CORRECT]
        self._alike = [number for number in CORRECT if number not in leaders]
        self._all = list(made.values())
        self._final: set[bytes] = set()

    def run(
        self, *, seconds: float = float("inf"), states_max: int = 10**9, tell: Callable[[int], None] = lambda _: None
    ) -> Explored:
        """Visit all worlds.

        Args:
            seconds: give up after this time.
            states_max: give up after so many.
            tell: hears of every hundred thousandth.

        Raises:
            Unsafe: one of them must not be.
        """
        end = time.monotonic() + seconds
        first = self._canonical([one.first.signed for one in self._engines])
        seen = {first}
        pending = [first]
        whole = True
        while pending:
            world = pending.pop()
            sent = self._sent(world)
            for number, signed in enumerate(world):
                if number and signed == world[number - 1] and {number, number - 1} <= set(self._alike):
                    continue
                for after in self._engines[number].steps(sent).get(signed, ()):
                    following = self._canonical([*world[:number], after, *world[number + 1 :]])
                    if following not in seen:
                        seen.add(following)
                        pending.append(following)
                        if len(seen) % 100_000 == 0:
                            tell(len(seen))
            if len(seen) >= states_max or time.monotonic() > end:
                whole = False
                break
        return Explored(
            states=len(seen), engine_states=sum(map(len, self._all)), final_blocks=len(self._final), whole=whole
        )

    def _canonical(self, world: Sequence[Signed]) -> tuple[Signed, ...]:
        """Engines that behave alike in one order."""
        alike = sorted((world[number] for number in self._alike), key=sorted)
        return tuple(alike.pop(0) if number in self._alike else world[number] for number in CORRECT)

    def _sent(self, world: Sequence[Signed]) -> frozenset[Delivery]:
        """All that can be delivered in a world, which is checked on the way."""
        counts: dict[Statement, int] = {}
        for signed in world:
            for statement in signed:
                counts[statement] = counts.get(statement, 0) + 1
        certified = frozenset(one for one, count in counts.items() if count >= self._needed)
        known = self._proposals(certified)
        own = {
            digest
            for _, kind, digest in counts
            if kind == NOTARIZE and self._blocks.headers[digest].proposer != TRAITOR
        }
        return certified | known | own

    @cache  # noqa: B019 - one exploration is all that a process does
    def _proposals(self, certified: frozenset[Statement]) -> frozenset[bytes]:
        """The traitor's proposals for which there are certificates enough. Also looks for contradictions among the certificates."""
        self._check(certified)
        found: set[bytes] = set()
        for view in self._views:
            if view % 4 != TRAITOR:
                continue
            for parent in (NOTHING, *(digest for at, kind, digest in certified if kind == NOTARIZE and at < view)):
                since = self._blocks.headers[parent].slot if parent != NOTHING else self._blocks.start
                if all((between, NULLIFY, NOTHING) in certified for between in range(since + 1, view)):
                    found.update(self._blocks.lie(view, parent))
        return frozenset(found)

    def _check(self, certified: frozenset[Statement]) -> None:
        for (view, kind, digest), (other, what, block) in combinations(sorted(certified), 2):
            if view == other and {kind, what} in ({NOTARIZE}, {FINALIZE, NULLIFY}):
                raise Unsafe(f"view {view} has two certificates that exclude each other")
            if kind == what == FINALIZE and not (
                self._blocks.stands_on(digest, block) or self._blocks.stands_on(block, digest)
            ):
                raise Unsafe("two blocks are final, and neither stands on the other")
        self._final.update(digest for _, kind, digest in certified if kind == FINALIZE)


def _forked(engine: Simplex) -> Simplex:
    """A copy that can go another way; what never changes is shared."""

    def like(value: Any) -> Any:
        return value.copy() if isinstance(value, dict | list) else value

    other = copy.copy(engine)
    vars(other).update({name: like(value) for name, value in vars(engine).items()})
    views = other._views = copy.copy(engine._views)
    vars(views).update({name: like(value) for name, value in vars(views).items()})
    tallies = {
        id(one): copy.copy(one) for one in (*(view.tally for view in views.open.values()), *views._past.values())
    }
    for tally in tallies.values():
        tally._by_signer = {signer: [*votes] for signer, votes in tally._by_signer.items()}
        tally._sums = {vote: {**signatures} for vote, signatures in tally._sums.items()}
    views._past = {number: tallies[id(one)] for number, one in views._past.items()}
    for number, view in list(views.open.items()):
        mine = views.open[number] = copy.copy(view)
        mine.proposals, mine.own, mine.tally = {**view.proposals}, {**view.own}, tallies[id(view.tally)]
    return other


def _mark(engine: Simplex) -> object:
    """What the future of an engine depends on."""
    views = engine._views
    pending = engine._pending.digest if engine._pending is not None else None
    return engine._current, views.final.id, pending, tuple(_of_view(views.open[one]) for one in sorted(views.open))


def _of_view(view: SimplexView) -> tuple[object, ...]:
    certificates = tuple(
        one.digest if one is not None else None for one in (view.notarization, view.nullification, view.finalization)
    )
    own = frozenset((kind, vote.digest) for kind, vote in view.own.items())
    return view.number, certificates, frozenset(view.proposals), own


@cache
def _certificate(statement: Statement) -> Certificate:
    """A certificate of a statement; who of the correct validators has signed does not matter to an engine."""
    view, kind, digest = statement
    return Certificate(kind, 0, view, digest, tuple((one, _sign(one, kind, view, digest)) for one in (0, 1, TRAITOR)))


@cache
def _sign(signer: int, kind: int, view: int, digest: bytes) -> bytes:
    return KEYS[signer].sign(signed_bytes(CHAIN, kind, 0, view, digest))


def main() -> None:
    """Explore, and say how many states there were."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--views", type=int, default=2, help="views that are explored")
    parser.add_argument("--start", type=int, default=2, help="the view before the first one; the traitor leads 3, 7 …")
    parser.add_argument("--seconds", type=float, default=600, help="give up after this time")
    options = parser.parse_args()
    exploration = Exploration(options.views, start=options.start)
    found = exploration.run(seconds=options.seconds, tell=lambda states: print(f"{states:,} states so far", flush=True))
    print(
        f"{found.states:,} states of the world, {found.engine_states:,} of the engines, {found.final_blocks} blocks can become final; "
        f"{'all of them' if found.whole else 'and there are more'}; agreement in each"
    )


if __name__ == "__main__":
    main()
