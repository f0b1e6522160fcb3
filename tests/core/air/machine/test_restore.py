"""Nothing but the records is needed to go on, and what arrives twice changes nothing: tried on whole flows after every run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from fluvial.air.data.batch import Batch, Known
from fluvial.air.data.content import ContentId
from fluvial.air.data.facts import Instance
from fluvial.air.data.log import Record, Sealed, decode_record, encode_record
from fluvial.air.data.partial import Content
from fluvial.air.machine.errors import Uncatchable
from fluvial.air.machine.exchange import Needs
from fluvial.air.machine.machine import Effects, Machine
from fluvial.air.machine.outcomes import Answered, CallOutcome
from fluvial.air.syntax import Script
from fluvial.errors import RemoteProtocolError
from fluvial.identity import PeerId
from fluvial.simulation.scenario import Scenario
from msgspec.structs import replace

from tests.conformance.comparison import Observation, play, scenario_files
from tests.core.air.machine.flows import NOTHING, Flow

CONFORMANCE: Final = Path(__file__).parents[3] / "conformance"
GENERATED: Final[dict[str, Any]] = {
    line["scenario"]["name"]: line["scenario"]
    for line in map(
        json.loads, (CONFORMANCE / "generated" / "size-16.jsonl").read_text(encoding="utf-8").splitlines()[:120]
    )
}
WRITTEN: Final = {path.stem: json.loads(path.read_bytes()) for path in scenario_files(CONFORMANCE / "air")}
SCENARIOS: Final = {**WRITTEN, **GENERATED}


class Careful:
    """Stands in for the machine of a simulated peer and tries something after every run; a run that differs is an assertion error."""

    def __init__(self, script: Script, particle: bytes, me: PeerId, **environment: Any) -> None:
        self._made_of = (script, particle, me)
        self._environment = environment
        self._machine = Machine(script, particle, me, **environment)
        self._records: list[Record] = []

    def merge(self, known: Known) -> Effects:
        return self._ran(self._machine.merge(known))

    def resolve(self, outcomes: Mapping[Instance, CallOutcome]) -> Effects:
        return self._ran(self._machine.resolve(outcomes))

    def seal(self, sign: Any, *, closing: bool = True) -> Record | None:
        record = self._machine.seal(sign, closing=closing)
        if record is not None:
            self._keep(record)
        return record

    def batches(self) -> Any:
        return self._machine.batches()

    def contents(self) -> Mapping[ContentId, Content]:
        return self._machine.contents()

    def needs(self, peer: str) -> Needs | None:
        return self._machine.needs(peer)

    def _keep(self, *records: Record) -> None:
        self._records += [decode_record(encode_record(record)) for record in records]

    def _ran(self, effects: Effects) -> Effects:
        raise NotImplementedError


class Forgetful(Careful):
    """Is restored from its records after every run."""

    def _ran(self, effects: Effects) -> Effects:
        self._keep(*effects.records)
        script, particle, me = self._made_of
        before, self._machine = self._machine, Machine.restore(script, particle, me, self._records, **self._environment)
        assert [batch.id for batch in self._machine.batches()] == [batch.id for batch in before.batches()]
        again = self._machine.merge(NOTHING)
        assert again.records == again.next_peers == ()
        assert again.requests == effects.requests
        if effects.error is None:
            assert again.error is None
            assert (self._machine.waits(), again.finished) == (before.waits(), effects.finished)
        return replace(effects, requests=again.requests)


class Doubled(Careful):
    """Gets everything that arrived once more after every run."""

    def __init__(self, *arguments: Any, **environment: Any) -> None:
        super().__init__(*arguments, **environment)
        self._seen: list[Known] = []

    def merge(self, known: Known) -> Effects:
        self._seen.append(known)
        return super().merge(known)

    def _ran(self, effects: Effects) -> Effects:
        waits = self._machine.waits()
        for known in (*self._seen, NOTHING):
            again = self._machine.merge(known)
            assert again.requests == again.next_peers == again.records == ()
            if not isinstance(effects.error, Uncatchable):
                assert (self._machine.waits(), again.finished) == (waits, effects.finished)
                assert (again.error is None) == (effects.error is None)
        return effects


@cache
def observed(name: str) -> Observation:
    return play(msgspec.convert(SCENARIOS[name], Scenario))


@pytest.mark.parametrize("machine", [Forgetful, Doubled])
@pytest.mark.parametrize("name", SCENARIOS)
def test_flow_goes_the_same_way(name: str, machine: type[Careful]) -> None:
    expected = observed(name)
    scenario = msgspec.convert(SCENARIOS[name], Scenario)
    assert play(scenario, machine=machine) == expected  # type: ignore[arg-type]  # it stands in for a machine


# --- in small


CHAT = """
    (seq (call "@a" ("s" "peers") [] ps)
      (seq (fold ps p (par (call p ("s" "f") [p] $got) (next p)))
        (seq (canon "@a" $got #got) (call "@a" ("s" "end") [#got]))))
"""


def test_restored_machine_seals_and_sends_the_same() -> None:
    flow = Flow(CHAT, {"s.peers": ["@b", "@c"], "s.f": lambda peer: peer})
    flow.run()
    for name in ("a", "b", "c"):
        before = flow.machine(name)
        after = flow.restart(name)
        assert after.batches() == before.batches()
        assert {batch.id: batch.contents() for batch in after.batches()}.keys() <= {
            batch.id for batch in before.batches()
        }
        needed = set[ContentId]().union(*(batch.contents() for batch in after.batches()))
        assert all(after.contents()[key] == before.contents()[key] for key in needed)


def test_unsealed_steps_are_sealed_after_a_restart() -> None:
    flow = Flow('(seq (call "@a" ("s" "f") [] x) (call "@b" ("s" "g") [x]))', {"s.f": 1})
    effects = flow.merge("a", b"")
    flow.resolve("a", {effects.requests[0].instance: Answered(1)})
    sign = flow.names.keys["a"].sign
    restarted = Machine.restore(
        flow.script, flow.particle.key, flow.names.keys["a"].peer_id, flow.records["a"], **flow.environment
    )
    one, other = flow.machine("a").seal(sign), restarted.seal(sign)
    assert isinstance(one, Sealed)
    assert one == other
    assert restarted.seal(sign) is None, "nothing new since then"


def test_crash_before_the_seal_was_stored_makes_the_same_batch_again() -> None:
    flow = Flow('(call "@b" ("s" "f") [])')
    flow.merge("a", b"")
    sign = flow.names.keys["a"].sign
    first = flow.machine("a").seal(sign)
    flow.restart("a")
    assert flow.machine("a").seal(sign) == first


def test_batches_that_overtake_one_another_are_refused_until_the_earlier_is_there() -> None:
    flow = Flow('(seq (call "@b" ("s" "f") [] x) (seq (call "@a" ("s" "g") [x] y) (call "@b" ("s" "h") [y])))')
    flow.run()
    batches: tuple[Batch, ...] = tuple(flow.machine("a").batches())
    contents = flow.machine("a").contents()
    late = flow.restart("c")
    with pytest.raises(RemoteProtocolError, match="not here"):
        late.merge(Known(batches[-1:], contents))
    assert late.batches() == ()
    late.merge(Known(batches[:-1], contents))
    late.merge(Known(batches[-1:], contents))
    assert [batch.id for batch in late.batches()] == [batch.id for batch in batches]
