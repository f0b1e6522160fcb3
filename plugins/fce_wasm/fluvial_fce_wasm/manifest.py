"""``service.toml``: one service from its sources to its name on a peer."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from fluvial.errors import ConfigError
from msgspec import Meta

from fluvial_fce_wasm.blueprints import AskedLimits, Blueprint, ModuleLink
from fluvial_fce_wasm.linking import MODULES_MAX

MANIFEST = "service.toml"


class ManifestModule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[[module]]``: a file, and the commands that make it.

    Attributes:
        name: for people, unique in the service.
        file: the component, or its text in a file ``….wat``; relative to the manifest.
        build: commands, each a list of words, run in the folder of the manifest; ``{python}`` stands for the interpreter that runs the command.
        memory_bytes: its part of the service's memory, where it is not divided by need.
    """

    name: Annotated[str, Meta(min_length=1, max_length=128)]
    file: str
    build: tuple[Annotated[tuple[str, ...], Meta(min_length=1)], ...] = ()
    memory_bytes: Annotated[int, Meta(ge=0, le=2**34)] | None = None


class ServiceManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file. The last module is the facade.

    Attributes:
        name: of the service; also its alias on the peer, unless ``alias`` is another.
        module: its modules, in the order of linking.
        alias: by which scripts call it.
        limits, wasi, state, stateless, isolation, policy, price: as in a blueprint.
    """

    name: Annotated[str, Meta(min_length=1, max_length=128)]
    module: Annotated[tuple[ManifestModule, ...], Meta(min_length=1, max_length=MODULES_MAX)]
    alias: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    limits: AskedLimits = AskedLimits()
    wasi: bool = False
    state: bool = False
    stateless: bool = False
    isolation: Literal["auto", "process"] = "auto"
    policy: Any = None
    price: Annotated[int, Meta(ge=0, le=2**62)] = 0

    def blueprint(self, ids: tuple[str, ...]) -> Blueprint:
        """The blueprint of modules that have these ids, in the order of the manifest."""
        return Blueprint(
            name=self.name,
            dependencies=tuple(map(ModuleLink, ids)),
            names=tuple(one.name for one in self.module),
            shares={one.name: one.memory_bytes for one in self.module if one.memory_bytes is not None},
            limits=self.limits,
            wasi=self.wasi,
            state=self.state,
            stateless=self.stateless,
            isolation=self.isolation,
            policy=self.policy,
            price=self.price,
        )


def read_manifest(path: Path) -> ServiceManifest:
    """The manifest in a file, or in the folder's ``service.toml``.

    Raises:
        ConfigError: it cannot be read or is wrong; the message names the key.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        return msgspec.convert(content, ServiceManifest)
    except OSError as error:
        raise ConfigError(
            f"{path}: it cannot be read: {error.strerror}", hint="`fluvial service new NAME` makes a service"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"{path}: {error}") from error
