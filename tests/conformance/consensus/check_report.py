"""Judge a consensus lab report against its schedule, without trusting the lab's own verdicts.

Usage: python check_report.py SCHEDULE.json REPORT.json      (exit status 0: everything that the schedule asks for holds)
Only the standard library is needed.  The formats are described in README.md beside this file.
"""

import json
import sys
from pathlib import Path


def check(schedule, report):
    want = dict(schedule["expect"])
    want.update(schedule.get("expect_by_algorithm", {}).get(report["algorithm"], {}))
    delta = schedule["delta_ms"]
    gst = schedule.get("gst_ms", 0)
    byzantine = {role["node"] for role in schedule.get("byzantine", [])}
    gone = {f["node"] for f in schedule.get("faults", []) if f["kind"] == "crash" and "restart_ms" not in f}
    honest = [n for n in report["nodes"] if n["node"] not in byzantine]
    good = [n for n in honest if n["node"] not in gone]
    verdicts = []

    def say(name, ok, detail=""):
        verdicts.append({"check": name, "ok": bool(ok), "detail": str(detail)[:300]})

    say(
        "report belongs to schedule",
        report["schedule"] == schedule["name"] and report["format"] == "fluvial-consensus-report/1",
    )
    expected = set(range(schedule["validators"] + schedule.get("standby", 0)))
    say("every node reported", {n["node"] for n in report["nodes"]} == expected)

    # every chain is a chain; all chains agree
    by_height, clash, broken = {}, None, None
    for node in honest:
        last = None
        for i, (height, block, parent, at, stamp, root, epoch) in enumerate(node["commits"]):
            if height != i + 1 or (
                last is not None and (parent != last[1] or at < last[3] or stamp <= last[4] or epoch < last[6])
            ):
                broken = (node["label"], height)
            if by_height.setdefault(height, (block, root)) != (block, root):
                clash = height if clash is None else min(clash, height)
            last = (height, block, parent, at, stamp, root, epoch)
    say("chains well formed", broken is None, broken)
    if want.get("agreement", True) is True:
        say("agreement", clash is None, clash)
        say("no fork seen", not any(n["fork_seen"] for n in honest))
    say("no failure", not any(n["failure"] for n in honest), [n["failure"] for n in honest if n["failure"]][:2])

    if "min_height" in want:
        say(
            "min_height",
            all(len(n["commits"]) >= want["min_height"] for n in good),
            {n["label"]: len(n["commits"]) for n in good},
        )
    for p in want.get("progress", []):
        start = gst if p["after"] == "gst" else p["after"]
        need = p.get("commits", 1)
        found = {}
        for node in good:
            if "nodes" in p and node["node"] not in p["nodes"]:
                continue
            times = [c[3] for c in node["commits"] if c[3] > start]
            found[node["label"]] = round((times[need - 1] - start) / delta, 2) if len(times) >= need else None
        say(
            f"progress after {p['after']}",
            found and all(v is not None and v <= p["within_deltas"] + 0.05 for v in found.values()),
            found,
        )
    for lo, hi in want.get("no_commit_ms", []):
        bad = [(n["label"], c[3]) for n in good for c in n["commits"] if lo <= c[3] < hi]
        say(f"no commit in {lo}..{hi}", not bad, bad[:3])
    for q in want.get("txs_committed_by_ms", []):
        late = [
            t["id"]
            for t in report["txs"]
            if t["submitted_ms"] <= q["submitted_until"]
            and ("account" not in q or t["account"] == q["account"])
            and not all(t["committed_ms"].get(n["label"], float("inf")) <= q["by"] for n in good)
        ]
        say("transactions committed", report["txs"] and not late, f"{len(late)} late or missing {late[:2]}")
    for c in want.get("caught_up", []):
        height = {n["label"]: sum(1 for e in n["commits"] if e[3] <= c["by_ms"]) for n in good}
        mine = max(v for n in good for k, v in height.items() if k == n["label"] and n["node"] == c["node"])
        say("caught up", mine >= max(height.values()) - c["lag"], height)
    if "block_time" in want:
        ahead = [
            (n["label"], c[0]) for n in good for c in n["commits"] if c[4] > c[3] + want["block_time"]["max_ahead_ms"]
        ]
        say("block time", not ahead, ahead[:3])
    if "validators_at_end" in want:
        say(
            "validators at end",
            all(sorted(n["validators"]) == sorted(want["validators_at_end"]) for n in good),
            [n["validators"] for n in good][:2],
        )

    accused = {}
    for node in good:
        for e in node["evidence"]:
            accused.setdefault(e["offender"], set()).add(node["label"])
    rule = want.get("evidence", {})
    must = set(rule.get("must", []))
    allowed = must | set(rule.get("may", [])) if "evidence" in want else byzantine
    say(
        "offenders proven by all",
        all(len(accused.get(o, ())) == len(good) for o in must),
        {o: sorted(w) for o, w in accused.items()},
    )
    say("none falsely accused", set(accused) <= allowed, sorted(accused))
    if "at_least" in rule:
        say("enough offenders proven", len(accused) >= rule["at_least"], sorted(accused))
    if "on_chain" in rule:
        say(
            "evidence on the ledger",
            set(rule["on_chain"]) <= set(report["evidence_on_ledger"]),
            report["evidence_on_ledger"],
        )

    if "commit_delays_median_max" in want:
        hop = schedule["network"]["delay_ms"][1]
        lag = sorted(
            c[3] - report["proposed_ms"][c[1]] for n in good for c in n["commits"] if c[1] in report["proposed_ms"]
        )
        median = lag[len(lag) // 2] / hop if lag else float("inf")
        say("median commit delay", median <= want["commit_delays_median_max"], round(median, 3))
    return verdicts


def main():
    schedule, report = (json.loads(Path(name).read_text(encoding="utf-8")) for name in sys.argv[1:3])
    verdicts = check(schedule, report)
    for v in verdicts:
        print("ok  " if v["ok"] else "FAIL", v["check"], "" if v["ok"] else v["detail"])
    passed = sum(v["ok"] for v in verdicts)
    print(f"{passed} passed, {len(verdicts) - passed} failed")
    return 0 if passed == len(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
