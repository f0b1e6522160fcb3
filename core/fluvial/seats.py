"""The five seats as typed protocols, the contributions of a part to its node, and the registry in which plugins make their offers.

A *part* is anything that runs in a node: it has a ``run`` and ``contributions``. The seats are parts with a few more methods; an *extra* is a part without
a seat. A plugin offers named factories in ``fluvial_register`` (``hooks.py``); the config names the offer that takes a seat, and only that one is
built, with a :class:`~fluvial.ports.Context`. Hot paths call these objects directly; hooks are for watching.

Subclass a protocol to inherit its defaults; nothing must be subclassed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, TypeAlias, TypeVar

import anyio
import msgspec
from anyio.abc import TaskStatus

from fluvial.addresses import Address, Contact
from fluvial.checks import Check
from fluvial.consensus.engine import EngineTraits, MakeEngine
from fluvial.consensus.ordering import OrderingService
from fluvial.effectors import Call, Effector
from fluvial.errors import PluginError
from fluvial.findings import Finding
from fluvial.identity import PeerId
from fluvial.particle import Particle
from fluvial.ports import Capability, Context, Ledger, Provider
from fluvial.tables import Tables

Json: TypeAlias = Any
"""A JSON value: None, bool, int (64 bit), float, str, list or dict with str keys."""

SeatName: TypeAlias = Literal["transport", "routing", "authorization", "execution", "consensus"]
SEATS: Final[tuple[SeatName, ...]] = ("transport", "routing", "authorization", "execution", "consensus")

# --- parts ------------------------------------------------------------------------------------------------------------

MESSAGE_BYTES_MAX: Final = 65_536
"""The largest message that every peer takes."""
AT_ONCE: Final = 64
PER_SENDER: Final = 16

Handle: TypeAlias = Callable[[PeerId, bytes], Awaitable[bytes] | bytes]
"""Called with (sender, payload) for each message of a protocol; what it returns answers a request and is dropped for a one-way message.
A plain function, which never waits for anything, costs no task.

May raise ``Refused``, ``RemoteProtocolError``, ``LocalProtocolError``, ``ResourceLimit`` and ``Unreachable``: the sender's request then fails with code and
message. Of any other exception the sender sees only an id; the log has its text."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A protocol that a part answers.

    Attributes:
        protocol: its name: 1 to 64 bytes, beginning with the plugin's name and ending with a version, such as ``/trust/gossip/1``.
        by: the function that answers.
        bytes_max: largest payload that is taken, in bytes.
        at_once: messages that are answered at the same time; further ones are refused as ``busy``.
        per_sender: of these, messages of one sender, which never has more of them than are free.
        timeout_s: how long an answer may take, in seconds.
    """

    protocol: str
    by: Handle
    bytes_max: int = MESSAGE_BYTES_MAX
    at_once: int = AT_ONCE
    per_sender: int = PER_SENDER
    timeout_s: float = 30.0


class Contributions(msgspec.Struct, frozen=True, kw_only=True):
    """What a part contributes to its node: data, read once after all parts are built and before anything runs.

    Attributes:
        answers: protocols that it answers, from the moment at which it has started.
        services: services that scripts can call, available from the first particle on.
        watchers: objects with ``hookimpl`` methods; they observe this node only.
        capabilities: returns the part's capabilities at the time of the call; quick.
        health: returns the part's findings about itself at the time of the call; quick.
        extensions: objects of public types for other parts, which ask the port ``extensions`` for them.
    """

    answers: Sequence[Answer] = ()
    services: Sequence[Effector[Any]] = ()
    watchers: Sequence[object] = ()
    capabilities: Callable[[], Iterable[Capability]] | None = None
    health: Callable[[], Iterable[Finding]] | None = None
    extensions: Sequence[object] = ()


class Part(Protocol):
    """Anything that runs in a node."""

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Work until cancelled.

        Call ``task_status.started()`` as soon as the part can answer, and ask other peers only after that: two peers that both asked first
        would wait for each other. When the part is cancelled, all parts that started before it still work: it can say goodbye.

        A part in a seat must not return before it is cancelled; an extra that has nothing to do may.

        Raises:
            FluvialError: it cannot do its work. In a seat this ends the node, in order; an extra is set aside alone.
        """
        task_status.started()
        await anyio.sleep_forever()

    def contributions(self) -> Contributions:
        """Its contributions to the node; no I/O."""
        return Contributions()


# --- transport --------------------------------------------------------------------------------------------------------

Receive: TypeAlias = Callable[[PeerId, str, bytes], Awaitable[bytes]]
"""Called with (sender, protocol, payload) for each message; what it returns answers a request and is dropped for a one-way message.

May raise ``FluvialError``: the sender's request then fails with its code and message. Any other exception is a bug of the node."""


