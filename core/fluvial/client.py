"""A peer without an address of its own: connects to a relay, runs flows, and returns their results.

::

    async with connect("/ip4/127.0.0.1/tcp/7771/p2p/12D3KooW…") as peer:
        async with peer.run(SCRIPT, relay=peer.relay_id, city="Oslo", ttl_s=5) as particle:
            (celsius,) = await particle.result()

Names that a script reads without defining them are taken from the keyword arguments: the script is preceded by calls
``(call %init_peer_id% ("load" NAME) [] NAME)``, which the client answers. A call of service ``return`` on the initiator ends the run with its
arguments as the result; other calls can be named as ends instead (``until=("chat.delivered", "chat.error")``).

Languages above AIR run the same way: ``await client.run(flow, city="Oslo")`` with a :class:`ComposedFlow`.

A peer that cannot go on sends the client a failure notice (``Flow.notices``). This ends nothing by itself: other branches may still give a
result.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

import msgspec
import structlog

from fluvial.addresses import Contact
from fluvial.air.machine.errors import AirError, Uncatchable, service_failure
from fluvial.air.machine.findings import Waits
from fluvial.air.machine.machine import Effects
from fluvial.air.syntax import parse, tree
from fluvial.config import from_values, load
from fluvial.effectors import Call, Effector
from fluvial.errors import Refused, ServiceError, Unreachable
from fluvial.hooks import hookimpl
from fluvial.identity import KeyPair, PeerId
from fluvial.node import Node, running
from fluvial.particle import Particle
from fluvial.particles.notice import Notice, bare_reason, reason_of_refusal
from fluvial.plugins import Plugins
from fluvial.prospects import Prospects
from fluvial.relaying.reaching import reach_one
from fluvial.script_values import LOAD, Wrapping, wrapping_of
from fluvial.services import Handler, Inline, Status
from fluvial.services.builtin import PING_PROTOCOL
from fluvial.storage.opening import IN_MEMORY
from fluvial.story.condensed import STEPS_MAX
from fluvial.story.story import tell
from fluvial.story.wording import cut, duration
from fluvial.strangers import printable
from fluvial.telemetry import make_logger
from fluvial.virtual.threads import in_thread
from fluvial.waiting import Event, later

TTL_S: Final = 30.0
RETURN: Final = "return"
WAITS_SHOWN: Final = 3
NOTICES_SHOWN: Final = 3
NOTICE_COLUMNS_MAX: Final = 500
IN_MEMORY_LIMITS: Final = {"bytes_max": 2**28, "keep_bytes_max": 2**24}
"""Of ``[storage]``, where a client keeps nothing on the disk: whatever anybody sends to it is in its memory."""
_NOTHING: Final = Effects()
_HOW_TO_END: Final = f'a script hands its results back with (call %init_peer_id% ("{RETURN}" "") […])'


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended: the call of the script that ended it."""

    service: str
    function: str
    arguments: tuple[Any, ...]


def _arguments(ending: Ending) -> Any:
    """What a run of plain AIR comes to."""
    return ending.arguments


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRun:
    """A script and all that a run of it needs.

    Attributes:
        script: AIR text.
        values: for names that the script reads and does not define, and for its calls of service ``load``.
        until: calls on this client that end the run.
        answers: who answers the run's other calls on this client, by service id.
        finish: makes the result of the call that ended the run; may raise.
    """

    script: str
    values: Mapping[str, Any] = field(default_factory=dict)
    until: Sequence[str] = (RETURN,)
    answers: Mapping[str, Handler] = field(default_factory=dict)
    finish: Callable[[Ending], Any] = _arguments


class ComposedFlow(Protocol):
    """A flow in a language above AIR."""

    def prepare(self, values: Mapping[str, Any], *, relay: PeerId) -> PreparedRun:
        """The flow as a script, for these arguments and a client behind this relay; raises if the arguments do not fit."""
        ...


