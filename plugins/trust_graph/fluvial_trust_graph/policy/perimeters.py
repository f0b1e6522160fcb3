"""Perimeters: named sets of peers, services and flows within which input is trusted as much as a direct request of the user.

Where they come from is behind :class:`Perimeters`: the settings, a file, and the ledger (``on_ledger.py``).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Annotated, Any, Final, Protocol

import msgspec
from fluvial.errors import ConfigError
from fluvial.identity import PeerId
from msgspec import Meta

from fluvial_trust_graph.graph import EXPONENT_MAX
from fluvial_trust_graph.policy.passing import PASSING_SERVICES, hands_on
from fluvial_trust_graph.statements import check_scope

SCRIPT_HASH_BYTES: Final = 32
LEDGER_ID_BYTES: Final = 32
PERIMETERS_MAX: Final = 1_000
FILE_BYTES_MAX: Final = 4_194_304


class PerimeterTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A perimeter as people write it: ``[authorization.perimeters.NAME]``, or ``[NAME]`` in the file of perimeters."""

    peers: Annotated[tuple[str, ...], Meta(description="peers whose services are inside")] = ()
    services: Annotated[
        tuple[str, ...],
        Meta(
            description="services on those peers that are inside; one that hands on whatever it gets, such as op, is refused"
        ),
    ] = ()
    ledger: Annotated[
        str,
        Meta(
            description="a perimeter of the ledger, as `fluvial consensus submit perimeter` names it: its members are members, in place of peers and services"
        ),
    ] = ""
    scripts: Annotated[
        tuple[str, ...], Meta(description="flows that are members: SHA-256 of their scripts, in hexadecimal")
    ] = ()
    authors: Annotated[tuple[str, ...], Meta(description="members: peers whose flows are members")] = ()
    keys: Annotated[
        dict[str, Annotated[int, Meta(ge=1, le=EXPONENT_MAX)]],
        Meta(
            description="issuers of certificates for the scope perimeter:NAME, with the links that their chains may have; holders are members"
        ),
    ] = {}


class Perimeter(msgspec.Struct, frozen=True, kw_only=True):
    """A perimeter, checked.

    Args:
        name: what rules call it.
        peers: on which its services are.
        services: its services, on these peers alone.
        scripts: hashes of scripts whose flows are members.
        authors: whose flows are members.
        keys: who certifies further members, with the greatest number of links.
        ledger: the id of the perimeter of the ledger that says who belongs to it; empty if none does.
        pairs: (peer, service) that are inside besides.
        origin: where the members come from, for explanations.
    """

    name: str
    peers: frozenset[str] = frozenset()
    services: frozenset[str] = frozenset()
    scripts: frozenset[bytes] = frozenset()
    authors: frozenset[str] = frozenset()
    keys: Mapping[PeerId, int] = msgspec.field(default_factory=dict)
    ledger: bytes = b""
    pairs: frozenset[tuple[str, str]] = frozenset()
    origin: str = ""

    @property
    def scope(self) -> str:
        """What a certificate of a member must be good for."""
        return f"perimeter:{self.name}"

    def made(self, peer: str, service: str, function: str) -> bool:
        """Whether a result was made inside: on a peer and by a service of the perimeter, and not only handed on."""
        inside = (peer in self.peers and service in self.services) or (peer, service) in self.pairs
        return inside and not hands_on(service, function)


class Perimeters(Protocol):
    """Knows perimeters; quick, and never raises."""

    @property
    def version(self) -> int:
        """Grows whenever an answer may have changed."""
        ...

    def get(self, name: str) -> Perimeter | None:
        """The perimeter of a name, as it is now; None if there is none."""
        ...

    def names(self) -> frozenset[str]:
        """All names."""
        ...


class ListedPerimeters:
    """Perimeters that somebody has listed; the list can be replaced.

    Args:
        perimeters: by name.
    """

    def __init__(self, perimeters: Mapping[str, Perimeter]) -> None:
        self._perimeters = dict(perimeters)
        self._version = 0

    @property
    def version(self) -> int:
        """As :attr:`Perimeters.version`."""
        return self._version

    def get(self, name: str) -> Perimeter | None:
        """As :meth:`Perimeters.get`."""
        return self._perimeters.get(name)

    def names(self) -> frozenset[str]:
        """As :meth:`Perimeters.names`."""
        return frozenset(self._perimeters)

    def replace(self, perimeters: Mapping[str, Perimeter]) -> None:
        """Put a new list in place of the old one."""
        self._perimeters = dict(perimeters)
        self._version += 1


def checked(name: str, table: PerimeterTable) -> Perimeter:
    """A perimeter of what people wrote.

    Raises:
        ValueError: a name, peer id or hash in it is none, or a service hands on what it gets; the message says which.
    """
    check_scope(f"perimeter:{name}")
    for peer in (*table.peers, *table.authors, *table.keys):
        PeerId.parse(peer)
    if "*" in table.services:
        raise ValueError(
            f"perimeter {name}: name each service that is inside; `*` would let in those that hand on what they get"
        )
    if table.ledger and (table.peers or table.services):
        raise ValueError(f"perimeter {name}: the ledger says which peers and services are inside; take them out here")
    if passing := sorted(PASSING_SERVICES.intersection(table.services)):
        raise ValueError(
            f"perimeter {name}: `{passing[0]}` cannot be inside: it hands on what it gets from anybody, so that anything would count as made inside"
        )
    return Perimeter(
        name=name,
        ledger=_ledger_id(table.ledger),
        peers=frozenset(table.peers),
        services=frozenset(table.services),
        scripts=frozenset(map(_script, table.scripts)),
        authors=frozenset(table.authors),
        keys={PeerId.parse(peer): links for peer, links in table.keys.items()},
    )


def _ledger_id(text: str) -> bytes:
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b"?"
    if len(found) not in (0, LEDGER_ID_BYTES):
        raise ValueError(f"{text[:80]!r} is no perimeter of a ledger: it has 64 hexadecimal digits")
    return found


def _script(text: str) -> bytes:
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != SCRIPT_HASH_BYTES:
        raise ValueError(f"{text[:80]!r} is no SHA-256 of a script: it has 64 hexadecimal digits")
    return found


def read_perimeters(data: bytes, *, where: str) -> Mapping[str, Perimeter]:
    """The perimeters in a file: TOML, one table for each.

    Args:
        data: the file's bytes.
        where: its name, for errors.

    Raises:
        ConfigError: it is no such file.
    """
    if len(data) > FILE_BYTES_MAX:
        raise ConfigError(f"{where}: a file of perimeters has at most {FILE_BYTES_MAX:,} bytes")
    try:
        tables: dict[str, Any] = tomllib.loads(data.decode())
        if len(tables) > PERIMETERS_MAX:
            raise ValueError(f"there are more than {PERIMETERS_MAX} perimeters")
        return {name: _read(name, table) for name, table in tables.items()}
    except ValueError as error:
        raise ConfigError(f"{where}: {error}", hint="docs/trust.md, Perimeters, shows one") from error


def _read(name: str, table: Any) -> Perimeter:
    try:
        return checked(name, msgspec.convert(table, PerimeterTable))
    except msgspec.ValidationError as error:
        raise ValueError(f"perimeter {name}: {error}") from error
