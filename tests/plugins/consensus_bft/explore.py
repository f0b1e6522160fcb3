"""Exhaustive exploration of Simplex with four validators, one of them a traitor: every order of deliveries, timeouts and lies, up to some view.

``python -m tests.plugins.consensus_bft.explore --views 2`` explores until nothing new is found. Three validators are the shipped engine; the fourth is
whatever the environment likes: it signs every vote for every block, and proposes two blocks in a view that it leads. Messages may come at any time, in
any order, or never. In each state no two correct validators have committed different blocks, and no correct validator has signed an offence.

The rules read votes only through certificates, so a step delivers a proposal or a whole certificate that the votes cast so far could make, with
the traitor's among them. Rule 4 also reads the leader's nullification, but a timer, which may fire at any time here, does the same.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from fluvial.consensus.effects import Broadcast, BuildPayload, CheckPayload, Commit, Effect
from fluvial.consensus.engine import EngineSetup
from fluvial.consensus.events import Event, MessageReceived, PayloadBuilt, PayloadChecked, TimerFired
from fluvial.consensus.lab.keys import keys_of, verify_once
from fluvial.encoding import encode
from fluvial.ledger.blocks import Anchor, BlockHeader, LedgerBlock
from fluvial.ledger.statements import (
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
CHAIN = bytes(32)
CORRECT = (0, 1, 2)
SHARED: dict[int, Any] = {id(VALIDATORS): VALIDATORS}
"""What copies of an engine need not copy: it never changes."""
TRAITOR = 3


class Unsafe(Exception):
    """A state that must not be reachable."""


@dataclass
class World:
    """One state: three engines, what each has committed and signed, and all proposals."""

    engines: list[Simplex]
    last: int
    commits: list[list[bytes]] = field(default_factory=lambda: [[] for _ in CORRECT])
    signed: list[dict[tuple[int, int, bytes], None]] = field(default_factory=lambda: [{} for _ in CORRECT])
    proposals: dict[bytes, LedgerBlock] = field(default_factory=dict)

    def fork(self, number: int) -> World:
        """A copy in which one engine can go another way; the others are shared until it is their turn."""

        def mine(everybody: list[Any]) -> list[Any]:
            return [copy.copy(one) if other == number else one for other, one in enumerate(everybody)]

        engines = list(self.engines)
        engines[number] = copy.deepcopy(self.engines[number], SHARED.copy())
        return World(
            engines,
            self.last,
            mine(self.commits),
            mine(self.signed),
            dict(self.proposals),
        )

    def fingerprint(self) -> tuple[object, ...]:
        """What the future depends on, and what must be safe."""
        engines = tuple(
            (
                engine._current,
                engine._views.final.id,
                *(_of_view(engine._views.open[one]) for one in sorted(engine._views.open)),
            )
            for engine in self.engines
        )
        return engines, tuple(frozenset(one) for one in self.signed)

    def step(self, number: int, event: Event) -> None:
        """Let one engine handle an event, with a host that finds every payload right."""
        events: list[Event] = [event]
        while events:
            for effect in self.engines[number].handle(events.pop(0), 1):
                events += self._carry_out(number, effect)

    def begin(self) -> None:
        """Start the engines."""
        for number, engine in enumerate(self.engines):
            for effect in engine.start([], 0):
                for event in self._carry_out(number, effect):
                    self.step(number, event)

    def _carry_out(self, number: int, effect: Effect) -> Sequence[Event]:
        match effect:
            case Broadcast(data):
                self._note(number, data)
            case BuildPayload(request):
                return [PayloadBuilt(request, b"", bytes(32), 2 * request)]
            case CheckPayload(block):
                return [PayloadChecked(block.id)]
            case Commit(blocks):
                self.commits[number] += [block.id for block in blocks]
        return ()

    def _note(self, number: int, data: bytes) -> None:
        match read_message(data):
            case Vote(kind=kind, view=view, digest=digest):
                self.signed[number][view, kind, digest] = None
            case Proposal(block):
                self.signed[number][block.header.slot, NOTARIZE, block.id] = None
                self.proposals[data] = block

    def check(self) -> None:
        """Raise Unsafe if two validators disagree or a correct one could be convicted."""
        for one in self.commits:
            for other in self.commits:
                if any(a != b for a, b in zip(one, other, strict=False)):
                    raise Unsafe("two correct validators have committed different blocks")
        for mine in self.signed:
            for view, kind, digest in mine:
                if any(at == view and offence(kind, digest, other, what) for at, other, what in mine):
                    raise Unsafe("a correct validator has signed an offence")

    def choices(self) -> Iterator[tuple[int, Event]]:
        """All that can happen next."""
        certificates = list(self.certificates())
        for number, engine in enumerate(self.engines):
            current = engine._current
            if current <= self.last:
                for data, block in self.proposals.items():
                    view = engine._views.open.get(block.header.slot)
                    if block.header.slot > engine._views.final.slot and (
                        view is None or block.id not in view.proposals
                    ):
                        yield number, MessageReceived(KEYS[TRAITOR].peer_id, data)
                if NULLIFY not in getattr(engine._views.open.get(current), "own", {}):
                    yield number, TimerFired("view")
            for certificate in certificates:
                view = engine._views.open.get(certificate.slot)
                if certificate.slot > engine._views.final.slot and (view is None or not view.has(certificate)):
                    yield number, MessageReceived(KEYS[TRAITOR].peer_id, encode(Proof(certificate)))

    def certificates(self) -> Iterator[Certificate]:
        """All that the votes of correct validators and of the traitor, who signs anything, make."""
        signers: dict[tuple[int, int, bytes], dict[int, None]] = {}
        for number, mine in enumerate(self.signed):
            for statement in mine:
                signers.setdefault(statement, {})[number] = None
        for (view, kind, digest), numbers in signers.items():
            if view <= self.last and len(numbers) + 1 >= VALIDATORS.quorum:
                signed = tuple((one, _sign(one, kind, view, digest)) for one in (*numbers, TRAITOR))
                yield Certificate(kind, 0, view, digest, signed)


def _of_view(view: SimplexView) -> tuple[object, ...]:
    certificates = tuple(
        one.digest if one is not None else None for one in (view.notarization, view.nullification, view.finalization)
    )
    own = frozenset((kind, vote.digest) for kind, vote in view.own.items())
    return view.number, certificates, frozenset(view.proposals), own


def lies(start: int, last: int) -> Iterator[tuple[bytes, LedgerBlock]]:
    """The traitor's proposals: two in each view that it leads, on the block with which the exploration begins."""
    for view in range(start + 1, last + 1):
        if view % 4 == TRAITOR:
            for time_ms in (2 * view, 2 * view + 1):
                header = BlockHeader(
                    CHAIN, 0, view, 1, NOTHING, NOTHING, bytes(32), VALIDATORS.digest, TRAITOR, time_ms
                )
                block = LedgerBlock(header)
                yield encode(Proposal(block, _sign(TRAITOR, NOTARIZE, view, block.id))), block


