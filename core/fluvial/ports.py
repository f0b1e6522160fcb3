"""What a node gives to the parts that run in it: a :class:`Context` of plain values and a closed set of narrow ports.

A part never sees another part. It calls a port; the kernel implements the port and calls the part in the seat. Every port always
exists: if the part in the seat has no answer (consensus ``none``, routing ``static``), the answer is a defined one, never ``None`` in place of
the port. The values of a Context may be used at once, its ports from ``run`` on; handlers and services are called only after that.

Who may use which port (calls go to what has started before, or through a port); the conformance kits of ``fluvial.testing`` hold it:

=============== ============= ======== ============== ====== ========= ===== ==========
part            peers         database trust          ledger directory blobs extensions
=============== ============= ======== ============== ====== ========= ===== ==========
transport       –             –        weight         –      –         –     –
routing         Contact only  yes      all            –      own       –     yes
authorization   yes           yes      (is it)        view   –         –     yes
execution       yes           yes      –              view   yes       yes   yes
extras          yes           yes      yes            yes    yes       yes   yes
=============== ============= ======== ============== ====== ========= ===== ==========
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeVar

import msgspec
import structlog
from prometheus_client import CollectorRegistry

from fluvial.addresses import Address, Contact
from fluvial.blob_id import BlobId
from fluvial.clock import Clock
from fluvial.identity import KeyPair, PeerId
from fluvial.prepared import Prepared

if TYPE_CHECKING:
    from sqlalchemy import Connection  # costs a third of a second, which commands that open no database do not pay

T = TypeVar("T")

CAPABILITY_CHARACTERS_MAX: Final = 256


class Capability(NamedTuple):
    """Something by which a node can be looked up.

    Attributes:
        kind: what sort of thing: ``service``, ``effector``, ``blob``, ``relay``, ``topic`` or a plugin's own word.
        name: which one: a service id, a blob's id, the peer id of a relay's client.
    """

    kind: str
    name: str

    def __str__(self) -> str:
        """As people and settings write it: ``service:weather``."""
        return f"{self.kind}:{self.name}"

    @classmethod
    def parse(cls, text: str) -> Capability:
        """The capability that ``kind:name`` stands for.

        Raises:
            ValueError: it has no kind or no name, or is longer than 256 characters.
        """
        kind, _, name = text.partition(":")
        if not is_capability(kind, name):
            raise ValueError(f"{text[:80]!r} is no capability: write kind:name, such as service:weather")
        return cls(kind, name)


def is_capability(kind: str, name: str) -> bool:
    """Whether these two are a kind and a name of a capability: neither empty, together at most 256 characters."""
    return bool(kind and name) and len(kind) + 1 + len(name) <= CAPABILITY_CHARACTERS_MAX


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """A peer that has a capability.

    Attributes:
        contact: who it is and where it can be reached, as far as that is known.
        weight: its weight for the node that asks; 0 for a stranger.
    """

    contact: Contact
    weight: int = 0

    @property
    def peer(self) -> PeerId:
        """Who it is."""
        return self.contact.peer


class Peers(Protocol):
    """Messages to other peers, over direct ways only; particles, which may go through relays, are sent elsewhere. Waits for the transport at start."""

    async def request(self, to: PeerId | Contact, protocol: str, payload: bytes, *, timeout_s: float) -> bytes:
        """Send a message and wait for its answer.

        Args:
            to: a peer id (over the open connection, else where the routing finds it), or a contact (as it is, without any lookup).
            protocol: the name of the protocol, such as ``/trust/gossip/1``.
            payload: the message; 65,536 bytes with its header are what every peer takes.
            timeout_s: for everything together, in seconds.

        Raises:
            Unreachable: no way led there, the connection broke, or no answer came in time.
            RemoteProtocolError: the other peer answered with an error, such as that it does not speak the protocol.
            LocalProtocolError: the payload is too large, or this part may not ask for a lookup.
        """
        ...

    async def send(self, to: PeerId | Contact, protocol: str, payload: bytes) -> None:
        """Send a message without waiting for an answer; raises as :meth:`request`."""
        ...

    def post(self, to: PeerId, protocol: str, payload: bytes) -> bool:
        """Send a message at once if a connection stands and has room for it; False if not: then :meth:`send`. Quick, and never raises."""
        ...

    def connected(self) -> frozenset[PeerId]:
        """The peers with which a connection stands now."""
        ...

    def addresses(self) -> Sequence[Address]:
        """Where this peer can be dialled now, as it announces it to others; none for a client that only dials, and before the transport has started."""
        ...

    def dialable(self, address: Address) -> bool:
        """Whether this peer would ever dial an address that another peer told it; keep no others. Quick."""
        ...

    async def prove(self, contact: Contact, *, timeout_s: float) -> Contact:
        """A contact with those of its addresses at which the peer shows its key; before others are told of them.

        They are dialled now, within the limits for addresses of strangers, unless they were dialled lately. An open connection proves none.

        Args:
            contact: the peer, and addresses at which somebody says that it is.
            timeout_s: for all of them together; those that were not proven by then are left out.
        """
        ...


class Database(Protocol):
    """The node's database. A part touches only tables of its own prefix (``fluvial.tables``).

    Work gets a connection of SQLAlchemy, which is imported when the first work asks for one; :class:`fluvial.prepared.Prepared` work does without.
    """

    async def write(self, work: Callable[[Connection], T] | Prepared[T]) -> T:
        """What ``work`` returns, once that is durable.

        Args:
            work: uses the connection, or the transaction, and nothing else; may be run again after a rollback. It is quick: all parts share one writer, and
                work above 50 ms is logged with the part's name.

        Raises:
            StorageError: the database failed. Any other exception of ``work`` is raised as it is; nothing was written then.
        """
        ...

    async def read(self, work: Callable[[Connection], T] | Prepared[T]) -> T:
        """What ``work`` returns, run in a snapshot that has all that was acknowledged before; raises as :meth:`write`."""
        ...


class Trust(Protocol):
    """The authorization's view of peers. Quick, and never raises."""

    @property
    def version(self) -> int:
        """Grows whenever an answer may have changed: compare it instead of waiting for a notification."""
        ...

    def weight(self, peer: PeerId) -> int:
        """How much a peer counts here; 0 for a stranger."""
        ...

    def prove(self, owner: PeerId, provider: PeerId, *, length_max: int) -> bytes | None:
        """A trust path from ``owner`` to ``provider`` that others can check; None if none of at most ``length_max`` edges is known."""
        ...

    def proves(self, proof: bytes, owner: PeerId, provider: PeerId, *, length_max: int) -> bool:
        """Whether a proof shows a trust path from ``owner`` to ``provider`` of at most ``length_max`` edges."""
        ...


