"""Two AIR machines side by side: what goes into one goes into the other, and after every run they must have come to the same.

The plain machine evaluates the whole script anew at every step; what it does is right by construction. The incremental one must do the
same. :func:`twins` makes a class that stands in for the machine of every peer of a simulation, and may make life harder besides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from types import MappingProxyType
from typing import Any, ClassVar, Final

import msgspec
from fluvial.air.data.batch import Batch, Known, MissingError
from fluvial.air.data.content import ContentId
from fluvial.air.data.facts import Closed, Instance
from fluvial.air.data.log import Record, Sealed, decode_record, encode_record
from fluvial.air.data.partial import Content
from fluvial.air.machine.errors import AirError, Catchable, Uncatchable
from fluvial.air.machine.exchange import Needs
from fluvial.air.machine.machine import Effects, Machine
from fluvial.air.machine.outcomes import CallOutcome
from fluvial.air.syntax import Script
from fluvial.identity import PeerId
from fluvial.simulation.network import simulate
from fluvial.simulation.scenario import Scenario
from msgspec.structs import replace

from tests.reevaluating.machine import Machine as Reevaluating

NOTHING: Final = Known((), {})
SCENARIO_SECONDS: Final = 20.0
"""How long one scenario is compared; the plain machine is slow on large ones."""

LIMIT_REACHED: Final = 20100
"""Limits of work are not the same in both: the plain machine works more."""


class DifferenceError(AssertionError):
    """The machines do not do the same."""


class TooLongError(Exception):
    """The scenario makes more calls than it may, or comes to a limit of work."""


@dataclass(slots=True)
class Budget:
    """What a scenario may still do, and what it did.

    Attributes:
        calls: how many calls may be made.
        deadline: until when, as ``time.monotonic`` has it.
        runs: how many runs were compared.
        refused: how often batches overtook others that they build on.
        restored: how often both were rebuilt from their records.
        closed: how many calls were closed instead of told.
    """

    calls: int = 60
    deadline: float = field(default_factory=lambda: time.monotonic() + SCENARIO_SECONDS)
    runs: int = 0
    refused: int = 0
    restored: int = 0
    closed: int = 0


class Plain(Reevaluating):
    """The plain machine, which takes over what its twin has signed."""

    def adopt(self, record: Sealed) -> None:
        """Its own steps are in this batch, without those that say nothing more."""
        self._log.append(record)
        self._sealed(Batch.stored(self._particle, record.batch))


class Twins:
    """Stands in for the machine of a peer."""

    budget: ClassVar[Budget]
    doubled: ClassVar[bool] = False
    restored: ClassVar[bool] = False
    overtaking: ClassVar[bool] = False
    piecemeal: ClassVar[Random | None] = None

    def __init__(self, script: Script, particle: bytes, me: PeerId, **environment: Any) -> None:
        self._made_of = (script, particle, me)
        self._environment = environment
        self._tested: Machine = Machine(script, particle, me, **environment)
        self._plain: Plain = Plain(script, particle, me, **environment)
        self._records: list[Record] = []
        self._finished = False

    # --- as a machine

    def merge(self, known: Known) -> Effects:
        """Both take it in: the later batches before the earlier ones, or twice, if that is wanted."""
        done = self._overtaken(known) if self.overtaking and len(known.batches) > 1 else []
        done.append(self._run(lambda machine: machine.merge(known)))
        if self.doubled:
            again = self._run(lambda machine: machine.merge(known))
            if not isinstance(done[-1].error, Uncatchable):
                what = (again.requests, again.next_peers, again.records)
                _same("what the second delivery asks for", what, ((), (), ()))
                _same("finished after the second delivery", again.finished, done[-1].finished)
        return self._reborn(_together(done))

    def _overtaken(self, known: Known) -> list[Effects]:
        """What comes of the batches one by one, the last one first: most build on others and are refused."""
        done = []
        for batch in reversed(known.batches):
            alone = Known((batch,), known.contents)
            with suppress(MissingError):
                done.append(self._run(lambda machine, alone=alone: machine.merge(alone)))
        return done

    def resolve(self, outcomes: Mapping[Instance, CallOutcome]) -> Effects:
        """Both take them in, at once or one after the other in some order."""
        if self.piecemeal is None or len(outcomes) == 1:
            return self._reborn(self._run(lambda machine: machine.resolve(outcomes)))
        order = list(outcomes)
        self.piecemeal.shuffle(order)
        done = [self._run(lambda machine, one=one: machine.resolve({one: outcomes[one]})) for one in order]
        return self._reborn(_together(done))

    def seal(self, sign: Callable[[bytes], bytes], *, closing: bool = True) -> Record | None:
        """The tested machine signs."""
        record = self._tested.seal(sign, closing=closing)
        if isinstance(record, Sealed):
            self.budget.closed += sum(len(item.nodes) for item in record.batch.items if isinstance(item, Closed))
            self._plain.adopt(record)
            self._keep(record)
        return record

    def batches(self) -> Sequence[Batch]:
        """What both have."""
        batches = self._tested.batches()
        _same("batches", [batch.id for batch in batches], [batch.id for batch in self._plain.batches()])
        return batches

    def contents(self) -> Mapping[ContentId, Content]:
        """What the tested machine has."""
        return self._tested.contents()

    def needs(self, peer: str) -> Needs | None:
        """What the tested machine thinks that another peer needs."""
        needs: Needs | None = self._tested.needs(peer)
        return needs

    # --- runs

    def _run(self, step: Callable[[Any], Effects]) -> Effects:
        try:
            tested = step(self._tested)
        except MissingError:
            self.budget.refused += 1
            with suppress(MissingError):
                step(self._plain)
                raise DifferenceError("only the tested machine lacks something") from None
            raise
        try:
            plain = step(self._plain)
        except MissingError:
            raise DifferenceError("only the plain machine lacks something") from None
        self.budget.runs += 1
        self.budget.calls -= len(tested.requests)
        if (
            self.budget.calls < 0
            or time.monotonic() > self.budget.deadline
            or LIMIT_REACHED in (_code(tested.error), _code(plain.error))
        ):
            raise TooLongError
        self._keep(*tested.records)
        compare(tested, plain)
        if self._finished and (tested.requests or tested.next_peers):
            raise DifferenceError("the tested machine goes on although it had finished")
        self._finished = tested.finished
        return tested

    def _keep(self, *records: Record) -> None:
        self._records += [decode_record(encode_record(record)) for record in records]

    def _reborn(self, effects: Effects) -> Effects:
        """Both forget everything but the records; calls in flight are asked for once more."""
        if not self.restored:
            return effects
        script, particle, me = self._made_of
        before = self._tested
        self._tested = Machine.restore(script, particle, me, self._records, **self._environment)
        self._plain = Plain.restore(script, particle, me, self._records, **self._environment)
        self.budget.restored += 1
        _same("batches after a restart", self._tested.batches(), before.batches())
        self.budget.calls += len(effects.requests)
        again = self._run(lambda machine: machine.merge(NOTHING))
        if isinstance(effects.error, Uncatchable) or isinstance(again.error, Uncatchable):
            return replace(again, error=effects.error)
        key = _by_instance
        _same("requests after a restart", sorted(again.requests, key=key), sorted(effects.requests, key=key))
        _same("records after a restart", again.records, ())
        _same("next peers after a restart", again.next_peers, ())
        _same("finished after a restart", again.finished, effects.finished)
        return replace(effects, requests=again.requests)


def twins(
    budget: Budget,
    *,
    doubled: bool = False,
    restored: bool = False,
    overtaking: bool = False,
    piecemeal: Random | None = None,
) -> type[Machine]:
    """A class for the ``machine`` of a simulation.

    Args:
        budget: of the scenario.
        doubled: everything arrives twice.
        restored: after every run both machines are rebuilt from their records.
        overtaking: the batches of a delivery come one by one, the last one first, and then together.
        piecemeal: outcomes come one by one, in an order of this generator.
    """
    options = {
        "budget": budget,
        "doubled": doubled,
        "restored": restored,
        "overtaking": overtaking,
        "piecemeal": piecemeal,
    }
    return type("Twins", (Twins,), options)  # type: ignore[return-value]  # it can all that a simulation asks for


def _together(done: Sequence[Effects]) -> Effects:
    """The effects of runs that follow one another, as those of one."""
    return replace(
        done[-1],
        requests=tuple(request for effects in done for request in effects.requests),
        next_peers=tuple(dict.fromkeys(peer for effects in done for peer in effects.next_peers)),
        error=next((effects.error for effects in done if isinstance(effects.error, Uncatchable)), done[-1].error),
    )


def compare(tested: Effects, plain: Effects) -> None:
    """Raise what is not the same in the effects of one run.

    Raises:
        DifferenceError: it says what.
    """
    _same("error", _shown(tested.error), _shown(plain.error))
    _same("requests", tested.requests, plain.requests)
    _same("next peers", tested.next_peers, plain.next_peers)
    _same("records", tested.records, plain.records)
    if plain.error is None and plain.finished:
        _same("finished", tested.finished, True)


def _same(what: str, tested: object, plain: object) -> None:
    one, other = _canonical(tested), _canonical(plain)
    if one != other:
        raise DifferenceError(f"{what}: {one[:2000]!r} instead of {other[:2000]!r}")


def _canonical(value: object) -> bytes:
    """Bytes that tell 1 from 1.0 and true."""
    return msgspec.json.encode(value, order="deterministic", enc_hook=lambda one: repr(one))


def _by_instance(request: Any) -> Instance:
    return request.instance


def _code(error: AirError | None) -> int:
    return 0 if error is None else error.code


def _shown(error: AirError | None) -> tuple[int, str]:
    """What must be the same of an error: for those that scripts see also the text."""
    return _code(error), error.message if isinstance(error, Catchable) else ""


Way = Callable[[Budget, int], type[Machine]]

WAYS: Final[Mapping[str, Way]] = MappingProxyType(
    {
        "as they come": lambda budget, _: twins(budget),
        "every delivery twice": lambda budget, _: twins(budget, doubled=True),
        "restored after every run": lambda budget, _: twins(budget, restored=True),
        "batches overtake": lambda budget, _: twins(budget, overtaking=True),
        "outcomes one by one": lambda budget, seed: twins(budget, piecemeal=Random(seed)),
    }
)
"""How two machines can be driven, each from a budget and a seed."""


def compare_in(scenario: Scenario, way: str, *, seed: int = 0) -> Budget:
    """Play a scenario with twins in every peer; what it came to.

    Args:
        scenario: what to play.
        way: one of :data:`WAYS`.
        seed: of what is random in that way.

    Raises:
        DifferenceError: the machines did not do the same; it names the scenario.
        TooLongError: the scenario makes too many calls.
    """
    budget = Budget()
    try:
        simulate(scenario, machine=WAYS[way](budget, seed))
    except DifferenceError as error:
        raise DifferenceError(f"{scenario.name}, {way}, {scenario.order}: {error}\n{scenario.script}") from error
    return budget
