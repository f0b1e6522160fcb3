"""Random Aqua programs next to the reference compiler: both must make the same calls.

::

    python -m tests.fuzz.aqua --reference DIR [--seeds 1-40] [--keep FOLDER]

``DIR`` is the folder of a harness for the reference compiler: ``node observe.mjs CASE.json`` there prints what is seen of a case.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from fluvial.errors import FluvialError
from fluvial_aqua.simulation import Case, play

from tests.fuzz.aqua_generator import AquaGenerator

ARITHMETIC = ("math", "cmp")
"""Services whose calls compilers may do differently."""
REFERENCE_S = 120


def calls_of(seen: dict[str, Any]) -> Counter[str]:
    """The multiset of calls."""
    return Counter(json.dumps(call, sort_keys=True) for call in seen["calls"] if call["service"] not in ARITHMETIC)


def reference(folder: Path, case: Path) -> dict[str, Any] | str:
    """What the reference does with a case, or why it refuses it."""
    done = subprocess.run(
        ["node", "observe.mjs", str(case.absolute())],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=REFERENCE_S,
        check=False,
    )
    if done.returncode != 0:
        return done.stderr.strip()[:500]
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def compared(folder: Path, case: Path) -> tuple[str, str]:
    """A word for how a case came out, and what there is to tell."""
    theirs = reference(folder, case)
    try:
        ours = play(Case.load(case))
    except FluvialError as error:
        return ("both refuse", "") if isinstance(theirs, str) else ("only we refuse", str(error))
    if isinstance(theirs, str):
        return "only the reference refuses", theirs
    missing, more = calls_of(theirs) - calls_of(ours), calls_of(ours) - calls_of(theirs)
    told = [f"missing: {one}" for one in missing.elements()] + [f"more: {one}" for one in more.elements()]
    if ours["result"] != theirs["result"]:
        told.append(f"result {ours['result']}, there {theirs['result']}")
    if (ours["error"] is None) != (theirs["error"] is None):
        told.append(f"error {ours['error']}, there {theirs['error']}")
    return ("different", "\n  ".join(told)) if told else ("the same", "")


def main() -> int:
    """Compare for some seeds; 1 if something differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", type=Path, required=True, help="the folder of the harness")
    parser.add_argument("--seeds", default="1-20", help="from-to")
    parser.add_argument("--keep", type=Path, help="a folder for cases that differ")
    given = parser.parse_args()
    first, _, last = given.seeds.partition("-")
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(int(first), int(last or first) + 1):
            case = Path(folder, f"seed-{seed}.json")
            case.write_text(json.dumps(AquaGenerator(random.Random(seed)).case(case.stem)))
            word, told = compared(given.reference, case)
            counts[word] += 1
            if told:
                print(f"seed {seed}: {word}\n  {told}")
                if given.keep is not None:
                    given.keep.mkdir(parents=True, exist_ok=True)
                    (given.keep / case.name).write_text(case.read_text())
    print(", ".join(f"{count} {word}" for word, count in counts.most_common()))
    return 1 if counts["different"] or counts["only we refuse"] else 0


if __name__ == "__main__":
    sys.exit(main())
