"""Deploying services on nodes of a test, by scripts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from fluvial.testing.nodes import RunningNode, keys_of
from wasmtime import wat2wasm

WAT: Final = Path(__file__).parents[2] / "conformance" / "fce"
OWNER: Final = keys_of("owner").peer_id


def wasm(name: str) -> bytes:
    return bytes(wat2wasm((WAT / f"{name}.wat").read_text()))


async def ask(by: RunningNode, at: RunningNode, what: str, *arguments: Any) -> Any:
    """What a service of a peer gives, called by another; raises AssertionError with the error's text."""
    service, _, function = what.partition(" ")
    literals = " ".join(f"v{place}" for place in range(len(arguments)))
    script = f'(xor (seq (call "{at.peer_id}" ("{service}" "{function}") [{literals}] x) (call %init_peer_id% ("return" "") [x])) (call %init_peer_id% ("return" "") [%last_error%]))'
    values = {f"v{place}": value for place, value in enumerate(arguments)}
    async with by.run(script, at=at.peer_id, **values) as flow:
        (value,) = await flow.result()
    return value


async def refusal(by: RunningNode, at: RunningNode, what: str, *arguments: Any) -> tuple[int, str]:
    error = await ask(by, at, what, *arguments)
    assert isinstance(error, dict)
    assert "error_code" in error, error
    match = re.match(r".*ret_code is (-?\d+), error message is '(.*)'", error["message"], re.DOTALL)
    assert match is not None, error
    return int(match[1]), match[2]


async def deployed(by: RunningNode, at: RunningNode, alias: str, *modules: str, **more: Any) -> str:
    """The id of a service of modules from the folder of cases, deployed by a peer on another."""
    blobs = [await by.node.blobs.put(wasm(name)) for name in modules]
    body = {"name": alias, "dependencies": [{"/": str(blob)} for blob in blobs], "names": list(modules), **more}
    blueprint = await ask(by, at, "dist add_blueprint", body)
    service = await ask(by, at, "srv create", blueprint)
    assert await ask(by, at, "srv add_alias", alias, service) is None
    return str(service)