class View(Protocol):
    """The ledger at one height; never changes."""

    @property
    def height(self) -> int:
        """How many blocks it has; 0 if there is no ledger."""
        ...

    @property
    def root(self) -> bytes:
        """Root of the state's Merkle tree; empty at height 0."""
        ...

    def get(self, module: str, key: bytes) -> bytes | None:
        """The value of a key; None if it has none."""
        ...

    def scan(self, module: str, prefix: bytes, *, since: View | None = None) -> Iterable[tuple[bytes, bytes]]:
        """The keys that begin with ``prefix``, in order, with their values. Costs as much as the ledger is large: see :meth:`changed`.

        With ``since``, an earlier view, those that have changed are enough, which costs as much as the ledger has changed. The earlier view keeps in
        memory what has changed since, so hold none for long.
        """
        ...

    def changed(self, module: str) -> int:
        """The height of the last block that has changed keys of a module, as far as this peer knows: it never says too little. Quick."""
        ...

    def proof(self, module: str, key: bytes) -> bytes | None:
        """A proof for others that :meth:`get` is right; None at height 0."""
        ...


class _NoBlocks:
    """The view where there is no ledger."""

    height = 0
    root = b""

    def get(self, module: str, key: bytes) -> bytes | None:
        return None

    def scan(self, module: str, prefix: bytes, *, since: View | None = None) -> Iterable[tuple[bytes, bytes]]:
        return ()

    def changed(self, module: str) -> int:
        return 0

    def proof(self, module: str, key: bytes) -> bytes | None:
        return None