class PeerWatcher(Protocol):
    """Called by the transport with what it sees of other peers; all calls are quick and never raise."""

    def peer_connected(self, contact: Contact) -> None:
        """A mutually authenticated connection stands. ``contact.addresses`` are those the other side announced, perhaps none.

        That a peer is there is its word only: those that must not be dialled are left out, no other has been tried.
        """
        ...

    def address_proven(self, peer: PeerId, address: Address) -> None:
        """The transport has dialled an address, and the peer has shown its key there."""
        ...

    def peer_disconnected(self, peer: PeerId) -> None:
        """The last connection with the peer is gone."""
        ...


class Transport(Protocol):
    """Moves messages between peers that have proven their keys to each other. A part, except that its ``run`` has further arguments."""

    @property
    def addresses(self) -> Sequence[Address]:
        """Where this peer can be dialled now, real ports filled in; empty for a client that only dials."""
        ...

    async def run(self, receive: Receive, watcher: PeerWatcher, *, task_status: TaskStatus[None]) -> None:
        """Listen and serve until cancelled; ``task_status.started()`` once addresses are final. Closes everything on the way out.

        Raises:
            ConfigError: an address to listen on is not available.
        """
        ...

    def contributions(self) -> Contributions:
        """As :meth:`Part.contributions`."""
        return Contributions()

    async def request(self, contact: Contact, protocol: str, payload: bytes, *, timeout_s: float) -> bytes:
        """Send and wait for the answer, over an open connection or one dialled now.

        Raises:
            Unreachable: no connection could be made, it broke, or there was no answer in time. Whether the other side has
                handled the message is then not known.
            RemoteProtocolError: the other side answered with an error; its text is in the message.
            LocalProtocolError: the payload is larger than a frame may be.
        """
        ...

    async def send(self, contact: Contact, protocol: str, payload: bytes) -> None:
        """Send without waiting for an answer; returns when the bytes are in the connection's queue (back-pressure).

        Raises:
            Unreachable: no connection could be made.
            LocalProtocolError: the payload is larger than a frame may be.
        """
        ...

    def post(self, peer: PeerId, protocol: str, payload: bytes) -> bool:
        """Send as :meth:`send` over an open connection that has room now; False if nothing was sent, perhaps as the transport has no such way. Quick, and never raises."""
        return False

    def dialable(self, address: Address) -> bool:
        """Whether this peer would dial an address that another peer told it; quick, and asks nobody.

        A transport that is reached over a real network judges all that is not ``configured`` with :mod:`fluvial.address_scope`, the hosts that a
        name leads to included, and bounds how often it tries them.
        """
        return True

    async def prove(self, contact: Contact, *, timeout_s: float) -> Sequence[Address]:
        """Those of a contact's addresses at which the peer shows its key, dialled now if that is not known from a dial before.

        For addresses that are to be given to others. An open connection proves none of them.

        Args:
            contact: the peer, and addresses at which somebody says that it is.
            timeout_s: for all of them together; those that were not proven by then are left out.
        """
        return ()

    def keep(self, contact: Contact) -> None:
        """Stay connected to this peer: dial now and again after every loss, with growing jittered pauses."""
        ...

    def connected(self) -> frozenset[PeerId]:
        """The peers with which a connection stands now."""
        ...

    async def disconnect(self, peer: PeerId) -> None:
        """Close the connection with a peer, if there is one, and stop keeping it."""
        ...


# --- routing ----------------------------------------------------------------------------------------------------------


class Routing(Part, Protocol):
    """Finds the ways to a peer, and the providers of a capability. It sends requests to contacts only, never to peer ids: these would be looked up here."""

    async def find(self, peer: PeerId) -> Contact | None:
        """The best contact known or found for a peer; None if there is none."""
        ...

    def known(self, peer: PeerId) -> Contact | None:
        """What :meth:`find` has without asking anybody; None if it would have to ask, or knows that its addresses lead nowhere now. Quick."""
        return None

    def failed(self, contact: Contact) -> None:
        """None of these addresses has led to the peer: look for others."""
        return

    def learn(self, contact: Contact) -> None:
        """A connected peer announced addresses of its own. They may be tried, but nobody else is told of them: see :meth:`proven`."""
        ...

    def proven(self, peer: PeerId, address: Address) -> None:
        """A peer was dialled at this address, and has shown its key there. From now on others may be told of it."""
        return

    def contacts(self) -> Sequence[Contact]:
        """All contacts known now, with the addresses that others may be told: configured and proven ones."""
        ...

    async def providers(self, capability: Capability, *, limit: int) -> Sequence[Provider]:
        """Peers that have a capability, heaviest first, at most ``limit`` of them."""
        return ()


