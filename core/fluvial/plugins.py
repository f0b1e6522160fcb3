"""Finds the installed plugins, loads each of them alone, and selects offers by name.

A plugin is an entry point of group ``fluvial`` in an installed distribution, or one ``*.py`` file in the folder that
``[plugins] path`` names. Loading goes in two rounds, both in the order of the names:

1. Every plugin that is not disabled is imported and its hooks are checked against the specifications of ``hooks.py``.
2. Its ``fluvial_register`` makes its offers.

Whatever goes wrong for one plugin in either round makes that plugin *failed*, with the error kept and its offers withdrawn; the
others do not notice. The order of loading never decides anything: if two plugins offer one name, both stay loaded and neither gets
the seat (selecting the name is an error that names both), and if two distributions use one entry-point name, neither is loaded.

Nothing here is global: each call of :func:`load_plugins` makes a plugin manager and a registry of its own.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import inspect
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

import msgspec
import pluggy

from fluvial import hooks
from fluvial.errors import PluginError
from fluvial.faults import describe
from fluvial.hooks import GROUP
from fluvial.offers import Offer, Registry
from fluvial.suggestions import did_you_mean

PluginState: TypeAlias = Literal["loaded", "failed", "disabled"]

REGISTER_HOOK: Final = "fluvial_register"
_PROJECT: Final = "fluvial"


class PluginRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The result of finding and loading one plugin.

    Attributes:
        name: entry-point name, or the name of a one-file plugin's file without ``.py``.
        distribution: name of the installed distribution, or the path of the file.
        version: version of the distribution, or the file's ``__version__``; empty if there is none.
        state: ``loaded``, ``failed`` or ``disabled`` (by the config; it was not imported).
        error: why it failed, in one line.
        offers: what it offers, sorted; empty unless loaded.
    """

    name: str
    distribution: str
    version: str
    state: PluginState = "loaded"
    error: str = ""
    offers: tuple[Offer, ...] = ()

    @property
    def origin(self) -> str:
        """Distribution and version in one text."""
        return f"{self.distribution} {self.version}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugins:
    """All plugins of a process after loading; read-only.

    Attributes:
        registry: the offers of the loaded ones.
        records: one per plugin found, sorted by name.
        manager: pluggy's manager with the loaded ones; ``observers.py`` takes the watchers from it.
    """

    registry: Registry
    records: tuple[PluginRecord, ...]
    manager: pluggy.PluginManager = field(repr=False)

    def select(self, kind: str, name: str) -> Offer:
        """The offer that the config names for a seat, or (kind ``effector``) the effector of that name.

        Raises:
            PluginError: no plugin offers it, or more than one does; says what is installed for the seat and what failed.
        """
        if (offer := self.registry.get(kind, name)) is not None:
            return offer
        installed = [f"{one.name} ({one.distribution})" for one in self.registry.offers(kind)]
        hints = [
            did_you_mean(name, [one.name for one in self.registry.offers(kind)]),
            f"installed for {kind}: {', '.join(installed) or 'none'}",
            *(f"failed: {one.name} ({one.origin}): {one.error}" for one in self.failed),
        ]
        if disabled := [one.name for one in self.records if one.state == "disabled"]:
            hints.append(f"disabled: {', '.join(disabled)}")
        raise PluginError(
            f"no loaded plugin offers {kind} {name!r}", hint="\n    ".join(hint for hint in hints if hint)
        )

    @property
    def failed(self) -> tuple[PluginRecord, ...]:
        """The plugins that could not be loaded."""
        return tuple(record for record in self.records if record.state == "failed")

    def offers_of(self, kind: str, name: str) -> tuple[Offer, ...]:
        """All offers of one name; more than one if several plugins claim it."""
        return tuple(offer for offer in self.registry.offers(kind) if offer.name == name)

    def contested(self) -> Sequence[tuple[Offer, ...]]:
        """The names that more than one plugin offers, each with its offers."""
        names = dict.fromkeys((offer.kind, offer.name) for offer in self.registry.offers())
        return [same for same in (self.offers_of(*name) for name in names) if len(same) > 1]

    def require_all(self) -> None:
        """Ensure that every enabled plugin is usable, for ``on_failure = "refuse"``.

        Raises:
            PluginError: a plugin failed, or two offer one name.
        """
        problems = [f"{one.name} ({one.origin}) failed: {one.error}" for one in self.failed]
        problems += [
            f"{same[0].kind} {same[0].name!r} is offered by {' and '.join(one.distribution for one in same)}"
            for same in self.contested()
        ]
        if problems:
            raise PluginError(
                "; ".join(problems),
                hint='mend or disable it, or set on_failure = "quarantine" in [plugins] to run without it',
            )


