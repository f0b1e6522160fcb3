"""Offers: the named factories of plugins for seats, extras, engines and effectors, and the registry in which a node finds them.

A plugin makes its offers in ``fluvial_register`` (``hooks.py``). The config names the offers that are taken; only those are built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import msgspec

from fluvial.checks import Check
from fluvial.consensus.engine import EngineTraits, MakeEngine
from fluvial.consensus.ordering import OrderingService
from fluvial.effectors import Effector
from fluvial.errors import PluginError
from fluvial.ports import Context
from fluvial.seats import Authorization, Consensus, Execution, Part, Routing, Transport
from fluvial.tables import Tables

_T = TypeVar("_T")
Factory: TypeAlias = Callable[[Context, Any], _T]  # (context, options) -> what sits in the seat


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A candidate, described without building it.

    Attributes:
        kind: a seat's name, ``effector``, ``extra``, ``engine`` or ``ordering``.
        name: how the config names it.
        factory: ``(context, options) -> object of the seat's protocol``; for an effector, its class; for an engine, ``make``.
        options: the msgspec Struct that describes the keys of its config section.
        tables: its tables, if it has any.
        traits: of an engine or an ordering service.
        plugin: entry-point name of the plugin that offers it.
        distribution: ``name version`` of the installed distribution, or the file of a one-file plugin.
    """

    kind: str
    name: str
    factory: Callable[..., Any] = field(repr=False)
    options: type[Any]
    tables: Tables | None = None
    traits: EngineTraits | None = None
    plugin: str
    distribution: str


class Registry:
    """Collects the offers of all plugins; handed to every ``fluvial_register`` hook."""

    def __init__(self) -> None:
        self._offers: dict[tuple[str, str], tuple[Offer, ...]] = {}
        self._checks: dict[tuple[str, str], Check] = {}
        self._plugin = "core"
        self._distribution = "fluvial"

    def offering(self, plugin: str, distribution: str) -> None:
        """Set the plugin that makes the offers that follow; called by the plugin loader before each plugin's turn."""
        self._plugin, self._distribution = plugin, distribution

    def transport(
        self, name: str, factory: Factory[Transport], *, options: type[Any], tables: Tables | None = None
    ) -> None:
        """Offer a transport."""
        self._add("transport", name, factory, options, tables)

    def routing(
        self, name: str, factory: Factory[Routing], *, options: type[Any], tables: Tables | None = None
    ) -> None:
        """Offer a routing."""
        self._add("routing", name, factory, options, tables)

    def authorization(
        self, name: str, factory: Factory[Authorization], *, options: type[Any], tables: Tables | None = None
    ) -> None:
        """Offer an authorization."""
        self._add("authorization", name, factory, options, tables)

    def execution(
        self, name: str, factory: Factory[Execution], *, options: type[Any], tables: Tables | None = None
    ) -> None:
        """Offer an execution."""
        self._add("execution", name, factory, options, tables)

    def consensus(
        self, name: str, factory: Factory[Consensus], *, options: type[Any], tables: Tables | None = None
    ) -> None:
        """Offer a holder of the ledger; for an algorithm alone, see :meth:`engine`."""
        self._add("consensus", name, factory, options, tables)

    def extra(self, name: str, factory: Factory[Part], *, options: type[Any], tables: Tables | None = None) -> None:
        """Offer a part without a seat; ``[extras.NAME]`` in the config switches it on and gives it its options."""
        self._add("extra", name, factory, options, tables)

    def engine(self, name: str, make: MakeEngine, *, options: type[Any], traits: EngineTraits | None = None) -> None:
        """Offer a consensus engine. ``[consensus] kind`` puts it into the seat with core's host around it; it runs in `fluvial lab consensus`, too."""
        self._add("engine", name, make, options, None, traits or EngineTraits())

    def ordering(
        self, name: str, factory: Factory[OrderingService], *, options: type[Any], fault_model: str = "crash"
    ) -> None:
        """Offer an ordering service outside; ``[consensus] kind`` puts core's host over it into the seat."""
        traits = EngineTraits(fault_model=fault_model, certifies_state=False)
        self._add("ordering", name, factory, options, None, traits)

    def effector(self, name: str, effector: type[Effector[Any]]) -> None:
        """Offer an effector; ``[effectors.NAME]`` in the config switches it on and gives it its options."""
        self._add("effector", name, effector, effector.config_type(), None)

    def check(self, name: str, check: Check) -> None:
        """Offer a check for ``fluvial doctor``; called without a node, see :mod:`fluvial.checks`. Names are the plugin's own.

        Raises:
            PluginError: the plugin offers two checks of one name.
        """
        if (self._plugin, name) in self._checks:
            raise PluginError(f"the check {name!r} is offered twice by {self._plugin} ({self._distribution})")
        self._checks[self._plugin, name] = check

    def checks(self, plugin: str) -> Mapping[str, Check]:
        """The checks of a plugin by name, in the order in which they were offered."""
        return {name: check for (of, name), check in self._checks.items() if of == plugin}

    def offers(self, kind: str | None = None) -> Sequence[Offer]:
        """All offers, or those of one kind, sorted by kind and name; two of one name stand side by side."""
        return [offer for (of, _), same in sorted(self._offers.items()) if kind in (None, of) for offer in same]

    def get(self, kind: str, name: str) -> Offer | None:
        """The only offer of a name, or None.

        Raises:
            PluginError: two plugins offer the name. Neither wins, whatever the order in which they were loaded.
        """
        same = self._offers.get((kind, name), ())
        if len(same) > 1:
            raise PluginError(
                f"{kind} {name!r} is offered by {' and by '.join(f'{one.plugin} ({one.distribution})' for one in same)}",
                hint="uninstall all but one of them or add their names to `disabled` in [plugins]",
            )
        return same[0] if same else None

    def withdraw(self, plugin: str) -> None:
        """Forget the offers of a plugin that failed while it was making them."""
        kept = {key: tuple(one for one in same if one.plugin != plugin) for key, same in self._offers.items()}
        self._offers = {key: same for key, same in kept.items() if same}
        self._checks = {key: check for key, check in self._checks.items() if key[0] != plugin}

    def _add(
        self,
        kind: str,
        name: str,
        factory: Callable[..., Any],
        options: type[Any],
        tables: Tables | None,
        traits: EngineTraits | None = None,
    ) -> None:
        if not (isinstance(options, type) and issubclass(options, msgspec.Struct)):
            raise PluginError(f"the options of {kind} {name!r} are {options!r}, which is no msgspec.Struct")
        same = self._offers.get((kind, name), ())
        if any(one.plugin == self._plugin for one in same):
            raise PluginError(f"{kind} {name!r} is offered twice by {self._plugin} ({self._distribution})")
        offer = Offer(
            kind=kind,
            name=name,
            factory=factory,
            options=options,
            tables=tables,
            traits=traits,
            plugin=self._plugin,
            distribution=self._distribution,
        )
        self._offers[kind, name] = (*same, offer)