@cache
def _sign(signer: int, kind: int, view: int, digest: bytes) -> bytes:
    return KEYS[signer].sign(signed_bytes(CHAIN, kind, 0, view, digest))


def first_world(views: int, kind: type[Simplex] = Simplex, *, start: int = 2) -> World:
    """The state before anything has happened.

    Args:
        views: how many are explored.
        kind: the engine, or a mutant of it.
        start: the view before the first one; with 2 the traitor leads the first.
    """
    engines = []
    for number in CORRECT:
        setup = EngineSetup(
            me=KEYS[number].peer_id,
            sign=KEYS[number].sign,
            verify=verify_once,
            chain=CHAIN,
            epoch=0,
            validators=VALIDATORS,
            anchor=Anchor(0, start, NOTHING, bytes(32), 0),
            delta_ms=100,
        )
        SHARED[id(setup)] = setup
        engines.append(kind(setup))
    world = World(engines, start + views)
    world.proposals.update(lies(start, start + views))
    world.begin()
    return world


def explore(world: World, *, states_max: int) -> tuple[int, bool]:
    """Visit every state that can be reached; returns how many there are, and whether none was left out.

    Raises:
        Unsafe: one of them must not be.
    """
    world.check()
    seen = {world.fingerprint()}
    pending = [world]
    while pending:
        current = pending.pop()
        for number, event in current.choices():
            following = current.fork(number)
            following.step(number, event)
            following.check()
            fingerprint = following.fingerprint()
            if fingerprint not in seen:
                seen.add(fingerprint)
                if len(seen) >= states_max:
                    return len(seen), False
                pending.append(following)
    return len(seen), True


def main() -> None:
    """Explore, and say how many states there were."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--views", type=int, default=2, help="views that are explored")
    parser.add_argument("--start", type=int, default=2, help="the view before the first one; the traitor leads 3, 7 …")
    parser.add_argument("--states", type=int, default=1_000_000, help="give up after so many")
    options = parser.parse_args()
    states, whole = explore(first_world(options.views, start=options.start), states_max=options.states)
    print(f"{states} states, {'all of them' if whole else 'and there are more'}; agreement in each")


if __name__ == "__main__":
    main()
