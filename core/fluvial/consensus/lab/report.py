"""What a run has come to, as the report that `docs/consensus.md` describes."""

from __future__ import annotations

from typing import Any, Final

from fluvial.consensus.lab.copies import NodeCopy
from fluvial.consensus.lab.run import LaboratoryRun
from fluvial.ledger.execution import membership
from fluvial.ledger.offences import OFFENCES

FORMAT: Final = "fluvial-consensus-report/1"


def report_of(run: LaboratoryRun) -> dict[str, Any]:
    """The report of a finished run, without verdicts."""
    return {
        "format": FORMAT,
        "schedule": run.schedule.name,
        "algorithm": run.algorithm.name,
        "seed": run.seed,
        "engine_version": run.algorithm.traits.version,
        "passed": False,
        "verdicts": [],
        "nodes": [_node(run, copy) for copy in run.copies],
        "txs": [
            {
                "id": one.id.hex(),
                "account": one.account,
                "submitted_ms": _ms(one.submitted_us),
                "committed_ms": {label: _ms(at_us) for label, at_us in one.committed_us.items()},
            }
            for one in run.payments.values()
        ],
        "proposed_ms": {
            block.hex(): _ms(run.proposed_us[reference])
            for block, reference in run.references.items()
            if reference in run.proposed_us
        },
        "evidence_on_ledger": _on_ledger(run),
        "messages": dict(sorted(run.messages.items())),
        "bytes": dict(sorted(run.bytes.items())),
        "figures": _figures(run),
        "trace": run.trace,
    }


def _node(run: LaboratoryRun, copy: NodeCopy) -> dict[str, Any]:
    findings = copy.findings
    numbers = {peer: number for number, peer in enumerate(run.peers)}
    keys = {peer.public_key: number for peer, number in numbers.items()}
    validators = membership(copy.replica.state).validators if copy.replica is not None else ()
    held = copy.replica.evidence if copy.replica is not None else {}
    return {
        "node": copy.node,
        "label": copy.label,
        "commits": [
            [
                one.block.header.height,
                one.block.id.hex(),
                one.block.header.parent.hex(),
                _ms(one.at_us),
                one.block.header.time_ms,
                one.block.header.state.hex(),
                one.block.header.epoch,
            ]
            for one in findings.commits
        ],
        "evidence": [
            {"offender": keys[key], "kind": kind, "at_ms": _ms(at_us)}
            for key, (kind, at_us) in findings.evidence.items()
            if key in held and key in keys
        ],
        "validators": sorted(numbers[one.peer] for one in validators),  # type: ignore[index]  # a peer id is a text
        "fork_seen": findings.fork_seen,
        "failure": findings.failure,
    }


def _on_ledger(run: LaboratoryRun) -> list[int]:
    """The nodes against which proof is on the ledger of some correct node."""
    liars = {role.node for role in run.schedule.byzantine}
    keys = {peer.public_key: number for number, peer in enumerate(run.peers)}
    found: set[int] = set()
    for copy in run.copies:
        if copy.node not in liars and copy.replica is not None:
            found |= {keys[key] for key, _ in copy.replica.state.scan(OFFENCES) if key in keys}
    return sorted(found)


def _figures(run: LaboratoryRun) -> dict[str, Any]:
    liars = {role.node for role in run.schedule.byzantine}
    hop_us = run.schedule.network.delay_ms[1] * 1000
    correct = [copy for copy in run.copies if copy.node not in liars]
    delays = sorted(
        (one.at_us - run.proposed_us[reference]) / hop_us
        for copy in correct
        for one in copy.findings.commits
        if (reference := run.references[one.block.id]) in run.proposed_us and hop_us
    )
    latencies = sorted(
        (at_us - one.submitted_us) / 1000 for one in run.payments.values() for at_us in one.committed_us.values()
    )
    height = max((len(copy.findings.commits) for copy in correct), default=0)
    return {
        "commit_delays": _quantiles(delays),
        "tx_latency_ms": _quantiles(latencies),
        "messages_per_commit": round(sum(run.messages.values()) / height, 1) if height else None,
        "max_view": max((copy.findings.view_max for copy in correct), default=0),
    }


def _quantiles(values: list[float]) -> dict[str, float | None]:
    if not values:
        return {"p50": None, "p99": None}
    return {
        "p50": round(values[len(values) // 2], 3),
        "p99": round(values[min(len(values) - 1, len(values) * 99 // 100)], 3),
    }


def _ms(us: int) -> float:
    return us // 1000 if us % 1000 == 0 else us / 1000
