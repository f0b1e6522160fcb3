"""Links the modules of a service: who meets which import. Pure.

The rule, for each import of each module:

1. the nearest module *before* it that exports the interface; so a module may wrap another one and export the same interface again;
2. else the first module *after* it that exports it;
3. else a host interface that is granted;
4. else WASI, if the service may use it.

An interface is met by one of exactly its name, version included, or by the greatest compatible version that is at least as new: the same
major version, or for ``0.x`` the same minor version. Then every function of the import must be there with equal types: names of parameters,
of fields and of cases, their order, and all types within. What an interface offers beyond the import does not matter.

Deviation: the reference links in the order of the configuration, earlier modules only, and without a look at versions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from fluvial_fce_wasm.failures import FailureKind, GuestError
from fluvial_fce_wasm.wit.printing import TypeNames, function_text
from fluvial_fce_wasm.wit.types import ModuleShape, WitFunction, WitInterface, WitItem, WitOpaque, is_callable

MODULES_MAX: Final = 12
"""Modules of one service. Each can have half a megabyte of stack at the same time, on a thread of eight."""
WASI: Final = "wasi:"
NEVER: Final = ("wasi:http/", "wasi:sockets/")
"""Not given to any module: effects on the network are an effector's business. Sockets exist, and every use is denied."""


class LinkedImport(msgspec.Struct, frozen=True):
    """How one import is met.

    Attributes:
        name: of the import.
        source: ``module``, ``host`` or ``wasi``.
        provider: the place of the module that meets it; -1 for the host and WASI.
        export: what it is called there.
    """

    name: str
    source: str
    provider: int = -1
    export: str = ""


class LinkPlan(msgspec.Struct, frozen=True):
    """How the modules of a service are linked.

    Attributes:
        order: places of the modules, providers first.
        imports: of each module, by its place.
    """

    order: tuple[int, ...]
    imports: tuple[tuple[LinkedImport, ...], ...]

    def uses(self, source: str) -> frozenset[str]:
        """The names of imports that are met by ``host`` or ``wasi``, as they are called there."""
        return frozenset(one.export for module in self.imports for one in module if one.source == source)


def link(
    modules: Sequence[tuple[str, ModuleShape]],
    *,
    host: Sequence[Mapping[str, WitInterface]] = (),
    wasi: bool = False,
    hint: str = "",
) -> LinkPlan:
    """The plan of a service.

    Args:
        modules: names, for people, and shapes, in the order of the blueprint; the last one is the facade.
        host: the interfaces that the host gives each module; none by default.
        wasi: whether the service may use WASI.
        hint: what to say of imports that nobody meets.

    Raises:
        GuestError: of the kind ``link``; it names module and import.
    """
    if not 1 <= len(modules) <= MODULES_MAX:
        raise GuestError(FailureKind.LINK, f"a service has 1 to {MODULES_MAX} modules, not {len(modules)}")
    imports = tuple(
        tuple(
            _met(modules, place, name, item, host=host[place] if host else {}, wasi=wasi, hint=hint)
            for name, item in shape.imports.items()
        )
        for place, (_, shape) in enumerate(modules)
    )
    return LinkPlan(_order([name for name, _ in modules], imports), imports)


def _met(
    modules: Sequence[tuple[str, ModuleShape]],
    place: int,
    name: str,
    item: WitItem,
    *,
    host: Mapping[str, WitInterface],
    wasi: bool,
    hint: str,
) -> LinkedImport:
    where = f"module {modules[place][0]!r}: import {name!r}"
    others = [*range(place - 1, -1, -1), *range(place + 1, len(modules))]
    for other in others:
        shape = modules[other][1]
        if (export := best(name, shape.exports)) is not None:
            check(item, shape.exports[export], f"{where}, met by module {modules[other][0]!r}")
            return LinkedImport(name, "module", other, export)
    if (export := best(name, host)) is not None:
        check(item, host[export], f"{where}, met by the host")
        return LinkedImport(name, "host", -1, export)
    if isinstance(item, WitInterface) and not item.functions and not item.resources:
        return LinkedImport(name, "types", -1, name)  # types alone need nobody
    if name.startswith(WASI) and wasi and not name.startswith(NEVER[0]):
        return LinkedImport(name, "wasi", -1, name)
    if best(name, modules[place][1].exports) is not None:
        raise GuestError(FailureKind.LINK, f"{where} is exported by this module alone, so the modules form a cycle")
    reason = "is not there: no module exports it"
    if name.startswith(WASI):
        reason += ", and this service may not use " + ("WASI" if not wasi else "that part of WASI")
    raise GuestError(FailureKind.LINK, f"{where} {reason}{hint and f'; {hint}'}")


