"""The checks that plugins offer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial

from fluvial.checks import Check, Subject
from fluvial.cli.doctor.containment import CHECK_S, contained
from fluvial.config import Configuration
from fluvial.errors import FluvialError
from fluvial.findings import Finding
from fluvial.storage.reading import reading


def plugin_findings(configuration: Configuration, *, running: bool, timeout_s: float = CHECK_S) -> Iterator[Finding]:
    """What the checks of all loaded plugins found, by plugin; a plugin that fails is a finding."""
    for record in configuration.plugins.records:
        for name, check in configuration.plugins.registry.checks(record.name).items():
            look = partial(_look, configuration, record.name, check, running)
            who = f"the check {name!r} of the plugin {record.name} ({record.origin})"
            yield from contained(name, who, look, timeout_s=timeout_s)


def _look(configuration: Configuration, plugin: str, check: Check, running: bool) -> Iterable[Finding]:
    settings = configuration.settings
    chosen = [
        *settings.seats.items(),
        *((f"effectors.{name}", choice) for name, choice in settings.effectors.items()),
        *((f"extras.{name}", choice) for name, choice in settings.extras.items()),
    ]
    with ExitStack() as stack:
        try:
            database = stack.enter_context(reading(settings.storage_url, base_dir=settings.base_dir))
        except FluvialError:  # the check of the store has reported it
            database = None
        subject = Subject(
            base_dir=settings.base_dir,
            network=settings.network,
            running=running,
            options={section: choice.options for section, choice in chosen if choice.offer.plugin == plugin},
            database=database,
        )
        yield from check(subject)
