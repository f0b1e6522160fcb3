"""What other peers have of a particle, so that a peer is sent only what it needs and has neither sent nor been sent before.

Kept in memory: after a restart everything is sent once more, which does no harm. If a peer turns out to lack something, it asks.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from fluvial.air.data.batch import Batch, BatchId, Known
from fluvial.air.data.content import ContentId
from fluvial.air.data.healing import merged
from fluvial.air.data.pace import SlicePace
from fluvial.air.data.partial import Content, Fork, Leaf, Mask, Partial, covers, cut
from fluvial.air.data.weight import CHUNK, NODE_BYTES, weight_within
from fluvial.few import EMPTY, Members, added

SENDERS_MAX: Final = 32
"""Peers that are remembered though they have only sent something: anybody may, with as many keys as they like. Who is forgotten is sent everything once more."""
ASKED_MAX: Final = 8_192
"""Values for which a peer has asked and which it does not have yet; who asks for more gets what it has asked for last."""
PART_BYTES_MAX: Final = 1_048_576
"""Memory of what is remembered of one value that a peer has in part."""
WHOLES_IN_NODE: Final = 16
"""Whole values that are taken note of in the time of a node of a tree, about."""
_WHOLE: Final[Content] = None
"""Stands for any value that a peer has whole."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a peer must have of the values that could be left out.

    Attributes:
        large: those values.
        masks: what is needed of each; nothing of the others.
    """

    large: frozenset[ContentId]
    masks: Mapping[ContentId, Mask]


@dataclass(slots=True)
class _Had:
    """What a peer has.

    Attributes:
        begins: of all batches it has at least so many, the first ones.
        batches: others that it has.
        contents: the values that it has, whole or in part.
        asked: values for which it has asked.
        partner: whether it has signed, taken or asked for something.
        parts: of each value that it has in part: the memory of that, and whether that includes the parts themselves, which nobody else holds.
        parts_bytes: the sum.
    """

    begins: int = 0
    batches: Members[BatchId] = ()
    contents: dict[ContentId, Content] = field(default_factory=dict)
    asked: frozenset[ContentId] = frozenset()
    partner: bool = False
    parts: dict[ContentId, tuple[int, bool]] = field(default_factory=lambda: EMPTY)
    parts_bytes: int = 0


def _has_wholes(had: _Had, keys: Collection[ContentId]) -> None:
    """A peer has these values whole; the values themselves are kept elsewhere."""
    had.contents.update(dict.fromkeys(keys, _WHOLE))
    for key in had.parts.keys() & keys if had.parts else ():
        had.parts_bytes -= had.parts.pop(key)[0]


def _has_part(had: _Had, key: ContentId, part: Partial, *, alone: bool) -> int:
    """A peer has a part of a value; ``alone`` if nobody else holds what is in that. Of a large part nothing is remembered: it is sent once more.

    Returns:
        How many bytes were looked at, about.
    """
    before, (size, before_alone) = had.contents.get(key, part), had.parts.get(key, (0, False))
    if not isinstance(before, Partial):
        return 0
    alone = alone or before_alone
    shown: Content = part
    looked_at = size
    if (size := _parts_bytes(part, alone=alone)) <= PART_BYTES_MAX and before is not part:
        looked_at += size
        shown = merged(before, part)
        if not isinstance(shown, Partial):
            _has_wholes(had, {key})
            return looked_at
        size = _parts_bytes(shown, alone=alone)
    looked_at += size
    if size > PART_BYTES_MAX:
        shown, size, alone = Partial(key), NODE_BYTES, False
    if had.parts is EMPTY:
        had.parts = {}
    had.parts_bytes += size - had.parts.get(key, (0, False))[0]
    had.contents[key], had.parts[key] = shown, (size, alone)
    return looked_at


def _parts_bytes(partial: Partial, *, alone: bool) -> int:
    """The memory of what is shown of a value, counted until it is too much."""
    size, trees = NODE_BYTES, [partial.tree]
    while trees and size <= PART_BYTES_MAX:
        tree = trees.pop()
        if tree is None:
            continue
        size += NODE_BYTES
        if isinstance(tree, Fork):
            trees += (tree.left, tree.right)
        elif isinstance(tree, Leaf) and isinstance(tree.value, Partial):
            size += NODE_BYTES
            trees.append(tree.value.tree)
        elif isinstance(tree, Leaf) and alone:
            size += weight_within((tree.key, tree.value), PART_BYTES_MAX)
    return size


_PEER_BYTES, _NAME_BYTES = 900, 130
"""Memory of what one peer has, and of each name in it."""


class Exchange:
    """Batches and values that are known to be with other peers."""

    __slots__ = ("_had", "_senders")

    def __init__(self) -> None:
        self._had: dict[str, _Had] = {}
        self._senders: dict[str, None] = EMPTY  # those that are no partners, in the order in which they came

    @property
    def held(self) -> int:
        """How many bytes of memory it takes, about."""
        if not self._had:
            return 0
        return sum(
            _PEER_BYTES + had.parts_bytes + _NAME_BYTES * (len(had.batches) + len(had.contents) + len(had.asked))
            for had in self._had.values()
        )

    def received(self, peer: str, known: Known, here: Mapping[ContentId, Content]) -> None:
        """A peer sent this, so it has it; ``here`` are the values that are known now: what else it sent is not remembered."""
        for _ in self.receiving(peer, known, here):
            pass

    def receiving(self, peer: str, known: Known, here: Mapping[ContentId, Content]) -> Iterator[None]:
        """As :meth:`received`, in slices."""
        if not (known.batches or known.contents):
            return  # as the first copy of most particles
        had = self._had.get(peer) or self._sender(peer)
        had.batches = added(had.batches, (batch.id for batch in known.batches))
        pace = SlicePace()
        contents = iter(known.contents.items())
        while chunk := dict(islice(contents, CHUNK)):
            partial = Partial in set(map(type, chunk.values()))
            if partial or here is not known.contents:
                _has_wholes(
                    had, {key for key, content in chunk.items() if type(content) is not Partial and key in here}
                )
            else:
                _has_wholes(had, chunk.keys())  # as of nearly all that is handed over: no step of Python for each
            if pace.over(len(chunk) // WHOLES_IN_NODE):
                yield
            for key, content in chunk.items() if partial else ():
                if isinstance(content, Partial) and key in here:
                    looked_at = _has_part(had, key, content, alone=here[key] is not content)
                    if pace.over(1 + looked_at // NODE_BYTES):
                        yield
        if had.asked:
            had.asked -= known.contents.keys()

    def owed(
        self, peer: str, batches: Sequence[Batch], contents: Mapping[ContentId, Content], needs: Needs | None = None
    ) -> Known:
        """What a peer lacks of all batches, of the small values that these speak of, and of the large ones as far as it needs them.

        Args:
            peer: who is to have it.
            batches: all that are known here; new ones are only added at the end.
            contents: all that is known here of values.
            needs: what it needs of large values; None to give all of them whole.
        """
        had = self._had.get(peer, _Had())
        while had.begins < len(batches) and batches[had.begins].id in had.batches:
            had.begins += 1
        lacking = tuple(batch for batch in batches[had.begins :] if batch.id not in had.batches)
        needed: set[ContentId] = set().union(*(batch.contents() for batch in lacking)) - had.contents.keys()
        owed = {
            key: contents[key] for key in needed if key in contents and not (needs is not None and key in needs.large)
        }
        for key in had.asked & contents.keys():
            owed[key] = contents[key]
        for key, mask in ({} if needs is None else needs.masks).items():
            if key in contents and key not in owed and not (key in had.contents and covers(had.contents[key], mask)):
                owed[key] = cut(contents[key], mask)
        return Known(lacking, owed)

    def given(self, peer: str, known: Known) -> None:
        """A peer has taken this in."""
        self._partner(peer)
        self.received(peer, known, known.contents)

    def shown(self, peer: str, batches: Iterable[BatchId]) -> None:
        """What a peer has signed builds on these, so it has them."""
        had = self._partner(peer)
        had.batches = added(had.batches, batches)

    def has(self, peer: str, batch: BatchId) -> bool:
        """Whether a peer is known to have a batch."""
        return peer in self._had and batch in self._had[peer].batches

    def asks(self, peer: str, contents: Collection[ContentId], here: Container[ContentId]) -> None:
        """A peer asks for values: it gets all that is here of them the next time.

        Args:
            peer: who asks.
            contents: what for; nothing if it only says that it lacks something.
            here: the values that are known now. It may ask for others when they are there: what it has made up is not remembered.
        """
        asked = [key for key in contents if key in here]
        if asked or not contents:
            had = self._partner(peer)
            # It may lack more than one question has room for, and needs all of it together.
            had.asked = had.asked.union(asked)
            if len(had.asked) > ASKED_MAX:
                had.asked = frozenset(asked)

    def forget(self, peer: str) -> None:
        """A peer lacks something that it was thought to have: it gets everything."""
        self._had.pop(peer, None)
        self._senders.pop(peer, None)

    def _partner(self, peer: str) -> _Had:
        had = self._had.setdefault(peer, _Had())
        if not had.partner:
            had.partner = True
            self._senders.pop(peer, None)
        return had

    def _sender(self, peer: str) -> _Had:
        had = self._had[peer] = _Had()
        if self._senders is EMPTY:
            self._senders = {}
        self._senders[peer] = None
        if len(self._senders) > SENDERS_MAX:
            self.forget(next(iter(self._senders)))
        return had
