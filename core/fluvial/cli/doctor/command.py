"""The command, and how its findings are printed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from fluvial.cli.context import Invocation, common_options, pass_invocation

if TYPE_CHECKING:
    from fluvial.findings import Finding

WORDS: Final = {"ok": ("ok", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "red")}


@click.command()
@click.option("--fix", is_flag=True, help="Repair what can safely be repaired.")
@common_options
@pass_invocation
def doctor(invocation: Invocation, *, fix: bool) -> None:
    """Look for what is wrong with this peer, whether it runs or not; exit 1 if something is.

    Core looks at the settings, the plugins, the key, the ports, the clock, the database and the limit of open files; plugins look at what is
    theirs; a running peer is asked how it is.
    """
    from fluvial.cli.doctor.examination import examine

    findings = list(examine(invocation, fix=fix))
    failures = sum(finding.level == "fail" for finding in findings)
    warnings = sum(finding.level == "warn" for finding in findings)
    data: dict[str, Any] = {"failures": failures, "warnings": warnings, "findings": [_data(one) for one in findings]}
    invocation.print(data, lambda: [*_lines(findings, fix=fix), _summary(failures, warnings)], styled=True)
    if failures:
        raise click.exceptions.Exit(1)


def _data(finding: Finding) -> dict[str, str]:
    names = ("level", "subject", "text", "hint", "code", "fix")
    return {name: value for name in names if (value := getattr(finding, name))}


def _lines(findings: Sequence[Finding], *, fix: bool) -> Iterator[str]:
    from fluvial.strangers import printable

    wide = max(len(printable(finding.subject)) for finding in findings)
    for finding in findings:
        word, colour = WORDS[finding.level]
        code = f"  {finding.code}" if finding.code else ""
        level = click.style(word.ljust(4), fg=colour, bold=finding.level == "fail")
        yield f"{level}  {printable(finding.subject).ljust(wide)}  {printable(finding.text)}{code}"
        hints = finding.hint.splitlines()
        if finding.fix and not fix:
            hints.append("run `fluvial doctor --fix` to do it")
        yield from (f"{' ' * (wide + 8)}{printable(line.strip())}" for line in hints)


def _summary(failures: int, warnings: int) -> str:
    counts = [(failures, "failure"), (warnings, "warning")]
    parts = [f"{count} {what}{'s' if count > 1 else ''}" for count, what in counts if count]
    return ", ".join(parts) or "all is well"