class _Candidate(msgspec.Struct, frozen=True, kw_only=True):
    record: PluginRecord
    load: Callable[[], object]


def load_plugins(
    *,
    disabled: Collection[str] = (),
    folder: Path | None = None,
    entry_points: Iterable[importlib.metadata.EntryPoint] | None = None,
    given: Mapping[str, object] = MappingProxyType({}),
) -> Plugins:
    """Find and load all plugins.

    Args:
        disabled: names of plugins that must not be imported.
        folder: where one-file plugins lie; None for nowhere. Files whose name begins with ``_`` are left alone.
        entry_points: used instead of those of the installed distributions.
        given: further plugins by name: objects with hooks, or the paths of one-file plugins; for tests and programs that bring their own.

    Raises:
        PluginError: the folder does not exist. A plugin that fails raises nothing: see :attr:`Plugins.records`.
    """
    if entry_points is None:
        entry_points = importlib.metadata.entry_points(group=GROUP)
    files = (_one_file(path) for path in _files(folder))
    found = [*map(_installed, entry_points), *files, *(_given(name, plugin) for name, plugin in given.items())]
    loader = _Loader()
    uses = Counter(candidate.record.name for candidate in found)
    for candidate in sorted(found, key=lambda one: (one.record.name, one.record.distribution)):
        record = candidate.record
        if record.name in disabled:
            loader.records.append(msgspec.structs.replace(record, state="disabled"))
        elif uses[record.name] > 1:
            users = " and ".join(one.record.origin for one in found if one.record.name == record.name)
            loader.records.append(
                msgspec.structs.replace(record, state="failed", error=f"{users} use the same plugin name")
            )
        else:
            loader.admit(candidate)
    return loader.register_all()


def _installed(entry_point: importlib.metadata.EntryPoint) -> _Candidate:
    known = entry_point.dist.metadata if entry_point.dist else None  # parsed each time that it is asked for
    record = PluginRecord(
        name=entry_point.name,
        distribution=known["Name"] if known else entry_point.value,
        version=known["Version"] if known else "",
    )
    return _Candidate(record=record, load=entry_point.load)


def _given(name: str, plugin: object) -> _Candidate:
    if isinstance(plugin, Path):
        of_file = _one_file(plugin)
        return msgspec.structs.replace(of_file, record=msgspec.structs.replace(of_file.record, name=name))
    return _Candidate(
        record=PluginRecord(name=name, distribution=type(plugin).__qualname__, version=""), load=lambda: plugin
    )


def _files(folder: Path | None) -> Sequence[Path]:
    if folder is None:
        return ()
    if not folder.is_dir():
        raise PluginError(
            f"{folder}: there is no such folder", hint="`path` in [plugins] names it; make it or drop `path`"
        )
    return [path for path in folder.glob("*.py") if not path.name.startswith("_")]


def _one_file(path: Path) -> _Candidate:
    return _Candidate(
        record=PluginRecord(name=path.stem, distribution=str(path), version=""), load=lambda: _import_file(path)
    )


