"""Extra ``neighbours``: peers tell each other a motto when they connect, and scripts can ask for what was told."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Annotated

import anyio
import msgspec
from anyio.abc import TaskStatus
from fluvial import hookimpl
from fluvial.effectors import Effector, NoConfig, function
from fluvial.errors import FluvialError, RemoteProtocolError
from fluvial.findings import Finding
from fluvial.identity import PeerId
from fluvial.offers import Registry
from fluvial.ports import Context
from fluvial.seats import Answer, Contributions, Part

PROTOCOL = "/neighbours/motto/1"
MOTTO_BYTES_MAX = 200
KEPT_MAX = 1_000


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of ``[extras.neighbours]``."""

    motto: Annotated[str, msgspec.Meta(max_length=50, description="what this peer tells its neighbours")]


class Neighbours(Part):
    """Asks every peer that connects for its motto, and answers those who ask."""

    def __init__(self, context: Context, options: Options) -> None:
        self._peers = context.peers
        self._motto = options.motto
        self._arrived: dict[PeerId, None] = {}
        self._woken = anyio.Event()
        self.mottos: OrderedDict[PeerId, str] = OrderedDict()

    def contributions(self) -> Contributions:
        """A protocol, a service, a watcher and a check."""
        return Contributions(
            answers=(Answer(protocol=PROTOCOL, by=self._answer, bytes_max=64, per_sender=1),),
            services=(Mottos(self),),
            watchers=(self,),
            health=self._health,
        )

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Ask whoever has come."""
        task_status.started()
        while True:
            await self._woken.wait()
            self._woken = anyio.Event()
            while self._arrived:
                await self._ask(self._arrived.popitem()[0])

    async def _ask(self, peer: PeerId) -> None:
        try:
            motto = await self._peers.request(peer, PROTOCOL, b"", timeout_s=5)
            text = motto[:MOTTO_BYTES_MAX].decode()
        except (FluvialError, UnicodeDecodeError):
            return  # it does not speak this protocol, or has gone
        self.mottos[peer] = text
        if len(self.mottos) > KEPT_MAX:
            self.mottos.popitem(last=False)

    async def _answer(self, sender: PeerId, payload: bytes) -> bytes:
        if payload:
            raise RemoteProtocolError("a question for a motto is empty")
        return self._motto.encode()

    @hookimpl
    def fluvial_peer_connected(self, peer: PeerId) -> None:
        """Hears of this node only. A hook must not wait, so it leaves a note and wakes the loop."""
        if len(self._arrived) < KEPT_MAX:
            self._arrived[peer] = None
            self._woken.set()

    def _health(self) -> Iterable[Finding]:
        yield Finding(level="ok", text=f"{len(self.mottos)} mottos known")


class Mottos(Effector[NoConfig]):
    """What the neighbours have told."""

    service_id = "mottos"

    def __init__(self, part: Neighbours) -> None:
        super().__init__()
        self._part = part

    @function(inline=True)
    def of(self, peer: PeerId) -> str | None:
        """The motto of a peer; null if it has told none."""
        return self._part.mottos.get(peer)


@hookimpl
def fluvial_register(registry: Registry) -> None:
    """Offer the extra."""
    registry.extra("neighbours", Neighbours, options=Options)
