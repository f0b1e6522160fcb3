"""Batches: what one peer adds between two departures of a particle, under one signature.

A batch is a list of items: :class:`Step` marks, each followed by the facts of that step. Its Merkle root is ``content.merkle_root`` over
the canonical bytes of the items. What is signed is::

    "fluvial/batch/1" ‖ 00 ‖ particle key (32) ‖ signer's public key (32) ‖ Merkle root (32)

and the SHA-256 of that is the batch's id. The particle's key covers its id, its initiator and the hash of its script, so nothing in a batch
can be used elsewhere. A step names the batches that its signer knew (its own earlier one among them): with them a receiver repeats
the steps in the signer's order. Batches never change: each is signed once and verified once by each peer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from operator import ge
from typing import Final, NewType, cast

import msgspec

from fluvial.air.data.content import ContentId, merkle_root, root_over
from fluvial.air.data.facts import (
    FRAME_BYTES,
    CallFailure,
    CanonFact,
    Closed,
    Fact,
    Item,
    Result,
    Step,
    Taken,
    instances_of,
)
from fluvial.air.data.pace import Found, SlicePace, finished
from fluvial.air.data.partial import Content
from fluvial.encoding import encode
from fluvial.errors import RemoteProtocolError
from fluvial.identity import PUBLIC_KEY_BYTES, PeerId, verify

BatchId = NewType("BatchId", bytes)
"""32 bytes."""

SIGNING_TAG: Final = b"fluvial/batch/1\0"
ROOT_BYTES: Final = 32
STORED: Final = 256
"""Items that are hashed together: a power of two, so that they are a tree of their own."""
NAMED_IN_STEP: Final = 16
"""So many batches that a step names are taken note of in the time of a step."""


class Signed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A batch as it is encoded.

    Attributes:
        signer: Ed25519 public key, 32 bytes.
        items: steps and facts, beginning with a step.
        signature: 64 bytes.
    """

    signer: bytes
    items: tuple[Item, ...]
    signature: bytes


class MissingError(RemoteProtocolError):
    """What came speaks of something that neither came with it nor is here; whoever sent it may have it.

    Attributes:
        batches, contents: what is missing, as far as it is known.
    """

    code = "F303"

    def __init__(
        self, message: str, *, batches: tuple[BatchId, ...] = (), contents: tuple[ContentId, ...] = ()
    ) -> None:
        super().__init__(message, hint="the sender gives what it has of it when it is asked")
        self.batches = batches
        self.contents = contents


