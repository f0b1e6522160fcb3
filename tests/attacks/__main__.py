"""Attack real peers and report: ``python -m tests.attacks [--seconds 20] [--seed 1] [NAME …]``.

An attack is survived if 95 % of the honest flows that ran meanwhile ended within two seconds, the peer's memory stayed under 512 MB, and its
process lives. The exit code is the number of attacks that were not survived.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Final

import anyio

from tests.attacks.arena import FLOW_S_MAX, Arena, arena
from tests.attacks.attempts import ATTACKS

FLOWS_PERCENT: Final = 95
RSS_MB_MAX: Final = 512


async def attack(name: str, seconds: float, seed: int) -> bool:
    """Carry out one attack and say how it went; whether it was survived."""
    async with arena(seed) as place:
        with anyio.move_on_after(seconds):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(place.watch)
                tasks.start_soon(ATTACKS[name], place)
        return _report(name, place)


def _report(name: str, place: Arena) -> bool:
    times = place.took_s()
    slowest = times[min(len(times) * FLOWS_PERCENT // 100, len(times) - 1)] if times else float("inf")
    log_mb = sum(path.stat().st_size for path in place.target.folder.glob("log*")) / 1e6
    survived = slowest <= FLOW_S_MAX and place.rss_mb <= RSS_MB_MAX and place.alive()
    print(
        f"{name:14} {'survived' if survived else 'NOT SURVIVED'}: {len(times)} honest flows, {FLOWS_PERCENT} % within {slowest:.2f} s, "
        f"{place.rss_mb} MB, log {log_mb:.1f} MB, {'alive' if place.alive() else 'dead'}; receipts {place.receipts}",
        flush=True,
    )
    return survived


def main() -> int:
    """Carry out the attacks that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.attacks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ATTACKS)}; all by default")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each attack")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of all that is random")
    options = parser.parse_args()
    if unknown := set(options.names) - ATTACKS.keys():
        parser.error(f"no attack {', '.join(sorted(unknown))}; there are {', '.join(ATTACKS)}")
    print(f"seed {options.seed}", flush=True)
    names = options.names or list(ATTACKS)
    return sum(not anyio.run(attack, name, options.seconds, options.seed) for name in names)


if __name__ == "__main__":
    sys.exit(main())