# --- authorization ----------------------------------------------------------------------------------------------------


class Decision(msgspec.Struct, frozen=True):
    """Whether something may happen, and if not, why: ``reason`` is a short word for metrics, ``explanation`` for people."""

    allowed: bool
    reason: str = ""
    explanation: str = ""


ALLOWED: Final = Decision(True)
Deciding: TypeAlias = Decision | Awaitable[Decision]
"""What a coroutine returns, or a plain method that never waits for anything: a decision that is there at once costs no task."""


class Authorization(Part, Protocol):
    """Decides who is served. The node itself has verified the initiator's signature before."""

    def admit(self, particle: Particle, sender: PeerId) -> Deciding:
        """May this initiator run this script here? Asked for every copy of a particle, before its script is parsed."""
        ...

    def permit(self, call: Call, policy: Json | None) -> Deciding:
        """May this call be made here? Asked before every service call, with the provenance of each argument.

        Args:
            call: the call.
            policy: what the service's deployment asks for; None if it asks for nothing.
        """
        ...

    @property
    def version(self) -> int:
        """Grows whenever an answer of the four questions below may have changed; includes the ledger's height where that matters."""
        return 0

    def weight(self, peer: PeerId) -> int:
        """How much a peer counts; called on hot paths, so it must not cost more than a dictionary access. 0 for a stranger."""
        return 0

    def prove(self, owner: PeerId, provider: PeerId, *, length_max: int) -> bytes | None:
        """A trust path of at most ``length_max`` edges that others can check; None if there is none."""
        return None

    def proves(self, proof: bytes, owner: PeerId, provider: PeerId, *, length_max: int) -> bool:
        """Whether a proof of another peer shows a trust path of at most ``length_max`` edges."""
        return False


# --- execution --------------------------------------------------------------------------------------------------------


class Execution(Part, Protocol):
    """Runs the services that are neither built in nor effectors."""

    async def call(self, call: Call) -> Json:
        """The result of a service call.

        Raises:
            ServiceError: the service failed, or there is no such service (status 1) or function (status 2).
        """
        ...

    def services(self) -> Mapping[str, Sequence[str]]:
        """The functions of every service that can be called, by service id."""
        ...

    def policy(self, service: str) -> Json | None:
        """What a service's deployment asks of those who call it; handed to the authorization. None if it asks for nothing."""
        return None

    def price(self, service: str) -> int:
        """Units of the ledger that each call of a service costs its initiator, as its deployment says; 0 for nothing."""
        return 0


# --- consensus --------------------------------------------------------------------------------------------------------


class Consensus(Part, Ledger, Protocol):
    """Holds the state on which all peers must agree: a part that is the node's ledger.

    Engines (``fluvial.consensus``) do not take this seat themselves: the config names one, and core's host around it sits there.
    """


# --- the registry -----------------------------------------------------------------------------------------------------


