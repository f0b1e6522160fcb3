"""The parts of a node and their contributions: installed, started, stopped, set aside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import islice
from typing import Any, Final, TypeVar

import anyio
import msgspec
import structlog

from fluvial.assembly.directory import NodeDirectory
from fluvial.assembly.life import START_S, STOP_S, Life, PartRun, started
from fluvial.assembly.switchboard import Switchboard
from fluvial.errors import FluvialError, PluginError
from fluvial.findings import Finding
from fluvial.guard.blame import Blame
from fluvial.guard.detached import Detached
from fluvial.guard.guard import ENDING_S, Guard
from fluvial.observers import Observers
from fluvial.seats import Contributions, Part
from fluvial.services import Services
from fluvial.services.builtin import BUILTINS

T = TypeVar("T")

FINDINGS_MAX: Final = 100
"""Most findings of one part."""


class GivenExtensions:
    """Implements the port ``extensions``."""

    def __init__(self) -> None:
        self._given: list[tuple[str, object]] = []

    def add(self, owner: str, given: Sequence[object]) -> None:
        """Add the extensions of a part."""
        self._given += [(owner, one) for one in given]

    def withdraw(self, owner: str) -> None:
        """Remove the extensions of a part."""
        self._given = [(of, one) for of, one in self._given if of != owner]

    def all(self, kind: type[T]) -> Sequence[T]:
        """As :meth:`Extensions.all`."""
        return [one for _, one in self._given if isinstance(one, kind)]


class Installed(msgspec.Struct, eq=False):
    """A part, its contributions, and its state.

    Attributes:
        name: how messages call it: ``routing static``.
        plugin: the plugin whose code it is, for log and metrics.
        part: the part.
        given: its contributions.
        foreign: whether it is a plugin's; core's own rooms are not guarded.
        extra: whether the node can run without it.
        failed: why it was set aside, if it was.
        life: of an extra that was started.
    """

    name: str
    plugin: str
    part: Any
    given: Contributions = msgspec.field(default_factory=Contributions)
    foreign: bool = True
    extra: bool = False
    failed: FluvialError | None = None
    life: Life | None = None


class Parts:
    """See the module's docstring.

    Args:
        guard: calls the parts.
        switchboard, observers, directory, extensions, services: receive the contributions.
        log: where failures are reported.
    """

    def __init__(
        self,
        *,
        guard: Guard,
        switchboard: Switchboard,
        observers: Observers,
        directory: NodeDirectory,
        extensions: GivenExtensions,
        services: Services,
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        self._guard = guard
        self._switchboard = switchboard
        self._observers = observers
        self._directory = directory
        self._extensions = extensions
        self._services = services
        self._log = log
        self._installed: list[Installed] = []
        self._leaving: set[Detached[None]] = set()
        self._service_owners = {builtin.service_id: "core" for builtin in BUILTINS}

    def __iter__(self) -> Iterator[Installed]:
        """The parts that are not set aside, in the order of building."""
        return iter([one for one in self._installed if one.failed is None])

    def install(self, installed: Installed) -> None:
        """Install a part's contributions. Raises PluginError, which names both parts, if another part contributes the same."""
        given, name = installed.given, installed.name
        for service in given.services:
            if (other := self._service_owners.setdefault(service.service_id, name)) != name:
                raise PluginError(f"the service {service.service_id!r} is given by {other} and by {name}")
        self._switchboard.connect(given.answers, owner=name, plugin=installed.plugin, foreign=installed.foreign)
        if given.capabilities is not None:
            self._directory.declare(name, installed.plugin, given.capabilities)
        self._extensions.add(name, given.extensions)
        self._installed.append(installed)

    def add(self, name: str, part: Part) -> Installed:
        """Install one of core's own rooms."""
        installed = Installed(name, "core", part, part.contributions(), foreign=False)
        self.install(installed)
        return installed

    def missing(self, name: str, plugin: str, error: FluvialError) -> None:
        """Record an extra that could not be built."""
        installed = Installed(name, plugin, None, extra=True)
        self._installed.append(installed)
        self.set_aside(installed, error)

    # --- life

    @asynccontextmanager
    async def living(
        self, installed: Installed, run: PartRun | None = None, *, start_s: float = START_S
    ) -> AsyncIterator[None]:
        """Run a part while the block runs.

        Args:
            installed: the part.
            run: its work, if its ``run`` takes more arguments than that of other parts.
            start_s: how long it may take to start, in seconds.

        Raises:
            FluvialError: as the part raised it; this cancels the block.
        """
        life = started(
            f"{installed.name} ({installed.plugin})",
            run or installed.part.run,
            log=self._log,
            start_s=start_s,
            close=lambda: self._close(installed),
            blame=self._blame(installed),
        )
        async with life:
            self._open(installed)
            yield

    @asynccontextmanager
    async def extras(self) -> AsyncIterator[None]:
        """Run the extras while the block runs; one that fails is set aside, and the others go on."""
        async with AsyncExitStack() as lives:
            lives.push_async_callback(self._all_left)
            for installed in [one for one in self if one.extra]:
                await lives.enter_async_context(self._extra(installed))
            yield

    @asynccontextmanager
    async def _extra(self, installed: Installed) -> AsyncIterator[None]:
        life = installed.life = Life(
            f"{installed.name} ({installed.plugin})",
            installed.part.run,
            log=self._log,
            on_failed=lambda error: self.set_aside(installed, error),
            may_end=True,
            blame=self._blame(installed),
        )
        try:
            await life.start()
            self._open(installed)
        except FluvialError as error:
            self.set_aside(installed, error)
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await self._close(installed)
                await life.stop()

    def _blame(self, installed: Installed) -> Blame:
        return self._guard.blame(installed.plugin, installed.name)

    def set_aside(self, installed: Installed, error: FluvialError) -> None:
        """Remove an extra and all its contributions; the node goes on."""
        if installed.failed is not None:
            return
        installed.failed = error
        self._log.error("part_set_aside", part=installed.name, plugin=installed.plugin, error=str(error))
        given = installed.given
        self._switchboard.disconnect(given.answers)
        self._directory.withdraw(installed.name)
        self._extensions.withdraw(installed.name)
        for watcher in given.watchers:
            self._observers.remove(watcher)
        leaving = Detached(lambda: self._leave(installed), installed.name)
        self._leaving.add(leaving)
        leaving.on_over(lambda: self._leaving.discard(leaving))
        self._observers.capabilities_changed()

    async def _leave(self, installed: Installed) -> None:
        """The steps of setting an extra aside that take time."""
        for service in installed.given.services:
            if self._services.serves(service):
                try:
                    await self._services.withdraw(service.service_id)
                except FluvialError as error:
                    self._log.error("service_stop_failed", service=service.service_id, error=error.message)
        if installed.life is not None:
            await installed.life.stop()

    async def _all_left(self) -> None:
        """Wait until the extras that were set aside have left, before what they use stops."""
        with anyio.CancelScope(shield=True):
            for leaving in tuple(self._leaving):
                if not await leaving.wait(STOP_S) and not await leaving.end(ENDING_S):
                    self._log.error("part_left_behind", part=leaving.name, error="it was set aside, and does not stop")

    def _open(self, installed: Installed) -> None:
        """A part has started: open its protocols, and let its watchers observe."""
        for watcher in installed.given.watchers:
            self._observers.add(watcher, owner=installed.name, plugin=installed.plugin)
        self._switchboard.open(installed.given.answers)

    async def _close(self, installed: Installed) -> None:
        """A part is going to stop: close its protocols, and wait for its answers in progress."""
        await self._switchboard.close(installed.given.answers)
        for watcher in installed.given.watchers:
            self._observers.remove(watcher)

    # --- health

    def findings(self) -> Iterator[Finding]:
        """The health of the parts."""
        for one in self._installed:
            if (error := one.failed) is not None:
                text = f"it was set aside: {error.message}"
                yield Finding(level="fail", subject=one.name, text=text, hint=error.hint, code=error.code)
            elif (health := one.given.health) is not None:
                yield from self._health(one, health)

    def _health(self, installed: Installed, health: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
        name = installed.name
        failed: Sequence[Finding] = (
            Finding(level="fail", text="its own check failed", hint="the peer's log has the cause"),
        )
        for found in self._guard.ask(installed.plugin, f"{name}.health", lambda: _checked(health()), failed):
            yield found if found.subject else msgspec.structs.replace(found, subject=name)


def _checked(findings: Iterable[Finding]) -> Sequence[Finding]:
    kept = list(islice(findings, FINDINGS_MAX))
    if not all(isinstance(one, Finding) for one in kept):
        raise TypeError("a part's health yields something else than findings")
    return kept
