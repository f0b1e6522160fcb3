"""Attack real peers and report: ``python -m tests.attacks [--seconds 12] [--seed 1] [--report FILE] [NAME …]``.

An attack is survived if 95 % of the honest flows that began meanwhile, at any time, ended within two seconds, those that were under way when the peer was
killed ended too, the peer's memory stayed under 512 MB, its files under the quotas and its log under 16 MB, no rule of the attack was broken, and its
process lives. The exit code is the number of attacks that were not survived, 100 at most. The attack ``calm`` does nothing: what honest flows take on this machine now.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import anyio

from tests.attacks.attempts import ATTACKS
from tests.attacks.referee import GAP_S, HONEST_S_MAX, STATE_BYTES_MAX, Match, refereeing

FLOW_S_MAX: Final = 2.0
FLOWS_PERCENT: Final = 95
RSS_MB_MAX: Final = 512
LOG_MB_MAX: Final = 16
SECONDS: Final = 12.0
ERRORS_SHOWN: Final = 3


async def attack(name: str, seconds: float, seed: int) -> tuple[bool, str]:
    """Carry out one attack; whether it was survived, and how it went."""
    try:
        async with refereeing(name, seed, seconds) as referee:
            return _told(name, await referee.run())
    except Exception as error:  # noqa: BLE001 - the next attack is carried out whatever became of this one
        return (
            False,
            f"{name:17} NOT SURVIVED: the match failed:\n{''.join(traceback.format_exception(error))[-3_000:]}",
        )


def _told(name: str, match: Match) -> tuple[bool, str]:
    times = sorted(_as_begun_regularly(match.times_s))
    slowest = times[min(len(times) * FLOWS_PERCENT // 100, len(times) - 1)] if times else float("inf")
    pledged = max(match.pledges_s, default=float("inf"))
    faults = [
        *match.faults,
        *([f"{FLOWS_PERCENT} % of the flows take {slowest:.1f} s"] if slowest > FLOW_S_MAX else []),
        *(["a flow that was under way at the kill did not end"] if pledged > HONEST_S_MAX else []),
        *([f"{match.rss_mb} MB of memory"] if match.rss_mb > RSS_MB_MAX else []),
        *([f"{match.disk_mb:.0f} MB of disk"] if match.disk_mb > STATE_BYTES_MAX / 1e6 else []),
        *([f"{match.log_mb:.0f} MB of log"] if match.log_mb > LOG_MB_MAX else []),
    ]
    line = (
        f"{name:17} {'NOT SURVIVED' if faults else 'survived'}: {len(match.times_s)} honest flows, {FLOWS_PERCENT} % within {slowest:.2f} s; "
        f"{match.restarts} restart, {len(match.restart_s)} flows over it, {len(match.pledges_s)} under way at the kill within {pledged:.1f} s; "
        f"memory {match.rss_mb} MB, disk {match.disk_mb:.1f} MB, log {match.log_mb:.1f} MB, CPU {match.cpu_s:.1f} s; "
        f"{match.attackers} attackers {dict(match.receipts)}"
    )
    said = [f"an honest flow: {error}" for error in match.errors[:ERRORS_SHOWN]]
    return not faults, "\n    ".join([line, *faults, *said])


def _as_begun_regularly(times_s: Sequence[float]) -> list[float]:
    """What flows would have taken that begin at regular times, instead of one after the other: those that would have begun during a long one wait for its end as well.

    Source: G. Tene, *How NOT to Measure Latency* (2013), "coordinated omission".
    """
    found = []
    for took_s in times_s:
        left_s = min(took_s, HONEST_S_MAX)
        found.append(took_s)
        while (left_s := left_s - GAP_S) > GAP_S:
            found.append(left_s)
    return found


def main() -> int:
    """Carry out the attacks that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.attacks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ATTACKS)}; all by default")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each attack")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of all that is random")
    parser.add_argument("--report", type=Path, help="a file to which the report is appended while it grows")
    options = parser.parse_args()
    if unknown := set(options.names) - ATTACKS.keys():
        parser.error(f"no attack {', '.join(sorted(unknown))}; there are {', '.join(ATTACKS)}")
    names = options.names or list(ATTACKS)
    survived = 0
    with ExitStack() as stack:
        report = stack.enter_context(options.report.open("a")) if options.report else None

        def say(text: str) -> None:
            for to in (sys.stdout, report):
                if to is not None:
                    print(text, file=to, flush=True)

        say(f"seed {options.seed}, {options.seconds:g} s each")
        for name in names:
            good, told = anyio.run(attack, name, options.seconds, options.seed)
            survived += good
            say(told)
        say(f"{survived} of {len(names)} survived")
    return min(len(names) - survived, 100)


if __name__ == "__main__":
    sys.exit(main())
