"""Services of a peer from a Python program: deployed and called through a connected client.

::

    async with connect(relay, keys=keys) as client:
        made = await deploy(client, Path("notes/service.toml"))
        await ask(client, made["alias"], "add", "a note")
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from fluvial.errors import ConfigError
from fluvial.single_call import SingleCall
from fluvial.strangers import as_expected

from fluvial_fce_wasm.blueprints import blueprint_bytes
from fluvial_fce_wasm.manifest import read_manifest

if TYPE_CHECKING:
    from fluvial.client import Client

TTL_S: Final = 120.0
"""Modules are fetched and compiled meanwhile; particles live no longer by default."""


async def ask(client: Client, service: str, function: str, *arguments: Any, peer: str = "") -> Any:
    """What a service of the relay, or of another peer, gives; raises ServiceError."""
    call = SingleCall(peer or client.relay_id, service, function, arguments)
    async with client.run(call.script, ttl_s=TTL_S, **call.values) as flow:
        ending = await flow.ending()
    return call.result(ending.function, ending.arguments)


async def deploy(client: Client, manifest: Path) -> dict[str, Any]:
    """Offer the modules as blobs, let the peer fetch them, and make or replace the service.

    Raises:
        ConfigError: the manifest is wrong, or a file is missing. ServiceError: the peer refuses. RemoteProtocolError: an answer has
            another shape than it should.
    """
    manifest = manifest / "service.toml" if manifest.is_dir() else manifest  # noqa: ASYNC240 - a command, nobody waits
    about = read_manifest(manifest)
    ids: list[str] = []
    for module in about.module:
        file = (manifest.parent / module.file).absolute()
        if not file.is_file():
            raise ConfigError(
                f"{manifest}: module {module.name!r}: there is no file {file}", hint="`fluvial service build`"
            )
        blob = await client.node.blobs.put(_assembled(file) if file.suffix == ".wat" else file)
        await ask(client, "dist", "add_module", str(blob), module.name)
        ids.append(str(blob))
    body = msgspec.json.decode(blueprint_bytes(about.blueprint(tuple(ids))))
    blueprint = await ask(client, "dist", "add_blueprint", body)
    alias = about.alias or about.name
    there = as_expected(await ask(client, "srv", "resolve_alias_opt", alias), list[str], what="list of services")
    if there:
        service = await ask(client, "srv", "replace", there[0], blueprint)
    else:
        service = await ask(client, "srv", "create", blueprint)
        await ask(client, "srv", "add_alias", alias, service)
    return {"service": service, "alias": alias, "blueprint": blueprint, "modules": ids, "replaced": bool(there)}


def _assembled(file: Path) -> bytes:
    """A component from its text."""
    from wasmtime import WasmtimeError, wat2wasm

    try:
        return bytes(wat2wasm(file.read_bytes()))
    except WasmtimeError as error:
        raise ConfigError(f"{file}: this is no WebAssembly text: {error}") from error
