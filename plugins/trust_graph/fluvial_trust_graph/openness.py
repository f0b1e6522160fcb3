"""What is open to everybody, as findings for ``fluvial doctor``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from fluvial.checks import Subject
from fluvial.errors import ConfigError
from fluvial.findings import Finding

from fluvial_trust_graph.options import TrustGraphOptions
from fluvial_trust_graph.policy.defaults import READING, is_closed
from fluvial_trust_graph.policy.perimeters import read_perimeters
from fluvial_trust_graph.policy.rules import CallRule, FlowRule


def check(subject: Subject) -> Iterable[Finding]:
    """The check that the plugin offers: the rules, and the file of perimeters."""
    options = subject.options.get("authorization")
    if not isinstance(options, TrustGraphOptions):
        return
    if options.perimeters_file:
        path = subject.base_dir / options.perimeters_file
        try:
            found = read_perimeters(path.read_bytes(), where=str(path))
            yield Finding(level="ok", subject="perimeters", text=f"{len(found)} in {path}")
        except OSError as error:
            yield Finding(level="fail", subject="perimeters", text=f"{path} cannot be read: {error.strerror}")
        except ConfigError as error:
            yield Finding(level="fail", subject="perimeters", text=error.message, hint=error.hint, code=error.code)
    if not subject.running:  # a running peer says it itself
        yield from findings_about(options)


def findings_about(options: TrustGraphOptions) -> Iterator[Finding]:
    """What the owner should know of the rules."""
    if any(rule.anyone for rule in options.admit):
        yield Finding(
            level="ok",
            subject="flows",
            text="everybody's run here, within the limits (authorization.admit); what changes this peer answers to its owners",
        )
    elif not options.admit and not options.owners:
        yield Finding(
            level="warn",
            subject="flows",
            text="nobody's flows run here, not even yours",
            hint="name your own key in authorization.owners",
        )
    for service, functions in options.services.items():
        for function, rules in functions.items():
            if _is_open(rules, options.admit) and _changes(service, function):
                yield Finding(
                    level="warn",
                    subject="open",
                    text=f"everybody may call {service}.{function}, which changes this peer",
                    hint=f"give authorization.services.{service}.{function} a rule that says who",
                )


def _is_open(rules: Sequence[CallRule], admit: Sequence[FlowRule]) -> bool:
    """Whether one rule lets everybody in without a look at the arguments, and everybody's flows run here."""
    return any(rule.anyone and not rule.inputs and not rule.arguments for rule in rules) and any(
        rule.anyone for rule in admit
    )


def _changes(service: str, function: str) -> bool:
    return service == "*" or (service in READING and (function == "*" or is_closed(service, function)))
