"""Attack real peers and report: ``python -m tests.attacks [--seconds 12] [--seed 1] [NAME …]``.

An attack is survived if 95 % of the honest flows that ran meanwhile ended within two seconds, those that were under way when the peer was
killed ended too, the peer's memory stayed under 512 MB, its database under the quota and its log under 16 MB, no rule of the attack was broken, and its
process lives. The exit code is the number of attacks that were not survived.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Final

import anyio

from tests.attacks.attempts import ATTACKS
from tests.attacks.referee import DISK_BYTES_MAX, HONEST_S_MAX, Match, refereeing

FLOW_S_MAX: Final = 2.0
FLOWS_PERCENT: Final = 95
RSS_MB_MAX: Final = 512
LOG_MB_MAX: Final = 16
SECONDS: Final = 12.0


async def attack(name: str, seconds: float, seed: int) -> bool:
    """Carry out one attack and say how it went; whether it was survived."""
    async with refereeing(name, seed, seconds) as referee:
        return _report(name, await referee.run())


def _report(name: str, match: Match) -> bool:
    times = sorted(match.times_s)
    slowest = times[min(len(times) * FLOWS_PERCENT // 100, len(times) - 1)] if times else float("inf")
    pledged = max(match.pledges_s, default=float("inf"))
    faults = [
        *match.faults,
        *([f"{FLOWS_PERCENT} % of the flows take {slowest:.1f} s"] if slowest > FLOW_S_MAX else []),
        *(["a flow that was under way at the kill did not end"] if pledged > HONEST_S_MAX else []),
        *([f"{match.rss_mb} MB of memory"] if match.rss_mb > RSS_MB_MAX else []),
        *([f"{match.disk_mb:.0f} MB of disk"] if match.disk_mb > DISK_BYTES_MAX / 1e6 else []),
        *([f"{match.log_mb:.0f} MB of log"] if match.log_mb > LOG_MB_MAX else []),
    ]
    print(
        f"{name:15} {'NOT SURVIVED' if faults else 'survived'}: {len(times)} honest flows, {FLOWS_PERCENT} % within {slowest:.2f} s; "
        f"{match.restarts} restart, {len(match.restart_s)} flows over it, {len(match.pledges_s)} under way at the kill within {pledged:.1f} s; "
        f"memory {match.rss_mb} MB, disk {match.disk_mb:.1f} MB, log {match.log_mb:.1f} MB; "
        f"{match.attackers} attackers {dict(match.receipts)}",
        *(f"\n    {fault}" for fault in faults),
        flush=True,
    )
    return not faults


def main() -> int:
    """Carry out the attacks that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.attacks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ATTACKS)}; all by default")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each attack")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of all that is random")
    options = parser.parse_args()
    if unknown := set(options.names) - ATTACKS.keys():
        parser.error(f"no attack {', '.join(sorted(unknown))}; there are {', '.join(ATTACKS)}")
    print(f"seed {options.seed}", flush=True)
    names = options.names or list(ATTACKS)
    return sum(not anyio.run(attack, name, options.seconds, options.seed) for name in names)


if __name__ == "__main__":
    sys.exit(main())
