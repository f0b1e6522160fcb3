"""The services of a peer as one part: built-in ones, those contributed by parts, effectors and native ones. All start before the first particle."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import msgspec
from anyio.abc import TaskStatus

from fluvial.effectors import Effector
from fluvial.errors import FluvialError
from fluvial.seats import Contributions, Part
from fluvial.services.accounts import Kind
from fluvial.services.builtin import PING
from fluvial.services.dispatcher import Services


class ServiceOffer(msgspec.Struct, frozen=True, kw_only=True):
    """A service that is going to be started.

    Attributes:
        effector: the object that answers.
        kind: its kind in the metrics.
        owner: the plugin whose code it is, for log and metrics; its class by default.
        on_failed: called if it cannot be started; None if the peer must not run without it.
        wanted: whether it is still wanted; not if its part was set aside meanwhile.
    """

    effector: Effector[Any]
    kind: Kind
    owner: str = ""
    on_failed: Callable[[FluvialError], None] | None = None
    wanted: Callable[[], bool] = lambda: True


class ServiceRoom(Part):
    """See the module's docstring.

    Args:
        services: the dispatcher.
        builtin: starts the built-in services, before all others, so that no other service can take their names.
        offers: the other services, in the order in which they are started.
    """

    def __init__(
        self, services: Services, *, builtin: Callable[[], Awaitable[None]], offers: Sequence[ServiceOffer]
    ) -> None:
        self._services = services
        self._builtin = builtin
        self._offers = offers

    def contributions(self) -> Contributions:
        """Answers pings."""
        return Contributions(answers=(PING,))

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Start all services, and stop them at the end, the last one first.

        Raises:
            FluvialError: a service without ``on_failed`` could not be started.
        """
        async with self._services:
            await self._builtin()
            for offer in self._offers:
                if offer.wanted():
                    await self._start(offer)
            task_status.started()
            await anyio.sleep_forever()

    async def _start(self, offer: ServiceOffer) -> None:
        try:
            await self._services.serve(offer.effector, kind=offer.kind, plugin=offer.owner)
            if not offer.wanted():
                await self._services.withdraw(offer.effector.service_id)
        except FluvialError as error:
            if offer.on_failed is None:
                raise
            offer.on_failed(error)