_T = TypeVar("_T")
Factory: TypeAlias = Callable[[Context, Any], _T]  # (context, options) -> what sits in the seat


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A candidate, described without building it.

    Attributes:
        kind: a seat's name, ``effector``, ``extra``, ``engine`` or ``ordering``.
        name: how the config names it.
        factory: ``(context, options) -> object of the seat's protocol``; for an effector, its class; for an engine, ``make``.
        options: the msgspec Struct that describes the keys of its config section.
        tables: its tables, if it has any.
        traits: of an engine or an ordering service.
        plugin: entry-point name of the plugin that offers it.
        distribution: ``name version`` of the installed distribution, or the file of a one-file plugin.
    """

    kind: str
    name: str
    factory: Callable[..., Any] = field(repr=False)
    options: type[Any]
    tables: Tables | None = None
    traits: EngineTraits | None = None
    plugin: str
    distribution: str


class Registry:
    """Collects the offers of all plugins; handed to every ``fluvial_register`` hook."""

    def __init__(self) -> None:
        self._offers: dict[tuple[str, str], tuple[Offer, ...]] = {}
        self._checks: dict[tuple[str, str], Check] = {}
        self._plugin = "core"
        self._distribution = "fluvial"

    def offering(self, plugin: str, distribution: str) -> None:
        """Set the plugin that makes the offers that follow; called by the plugin loader before each plugin's turn."""
        self._plugin, self._distribution = plugin, distribution

    def transport(
        self, name: str, factory: Factory[Transport], *, options: type[Any], tables: Tables | None = None
    ) -> None:
        """Offer a transport."""
        self._add("transport", name, factory, options, tables)

    def routing(
        self, name: str, factory: Factory[Routing], *, options: type[Any], tables: Tables | None = None
    ) -> None:
        """Offer a routing."""
        self._add("routing", name, factory, options, tables)

    def authorization(
        self, name: str, factory: Factory[Authorization], *, options: type[Any], tables: Tables | None = None
    ) -> None:
        """Offer an authorization."""
        self._add("authorization", name, factory, options, tables)

    def execution(
        self, name: str, factory: Factory[Execution], *, options: type[Any], tables: Tables | None = None
    ) -> None:
        """Offer an execution."""
        self._add("execution", name, factory, options, tables)

    def consensus(
        self, name: str, factory: Factory[Consensus], *, options: type[Any], tables: Tables | None = None
    ) -> None:
        """Offer a holder of the ledger; for an algorithm alone, see :meth:`engine`."""
        self._add("consensus", name, factory, options, tables)

    def extra(self, name: str, factory: Factory[Part], *, options: type[Any], tables: Tables | None = None) -> None:
        """Offer a part without a seat; ``[extras.NAME]`` in the config switches it on and gives it its options."""
        self._add("extra", name, factory, options, tables)

    def engine(self, name: str, make: MakeEngine, *, options: type[Any], traits: EngineTraits | None = None) -> None:
        """Offer a consensus engine. ``[consensus] kind`` puts it into the seat with core's host around it; it runs in `fluvial lab consensus`, too."""
        self._add("engine", name, make, options, None, traits or EngineTraits())

    def ordering(
        self, name: str, factory: Factory[OrderingService], *, options: type[Any], fault_model: str = "crash"
    ) -> None:
        """Offer an ordering service outside; ``[consensus] kind`` puts core's host over it into the seat."""
        traits = EngineTraits(fault_model=fault_model, certifies_state=False)
        self._add("ordering", name, factory, options, None, traits)

    def effector(self, name: str, effector: type[Effector[Any]]) -> None:
        """Offer an effector; ``[effectors.NAME]`` in the config switches it on and gives it its options."""
        self._add("effector", name, effector, effector.config_type(), None)

    def check(self, name: str, check: Check) -> None:
        """Offer a check for ``fluvial doctor``; called without a node, see :mod:`fluvial.checks`. Names are the plugin's own.

        Raises:
            PluginError: the plugin offers two checks of one name.
        """
        if (self._plugin, name) in self._checks:
            raise PluginError(f"the check {name!r} is offered twice by {self._plugin} ({self._distribution})")
        self._checks[self._plugin, name] = check

    def checks(self, plugin: str) -> Mapping[str, Check]:
        """The checks of a plugin by name, in the order in which they were offered."""
        return {name: check for (of, name), check in self._checks.items() if of == plugin}

    def offers(self, kind: str | None = None) -> Sequence[Offer]:
        """All offers, or those of one kind, sorted by kind and name; two of one name stand side by side."""
        return [offer for (of, _), same in sorted(self._offers.items()) if kind in (None, of) for offer in same]

    def get(self, kind: str, name: str) -> Offer | None:
        """The only offer of a name, or None.

        Raises:
            PluginError: two plugins offer the name. Neither wins, whatever the order in which they were loaded.
        """
        same = self._offers.get((kind, name), ())
        if len(same) > 1:
            raise PluginError(
                f"{kind} {name!r} is offered by {' and by '.join(f'{one.plugin} ({one.distribution})' for one in same)}",
                hint="uninstall all but one of them or add their names to `disabled` in [plugins]",
            )
        return same[0] if same else None

    def withdraw(self, plugin: str) -> None:
        """Forget the offers of a plugin that failed while it was making them."""
        kept = {key: tuple(one for one in same if one.plugin != plugin) for key, same in self._offers.items()}
        self._offers = {key: same for key, same in kept.items() if same}
        self._checks = {key: check for key, check in self._checks.items() if key[0] != plugin}

    def _add(
        self,
        kind: str,
        name: str,
        factory: Callable[..., Any],
        options: type[Any],
        tables: Tables | None,
        traits: EngineTraits | None = None,
    ) -> None:
        if not (isinstance(options, type) and issubclass(options, msgspec.Struct)):
            raise PluginError(f"the options of {kind} {name!r} are {options!r}, which is no msgspec.Struct")
        same = self._offers.get((kind, name), ())
        if any(one.plugin == self._plugin for one in same):
            raise PluginError(f"{kind} {name!r} is offered twice by {self._plugin} ({self._distribution})")
        offer = Offer(
            kind=kind,
            name=name,
            factory=factory,
            options=options,
            tables=tables,
            traits=traits,
            plugin=self._plugin,
            distribution=self._distribution,
        )
        self._offers[kind, name] = (*same, offer)