NO_BLOCKS: Final[View] = _NoBlocks()
"""The view where there is no ledger."""


class Ledger(Protocol):
    """The state on which all peers must agree. Quick, and never raises except where documented."""

    def view(self) -> View:
        """The newest state that this node knows."""
        ...

    async def submit(self, transaction: bytes) -> None:
        """Ask for a transaction to be ordered.

        Raises:
            Refused: it is not acceptable, or this node has no ledger.
        """
        ...


class Directory(Protocol):
    """The providers of capabilities."""

    async def find(self, capability: Capability, *, limit: int = 8) -> Sequence[Provider]:
        """Peers that have a capability, heaviest first; none if none are known or the routing does not look for any."""
        ...

    def own(self) -> frozenset[Capability]:
        """The capabilities of this node now."""
        ...


class Blobs(Protocol):
    """Contents that are larger than a message: files under the hash of what they hold."""

    async def put(self, data: Path | bytes) -> BlobId:
        """Keep a content, pinned by this part until it is unpinned.

        Raises:
            ResourceLimit: there is no room for it. StorageError: the file cannot be read or written.
        """
        ...

    async def get(self, blob: BlobId, *, bytes_max: int, hints: Sequence[PeerId] = (), pin: bool = False) -> Path:
        """A file with the content: from here, else from one of the hints, else from a provider; every chunk is verified.

        Nobody may write to the file. It stays as long as the blob is pinned; otherwise it may go when room is needed, so open it at once.
        All parts that get the same blob at the same time share one download. If all of them are cancelled, the chunks that have arrived are kept for the
        next time.

        Args:
            blob: which one.
            bytes_max: the largest content that is taken.
            hints: peers that probably have it.
            pin: pin it for this part before it can go again.

        Raises:
            Unreachable: nobody who was asked has it, or it did not come in time.
            RemoteProtocolError: its tree is not laid out as :mod:`fluvial.blobs.layout` says.
            ResourceLimit: it is larger than ``bytes_max``, or there is no room for it.
            StorageError: it cannot be written.
        """
        ...

    async def pin(self, blob: BlobId) -> None:
        """Keep a content that is here, over restarts too; pinning it twice is the same as once. Raises Unreachable if it is not here."""
        ...

    async def unpin(self, blob: BlobId) -> None:
        """This part does not need it any more; a blob that nobody pins is deleted when room is needed."""
        ...


class Extensions(Protocol):
    """Objects that parts give to other parts, by public type."""

    def all(self, kind: type[T]) -> Sequence[T]:
        """All ``Contributions.extensions`` of a public type, in the order in which the parts were built."""
        ...


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a part may use of the node it runs in; see the module's docstring.

    Attributes:
        name: the part's name, as the config calls it.
        keys: the peer's key pair; ``keys.peer_id`` is its name.
        network: name of the network; peers of different networks never talk to each other.
        clock: the only source of wall-clock time.
        rng: the only source of randomness that is no secret; seeded in simulations.
        metrics: where the part registers its metrics; names begin with ``fluvial_``.
        log: a logger bound to the peer and the part.
        base_dir: the folder of ``fluvial.toml``; relative paths in options start here.
        peers, database, trust, ledger, directory, blobs, extensions: the ports.
    """

    name: str
    keys: KeyPair
    network: str
    clock: Clock
    rng: Random
    metrics: CollectorRegistry
    log: structlog.stdlib.BoundLogger
    base_dir: Path
    peers: Peers
    database: Database
    trust: Trust
    ledger: Ledger
    directory: Directory
    blobs: Blobs
    extensions: Extensions
