"""What the commands share: a connected client that acts for the owner of the peer or with a key of its own, and calls of services."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from fluvial.commands import Invocation, reach

if TYPE_CHECKING:
    from fluvial.client import Client

    from fluvial_fce_wasm.limits import GuestLimits
    from fluvial_fce_wasm.seat.options import WasmOptions

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


def own_limits(invocation: Invocation) -> GuestLimits | None:
    """The limits that the settings at hand give services; None if there are no such settings."""
    options = _options(invocation)
    return None if options is None else options.limits


def _options(invocation: Invocation) -> WasmOptions | None:
    from fluvial_fce_wasm.seat.options import WasmOptions

    if invocation.config is None and not Path("fluvial.toml").exists():
        return None
    options = invocation.configuration().settings.seats["execution"].options
    return options if isinstance(options, WasmOptions) else None


def _operator_key(invocation: Invocation) -> Path | None:
    from fluvial_fce_wasm.seat.options import OPERATOR_KEY

    options = _options(invocation)
    if options is None:
        return None
    path = invocation.configuration().settings.base_dir / options.folder / OPERATOR_KEY
    return path if path.exists() else None
