"""What a peer knows of a flow: the facts of all peers by instance, and the values they speak of."""

from __future__ import annotations

from collections.abc import Mapping

from fluvial.air.data.content import ContentId, Json
from fluvial.air.data.facts import Canon, Fact, Failure, Outcome, Result, Sent, Taken, instance_of


class Knowledge:
    """A growing set of facts, looked up by instance and signer.

    A fact counts only if its signer is the peer that *this* evaluation resolves for the instance. Of two facts that differ the one
    that came first counts here; with the other one it convicts its signer (``data.evidence``).
    """

    def __init__(self) -> None:
        self._outcomes: dict[tuple[tuple[bytes, int], str], Outcome] = {}
        self._canons: dict[tuple[tuple[bytes, int], str], Canon] = {}
        self._sent: dict[tuple[bytes, int], bool] = {}
        self._taken: set[tuple[tuple[bytes, int], str]] = set()
        self.contents: dict[ContentId, Json] = {}

    def add(self, fact: Fact, signer: str) -> None:
        """Take in a fact of a signer."""
        instance = instance_of(fact)
        match fact:
            case Result() | Failure():
                self._outcomes.setdefault((instance, signer), fact)
            case Canon():
                self._canons.setdefault((instance, signer), fact)
            case Sent():
                self._sent[instance] = self._sent.get(instance, False) or fact.complete
            case Taken():
                self._taken.add((instance, signer))

    def learn(self, contents: Mapping[ContentId, Json]) -> None:
        """Take in values; their ids are known to be right."""
        self.contents.update(contents)

    def outcome(self, instance: tuple[bytes, int], peer: str) -> Outcome | None:
        """What a peer's call came to."""
        return self._outcomes.get((instance, peer))

    def canon(self, instance: tuple[bytes, int], peer: str) -> Canon | None:
        """What a peer fixed."""
        return self._canons.get((instance, peer))

    def sent(self, instance: tuple[bytes, int]) -> bool | None:
        """Whether anybody handed the particle on for it: None nobody, False with arguments unknown, True with all of them known."""
        return self._sent.get(instance)

    def taken(self, instance: tuple[bytes, int], peer: str) -> bool:
        """Whether a peer is at work on a call."""
        return (instance, peer) in self._taken
