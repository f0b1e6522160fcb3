"""The white paper's older forms, as forms of today's instructions.

==============================================  =====================================================================
older form                                      today
==============================================  =====================================================================
``%init_peer_id``                               ``%init_peer_id%``
``(call P ("s" "f"))``                          ``(call P ("s" "f") [])``
``(call PART "f" [a] out)``                     the peer and the service are those that the value ``PART`` names
``("s" word)``, ``word`` defined nowhere before ``("s" "word")``
``acc[]`` as output                             ``$acc``
``(match a b)``, ``(mismatch a b)``             ``(match a b (null))``, ``(mismatch a b (null))``
``acc``, ``acc.length``, ``acc.$.[0]`` as value the content of ``$acc``, see below
==============================================  =====================================================================

A script with any of these forms is a *paper* script: the peer of each of its calls may be a pair (``PairPeer``).

**Reading a stream.** Today a stream's content must be fixed with ``canon`` before it can be read. It is fixed on the peer of the call
before it in the text (leaving out a call inside a finished fold whose peer is known in that fold only), or on the initiator.

In the arguments of a call and in a test *with* a body it is fixed once: ``(seq (canon P $acc #acc_now) …)``.

A test *without* a body waits. ``(match acc.length 2)`` becomes ::

    (new $acc_seen
      (fold $acc acc_it
        (seq
          (ap acc_it $acc_seen)
          (seq
            (canon P $acc_seen #acc_now)
            (xor (match #acc_now.length 2 (null)) (next acc_it))))))

and what follows it in its ``seq`` simply follows. This is its exact meaning:

- P takes the stream's elements one after another, in the order in which P learns of them, and tests what it has so far after each.
- A fold over a stream without last instruction leaves what follows waiting when it runs out of elements, and lets it go on when
  one of its bodies ends without ``next``. So what follows starts when the test has passed, once, whether more elements come later
  or not. With a count as test it passes at exactly one element; otherwise later elements may pass too and change nothing.
- The test never fails, it waits; so a handler around it catches nothing of it. A part that is not there yet waits too.
- What follows stands outside of the fold and of the ``xor``: its errors go where they went before.
- The empty stream is never tested.
- P tests what the flow brings to it; nothing is sent for the sake of the test that would not go to P anyway for its ``canon``.
- ``new`` gives every execution, such as one per iteration of a fold around it, a count of its own.

If a test reads two streams, the fold over the second one is the left branch of a ``par`` in the body of the first, in the place of
the test, and every pair of states is tested.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import msgspec

from fluvial.air.syntax.tree import (
    Ap,
    Canon,
    CanonStream,
    Fold,
    Instruction,
    Match,
    Mismatch,
    New,
    Next,
    Null,
    Par,
    Position,
    Scalar,
    Seq,
    Stream,
    Triplet,
    Value,
    Xor,
)

UNCLOSED_INIT_PEER_ID = "%init_peer_id"


class StreamRead(msgspec.Struct, frozen=True):
    """A stream whose content an instruction reads, with the fresh names for it.

    Attributes:
        stream: the stream, with its sigil.
        now: the canonicalised content.
        seen: the stream of the elements looked at so far.
        iterator: the element just looked at.
    """

    stream: str
    now: str
    seen: str
    iterator: str


class FreshNames:
    """Names that occur nowhere in a script.

    Args:
        text: the script.
    """

    def __init__(self, text: str) -> None:
        self._taken = set(re.findall(r"[\w-]+", text))
        self._reads: dict[str, int] = {}

    def read_of(self, stream: str) -> StreamRead:
        """Fresh names for one more read of a stream."""
        bare = stream.removeprefix("$")
        while True:
            count = self._reads[stream] = self._reads.get(stream, 0) + 1
            number = str(count) if count > 1 else ""
            if not any(f"{bare}_{part}{number}" in self._taken for part in ("now", "seen", "it")):
                return StreamRead(stream, f"#{bare}_now{number}", f"${bare}_seen{number}", f"{bare}_it{number}")


def waiting_test(
    kind: type[Match] | type[Mismatch],
    operands: tuple[Value, Value],
    reads: Iterable[StreamRead],
    *,
    peer: Triplet,
    at: Position,
    take_number: Callable[[], int],
) -> Instruction:
    """A test without body that reads streams, in the arrangement above.

    Args:
        kind: which test.
        operands: what it compares; streams replaced by ``Read.now``.
        reads: the streams, at least one.
        peer: where their content is fixed.
        at: the test's place.
        take_number: the next instruction's number; called in pre-order.
    """
    layers = [(read, [take_number() for _ in range(6)]) for read in reads]
    left, right = operands
    inner: Instruction = kind(
        number=take_number(), at=at, left=left, right=right, body=Null(number=take_number(), at=at)
    )
    choice: type[Xor] | type[Par] = Xor
    for read, numbers in reversed(layers):
        renew, fold, seq, append, fix, choose = numbers
        seen = Stream(read.seen)
        again = Next(number=take_number(), at=at, iterator=read.iterator)
        steps = (
            Ap(number=append, at=at, argument=Scalar(read.iterator), target=seen),
            Canon(number=fix, at=at, peer=peer, source=seen, target=CanonStream(read.now)),
            choice(number=choose, at=at, left=inner, right=again),
        )
        body = Seq(number=seq, at=at, children=steps)
        loop = Fold(number=fold, at=at, iterable=Stream(read.stream), iterator=read.iterator, body=body)
        inner = New(number=renew, at=at, target=seen, body=loop)
        choice = Par
    return inner
