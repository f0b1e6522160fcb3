"""Settings of the execution ``wasm``."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from fluvial.blob_id import BlobId
from fluvial.identity import PeerId
from msgspec import Meta

from fluvial_fce_wasm.limits import GuestLimits

OPERATOR_KEY: Final = "operator.key"
"""The key in the seat's folder with which commands act for the owner of the peer: a peer has no connection with itself."""


class EffectorGrant(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[[execution.grants]]``: an effector for some modules, with its settings."""

    effector: Annotated[str, Meta(description="name of the effector")]
    modules: Annotated[tuple[str, ...], Meta(description="ids of modules that may import it")] = ()
    blueprints: Annotated[tuple[str, ...], Meta(description="ids of blueprints whose modules may import it")] = ()
    owners: Annotated[tuple[str, ...], Meta(description="peers whose services may import it")] = ()
    settings: Annotated[dict[str, Any], Meta(description="of the effector, for these")] = {}

    def __post_init__(self) -> None:
        """Refuse what is no id."""
        for text in (*self.modules, *self.blueprints):
            BlobId.parse(text)
        for text in self.owners:
            PeerId.parse(text)

    def covers(self, *, module: str, blueprint: str, owner: str) -> bool:
        """Whether it is given to a module of a service."""
        return module in self.modules or blueprint in self.blueprints or owner in self.owners


class WasmOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[execution]`` with ``kind = "wasm"``."""

    services: Annotated[
        tuple[str, ...],
        Meta(description='Python services to run beside, "module:Class", as with the kind "native"'),
    ] = ()
    deployers: Annotated[
        tuple[str, ...], Meta(description="peers that may deploy services here, next to this peer itself")
    ] = ()
    grants: Annotated[tuple[EffectorGrant, ...], Meta(description="who may import which effector")] = ()
    limits: Annotated[
        GuestLimits, Meta(description="of a service that asks for nothing, and the most that one gets")
    ] = GuestLimits()
    folder: Annotated[str, Meta(description="folder of compiled code and of the services' files")] = "state/wasm"
    modules_max: Annotated[int, Meta(ge=1, le=1_000_000, description="most modules")] = 1_000
    services_max: Annotated[int, Meta(ge=1, le=1_000_000, description="most services")] = 1_000
    processes_max: Annotated[
        int, Meta(ge=1, le=10_000, description="most processes of services; who was idle longest makes room")
    ] = 16

    compose: Annotated[
        bool,
        Meta(
            description="make one component of the modules of a service, with wasm-tools; else they are linked in the process"
        ),
    ] = False
    vault_bytes_max: Annotated[
        int, Meta(ge=0, le=2**40, description="bytes of the files that one particle may have here")
    ] = 16 * 1_048_576
    vaults_bytes_max: Annotated[
        int,
        Meta(
            ge=0,
            le=2**44,
            description="bytes of all particles' files; a quarter of it for those of one initiator, and for what one peer brings no more than it leaves free",
        ),
    ] = 256 * 1_048_576

    def __post_init__(self) -> None:
        """Refuse what is no peer id."""
        for text in self.deployers:
            PeerId.parse(text)
