"""The doctor's checks in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final

from fluvial.cli.context import Invocation
from fluvial.cli.doctor import machine, running
from fluvial.cli.doctor.containment import CHECK_S, contained
from fluvial.cli.doctor.ledger import check_ledger
from fluvial.cli.doctor.plugins import plugin_findings
from fluvial.cli.doctor.settings import check_plugins, check_settings
from fluvial.config import Settings
from fluvial.findings import Finding

PEER_S: Final = 30.0
"""The time limit of checks that ask the peer or others over the network, in seconds: connecting alone may take 10 s."""

REPAIRS: Final[dict[str, Callable[[Settings], str]]] = {machine.KEY_MODE: machine.repair_key_mode}
"""Repairs by the name in a finding's ``fix``. Each returns what it did, and none can make anything worse."""


def examine(invocation: Invocation, *, fix: bool) -> Iterator[Finding]:
    """Run all checks.

    Args:
        invocation: of the command; names the settings.
        fix: whether to carry out repairs; what was repaired is found ``ok``.
    """
    configuration, findings = check_settings(invocation)
    yield from findings
    yield from _look("plugins", partial(check_plugins, invocation))
    if configuration is None:
        yield Finding(level="warn", subject="doctor", text="nothing else is checked before the settings are valid")
        return
    settings = configuration.settings
    for finding in _look("key", partial(machine.check_key, settings)):
        yield _repaired(finding, settings) if fix and finding.fix in REPAIRS else finding
    peer = running.Asked()
    yield from _look("peer", partial(running.check_peer, invocation, configuration, peer), timeout_s=PEER_S)
    yield from _look("transport", partial(machine.check_ports, settings, running=peer.running))
    yield from _look("descriptors", partial(machine.check_descriptors, settings))
    yield from _look("clock", partial(running.check_clock, configuration, peer), timeout_s=PEER_S)
    yield from _look("store", partial(machine.check_store, settings, running=peer.running))
    yield from _look("ledger", partial(check_ledger, settings))
    yield from plugin_findings(configuration, running=bool(peer.running))


def _look(subject: str, check: Callable[[], Iterable[Finding]], *, timeout_s: float = CHECK_S) -> list[Finding]:
    return contained(subject, f"the check {subject!r} of fluvial", check, timeout_s=timeout_s)


def _repaired(finding: Finding, settings: Settings) -> Finding:
    try:
        done = REPAIRS[finding.fix](settings)
    except OSError as error:
        return Finding(
            level="fail", subject=finding.subject, text=f"{finding.text}; it cannot be repaired: {error.strerror}"
        )
    return Finding(level="ok", subject=finding.subject, text=f"repaired: {done}")
