"""Challenges: what a key asks of those who register at it.

A key is the hash of its challenge, so any replica can check any solution without asking anyone. The kinds here:

=========  =============================  ==========================================================================
kind       body                           solution
=========  =============================  ==========================================================================
``open``   topic, nonce                   empty: anybody may register
``owned``  owner, length of path, nonce   empty for the owner itself, else a trust path owner → provider
``self``   peer                           empty: only that peer may register; its own contact record
=========  =============================  ==========================================================================

The length of a path counts its edges. Other kinds are added with :meth:`ChallengeKinds.add`.

Source: Fluence white paper, "DHT": ``owned_key_challenge = concat(owner_pk, max_trust_path_length, nonce)``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final, Protocol, TypeAlias

import msgspec
from fluvial.encoding import decode, encode
from fluvial.errors import PluginError, Refused, RemoteProtocolError
from fluvial.identity import PeerId

from fluvial_dht_kademlia.keyspace import Key, challenge_key
from fluvial_dht_kademlia.limits import CHALLENGE_BYTES_MAX, SOLUTION_BYTES_MAX

PATH_LENGTH_MAX: Final = 16
NONCE_BYTES_MAX: Final = 64
TOPIC_CHARACTERS_MAX: Final = 256

Nonce: TypeAlias = Annotated[bytes, msgspec.Meta(max_length=NONCE_BYTES_MAX)]
ProvesPath: TypeAlias = Callable[[bytes, PeerId, PeerId, int], bool]
"""Called with (proof, owner, provider, length at most): whether the proof shows such a trust path now. The port ``trust`` has it as ``proves``."""


class Challenge(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A challenge of some kind; two that differ in a byte have different keys."""

    kind: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    body: Annotated[bytes, msgspec.Meta(max_length=CHALLENGE_BYTES_MAX)]

    @property
    def key(self) -> Key:
        """Where the records behind it are kept."""
        return challenge_key(encode(self))


class OpenBody(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The body of an open challenge."""

    topic: Annotated[str, msgspec.Meta(min_length=1, max_length=TOPIC_CHARACTERS_MAX)]
    nonce: Nonce = b""


class OwnedBody(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The body of a challenge that has an owner; ``path_length_max`` counts edges, 0 lets only the owner in."""

    owner: str
    path_length_max: Annotated[int, msgspec.Meta(ge=0, le=PATH_LENGTH_MAX)]
    nonce: Nonce = b""


class SelfBody(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The body of a peer's own challenge."""

    peer: str


def open_challenge(topic: str, nonce: bytes = b"") -> Challenge:
    """Anybody may register: a topic, a capability such as ``service:weather``."""
    return Challenge("open", encode(OpenBody(topic, nonce)))


def owned_challenge(owner: PeerId, path_length_max: int, nonce: bytes = b"") -> Challenge:
    """Only the owner may register, and peers to which a trust path of at most so many edges leads from it."""
    return Challenge("owned", encode(OwnedBody(str(owner), path_length_max, nonce)))


def self_challenge(peer: PeerId) -> Challenge:
    """Only the peer itself may register: its own contact."""
    return Challenge("self", encode(SelfBody(str(peer))))


class ChallengeKind(Protocol):
    """A kind of challenge. Pure and quick: it is asked at every write, republication and read."""

    @property
    def name(self) -> str:
        """How challenges name it."""
        ...

    def solves(self, body: bytes, provider: PeerId, solution: bytes) -> bool:
        """Whether a solution lets a provider register now.

        Raises:
            RemoteProtocolError: the body is no challenge of this kind.
        """
        ...


@dataclass(frozen=True, slots=True)
class OpenKind:
    """Open keys."""

    name: str = "open"

    def solves(self, body: bytes, provider: PeerId, solution: bytes) -> bool:
        """Anybody, with an empty solution."""
        decode(body, OpenBody, what="open challenge")
        return not solution


@dataclass(frozen=True, slots=True)
class SelfKind:
    """The key of a peer's own contact."""

    name: str = "self"

    def solves(self, body: bytes, provider: PeerId, solution: bytes) -> bool:
        """The peer itself, with an empty solution."""
        return not solution and decode(body, SelfBody, what="challenge of a peer").peer == provider


@dataclass(frozen=True, slots=True)
class OwnedKind:
    """Keys with an owner; ``proves`` checks trust paths as of now."""

    proves: ProvesPath
    name: str = "owned"

    def solves(self, body: bytes, provider: PeerId, solution: bytes) -> bool:
        """The owner with an empty solution, others with a trust path."""
        challenge = decode(body, OwnedBody, what="owned challenge")
        try:
            owner = PeerId.parse(challenge.owner)
        except ValueError as error:
            raise RemoteProtocolError(f"the owner of this key is no peer: {error}") from error
        if provider == owner:
            return not solution
        return bool(solution) and self.proves(solution, owner, provider, challenge.path_length_max)


class ChallengeKinds:
    """The kinds that a peer knows; challenges of other kinds are refused.

    Args:
        proves: checks trust paths, for owned keys.
    """

    def __init__(self, proves: ProvesPath) -> None:
        self._kinds: dict[str, ChallengeKind] = {}
        for kind in (OpenKind(), OwnedKind(proves), SelfKind()):
            self.add(kind)

    def add(self, kind: ChallengeKind) -> None:
        """Add a kind.

        Raises:
            PluginError: its name is taken.
        """
        if kind.name in self._kinds:
            raise PluginError(f"two kinds of challenges are named {kind.name!r}", hint="rename one of them")
        self._kinds[kind.name] = kind

    def check(self, challenge: Challenge, provider: PeerId, solution: bytes) -> None:
        """Let a solution pass, or say why not.

        Raises:
            Refused: the kind is not known here, or the solution does not solve the challenge for this provider now.
            RemoteProtocolError: the challenge is ill-formed.
        """
        kind = self._kinds.get(challenge.kind)
        if kind is None:
            raise Refused(f"challenges of the kind {challenge.kind[:64]!r} are not known here", reason="kind")
        if len(solution) > SOLUTION_BYTES_MAX or not kind.solves(challenge.body, provider, solution):
            raise Refused(f"{provider} has not solved the challenge of this key ({challenge.kind})", reason="solution")
