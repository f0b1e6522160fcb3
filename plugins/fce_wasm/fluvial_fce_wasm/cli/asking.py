"""What the commands share: a connected client that acts for the owner of the peer or with a key of its own, and calls of services."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from fluvial.commands import Invocation, reach
from fluvial.errors import ServiceError

if TYPE_CHECKING:
    from fluvial.client import Client

T = TypeVar("T")

TTL_S: Final = 120.0
"""Modules are fetched and compiled meanwhile; particles live no longer by default."""


def with_client(
    invocation: Invocation,
    work: Callable[[Client], Awaitable[T]],
    *,
    relay: str | None,
    network: str | None,
    key_file: Path | None,
) -> T:
    """What ``work`` gives.

    Without ``--relay`` and ``--key`` the client acts for the peer of the settings at hand, with the key that this peer has made for that.

    Raises:
        FluvialError: the peer cannot be reached, or the work failed.
    """
    import anyio
    from fluvial.errors import root_cause

    if key_file is None and relay is None:
        key_file = _operator_key(invocation)
    way = reach(invocation, relay=relay, network=network, key_file=key_file)

    async def connected() -> T:
        try:
            async with way.connect() as client:
                return await work(client)
        except BaseExceptionGroup as group:
            raise root_cause(group) from None

    return anyio.run(connected)


def _operator_key(invocation: Invocation) -> Path | None:
    from fluvial_fce_wasm.seat.options import OPERATOR_KEY, WasmOptions

    if invocation.config is None and not Path("fluvial.toml").exists():
        return None
    settings = invocation.configuration().settings
    options = settings.seats["execution"].options
    if not isinstance(options, WasmOptions):
        return None
    path = settings.base_dir / options.folder / OPERATOR_KEY
    return path if path.exists() else None


async def ask(client: Client, service: str, function: str, *arguments: Any, peer: str = "") -> Any:
    """What a service of the relay, or of another peer, gives; raises ServiceError."""
    values = {f"argument_{place}": value for place, value in enumerate(arguments)}
    script = (
        f'(xor (seq (call "{peer or client.relay_id}" ("{service}" "{function}") [{" ".join(values)}] result)'
        ' (call %init_peer_id% ("return" "result") [result]))'
        ' (call %init_peer_id% ("return" "error") [:error:]))'
    )
    async with client.run(script, ttl_s=TTL_S, until=("return",), **values) as flow:
        ending = await flow.ending()
    (answer,) = ending.arguments
    if ending.function == "error":
        raise ServiceError(int(answer["error_code"]), str(answer["message"]))
    return answer