class Batch:
    """A batch whose signature is known to be right: made by :meth:`seal` or :meth:`verified`, never by hand.

    Attributes:
        id, signer, signed: what it is; never changed.
    """

    __slots__ = ("_contents", "_steps", "id", "signed", "signer")

    def __init__(self, id_: BatchId, signer: PeerId, signed: Signed) -> None:
        self.id: Final = id_
        self.signer: Final = signer
        self.signed: Final = signed
        self._steps: list[tuple[Step, list[Fact]]] | None = None
        self._contents: tuple[ContentId, ...] | None = None

    def __eq__(self, other: object) -> bool:
        """The same items, with the same signature."""
        return isinstance(other, Batch) and (self.id, self.signed) == (other.id, other.signed)

    def __hash__(self) -> int:
        """By id."""
        return hash(self.id)

    def __repr__(self) -> str:
        """All of it."""
        return f"Batch({self.id!r}, {self.signer!r}, {self.signed!r})"

    @classmethod
    def seal(cls, particle: bytes, signer: PeerId, items: Sequence[Item], sign: Callable[[bytes], bytes]) -> Batch:
        """Sign items of one's own.

        Args:
            particle: the particle's key, 32 bytes.
            signer: who signs.
            items: steps and facts, beginning with a step.
            sign: makes the signer's Ed25519 signature over a message.
        """
        message = _message(particle, signer.public_key, items)
        signed = Signed(signer.public_key, tuple(items), sign(message))
        return cls(_id(message), signer, signed)

    @classmethod
    def verified(cls, particle: bytes, signed: Signed) -> Batch:
        """Check a received batch.

        Raises:
            RemoteProtocolError: it is malformed, or the signature is not its signer's for this particle and this script.
        """
        if len(signed.signer) != PUBLIC_KEY_BYTES:
            raise RemoteProtocolError("a batch's signer has no key of 32 bytes")
        signer = PeerId.from_public_key(signed.signer)
        if not signed.items or not isinstance(signed.items[0], Step):
            raise RemoteProtocolError(f"a batch of {signer} does not begin with a step")
        if problem := next(filter(None, map(_problem, signed.items)), ""):
            raise RemoteProtocolError(f"a batch of {signer} has {problem}")
        message = _message(particle, signed.signer, signed.items)
        if not verify(signed.signer, signed.signature, message):
            raise RemoteProtocolError(f"a batch is not signed by {signer} for this particle")
        return cls(_id(message), signer, signed)

    @classmethod
    def stored(cls, particle: bytes, signed: Signed) -> Batch:
        """A batch from this peer's own log, which was verified when it came in."""
        return finished(cls.storing(particle, signed, SlicePace()))

    @classmethod
    def storing(cls, particle: bytes, signed: Signed, pace: SlicePace) -> Found[Batch]:
        """As :meth:`stored`, in slices."""
        signer = PeerId.from_public_key(signed.signer)
        trees: list[bytes] = []
        for begin in range(0, len(signed.items) or 1, STORED):
            items = signed.items[begin : begin + STORED]
            trees.append(merkle_root([encode(item) for item in items]))
            if pace.over(2 * len(items)):
                yield
        return cls(_id(_beginning(particle, signed.signer) + root_over(trees)), signer, signed)

    def prepare(self) -> None:
        """Work out now what is asked of it later, and then takes no time: large batches are decoded off the event loop, and taken in on it."""
        self.steps()
        self.contents()

    def steps(self) -> Sequence[tuple[Step, list[Fact]]]:
        """The facts of each step, in order."""
        if (steps := self._steps) is None:
            steps = self._steps = []
            for item in self.signed.items:
                if type(item) is Step:
                    steps.append((item, []))
                else:
                    steps[-1][1].append(item)
        return steps

    def contents(self) -> Collection[ContentId]:
        """Ids of the values that its facts speak of, each once."""
        if self._contents is None:
            ids: dict[ContentId, None] = {}
            for item in self.signed.items:
                if type(item) is Result:
                    ids[item.value] = None
                elif type(item) is CanonFact:
                    ids |= dict.fromkeys(element.value for element in item.elements)
            self._contents = tuple(ids)  # a set takes 200 bytes even for one
        return self._contents


def without_dead(items: Sequence[Item]) -> list[Item]:
    """The items of a batch to be, without what says nothing more: who took a call that is answered, and steps without facts.

    What such a step has seen comes before the next one as well. Only the very first step of a flow stays without facts, since with it the
    script begins; so does the last one, for what it has seen.
    """
    answered = {instance for item in items if type(item) in _ANSWERS for instance in instances_of(cast(Fact, item))}
    alive: list[Item] = []
    for item in items:
        if type(item) is Step:
            last = alive[-1] if alive else None
            if type(last) is Step and (last.seen or len(alive) > 1):
                alive.pop()
                item = Step(last.seen + item.seen)
            alive.append(item)
        elif not (type(item) is Taken and (item.frame, item.node) in answered):
            alive.append(item)
    if len(alive) > 1 and alive[-1] == Step():
        alive.pop()
    return alive


_ANSWERS: Final = frozenset((Result, CallFailure, Closed))


UNROLLED: Final = 1_000
"""Steps, and batches that are named in them, of a slice."""


