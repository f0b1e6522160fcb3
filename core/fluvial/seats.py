"""The five seats as typed protocols, and the registry in which plugins offer who could take them.

A plugin returns objects of these shapes from the factories it offers in ``fluvial_register`` (``hooks.py``); the config names the
offer that takes a seat, and only that one is built. Hot paths call these objects directly; hooks are for building and watching.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias

import msgspec
import structlog
from anyio.abc import TaskStatus
from prometheus_client import CollectorRegistry

from fluvial.addresses import Address, Contact
from fluvial.checks import Check
from fluvial.clock import Clock
from fluvial.effectors import Call, Effector
from fluvial.errors import PluginError
from fluvial.identity import KeyPair, PeerId
from fluvial.particle import Particle

Json: TypeAlias = Any
"""A JSON value: None, bool, int (64 bit), float, str, list or dict with str keys."""

SeatName: TypeAlias = Literal["transport", "routing", "authorization", "execution", "consensus"]
SEATS: Final[tuple[SeatName, ...]] = ("transport", "routing", "authorization", "execution", "consensus")


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a factory gets besides its own options: everything a seat may use of the node it sits in.

    Attributes:
        keys: the peer's key pair; ``keys.peer_id`` is its name.
        network: name of the network; peers of different networks never talk to each other.
        clock: the only source of wall-clock time.
        metrics: where the plugin registers its metrics; names begin with ``fluvial_``.
        log: a logger bound to the peer.
        base_dir: the folder of ``fluvial.toml``; relative paths in options start here.
    """

    keys: KeyPair
    network: str
    clock: Clock
    metrics: CollectorRegistry
    log: structlog.stdlib.BoundLogger
    base_dir: Path


# --- transport --------------------------------------------------------------------------------------------------------

Receive: TypeAlias = Callable[[PeerId, str, bytes], Awaitable[bytes]]
"""Called with (sender, protocol, payload) for each message; what it returns answers a request and is dropped for a one-way message.

May raise ``FluvialError``: the sender's request then fails with its code and message. Any other exception is a bug of the node."""


class PeerWatcher(Protocol):
    """Told by the transport who comes and goes; both calls are quick and never raise."""

    def peer_connected(self, contact: Contact) -> None:
        """A mutually authenticated connection stands. ``contact.addresses`` are those the other side announced, perhaps none."""
        ...

    def peer_disconnected(self, peer: PeerId) -> None:
        """The last connection with the peer is gone."""
        ...


class Transport(Protocol):
    """Moves messages between peers that have proven their keys to each other."""

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


class Routing(Protocol):
    """Finds the ways to a peer."""

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Upkeep until cancelled; ``task_status.started()`` when contacts can be asked for."""
        ...

    async def find(self, peer: PeerId) -> Contact | None:
        """The best contact known or found for a peer; None if there is none."""
        ...

    def learn(self, contact: Contact) -> None:
        """A peer announced addresses of its own, in a handshake or in a particle that it signed."""
        ...

    def contacts(self) -> Sequence[Contact]:
        """All contacts known now."""
        ...


# --- authorization ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether something may happen, and if not, why: ``reason`` is a short word for metrics, ``explanation`` for people."""

    allowed: bool
    reason: str = ""
    explanation: str = ""


ALLOWED: Final = Decision(True)


class Authorization(Protocol):
    """Decides who is served."""

    async def admit(self, particle: Particle, sender: PeerId) -> Decision:
        """May this initiator run this script here? Asked once per particle, before its script is parsed.

        The particle's signature is *not* checked before: whoever sits here must do it, or decide not to.
        """
        ...

    async def permit(self, call: Call) -> Decision:
        """May this call be made here? Asked before every service call, with the provenance of each argument."""
        ...


# --- execution --------------------------------------------------------------------------------------------------------


class Execution(Protocol):
    """Runs the services that are neither built in nor effectors."""

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Load services and keep them until cancelled; ``task_status.started()`` when calls can be made."""
        ...

    async def call(self, call: Call) -> Json:
        """The result of a service call.

        Raises:
            ServiceError: the service failed, or there is no such service (status 1) or function (status 2).
        """
        ...

    def services(self) -> Mapping[str, Sequence[str]]:
        """The functions of every service that can be called, by service id."""
        ...


# --- consensus --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SendTo:
    """Effect: send an engine's message to one validator."""

    peer: PeerId
    message: bytes


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Effect: send an engine's message to all other validators."""

    message: bytes


