"""From a document to checked settings: core's sections first, then the plugins, then the sections that these own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from fluvial.addresses import Address, Contact
from fluvial.config.checking import InvalidSettings, Problem, check, unknown_key
from fluvial.config.document import (
    Document,
    KeyPath,
    Origin,
    apply_assignments,
    apply_environment,
    dotted,
    read_file,
)
from fluvial.config.settings import SEAT_DEFAULTS, Choice, CoreSections, PluginsSection, Settings
from fluvial.errors import ConfigError, PluginError
from fluvial.hosting.offering import following, hosted, over_service
from fluvial.hosting.settings import LedgerSection
from fluvial.offers import Offer
from fluvial.particle import NETWORK_CHARACTERS_MAX, is_network
from fluvial.plugins import Plugins, load_plugins
from fluvial.seats import SEATS, SeatName
from fluvial.suggestions import did_you_mean

SWITCHED: Final = {"effectors": "effector", "extras": "extra"}
"""Sections whose tables each switch on the offer of that name, with the kind of those offers."""
_KIND: Final = "kind"


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """Checked settings, the loaded plugins, and the document that the settings come from."""

    settings: Settings
    plugins: Plugins
    document: Document


class EffectiveValue(msgspec.Struct, frozen=True):
    """One effective value: its key path, the value as JSON types, and where it comes from."""

    path: KeyPath
    value: Any
    origin: str

    @property
    def key(self) -> str:
        """The path as people write it."""
        return dotted(self.path)


def read(
    path: Path | None,
    *,
    base_dir: Path | None = None,
    environment: Mapping[str, str] | None = None,
    assignments: Sequence[str] = (),
) -> Document:
    """The document of a file with the overrides applied.

    Args:
        path: the TOML file; None for no file, all values from the overrides and the defaults.
        base_dir: where relative paths start if there is no file; the working directory by default.
        environment: variables; those named ``FLUVIAL_SECTION__KEY`` are overrides.
        assignments: texts ``section.key=value``.

    Raises:
        ConfigError: the file or an override cannot be read.
    """
    if path is None:
        document = Document(name="(no file)", base_dir=(base_dir or Path()).absolute(), values={})
    else:
        document = read_file(path)
    return _overridden(document, environment or {}, assignments)


def from_values(values: Mapping[str, Any], *, base_dir: Path) -> Document:
    """The document of nested tables made by a program."""
    return _overridden(Document(name="(values)", base_dir=base_dir.absolute(), values=dict(values)), {}, ())


def load(document: Document, *, plugins: Plugins | None = None) -> Configuration:
    """Check a document, load the plugins that it asks for, and fill the seats with what it names.

    Args:
        document: the merged values.
        plugins: used instead of loading the installed ones.

    Raises:
        InvalidSettings: with all problems that were found.
        PluginError: ``on_failure = "refuse"`` and a plugin failed.
    """
    problems: list[Problem] = []
    sections = _core_sections(document, problems)
    if sections is not None:
        _check_network(document, sections.network, problems)
        _check_metrics(document, sections.telemetry.metrics_listen, problems)
    relays = _relays(document, problems)
    if plugins is None:
        try:
            plugins = installed_plugins(document)
        except InvalidSettings as error:
            raise InvalidSettings(list(dict.fromkeys([*problems, *error.problems]))) from error
    seats: dict[SeatName, Choice | None] = {
        seat: _choice(document, plugins, seat, (seat,), problems, sections) for seat in SEATS
    }
    switched = {
        section: {
            name: choice
            for name in _names(document, section, problems)
            if (choice := _choice(document, plugins, kind, (section, name), problems)) is not None
        }
        for section, kind in SWITCHED.items()
    }
    if problems or sections is None:
        raise InvalidSettings(problems)
    if sections.plugins.on_failure == "refuse":
        plugins.require_all()
    settings = Settings(
        base_dir=document.base_dir,
        network=sections.network,
        relays=relays,
        event_loop=sections.event_loop,
        identity=sections.identity,
        plugins=sections.plugins,
        particles=sections.particles,
        services=sections.services,
        storage=sections.storage,
        blobs=sections.blobs,
        ledger=sections.ledger,
        telemetry=sections.telemetry,
        seats={seat: choice for seat, choice in seats.items() if choice is not None},
        effectors=switched["effectors"],
        extras=switched["extras"],
    )
    return Configuration(settings=settings, plugins=plugins, document=document)


def plugins_section(document: Document) -> PluginsSection:
    """``[plugins]`` of a document; its other sections may be wrong.

    Raises:
        InvalidSettings: it is unusable.
    """
    problems: list[Problem] = []
    section = check(document, document.values.get("plugins", {}), PluginsSection, at=("plugins",), problems=problems)
    if section is None:
        raise InvalidSettings(problems)
    return section


def installed_plugins(document: Document) -> Plugins:
    """The plugins of this machine, loaded as ``[plugins]`` of a document says; its other sections may be wrong.

    Raises:
        InvalidSettings: ``[plugins]`` is unusable; nothing is imported then, because the disabled plugins are not known.
    """
    section = plugins_section(document)
    folder = document.base_dir / section.path if section.path else None
    try:
        return load_plugins(disabled=section.disabled, folder=folder)
    except PluginError as error:
        raise InvalidSettings([Problem(document.where(("plugins", "path")), error.message, error.hint)]) from error


def entries(configuration: Configuration) -> Iterator[EffectiveValue]:
    """Every effective value in the order of the sections, defaults included."""
    settings = configuration.settings
    core = CoreSections.__struct_fields__
    for name in core:
        value = (
            tuple(str(relay.addresses[0]) for relay in settings.relays) if name == "relays" else getattr(settings, name)
        )
        yield from _flattened(configuration.document, (name,), msgspec.to_builtins(value), "default")
    for seat, choice in settings.seats.items():
        yield from _chosen(configuration.document, (seat,), choice, named=True)
    for section, choices in (("effectors", settings.effectors), ("extras", settings.extras)):
        for name, choice in choices.items():
            yield from _chosen(configuration.document, (section, name), choice, named=False)


def _chosen(document: Document, path: KeyPath, choice: Choice, *, named: bool) -> Iterator[EffectiveValue]:
    if named:
        yield from _flattened(document, (*path, _KIND), choice.kind, "default")
    default = f"default of {choice.offer.distribution}"
    for key, value in msgspec.to_builtins(choice.options).items():
        yield from _flattened(document, (*path, key), value, default)


def _flattened(document: Document, path: KeyPath, value: Any, default: str) -> Iterator[EffectiveValue]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flattened(document, (*path, key), inner, default)
    else:
        origin = document.origin(path)
        yield EffectiveValue(path, value, origin.text if isinstance(origin, Origin) else default)


def _overridden(document: Document, environment: Mapping[str, str], assignments: Sequence[str]) -> Document:
    _expand_seats(document)
    apply_environment(document, environment)
    _expand_seats(document)
    apply_assignments(document, assignments)
    _expand_seats(document)
    return document


def _expand_seats(document: Document) -> None:
    """Write ``routing = "static"`` as ``routing = {kind = "static"}``."""
    for seat in SEATS:
        if isinstance(value := document.values.get(seat), str):
            document.values[seat] = {_KIND: value}


def _core_sections(document: Document, problems: list[Problem]) -> CoreSections | None:
    core = CoreSections.__struct_fields__
    known = (*core, *SEATS, *SWITCHED)
    problems += [unknown_key(document, (key,), known) for key in document.values if key not in known]
    values = {key: value for key, value in document.values.items() if key in core}
    return check(document, values, CoreSections, at=(), problems=problems)


def _check_network(document: Document, name: str, problems: list[Problem]) -> None:
    if not is_network(name):
        what = f"`network`: {name[:80]!r} does not have 1 to {NETWORK_CHARACTERS_MAX} printable ASCII characters"
        problems.append(Problem(document.where(("network",)), what, "choose another name, the same on all its peers"))


def _check_metrics(document: Document, listen: str, problems: list[Problem]) -> None:
    try:
        if listen and not Address.parse(listen).host_kind.startswith("ip"):
            raise ValueError(f"{listen!r} is a name; give an address of this machine")
    except ValueError as error:
        problems.append(Problem(document.where(("telemetry", "metrics_listen")), f"`metrics_listen`: {error}"))


def _relays(document: Document, problems: list[Problem]) -> tuple[Contact, ...]:
    contacts = []
    texts = document.values.get("relays", ())
    for text in texts if isinstance(texts, list | tuple) else ():
        if not isinstance(text, str):
            continue  # the check of the section has reported it
        try:
            contacts.append(Contact.configured(text))
        except ValueError as error:
            problems.append(Problem(document.where(("relays",)), f"`relays`: {error}"))
    return tuple(contacts)


def _choice(
    document: Document,
    plugins: Plugins,
    kind: str,
    at: KeyPath,
    problems: list[Problem],
    sections: CoreSections | None = None,
) -> Choice | None:
    """The offer that a section chooses, with the rest of the section as its options; ``sections`` if it is a seat, and they are right."""
    values: Any = document.values
    for key in at:
        values = values.get(key, {})
    if not isinstance(values, Mapping):
        problems.append(Problem(document.where(at), f"`{dotted(at)}` must be a table or, for a seat, a name"))
        return None
    if kind in SWITCHED.values():
        name, place, options = str(at[-1]), at, dict(values)
    else:
        default = SEAT_DEFAULTS[kind]  # type: ignore[index]  # every other kind is a seat
        name, place = values.get(_KIND, default), (*at, _KIND)
        options = {key: value for key, value in values.items() if key != _KIND}
    if not isinstance(name, str):
        problems.append(Problem(document.where(place), f"`{dotted(place)}` must be a text, not {name!r}"))
        return None
    try:
        offer = _consensus(plugins, name, sections) if kind == "consensus" else plugins.select(kind, name)
    except ConfigError as error:
        problems.append(Problem(document.where(place), error.message, error.hint))
        return None
    except PluginError as error:
        hint = error.hint
        known = [one.name for one in plugins.registry.offers(kind)]
        if kind in SWITCHED.values() and not did_you_mean(name, known):
            hint += f"\n    install the distribution that offers it here, or take [{dotted(at)}] out of the settings (its data stays)"
        problems.append(Problem(document.where(place), error.message, hint))
        return None
    checked = check(document, options, offer.options, at=at, problems=problems, by=offer.distribution)
    return None if checked is None else Choice(offer, checked)


def _consensus(plugins: Plugins, name: str, sections: CoreSections | None) -> Offer:
    """The candidate for the seat of consensus: a holder of the ledger, or an engine or an ordering service with core's host around it.

    Raises:
        PluginError: nobody offers the name. ConfigError: ``[ledger]`` does not fit.
    """
    ledger = LedgerSection() if sections is None else sections.ledger
    key_file = Path((sections or CoreSections()).identity.key_file)
    kind = next((one for one in ("consensus", "engine", "ordering") if plugins.offers_of(one, name)), "consensus")
    if kind != "consensus":
        if sections is not None and not ledger.genesis:
            raise ConfigError(
                f"consensus {name!r} needs a ledger: `genesis` in [ledger] is not set",
                hint="name the file of the ledger; `fluvial testnet init` makes one, with four validators",
            )
        make = hosted if kind == "engine" else over_service
        return make(plugins.select(kind, name), ledger, key_file)
    offer = plugins.select("consensus", name)
    if name != "none" or not ledger.follow:
        return offer
    if not ledger.genesis:
        raise ConfigError(
            "`follow` in [ledger] needs `genesis` in [ledger]", hint="take the file from a peer of the ledger"
        )
    return following(offer, ledger, key_file)


def _names(document: Document, name: str, problems: list[Problem]) -> Sequence[str]:
    section = document.values.get(name, {})
    if isinstance(section, dict):
        return list(section)
    problems.append(Problem(document.where((name,)), f"`{name}` must hold tables: [{name}.NAME]"))
    return ()