def best(name: str, offered: Mapping[str, object]) -> str | None:
    """The name among those offered that meets an import, or None."""
    if name in offered:
        return name
    base, wanted = _split(name)
    if wanted is None:
        return None
    fitting = [
        (version, other)
        for other in offered
        for other_base, version in (_split(other),)
        if other_base == base and version is not None and version >= wanted and _track(version) == _track(wanted)
    ]
    return max(fitting)[1] if fitting else None


def _split(name: str) -> tuple[str, tuple[int, ...] | None]:
    base, at, version = name.partition("@")
    parts = version.split(".")
    if not at or len(parts) != 3 or not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in parts):
        return name, None  # without a version, or with a pre-release, which only meets itself
    return base, tuple(map(int, parts))


def _track(version: tuple[int, ...]) -> tuple[int, ...]:
    major, minor, patch = version
    return (major,) if major else (0, minor) if minor else (0, 0, patch)


def check(wanted: WitItem, given: WitItem, where: str) -> None:
    """Compare an import with what shall meet it.

    Raises:
        GuestError: of the kind ``link``: something is missing, or has another type.
    """
    match wanted, given:
        case WitInterface(), WitInterface():
            if wanted.resources:
                raise GuestError(
                    FailureKind.LINK,
                    f"{where}: the resource {wanted.resources[0]!r} cannot be handed from module to module",
                )
            for name, function in wanted.functions.items():
                if name not in given.functions:
                    raise GuestError(FailureKind.LINK, f"{where}: there is no function {name!r}")
                _same(function, given.functions[name], f"{where}: function {name!r}", wanted, given)
        case WitFunction(), WitFunction():
            _same(wanted, given, where, WitInterface(), WitInterface())
        case WitOpaque(text), _:
            raise GuestError(FailureKind.LINK, f"{where}: a {text} cannot be handed from module to module")
        case _:
            raise GuestError(FailureKind.LINK, f"{where}: one is an interface, the other is not")


def _same(
    wanted: WitFunction, given: WitFunction, where: str, importing: WitInterface, exporting: WitInterface
) -> None:
    if wanted != given:
        here = function_text(wanted, TypeNames(importing.types))
        there = function_text(given, TypeNames(exporting.types))
        if here == there:  # types of one name that differ inside
            here, there = function_text(wanted), function_text(given)
        raise GuestError(FailureKind.LINK, f"{where} has another type: {here} is imported, {there} is there")
    if not is_callable(wanted):
        raise GuestError(FailureKind.LINK, f"{where} has parts that cannot be handed from module to module")


def _order(names: Sequence[str], imports: Sequence[Sequence[LinkedImport]]) -> tuple[int, ...]:
    """Providers first, by depth-first search; an edge back to what is being visited is a cycle."""
    order: list[int] = []
    state: dict[int, bool] = {}  # False while it is being visited

    def visit(place: int, path: list[int]) -> None:
        if state.get(place):
            return
        if place in state:
            cycle = [*path[path.index(place) :], place]
            raise GuestError(FailureKind.LINK, f"the modules form a cycle: {' -> '.join(names[one] for one in cycle)}")
        state[place] = False
        for one in imports[place]:
            if one.source == "module":
                visit(one.provider, [*path, place])
        state[place] = True
        order.append(place)

    for place in range(len(names)):
        visit(place, [])
    return tuple(order)