class Flow:
    """A particle of this client while it runs; an asynchronous context manager. To await it is to run it and have its result."""

    def __init__(self, node: Node, particle: Particle, run: PreparedRun, wrapping: Wrapping | None = None) -> None:
        self._run = run
        values, until = run.values, run.until
        self._node = node
        self._wrapping = wrapping or Wrapping()
        self._notices: list[Notice] = []
        self._news: Event | None = None
        self._values = values
        self._ends: dict[str, set[str]] = {}
        for end in until:
            service, _, function = end.partition(".")
            self._ends.setdefault(service, set()).add(function)
        self._done = Event()
        self._ending: Ending | None = None
        self._last = _NOTHING
        self._undone: AirError | None = None
        self._waits: Waits = tuple
        self._heard_of: list[Notice] = []
        self._stopped_by: Notice | None = None
        self._prospects: Prospects | None = None
        self.particle: Final = particle

    @property
    def particle_id(self) -> str:
        """The particle's id, for ``fluvial particle show``."""
        return self.particle.id

    @property
    def notices(self) -> Sequence[Notice]:
        """The failure notices of peers that cannot go on because of an error, in the order of their arrival."""
        return tuple(self._notices)

    @property
    def stopped_by(self) -> Notice | None:
        """The notice after which nothing that the run waits for can come any more; None as long as a result is possible."""
        return None if self._stopped_by is None else self._notices[self._heard_of.index(self._stopped_by)]

    async def listen(self) -> AsyncIterator[Notice]:
        """All notices: those that have arrived, then each further one as it arrives; goes on until it is cancelled."""
        told = 0
        while True:
            news = self._news = self._news or Event()
            for notice in self._notices[told:]:
                told += 1
                yield notice
            await news.wait()

    async def __aenter__(self) -> Self:
        answers: dict[str, Handler] = {LOAD: Inline(self._load), **self._run.answers}
        for service in self._ends:
            given = answers.get(service)
            answers[service] = Inline(self._end) if given is None else partial(self._end_or_answer, given)
        self._node.bind(self.particle, answers, self._ran, self._heard)
        try:
            await self._node.submit(self.particle)
        except BaseException:
            self._node.release(self.particle)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._node.release(self.particle)

    def __await__(self) -> Generator[Any, Any, Any]:
        """Run it to its end and give its result; raises as :meth:`ending`, and what the language of the flow raises."""
        return self._whole().__await__()

    async def _whole(self) -> Any:
        async with self:
            return self._run.finish(await self.ending())

    async def result(self) -> Sequence[Any]:
        """The arguments of the call that ended the run; raises as :meth:`ending`."""
        return (await self.ending()).arguments

    async def ending(self) -> Ending:
        """The call that ended the run.

        Raises:
            ServiceError: the script ended here without such a call, perhaps because an error in it was not caught; or a peer has
                reported an error, and nothing that the flow waits for can come any more.
            Refused: the peer that the flow waits for does not take it, and will not take it later either.
            Unreachable: the particle died before such a call was made.
            StorageError: the client's own database failed.
        """
        timer = later(self.particle.header.ttl_ms / 1000, self._done.set)
        try:
            await self._done.wait()
        finally:
            timer.cancel()
        if self._ending is not None:
            return self._ending
        if self._stopped_by is not None:
            raise _error_of(self._stopped_by, len(self._wrapping.before))
        raise self._over() if self._last.finished or self._undone is not None else await self._dead()

    def _over(self) -> ServiceError:
        if (error := self._undone or self._last.error) is not None:
            return ServiceError(error.code, f"the script failed{_place(error)}: {printable(error.message)}")
        why = "; ".join(("the script came to its end without a result", *self._told()))
        return ServiceError(Status.NO_RESULT, f"{why}; {_HOW_TO_END}")

    async def _dead(self) -> Unreachable:
        undelivered, waiting = await self._waited()
        # What stopped it, before who waits because of that; what this peer could not deliver is also a notice of its own.
        why = [*undelivered, *self._told(others_only=bool(undelivered)), *waiting]
        if (error := self._last.error) is not None:
            why.append(f"{error.message}{_place(error)}")
        seconds = self.particle.header.ttl_ms / 1000
        return Unreachable(
            f"particle {self.particle.id} came to no result within {seconds:g} s: {'; '.join(map(printable, why))}",
            hint=f"`fluvial particle show` tells more, on a peer that it has passed; {_HOW_TO_END}",
        )

    async def _waited(self) -> tuple[Sequence[str], Sequence[str]]:
        """Who could not be reached from here, and what the flow waited for, and for how long."""
        stored = await self._node.stored(self.particle)
        if stored is None:  # it was not kept any longer
            return [], [f"{wait.reason} (line {wait.instruction.at.line})" for wait in self._waits()[:WAITS_SHOWN]]
        story = await in_thread(partial(tell, stored, self._node.peer_id, steps_max=STEPS_MAX))
        undelivered = [
            f"{one.peer} could not be reached: {bare_reason(one.peer, one.error)}"
            for one in story.undelivered[:WAITS_SHOWN]
            if one.error
        ]
        texts = []
        for waiting in story.waits[:WAITS_SHOWN]:
            text = f"{waiting.reason} (line {waiting.at.partition(':')[0]})"
            if waiting.since_ms is not None:
                text += f", for {duration(max(self.particle.deadline_ms - waiting.since_ms, 0))}"
            texts.append(text)
        return undelivered, texts

    def _told(self, *, others_only: bool = False) -> Sequence[str]:
        """The notices as harmless texts for people, since strangers wrote them."""
        shown = [one for one in self._notices if not others_only or one.peer_id != self._node.peer_id]
        return [notice_text(notice) for notice in shown[:NOTICES_SHOWN]]

    def _heard(self, notice: Notice) -> None:
        self._heard_of.append(notice)
        if self._prospects is None:
            self._prospects = Prospects(parse(self.particle.script), self._node.peer_id, self._peer_of)
        self._prospects.hear(notice)
        self._notices.append(_in_script(notice, len(self._wrapping.before)))
        self._judge()
        if self._news is not None:
            self._news.set()
            self._news = None

    def _ran(self, effects: Effects, waits: Waits) -> None:
        # An error that undoes the first run, or a run with an answer of a service, undoes all further runs.
        # In any other run only the data of others are refused.
        if isinstance(effects.error, Uncatchable) and (effects.records or self._last is _NOTHING):
            self._undone = effects.error
            self._done.set()
        self._last = effects
        self._waits = waits
        self._judge()
        if effects.finished or self._ending is not None:
            self._done.set()

    def _judge(self) -> None:
        """End the run if nothing that it waits for can come any more."""
        if self._prospects is None or self._stopped_by is not None or self._last.finished:
            return
        self._stopped_by = self._prospects.hopeless(self._waits())
        if self._stopped_by is not None:
            self._done.set()

    def _peer_of(self, instruction: tree.CallInstruction | tree.Canon) -> str | None:
        match instruction.peer:
            case tree.Literal(value=str() as peer):
                return peer
            case tree.InitPeerId():
                return str(self._node.peer_id)
            case tree.Scalar(name=name, path=None) if name in self._wrapping.names:
                given = self._values[name]
                return given if isinstance(given, str) else None
        return None

    def _load(self, call: Call) -> Any:
        if call.function not in self._values:
            there = ", ".join(sorted(self._values)) or "none"
            raise ServiceError(
                Status.UNKNOWN_FUNCTION, f"the run was given no value {call.function!r}; given are: {there}"
            )
        return self._values[call.function]

    def _ends_with(self, call: Call) -> bool:
        functions = self._ends[call.service]
        return "" in functions or call.function in functions

    def _end(self, call: Call) -> None:
        """The run that this call belongs to tells, as soon as it is durable: see :meth:`_ran`."""
        if not self._ends_with(call):
            raise ServiceError(Status.UNKNOWN_FUNCTION, f"{call.service}.{call.function} is no end of this run")
        if self._ending is None:
            self._ending = Ending(call.service, call.function, tuple(call.arguments))

    async def _end_or_answer(self, otherwise: Handler, call: Call) -> Any:
        if self._ends_with(call):
            return self._end(call)
        return otherwise.answer(call) if isinstance(otherwise, Inline) else await otherwise(call)


