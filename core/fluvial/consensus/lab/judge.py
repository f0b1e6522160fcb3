"""Whether a run holds what its schedule expects. Works on the report alone, and on what only the laboratory has seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from fluvial.consensus.lab.copies import NodeCopy
from fluvial.consensus.lab.run import LaboratoryRun
from fluvial.consensus.lab.schedule import Crash, FaultSchedule
from fluvial.errors import RemoteProtocolError
from fluvial.ledger.transactions import SignedTransaction, decode_payload, parse, transaction_id

Verdict = dict[str, Any]


def judge(run: LaboratoryRun, report: dict[str, Any]) -> list[Verdict]:
    """The verdicts on a run."""
    schedule = run.schedule
    want = schedule.expected(run.algorithm.name)
    liars = {role.node for role in schedule.byzantine}
    gone = {one.node for one in schedule.faults if isinstance(one, Crash) and one.restart_ms is None}
    correct = [node for node in report["nodes"] if node["node"] not in liars]
    live = [node for node in correct if node["node"] not in gone]
    may_fork = want.get("agreement", True) == "may_break"
    return [
        *_always(run, correct, may_fork=may_fork),
        *_progress(schedule, want, live),
        *_payments(report, want, live),
        *_sets_and_times(want, live),
        *_evidence(report, want, live, liars),
        *_delays(schedule, report, want, live),
    ]


def _verdict(check: str, ok: bool, detail: Any = "") -> Verdict:
    return {"check": check, "ok": bool(ok), "detail": "" if ok else str(detail)[:300]}


def _always(run: LaboratoryRun, correct: list[Any], *, may_fork: bool) -> Iterator[Verdict]:
    by_height: dict[int, tuple[str, str]] = {}
    clash = broken = None
    for node in correct:
        last = None
        for number, (height, block, parent, at, stamp, root, epoch) in enumerate(node["commits"], 1):
            follows = last is None or (parent == last[1] and at >= last[3] and stamp > last[4] and epoch >= last[6])
            if height != number or not follows:
                broken = broken or (node["label"], height)
            if by_height.setdefault(height, (block, root)) != (block, root):
                clash = height if clash is None else min(clash, height)
            last = (height, block, parent, at, stamp, root, epoch)
    yield _verdict("chains well formed", broken is None, broken)
    labels = {node["label"] for node in correct}
    if not may_fork:
        taken = [copy.label for copy in run.copies if copy.label in labels and copy.findings.taken_back is not None]
        yield _verdict("agreement", clash is None and not taken, clash or taken)
        yield _verdict("no fork seen", not any(node["fork_seen"] for node in correct), "a fork was reported")
    failures = [node["failure"] for node in correct if node["failure"]]
    yield _verdict("no failure", not failures, failures[:2])
    wrong = [text for copy in run.copies if copy.label in labels for text in _wrong_transactions(run, copy)]
    yield _verdict("transactions submitted, once, in order", not wrong, wrong[:2])


def _wrong_transactions(run: LaboratoryRun, copy: NodeCopy) -> Iterator[str]:
    """What stands in the blocks of a copy and must not; judged without the ledger's own execution."""
    seen: set[bytes] = set()
    nonces: Counter[bytes] = Counter()
    for commit in copy.findings.commits:
        try:
            transactions = decode_payload(commit.block.payload)
            parsed = [(transaction_id(one), parse(one)) for one in transactions]
        except RemoteProtocolError as error:
            yield error.message
            continue
        for name, one in parsed:
            if name in seen:
                yield f"twice: {name.hex()[:12]}"
            seen.add(name)
            if not isinstance(one, SignedTransaction):
                continue
            if name not in run.payments and name not in run.actions:
                yield f"never submitted: {name.hex()[:12]}"
            if one.nonce != nonces[one.sender]:
                yield f"out of order: {name.hex()[:12]}"
            nonces[one.sender] = one.nonce + 1


