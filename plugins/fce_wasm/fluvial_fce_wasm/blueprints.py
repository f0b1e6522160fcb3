"""Blueprints: which modules make up a service, in which order, and what it asks for. Pure.

A blueprint's bytes are DAG-JSON, that is canonical JSON (sorted keys, no blanks), in which a module is ``{"/": id}``. Its id is the CID of these bytes.
One that has a name and modules alone has the id that the reference node gives it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from fluvial.blob_id import BlobId
from msgspec import Meta

from fluvial_fce_wasm.linking import MODULES_MAX

BLUEPRINT_BYTES_MAX: Final = 65_536


class ModuleLink(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A module by its id."""

    id: str = msgspec.field(name="/")


class AskedLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Limits that a blueprint asks for; a peer gives at most what its settings allow."""

    call_s: Annotated[float, Meta(gt=0, le=3_600)] | None = None
    memory_bytes: Annotated[int, Meta(ge=65_536, le=2**34)] | None = None
    result_bytes: Annotated[int, Meta(ge=1, le=2**27)] | None = None
    disk_bytes: Annotated[int, Meta(ge=0, le=2**40)] | None = None
    fuel: Annotated[int, Meta(ge=1, le=2**62)] | None = None


class Blueprint(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """What a service is made of.

    Attributes:
        name: for people.
        dependencies: its modules; the last is the facade.
        names: of the modules, for people and errors; their ids by default.
        shares: bytes of memory by module's name, where they are not divided by need.
        limits: that it asks for.
        wasi: whether its modules may use WASI (clocks, random numbers, files of the state directory); then it runs in a process of its own.
        state: whether it has a state directory, which guests see as ``/state``.
        isolation: ``process`` to run in a process of its own in any case.
        policy: what those who call it must be; handed to the peer's authorization.
        price: units of the ledger that each call costs its initiator, who pays the peer by a licence; 0 for nothing.
    """

    name: Annotated[str, Meta(min_length=1, max_length=128)]
    dependencies: Annotated[tuple[ModuleLink, ...], Meta(min_length=1, max_length=MODULES_MAX)]
    names: tuple[Annotated[str, Meta(min_length=1, max_length=128)], ...] = ()
    shares: dict[str, Annotated[int, Meta(ge=0, le=2**34)]] = {}
    limits: AskedLimits = AskedLimits()
    wasi: bool = False
    state: bool = False
    isolation: Literal["auto", "process"] = "auto"
    policy: Any = None
    price: Annotated[int, Meta(ge=0, le=2**62)] = 0

    def __post_init__(self) -> None:
        """Refuse module ids that are none, and names that do not fit.

        Raises:
            ValueError: with what is wrong.
        """
        for one in self.dependencies:
            BlobId.parse(one.id)
        if self.names and (len(self.names) != len(self.dependencies) or len(set(self.names)) != len(self.names)):
            raise ValueError("names: each module needs one of its own")
        if unknown := set(self.shares) - set(self.names):
            raise ValueError(f"shares: there is no module {sorted(unknown)[0]!r}")

    @property
    def modules(self) -> list[tuple[str, BlobId]]:
        """Name and id of each module."""
        ids = [BlobId.parse(one.id) for one in self.dependencies]
        return list(zip(self.names or [str(one) for one in ids], ids, strict=True))


def read_blueprint(data: bytes) -> Blueprint:
    """The blueprint that JSON bytes are.

    Raises:
        ValueError: they are none, or too many.
    """
    if len(data) > BLUEPRINT_BYTES_MAX:
        raise ValueError(f"a blueprint of {len(data):,} bytes; {BLUEPRINT_BYTES_MAX:,} are taken")
    return msgspec.json.decode(data, type=Blueprint)


def blueprint_bytes(blueprint: Blueprint) -> bytes:
    """The canonical bytes of a blueprint."""
    return msgspec.json.encode(blueprint, order="sorted")


def blueprint_id(body: bytes) -> BlobId:
    """The id of a blueprint's bytes: they are at most one chunk."""
    return BlobId.of_leaf(hashlib.sha256(body).digest())


def made_blueprint(name: str, modules: Sequence[str]) -> Blueprint:
    """A blueprint of a name and module ids alone. Raises ValueError for ids that are none, and for more than a service may have."""
    if len(modules) > MODULES_MAX:
        raise ValueError(f"a service has at most {MODULES_MAX} modules, not {len(modules):,}")
    return Blueprint(name=name, dependencies=tuple(ModuleLink(str(one)) for one in modules))