class Client:
    """A connected client; made by :func:`connect`.

    Attributes:
        node: the peer that it is.
    """

    def __init__(self, node: Node, credentials: Sequence[bytes] = ()) -> None:
        self.node: Final = node
        self._credentials = tuple(credentials)

    @property
    def relay_id(self) -> PeerId:
        """The relay that it is connected to now, or was at last; its own id if it has none."""
        relays = self.node.assembly.relaying.relays
        return relays[0].peer if relays else self.node.peer_id

    @property
    def peer_id(self) -> PeerId:
        """The client's own id."""
        return self.node.peer_id

    def run(
        self,
        script: str | ComposedFlow,
        *,
        ttl_s: float = TTL_S,
        particle_id: str | None = None,
        until: Sequence[str] = (RETURN,),
        **values: Any,
    ) -> Flow:
        """A run of a script, which begins when its block is entered.

        Args:
            script: AIR text, or a flow in a language above AIR.
            ttl_s: how long the particle may live, in seconds.
            particle_id: its id; a UUID by default.
            until: calls on this client that end the run, ``service.function``, or ``service`` for any of its functions; of no meaning to
                flows in other languages.
            values: for names that the script reads and does not define, and for its calls of service ``load``; the arguments of a flow
                in another language.

        Raises:
            AirSyntaxError: the script is wrong, or reads a name that has no value.
        """
        if isinstance(script, str):
            run = PreparedRun(script=script, values=values, until=until)
        else:
            run = script.prepare(values, relay=self.relay_id)
        wrapping = wrapping_of(run.script, frozenset(run.values))
        air = wrapping.around(run.script)
        particle = self.node.particle(
            air, ttl_ms=math.ceil(ttl_s * 1000), particle_id=particle_id, credentials=self._credentials
        )
        return Flow(self.node, particle, run, wrapping)

    async def request(self, protocol: str, payload: bytes, *, timeout_s: float) -> bytes:
        """Send a message of a protocol that the relay answers; returns the answer, raises Unreachable and RemoteProtocolError."""
        contact = await self.node.routing.find(self.relay_id) or Contact(self.relay_id, ())
        return await self.node.transport.request(contact, protocol, payload, timeout_s=timeout_s)

    async def serve(self, effector: Effector[Any]) -> None:
        """Answer calls of any particle that comes here with a native service."""
        await self.node.serve(effector)


