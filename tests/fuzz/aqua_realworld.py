"""Counts how many functions of a folder of real programs compile, as the reference's own count does.

::

    python -m tests.fuzz.aqua_realworld DIR [--packages DIR] [--json FILE] [--list FILE]

``DIR`` has one folder for each repository. Each file is compiled as a copy that exports every function that it defines, so that libraries are
measured as well; functions that may not be exported at all are left out. Files without the header that the language has since come to require
get one, and ``module`` becomes ``aqua``. Every script must be AIR that parses. Nothing is written to ``DIR``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any, Final

from fluvial.air.syntax import AirSyntaxError, parse
from fluvial.errors import FluvialError
from fluvial_aqua.checking.modules import ImportTable
from fluvial_aqua.compiler import Compilation, CompilerOptions, compile_text
from fluvial_aqua.files import read_file

PACKAGES: Final = {
    "aqua-lib": "aqua-lib",
    "registry": "registry/aqua",
    "trust-graph": "trust-graph/aqua",
    "aqua-ipfs": "aqua-ipfs/aqua",
    "spell": "spell/src/aqua/spell",
    "installation-spell": "spell/src/aqua/installation-spell/src/aqua",
}
"""Where the packages that these programs import lie among the repositories."""
NOT_EXPORTABLE: Final = "Q207"
_EXPORTS: Final = re.compile(r"^export\s+[^\n]*(?:,\s*(?:--[^\n]*)?\n[^\n]*)*$", re.MULTILINE)
_HEADER: Final = re.compile(r"\s*(aqua|module)\s")


def modern(text: str) -> str:
    """A file with today's header."""
    lines = text.split("\n")
    first = next((at for at, line in enumerate(lines) if line.strip() and not line.strip().startswith("--")), None)
    if first is not None and (found := _HEADER.match(lines[first])) is not None:
        if found[1] == "module":
            lines[first] = lines[first].replace("module", "aqua", 1)
        return "\n".join(lines)
    return "\n".join(["aqua Measured declares *", *lines])


def exporting(text: str, names: list[str]) -> str:
    """A copy that exports these functions instead of what it exported."""
    lines = _EXPORTS.sub("", text).split("\n")
    header = next(at for at, line in enumerate(lines) if _HEADER.match(line))
    return "\n".join([lines.pop(header), f"export {', '.join(names)}", *lines])


class Measuring:
    """Compiles the files of a folder.

    Args:
        root: the folder.
        packages: another folder with packages, used for what the first one has not.
    """

    def __init__(self, root: Path, packages: Path | None) -> None:
        self._root = root
        self._packages = packages
        places = {f"@fluencelabs/{name}": [str(root / at)] for name, at in PACKAGES.items() if (root / at).is_dir()}
        self._mapping = {"": places}

    def _read(self, path: str) -> str | None:
        text = read_file(path)
        return modern(text) if text is not None and Path(path).is_relative_to(self._root) else text

    def _compilation(self, path: Path, text: str) -> Compilation:
        folders = (str(path.parent), *((str(self._packages),) if self._packages is not None else ()))
        options = CompilerOptions(imports=ImportTable(folders, self._mapping))
        return compile_text(str(path), text, self._read, options)

    def measure(self, path: Path) -> dict[str, Any]:
        """What becomes of a file."""
        row: dict[str, Any] = {"file": path.relative_to(self._root).as_posix(), "functions": {}, "error": "", "own": 0}
        try:
            text = self._read(str(path)) or ""
        except FluvialError as error:
            return row | {"error": error.message, "defined": 0}
        names = re.findall(r"^func\s+(\w+)", text, re.MULTILINE)
        row["defined"] = len(names)
        while True:
            compilation = self._compilation(path, exporting(text, names) if names else text)
            barred = {
                found[1]
                for one in compilation.diagnostics
                if one.code == NOT_EXPORTABLE and (found := re.match(r"`(\w+)` cannot", one.message))
            }
            if not barred & set(names):
                break
            names = [name for name in names if name not in barred]
        errors = [one for one in compilation.diagnostics if one.severity == "error"]
        if errors:
            return row | {"error": f"{errors[0].line}: {errors[0].code}: {errors[0].message}"}
        try:
            for function in compilation.functions():
                parse(function.air)
                row["functions"][function.name] = len(function.air)
        except (FluvialError, AirSyntaxError) as error:
            row["error"] = str(error)
        row["own"] = len([name for name in names if name in row["functions"]])
        return row


def main() -> int:
    """Measure and print the sums; 1 if a script does not parse."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--packages", type=Path, help="a folder with further packages (node_modules)")
    parser.add_argument("--json", type=Path, help="write a row for each file here")
    parser.add_argument("--verbose", action="store_true", help="print why files are refused")
    given = parser.parse_args()
    root = given.folder.absolute()
    measuring = Measuring(root, given.packages)
    rows = [measuring.measure(path) for path in sorted(root.rglob("*.aqua")) if "node_modules" not in path.parts]
    if given.json is not None:
        given.json.write_text(json.dumps(rows, indent=1))
    if given.verbose:
        for row in rows:
            if row["error"]:
                print(f"{row['file']}:{row['error']}")
    summary = {
        "files": len(rows),
        "files_that_compile": sum(not row["error"] for row in rows),
        "functions": sum(len(row["functions"]) for row in rows),
        "functions_defined": sum(row["defined"] for row in rows),
        "of_these_compile": sum(row["own"] for row in rows),
        "air_bytes": sum(sum(row["functions"].values()) for row in rows),
    }
    print(json.dumps(summary, indent=1))
    return 1 if any(row["functions"] and row["error"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
