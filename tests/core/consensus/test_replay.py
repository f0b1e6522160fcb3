"""Logs are read back: whole, or beginning with a snapshot in place of old blocks."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from fluvial.consensus.lab.compare import good_case
from fluvial.consensus.lab.copies import NodeCopy
from fluvial.consensus.lab.judge import judge
from fluvial.consensus.lab.report import report_of
from fluvial.consensus.lab.run import Algorithm, LaboratoryRun
from fluvial.consensus.lab.schedule import Action
from fluvial.consensus.replay import snapshot_entries
from fluvial.consensus.replica import Replica
from fluvial.consensus.wire import BlockEntry, LogEntry, ProofEntry, SnapshotEntry, decode_entry
from fluvial.encoding import encode
from fluvial.errors import RemoteProtocolError

from tests.support.algorithms import DAG, SIMPLEX

SCHEDULE = msgspec.structs.replace(
    good_case("snapshots", 4, end_ms=1_500),
    standby=1,
    actions=[Action("validator_update", 300, 0, add=[4])],
    expect={"progress": [{"after": 1_000, "commits": 5, "within_deltas": 5}], "validators_at_end": [0, 1, 2, 3, 4]},
)


def started(copy: NodeCopy, log: Sequence[bytes]) -> Replica:
    replica = copy._make(copy)
    replica.start(log, 0, 10_000)
    return replica


def height_of(entry: BlockEntry | ProofEntry) -> int:
    return entry.block.header.height if isinstance(entry, BlockEntry) else entry.height


def shortened(copy: NodeCopy, log: Sequence[bytes], *, below: int = 10**9) -> list[bytes]:
    """The log with a snapshot in place of the blocks up to the newest one below a height that is proven."""
    whole = started(copy, log)
    height = max(one for one in range(1, min(below, whole.chain.tip.height + 1)) if whole.chain.store.proof(one))
    entries = [(data, decode_entry(data)) for data in log]

    def is_old(one: LogEntry) -> bool:
        return isinstance(one, SnapshotEntry) or (isinstance(one, BlockEntry | ProofEntry) and height_of(one) <= height)

    before = [data for data, one in entries if is_old(one)]
    after = [data for data, one in entries if not is_old(one)]
    proof = whole.chain.store.proof(height)
    assert proof is not None
    snapshot = snapshot_entries(whole.chain.header(height), proof, started(copy, before).state, bytes_max=500)
    parts = [encode(one) for one in snapshot]
    assert len(parts) > 3
    return [*parts, *after]


@pytest.mark.parametrize("algorithm", [SIMPLEX, DAG], ids=lambda one: one.name)
def test_a_validator_goes_on_from_a_snapshot(algorithm: Algorithm) -> None:
    run = LaboratoryRun(SCHEDULE, algorithm, 1)
    copy = run.copies[0]
    seen: list[int] = []

    def restart() -> None:
        log = copy.disk.read()
        whole = started(copy, log)
        short = shortened(copy, log)
        copy.stop()
        copy.disk._entries[:] = short
        copy.start()
        again = copy.replica
        assert again is not None
        assert (again.chain.tip, again.epoch, again.state.root) == (whole.chain.tip, whole.epoch, whole.state.root)
        assert 0 < again.chain.base <= again.chain.tip.height
        assert again.chain.answer(0).blocks == ()
        assert again.chain.answer(again.chain.base).height == again.chain.tip.height
        seen.append(again.chain.tip.height)

    for at_ms in (200, 700):
        run.later(at_ms * 1_000, restart)
    run.play()
    assert len(seen) == 2
    verdicts = [one for one in judge(run, report_of(run)) if not one["ok"]]
    # The blocks below a snapshot were seen by the laboratory before, so nothing is missing in its report.
    assert verdicts == []


def test_a_damaged_snapshot_is_refused() -> None:
    run = LaboratoryRun(SCHEDULE, SIMPLEX, 1)
    run.play()
    copy = run.copies[0]
    log = shortened(copy, copy.disk.read(), below=20)
    parts = [data for data in log if isinstance(decode_entry(data), SnapshotEntry)]
    rest = log[len(parts) :]
    other = shortened(copy, copy.disk.read(), below=10)[0]
    assert started(copy, log).chain.tip.height > 20
    for wrong in (
        parts[:-1],
        [*parts[1:], *rest],
        [*parts[:1], *parts],
        [*parts, *parts],
        [parts[0], other],
        [*parts[:1], *rest],
    ):
        with pytest.raises(RemoteProtocolError):
            started(copy, wrong)
