"""What the commands share: a connected client that acts for the owner of the peer or with a key of its own, and calls of services."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from fluvial.commands import Invocation, reach

if TYPE_CHECKING:
    from fluvial.client import Client

T = TypeVar("T")


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
