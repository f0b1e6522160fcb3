"""Parts of a node, and the five seats as typed protocols.

A *part* is anything that runs in a node: it has a ``run`` and ``contributions``. The seats are parts with a few more methods; an *extra* is a part without
a seat. A plugin offers named factories (``offers.py``); the config names the offer that takes a seat, and only that one is built, with a
:class:`~fluvial.ports.Context`. Hot paths call these objects directly; hooks are for watching.

Subclass a protocol to inherit its defaults; nothing must be subclassed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, Protocol, TypeAlias

import anyio
import msgspec
from anyio.abc import TaskStatus

from fluvial.addresses import Address, Contact
from fluvial.effectors import Call, Effector
from fluvial.findings import Finding
from fluvial.identity import PeerId
from fluvial.particle import Particle
from fluvial.ports import Capability, Ledger, Provider

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


class RefusingAnswer(bytes):
    """An answer which says that the message was of no use: a refusal with a reason, or nothing where nothing was wanted.

    The transport sends it as any other, and may charge the sender for the work as for an error.
    """


class ContinuingAnswer(bytes):
    """An answer which says that the message brought what this peer waits for, in something that another peer has begun here.

    The transport sends it as any other, and may charge the one who has begun it for the work: a peer through which the flows of many go would have one
    part of the time for all of them.

    Attributes:
        begun_by: who that is; this peer itself, or another.
    """

    begun_by: PeerId


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

    def ask(
        self,
        peer: PeerId,
        protocol: str,
        payload: bytes,
        tell: Callable[[bytes | Exception], object],
        *,
        timeout_s: float,
    ) -> Callable[[], None] | None:
        """Send as :meth:`request` over an open connection that has room now, and return at once. Quick, and never raises.

        Args:
            peer: whom.
            protocol: as for :meth:`request`, as the next.
            payload: what to send.
            tell: to be called once, in a later turn of the loop or in this one: with the answer, or with what :meth:`request` would raise.
            timeout_s: from now until that must be known.

        Returns:
            What is called if nobody wants the answer any more; None if nothing was sent, perhaps as the transport has no such way.
        """
        return None

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

    def dialling(self, peer: PeerId) -> str:
        """How far a connection to a peer has come that is being made now, for people; empty if none is, or it is not known. Quick."""
        return ""

    def silent(self, peer: PeerId) -> bool:
        """Whether nothing at all has come so far over what leads to a peer; quick, and False if it is not known.

        Either its only address was dialled and has accepted the connection; or the peer has proven its key, and since then nothing has come.
        """
        return False

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
        """The result of a service call, which nobody changes afterwards.

        Raises:
            ServiceError: the service failed, or there is no such service (status 1) or function (status 2).
        """
        ...

    def services(self) -> Mapping[str, Sequence[str]]:
        """The functions of every service that can be called, by service id."""
        ...

    def functions_of(self, service: str) -> Sequence[str] | None:
        """The functions of one service, as :meth:`services` has them; None if there is no such service. Asked with every call, so where there may be many services it should not go through all."""
        return self.services().get(service)

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
