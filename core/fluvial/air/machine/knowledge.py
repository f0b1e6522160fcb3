"""What a peer knows of a flow: the facts of all peers by instance, and the values they speak of."""

from __future__ import annotations

from collections.abc import Mapping, Set

from fluvial.air.data.content import ContentId, is_large
from fluvial.air.data.facts import Canon, Fact, Failure, Outcome, Result, Sent, Taken
from fluvial.air.data.partial import ABSENT, Content, Level, Mask, Partial, merged
from fluvial.air.machine.values import Whole


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
        self.contents: dict[ContentId, Content] = {}
        self._wholes: dict[ContentId, Whole] = {}
        self._large: set[ContentId] = set()

    def add(self, fact: Fact, signer: str) -> None:
        """Take in a fact of a signer."""
        instance = (fact.frame, fact.node)
        match fact:
            case Result():
                self._outcomes.setdefault((instance, signer), fact)
                self._hear_of(fact.value)
            case Failure():
                self._outcomes.setdefault((instance, signer), fact)
            case Canon():
                self._canons.setdefault((instance, signer), fact)
                for element in fact.elements:
                    self._hear_of(element.value)
            case Sent():
                self._sent[instance] = self._sent.get(instance, False) or fact.complete
            case Taken():
                self._taken.add((instance, signer))

    def learn(self, contents: Mapping[ContentId, Content]) -> None:
        """Take in values, whole or in part; their ids are known to be right.

        Raises:
            RemoteProtocolError: parts of a value are no parts of a value.
        """
        for key, content in contents.items():
            if key in self.contents:
                content = merged(self.contents[key], content)
            elif isinstance(content, Partial) or is_large(content):
                self._large.add(key)
            self.contents[key] = content
            if key in self._wholes:
                self._wholes[key].content = content

    def _hear_of(self, key: ContentId) -> None:
        """A value that did not come along can be left out."""
        if key not in self.contents:
            self._large.add(key)

    def lacks(self, key: ContentId) -> bool:
        """Whether not all is known of a value."""
        return isinstance(self.contents.get(key, ABSENT), Partial)

    def value(self, key: ContentId) -> Whole:
        """The value that a fact speaks of; one that could be left out is always the same object."""
        if (whole := self._wholes.get(key)) is not None:
            return whole
        content = self.contents.get(key, ABSENT)
        if key not in self._large:
            return Whole(content, key)
        if content is ABSENT:
            content = Partial(key)
        whole = self._wholes[key] = Whole(content, key, Mask())
        return whole

    @property
    def large(self) -> Set[ContentId]:
        """The values that can be left out."""
        return self._large

    def noted(self) -> dict[ContentId, Mask]:
        """What large values have decided so far; of those that nothing here has come to yet: all."""
        masks = {key: Mask(Level.WHOLE) for key in self._large - self._wholes.keys()}
        masks.update((key, whole.mask.copy()) for key, whole in self._wholes.items() if whole.mask is not None)
        return masks

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