@dataclass(frozen=True, slots=True)
class Persist:
    """Effect: make a record durable before any effect after it in the list is carried out."""

    record: bytes


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Effect: call ``wake`` at this time, in milliseconds since 1970; a later WakeAt replaces it."""

    time_ms: int


@dataclass(frozen=True, slots=True)
class Commit:
    """Effect: these payloads are final at this height; ``certificate`` proves it to others (may be empty)."""

    height: int
    payloads: tuple[bytes, ...]
    certificate: bytes = b""


ConsensusEffect: TypeAlias = SendTo | Broadcast | Persist | WakeAt | Commit


class Consensus(Protocol):
    """A consensus engine: inputs and the time in, an ordered list of effects out; it does no I/O of its own."""

    def start(self, records: Sequence[bytes], *, now_ms: int) -> Sequence[ConsensusEffect]:
        """Begin, or go on after a restart, with the records persisted before."""
        ...

    def submit(self, payload: bytes, *, now_ms: int) -> Sequence[ConsensusEffect]:
        """Ask for a payload to be ordered.

        Raises:
            Refused: this peer cannot bring anything into the ledger.
        """
        ...

    def receive(self, sender: PeerId, message: bytes, *, now_ms: int) -> Sequence[ConsensusEffect]:
        """A message of another validator arrived; a bad one is reported by raising RemoteProtocolError."""
        ...

    def wake(self, *, now_ms: int) -> Sequence[ConsensusEffect]:
        """The time asked for with WakeAt has come."""
        ...


# --- the registry -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A named candidate for a seat, or a named effector.

    Attributes:
        kind: a seat's name, or ``"effector"``.
        name: how the config names it.
        factory: ``(surroundings, options) -> object of the seat's protocol``; for an effector, its class.
        options: the msgspec Struct that describes the keys of its config section.
        plugin: entry-point name of the plugin that offers it.
        distribution: ``name version`` of the installed distribution, or the file of a one-file plugin.
    """

    kind: str
    name: str
    factory: Callable[..., Any] = field(repr=False)
    options: type[Any]
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
        """Who makes the offers that follow; called by the plugin loader before each plugin's turn."""
        self._plugin, self._distribution = plugin, distribution

    def transport(self, name: str, factory: Callable[[Surroundings, Any], Transport], *, options: type[Any]) -> None:
        """Offer a transport."""
        self._add("transport", name, factory, options)

    def routing(self, name: str, factory: Callable[[Surroundings, Any], Routing], *, options: type[Any]) -> None:
        """Offer a routing."""
        self._add("routing", name, factory, options)

    def authorization(
        self, name: str, factory: Callable[[Surroundings, Any], Authorization], *, options: type[Any]
    ) -> None:
        """Offer an authorization."""
        self._add("authorization", name, factory, options)

    def execution(self, name: str, factory: Callable[[Surroundings, Any], Execution], *, options: type[Any]) -> None:
        """Offer an execution."""
        self._add("execution", name, factory, options)

    def consensus(self, name: str, factory: Callable[[Surroundings, Any], Consensus], *, options: type[Any]) -> None:
        """Offer a consensus engine."""
        self._add("consensus", name, factory, options)

    def effector(self, name: str, effector: type[Effector[Any]]) -> None:
        """Offer an effector; ``[effectors.NAME]`` in the config switches it on and gives it its options."""
        self._add("effector", name, effector, effector.config_type())

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

    def _add(self, kind: str, name: str, factory: Callable[..., Any], options: type[Any]) -> None:
        if not (isinstance(options, type) and issubclass(options, msgspec.Struct)):
            raise PluginError(f"the options of {kind} {name!r} are {options!r}, which is no msgspec.Struct")
        same = self._offers.get((kind, name), ())
        if any(one.plugin == self._plugin for one in same):
            raise PluginError(f"{kind} {name!r} is offered twice by {self._plugin} ({self._distribution})")
        offer = Offer(
            kind=kind, name=name, factory=factory, options=options, plugin=self._plugin, distribution=self._distribution
        )
        self._offers[kind, name] = (*same, offer)
