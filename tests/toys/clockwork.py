"""Extra ``clockwork``: beats for its neighbours, counts their beats, and lends its clock to what is uploaded."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import anyio
import msgspec
from anyio.abc import TaskStatus
from fluvial import hookimpl
from fluvial.effectors import Effector, NoConfig, function
from fluvial.errors import FluvialError
from fluvial.findings import Finding
from fluvial.identity import PeerId
from fluvial.offers import Registry
from fluvial.ports import Capability, Context
from fluvial.seats import Answer, Contributions, Part

from tests.toys.host import HostFunctions

PROTOCOL = "/clockwork/1"
GOODBYE = b"goodbye"


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    period_s: Annotated[float, msgspec.Meta(gt=0, description="seconds between two beats")] = 1.0


class Beats(Effector[NoConfig]):
    """How the neighbours' clocks go."""

    service_id = "clockwork"

    def __init__(self, part: Clockwork) -> None:
        super().__init__()
        self._part = part

    @function(inline=True)
    def heard(self, peer: PeerId) -> int:
        """The beats of a peer that were heard here."""
        return self._part.heard[peer]


class Clockwork(Part):
    def __init__(self, context: Context, options: Options) -> None:
        self._context = context
        self._period_s = options.period_s
        self.heard: Counter[PeerId] = Counter()
        self.gone: list[PeerId] = []

    def contributions(self) -> Contributions:
        clock = HostFunctions("clock", {"now": self._context.clock.now_ms})
        return Contributions(
            answers=(Answer(protocol=PROTOCOL, by=self._hear, bytes_max=16),),
            services=(Beats(self),),
            capabilities=lambda: [Capability("topic", "clockwork")],
            health=lambda: [Finding(level="ok", text=f"{len(self.heard)} neighbours beat")],
            extensions=(clock,),
        )

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        task_status.started()
        try:
            while True:
                await anyio.sleep(self._period_s * self._context.rng.uniform(0.9, 1.1))
                await self._tell(b"beat")
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(1):
                await self._tell(GOODBYE)  # all that it needs still works

    async def _tell(self, what: bytes) -> None:
        for peer in sorted(self._context.peers.connected()):
            try:
                await self._context.peers.send(peer, PROTOCOL, what)
            except FluvialError as error:
                self._context.log.debug("beat_failed", other=peer, error=str(error))

    async def _hear(self, sender: PeerId, payload: bytes) -> bytes:
        self.heard[sender] += 1
        if payload == GOODBYE:
            self._context.log.info("neighbour_said_goodbye", other=sender)
        return b""


@hookimpl
def fluvial_register(registry: Registry) -> None:
    registry.extra("clockwork", Clockwork, options=Options)