def _progress(schedule: FaultSchedule, want: dict[str, Any], live: list[Any]) -> Iterator[Verdict]:
    if "min_height" in want:
        heights = {node["label"]: len(node["commits"]) for node in live}
        yield _verdict("min_height", all(one >= want["min_height"] for one in heights.values()), heights)
    for row in want.get("progress", []):
        start = schedule.gst_ms if row["after"] == "gst" else row["after"]
        needed = row.get("commits", 1)
        found: dict[str, float | None] = {}
        for node in live:
            if "nodes" not in row or node["node"] in row["nodes"]:
                times = [one[3] for one in node["commits"] if one[3] > start]
                late = (times[needed - 1] - start) / schedule.delta_ms if len(times) >= needed else None
                found[node["label"]] = None if late is None else round(late, 2)
        ok = bool(found) and all(one is not None and one <= row["within_deltas"] + 0.05 for one in found.values())
        yield _verdict(f"progress after {row['after']}", ok, found)
    for low, high in want.get("no_commit_ms", []):
        bad = [(node["label"], one[3]) for node in live for one in node["commits"] if low <= one[3] < high]
        yield _verdict(f"no commit in {low}..{high}", not bad, bad[:3])
    for row in want.get("caught_up", []):
        at = {node["label"]: sum(one[3] <= row["by_ms"] for one in node["commits"]) for node in live}
        mine = max((at[node["label"]] for node in live if node["node"] == row["node"]), default=-1)
        yield _verdict("caught up", mine >= max(at.values(), default=0) - row["lag"], at)


def _payments(report: dict[str, Any], want: dict[str, Any], live: list[Any]) -> Iterator[Verdict]:
    for row in want.get("txs_committed_by_ms", []):
        late = [
            one["id"]
            for one in report["txs"]
            if one["submitted_ms"] <= row["submitted_until"]
            and row.get("account", one["account"]) == one["account"]
            and not all(one["committed_ms"].get(node["label"], float("inf")) <= row["by"] for node in live)
        ]
        yield _verdict("transactions committed", report["txs"] and not late, f"{len(late)} late or missing {late[:2]}")


def _sets_and_times(want: dict[str, Any], live: list[Any]) -> Iterator[Verdict]:
    if "block_time" in want:
        most = want["block_time"]["max_ahead_ms"]
        ahead = [(node["label"], one[0]) for node in live for one in node["commits"] if one[4] > one[3] + most]
        yield _verdict("block time", not ahead, ahead[:3])
    if "validators_at_end" in want:
        ends = [node["validators"] for node in live]
        yield _verdict("validators at end", all(one == sorted(want["validators_at_end"]) for one in ends), ends[:2])


def _evidence(report: dict[str, Any], want: dict[str, Any], live: list[Any], liars: set[int]) -> Iterator[Verdict]:
    rule = want.get("evidence", {})
    accused: dict[int, set[str]] = {}
    for node in live:
        for one in node["evidence"]:
            accused.setdefault(one["offender"], set()).add(node["label"])
    shown = {offender: sorted(labels) for offender, labels in accused.items()}
    must = set(rule.get("must", []))
    allowed = must | set(rule.get("may", [])) if "evidence" in want else liars
    yield _verdict("offenders proven by all", all(len(accused.get(one, ())) == len(live) for one in must), shown)
    yield _verdict("none falsely accused", set(accused) <= allowed, sorted(accused))
    if "at_least" in rule:
        yield _verdict("enough offenders proven", len(accused) >= rule["at_least"], shown)
    if "on_chain" in rule:
        on_ledger = report["evidence_on_ledger"]
        yield _verdict("evidence on the ledger", set(rule["on_chain"]) <= set(on_ledger), on_ledger)


def _delays(
    schedule: FaultSchedule, report: dict[str, Any], want: dict[str, Any], live: list[Any]
) -> Iterator[Verdict]:
    if "commit_delays_median_max" not in want:
        return
    hop = schedule.network.delay_ms[1]
    made = report["proposed_ms"]
    lags = sorted(one[3] - made[one[1]] for node in live for one in node["commits"] if one[1] in made)
    median = lags[len(lags) // 2] / hop if lags else float("inf")
    yield _verdict("median commit delay", median <= want["commit_delays_median_max"], round(median, 3))
