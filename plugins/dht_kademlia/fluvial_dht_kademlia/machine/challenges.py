"""Challenges: what a key asks of those who register at it.

A key is the hash of its challenge, so any replica can check any solution without asking anyone. The kinds here:

=========  =============================  ==========================================================================
kind       body                           solution
=========  =============================  ==========================================================================
``open``   topic, nonce                   empty: anybody may register
``owned``  owner, length of path, nonce   empty for the owner itself, else a trust path owner → provider
``self``   peer                           empty: only that peer may register; its own contact record
=========  =============================  ==========================================================================

The length of a path counts its edges. Other kinds are extensions (``fluvial.challenges``), added with :meth:`ChallengeKinds.add`.

Source: Fluence white paper, "DHT": ``owned_key_challenge = concat(owner_pk, max_trust_path_length, nonce)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final, TypeAlias

import msgspec
from fluvial.challenges import ChallengeKind
from fluvial.encoding import decode, encode
from fluvial.errors import PluginError, Refused, RemoteProtocolError
from fluvial.identity import PeerId

from fluvial_dht_kademlia.machine.keyspace import Key, challenge_key
from fluvial_dht_kademlia.machine.limits import CHALLENGE_BYTES_MAX, SOLUTION_BYTES_MAX

PATH_LENGTH_MAX: Final = 16
NONCE_BYTES_MAX: Final = 64
TOPIC_CHARACTERS_MAX: Final = 256
KIND_CHARACTERS_MAX: Final = 64

Nonce: TypeAlias = Annotated[bytes, msgspec.Meta(max_length=NONCE_BYTES_MAX)]
ProvesPath: TypeAlias = Callable[[bytes, PeerId, PeerId, int], bool]
"""Called with (proof, owner, provider, length at most): whether the proof shows such a trust path now. The port ``trust`` has it as ``proves``."""
FindsPath: TypeAlias = Callable[[PeerId, PeerId, int], bytes | None]
"""Called with (owner, provider, length at most): a proof of such a trust path, if one is known. The port ``trust`` has it as ``prove``."""


class Challenge(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A challenge of some kind; two that differ in a byte have different keys."""

    kind: Annotated[str, msgspec.Meta(min_length=1, max_length=KIND_CHARACTERS_MAX)]
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


class OpenKind(ChallengeKind):
    """Open keys."""

    name = "open"

    def solves(self, body: bytes, provider: PeerId, solution: bytes) -> bool:
        """Anybody, with an empty solution."""
        decode(body, OpenBody, what="open challenge")
        return not solution

    def solve(self, body: bytes, provider: PeerId) -> bytes:
        """Nothing is asked for."""
        return b""


class SelfKind(ChallengeKind):
    """The key of a peer's own contact."""

    name = "self"

    def solves(self, body: bytes, provider: PeerId, solution: bytes) -> bool:
        """The peer itself, with an empty solution."""
        return not solution and decode(body, SelfBody, what="challenge of a peer").peer == provider

    def solve(self, body: bytes, provider: PeerId) -> bytes | None:
        """Nothing is asked of the peer itself, and nothing helps others."""
        return b"" if self.solves(body, provider, b"") else None


class OwnedKind(ChallengeKind):
    """Keys with an owner.

    Args:
        proves: checks trust paths as of now.
        prove: finds one; None for peers that never register anything.
    """

    name = "owned"

    def __init__(self, proves: ProvesPath, prove: FindsPath | None = None) -> None:
        self._proves = proves
        self._prove = prove

    def solves(self, body: bytes, provider: PeerId, solution: bytes) -> bool:
        """The owner with an empty solution, others with a trust path."""
        owner, length_max = _owner(body)
        if provider == owner:
            return not solution
        return bool(solution) and self._proves(solution, owner, provider, length_max)

    def solve(self, body: bytes, provider: PeerId) -> bytes | None:
        """Nothing for the owner, a trust path for others."""
        owner, length_max = _owner(body)
        if provider == owner:
            return b""
        return self._prove(owner, provider, length_max) if self._prove is not None else None


def _owner(body: bytes) -> tuple[PeerId, int]:
    """Who owns a key, and how long paths to its providers may be."""
    challenge = decode(body, OwnedBody, what="owned challenge")
    try:
        return PeerId.parse(challenge.owner), challenge.path_length_max
    except ValueError as error:
        raise RemoteProtocolError(f"the owner of this key is no peer: {error}") from error


class ChallengeKinds:
    """The kinds that a peer knows; challenges of other kinds are refused.

    Args:
        proves, prove: as :class:`OwnedKind` takes them.
    """

    def __init__(self, proves: ProvesPath, prove: FindsPath | None = None) -> None:
        self._kinds: dict[str, ChallengeKind] = {}
        self.add(OpenKind(), OwnedKind(proves, prove), SelfKind())

    def __contains__(self, name: str) -> bool:
        """Whether challenges of this kind are known."""
        return name in self._kinds

    def add(self, *kinds: ChallengeKind) -> None:
        """Add kinds.

        Raises:
            PluginError: a name is taken, or is none.
        """
        for kind in kinds:
            if not 1 <= len(kind.name) <= KIND_CHARACTERS_MAX:
                raise PluginError(f"{kind.name[:80]!r} is no name of a kind of challenges: 1 to 64 characters")
            if kind.name in self._kinds:
                raise PluginError(f"two kinds of challenges are named {kind.name!r}", hint="rename one of them")
            self._kinds[kind.name] = kind

    def check(self, challenge: Challenge, provider: PeerId, solution: bytes) -> None:
        """Let a solution pass, or say why not.

        Raises:
            Refused: the kind is not known here, or the solution does not solve the challenge for this provider now.
            RemoteProtocolError: the challenge is ill-formed.
        """
        kind = self._kind(challenge)
        if len(solution) > SOLUTION_BYTES_MAX or not kind.solves(challenge.body, provider, solution):
            raise Refused(f"{provider} has not solved the challenge of this key ({challenge.kind})", reason="solution")

    def solve(self, challenge: Challenge, provider: PeerId) -> bytes:
        """A solution for a provider.

        Raises:
            Refused: none is known here.
            RemoteProtocolError: the challenge is ill-formed.
        """
        solution = self._kind(challenge).solve(challenge.body, provider)
        if solution is None:
            raise Refused(
                f"no solution of this key's challenge ({challenge.kind}) is known for {provider}", reason="solution"
            )
        return solution

    def _kind(self, challenge: Challenge) -> ChallengeKind:
        kind = self._kinds.get(challenge.kind)
        if kind is None:
            raise Refused(f"challenges of the kind {challenge.kind[:64]!r} are not known here", reason="kind")
        return kind