def unroll(fresh: Mapping[BatchId, Batch], known: Collection[BatchId]) -> list[tuple[Batch, list[Fact]]]:
    """As :func:`unrolled`, at once."""
    return finished(unrolled(fresh, known))


def unrolled(
    fresh: Mapping[BatchId, Batch], known: Collection[BatchId]
) -> Generator[None, None, list[tuple[Batch, list[Fact]]]]:
    """The steps of new batches in their signers' order: a new batch that a step names comes right before that step. In slices.

    Args:
        fresh: batches that came together.
        known: ids of those that were here before.

    Raises:
        RemoteProtocolError: a step names a batch that is in neither, or batches name each other in a circle.
    """
    begun: set[BatchId] = set()
    named: set[bytes] = set()
    unrolled: list[tuple[Batch, list[Fact]]] = []
    pace = SlicePace(UNROLLED)
    for batch in fresh.values():
        for step, _ in batch.steps():
            named.update(step.seen)
            if pace.over(1 + len(step.seen) // NAMED_IN_STEP):
                yield
    for head in [batch for batch in fresh.values() if batch.id not in named]:
        begun.add(head.id)
        stack = [(head, _story(head))]
        while stack:
            batch, story = stack[-1]
            now = next(story, None)
            if pace.over():
                yield
            if now is None:
                stack.pop()
            elif isinstance(now, list):
                unrolled.append((batch, now))
            elif now in fresh and now not in begun:
                begun.add(now)
                stack.append((fresh[now], _story(fresh[now])))
            elif now not in begun and now not in known:
                raise MissingError(f"a batch of {batch.signer} follows one that is not here", batches=(now,))
    if len(begun) < len(fresh):
        raise RemoteProtocolError("batches name each other in a circle")
    return unrolled


def _story(batch: Batch) -> Iterator[BatchId | list[Fact]]:
    """What a batch tells, in order: the batches that a step names, then the step's facts."""
    for step, facts in batch.steps():
        yield from map(BatchId, step.seen)
        yield facts


def _problem(item: Item) -> str:
    """What is impossible about an item; empty if nothing is."""
    if type(item) is Step:
        return "" if all(len(batch) == 32 for batch in item.seen) else "a step that names no batch"
    if type(item) is Closed:
        if not item.nodes or any(map(ge, item.nodes, item.nodes[1:])):
            return "closed calls that are none or not in order"
        if len(item.root) != ROOT_BYTES:
            return "closed calls with an impossible root"
        first, last = item.nodes[0], item.nodes[-1]
    else:
        first = last = item.node
    if len(item.frame) not in (0, FRAME_BYTES) or first < 0 or last >= 2**32:
        return "a fact about an impossible instance"
    if type(item) is CallFailure and item.status == 0:
        return "a failure with status 0"
    if type(item) is CanonFact:
        if any(not _is_instance(element.frame, element.node) for element in item.elements):
            return "a canon element of an impossible writer"
        if len({(element.frame, element.node) for element in item.elements}) < len(item.elements):
            return "a canon in which one instruction has written two elements"
    return ""


def _is_instance(frame: bytes, node: int) -> bool:
    return len(frame) in (0, FRAME_BYTES) and 0 <= node < 2**32


def _message(particle: bytes, signer: bytes, items: Sequence[Item]) -> bytes:
    return _beginning(particle, signer) + merkle_root([encode(item) for item in items])


def _beginning(particle: bytes, signer: bytes) -> bytes:
    return SIGNING_TAG + particle + signer


def _id(message: bytes) -> BatchId:
    return BatchId(hashlib.sha256(message).digest())


class Known(msgspec.Struct, frozen=True):
    """What travels with a particle, checked: every batch and every content id is right.

    Attributes:
        batches: in an order in which each comes after those that its steps name.
        contents: values by id, whole or in part.
    """

    batches: tuple[Batch, ...]
    contents: Mapping[ContentId, Content]
