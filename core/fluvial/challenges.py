"""For authors of plugins: kinds of challenges, by which keys of a distributed hash table decide who may register at them.

The key of a record is the hash of its challenge, so every peer that keeps the record can check a provider's solution without asking anybody. A
part adds a kind by contributing an object of :class:`ChallengeKind` as an extension::

    Contributions(extensions=(Puzzle(),))

Source: Fluence white paper, "DHT".
"""

from __future__ import annotations

from fluvial.identity import PeerId


class ChallengeKind:
    """A kind of challenge, to be subclassed. Both methods are quick: they are asked at every write, republication and read.

    Attributes:
        name: how challenges name their kind; 1 to 64 characters, the same on all peers.
    """

    name: str

    def solves(self, body: bytes, provider: PeerId, solution: bytes) -> bool:
        """Whether a solution lets a provider register at the key of a challenge now.

        Args:
            body: the challenge without the name of its kind; at most 1,024 bytes.
            provider: who wants to register.
            solution: at most 8,192 bytes.

        Raises:
            RemoteProtocolError: the body is no challenge of this kind.
        """
        raise NotImplementedError(f"{type(self).__name__} must say what solves its challenges")

    def solve(self, body: bytes, provider: PeerId) -> bytes | None:
        """A solution that this peer knows for a provider, to register with; None if it knows none. Raises as :meth:`solves`."""
        return None