def _import_file(path: Path) -> object:
    """The module of a file; loaded once per process, like any import."""
    place = path.resolve()
    name = f"fluvial_file_{path.stem}_{hashlib.sha256(str(place).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, place)
    if spec is None or spec.loader is None:
        raise PluginError(f"{path}: Python cannot import this file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # type hints of its classes are looked up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


class _Loader:
    """The two rounds; holds what has been loaded so far."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.records: list[PluginRecord] = []
        self.manager = pluggy.PluginManager(_PROJECT)
        self.manager.add_hookspecs(hooks)

    def admit(self, candidate: _Candidate) -> None:
        """Round one: import a plugin and check its hooks."""
        record = candidate.record
        try:
            plugin = candidate.load()
            self.manager.register(plugin, record.name)
            check_hooks(self.manager, plugin)
        except KeyboardInterrupt:  # of the operator, as far as can be known
            raise
        except BaseException as error:  # noqa: BLE001 - the plugin boundary: anything may go wrong in there
            self._fail(record, error)
        else:
            version = record.version or str(getattr(plugin, "__version__", ""))
            self.records.append(msgspec.structs.replace(record, version=version))

    def register_all(self) -> Plugins:
        """Round two: let every plugin make its offers."""
        for record in [one for one in self.records if one.state == "loaded"]:
            others = [plugin for name, plugin in self.manager.list_name_plugin() if name != record.name]
            self.registry.offering(record.name, record.origin)
            try:
                self.manager.subset_hook_caller(REGISTER_HOOK, others)(registry=self.registry)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - as above
                self.records.remove(record)
                self._fail(record, error)
        records = [msgspec.structs.replace(record, offers=self._offers(record)) for record in self.records]
        records.sort(key=lambda one: (one.name, one.distribution))
        return Plugins(registry=self.registry, records=tuple(records), manager=self.manager)

    def _offers(self, record: PluginRecord) -> tuple[Offer, ...]:
        return tuple(offer for offer in self.registry.offers() if offer.plugin == record.name)

    def _fail(self, record: PluginRecord, error: BaseException) -> None:
        self.registry.withdraw(record.name)
        if self.manager.has_plugin(record.name):
            self.manager.unregister(name=record.name)
        self.records.append(msgspec.structs.replace(record, state="failed", error=describe(error)))


def check_hooks(manager: pluggy.PluginManager, plugin: object) -> None:
    """Refuse what pluggy would take silently: unknown hooks (its ``check_pending``), coroutines, wrappers, no hook at all.

    Raises:
        PluginError: says which.
    """
    callers = manager.get_hookcallers(plugin) or []
    if not callers:
        raise PluginError("it implements no hook", hint="mark functions with @fluvial.hookimpl; see fluvial.hooks")
    for caller in callers:
        if not caller.has_spec():
            known = [name for name in vars(hooks) if name.startswith(f"{_PROJECT}_")]
            raise PluginError(f"there is no hook {caller.name!r}", hint=did_you_mean(caller.name, known))
        for implementation in caller.get_hookimpls():
            if implementation.plugin is not plugin:
                continue
            if inspect.iscoroutinefunction(implementation.function):
                raise PluginError(f"{caller.name} is a coroutine function; hooks are synchronous")
            if implementation.wrapper or implementation.hookwrapper:
                raise PluginError(f"{caller.name} is a wrapper; fluvial's hooks are not wrapped by plugins")


def disables_command(disabled: Collection[str], command: str, distribution: str) -> bool:
    """Whether ``[plugins] disabled`` switches a command off.

    It does if it names the command, or all plugins of the command's distribution: whoever disables all that a distribution offers does not
    expect its commands to stay.

    Args:
        disabled: the names in the settings.
        command: entry-point name of the command.
        distribution: name of its distribution.
    """
    if command in disabled:
        return True
    entry_points = importlib.metadata.entry_points(group=GROUP)
    plugins = {one.name for one in entry_points if one.dist is not None and one.dist.name == distribution}
    return bool(plugins) and plugins <= set(disabled)