class _LostRelay:
    """Tells a client's flows at once when no relay is connected any more: no answer can come until one is."""

    def __init__(self, node: Node) -> None:
        self._node = node

    @hookimpl
    def fluvial_peer_disconnected(self, peer: PeerId) -> None:
        relays = {relay.peer for relay in self._node.assembly.relaying.relays}
        if peer in relays and not relays & self._node.transport.connected():
            self._node.tell_flows(f"the connection to the relay {peer} was lost")


def notice_text(notice: Notice) -> str:
    """A failure notice as a harmless line: ``12D3… cannot go on: 10000: no tea at line 3:7 (call …)``."""
    return cut(printable(str(notice)), NOTICE_COLUMNS_MAX)


def _error_of(notice: Notice, loads: int) -> ServiceError | Refused:
    """The error for which a run ends."""
    if notice.kind == "refused":
        return Refused(printable(notice.message), reason=reason_of_refusal(notice))
    shown = _in_script(notice, loads)
    hint = f"on {shown.peer_id}" + (f", line {shown.position}: {printable(shown.instruction)}" if shown.line else "")
    status, message = service_failure(notice.message) or (notice.code, notice.message)
    return ServiceError(status or Status.FAILED, printable(message), peer=notice.peer_id, hint=hint)


def _place(error: AirError) -> str:
    return f" at line {error.instruction.at.line}" if error.instruction is not None else ""


def _in_script(notice: Notice, loads: int) -> Notice:
    """A notice with its place in the script that the author wrote.

    Args:
        notice: as it arrived; its place is one in the script that was sent.
        loads: characters that stand before the author's script, on its first line.
    """
    column = notice.column - loads if notice.line == 1 else notice.column
    return msgspec.structs.replace(notice, column=column) if column > 0 else notice


@asynccontextmanager
async def connect(
    relay: str | Sequence[str],
    *,
    keys: KeyPair | None = None,
    network: str = "fluvial",
    peers: Sequence[str] = (),
    storage_url: str = IN_MEMORY,
    blobs_folder: str = "",
    plugins: Plugins | None = None,
    credentials: Sequence[bytes] = (),
    log: structlog.stdlib.BoundLogger | None = None,
    on_slow: Callable[[str], object] | None = None,
) -> AsyncIterator[Client]:
    """A client that is connected to a relay while the block runs; to several, if several are given, of which one must answer.

    It gives each relay a lease, so that others can find it through any of them. When all are lost, it tries peers that its relays have named.

    Args:
        relay: the relay's address, ending in ``/p2p/12D3KooW…``, or those of several.
        keys: who the client is; a fresh key pair by default.
        network: name of the network.
        peers: addresses of further peers that it may dial.
        storage_url: where it keeps its particles, a database's URL; by default it keeps nothing, and needs no database.
        blobs_folder: where it keeps its blobs; a temporary folder by default.
        plugins: loaded plugins; the installed ones by default.
        credentials: what its particles carry for the authorizations of the peers that they visit, such as a chain of trust.
        log: its logger; by default warnings and errors go to stderr.
        on_slow: told once what is waited for, if no relay has answered within a moment; by default it is logged as a warning.

    Raises:
        Unreachable: no relay answers. ConfigError: an address or name is not usable.
    """
    values = {
        "network": network,
        "relays": [relay] if isinstance(relay, str) else list(relay),
        "routing": {"kind": "static", "peers": list(peers)},
        "storage": {"url": storage_url, **(IN_MEMORY_LIMITS if storage_url == IN_MEMORY else {})},
        "blobs": {"folder": blobs_folder},
    }
    configuration = load(from_values(values, base_dir=Path()), plugins=plugins)
    log = log or make_logger(log_format="console", log_level="warning")
    on_slow = on_slow or (lambda what: log.warning("relay_slow", waiting_for=what))
    async with running(configuration, keys=keys or KeyPair.generate(), log=log) as node:
        await reach_one(node.transport, configuration.settings.relays, PING_PROTOCOL, on_slow=on_slow)
        node.assembly.observers.add(_LostRelay(node), owner="client", plugin="fluvial")
        yield Client(node, credentials)
