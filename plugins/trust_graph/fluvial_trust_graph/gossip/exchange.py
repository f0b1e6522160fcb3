"""The protocols by which peers exchange statements.

::

    /trust/push/1      statements                → what became of each
    /trust/digests/1   digests of 256 buckets    → the buckets that differ here
    /trust/ids/1       buckets                   → ids of the statements in them
    /trust/fetch/1     ids                       → the statements

Whoever compares asks for what it lacks (pull), so it decides how much it takes. What is new is pushed to some connected peers at once, since a
revocation must not wait. Whoever is connected is chosen at random, but half of the choices fall on peers with weight if there are some: keys are free, and a
crowd of strangers that takes nothing and tells nothing must not keep a peer from those that do. Push takes statements from everybody, within the limits of :class:`~fluvial_trust_graph.intake.StatementIntake`: an
owner's command hands statements over in this way, too.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Final, TypeVar

import anyio
import anyio.lowlevel
from fluvial.encoding import decode, encode
from fluvial.errors import FluvialError, Refused, RemoteProtocolError, StorageError
from fluvial.identity import PeerId
from fluvial.ports import Context
from fluvial.seats import Answer
from msgspec import Meta

from fluvial_trust_graph.gossip.digest import BUCKETS, DIGEST_BYTES, ID_BYTES, StatementIndex, id_of
from fluvial_trust_graph.intake import StatementIntake
from fluvial_trust_graph.statements import STATEMENT_BYTES_MAX, Statement, decode_statement, encode_statement

PUSH: Final = "/trust/push/1"
DIGESTS: Final = "/trust/digests/1"
IDS: Final = "/trust/ids/1"
FETCH: Final = "/trust/fetch/1"
PUSHED_MAX: Final = 250
"""Statements of one message."""
PUSHED_BYTES_MAX: Final = 60_000
"""Fits into the smallest frame that every peer takes."""
STATEMENT_BYTES_MIN: Final = 170
"""No signed statement is shorter, so a message of some length brings at most so many."""
DECODED_AT_ONCE: Final = 8
PUSHES_AT_ONCE: Final = 32
DELAYED_MAX: Final = PUSHES_AT_ONCE // 2
"""Messages whose refusal is delayed at a time: half of the places for messages, so that others find one."""
DELAY_S: Final = 0.1
"""How long a refusal is delayed: whoever waits for answers sends no more meanwhile."""
BUCKETS_AT_ONCE: Final = 16
IDS_MAX: Final = 3_000
ROUNDS_MAX: Final = 4
"""Fetches in one comparison: a thousand statements; the next comparison goes on."""
FAN_OUT: Final = 8
"""Peers that new statements are pushed to."""
REJECTED_MAX: Final = 10_000
"""Ids that are not asked for again, since they were not accepted."""
REJECTED_S: Final = 300.0
"""After this time they are: their issuers may have got weight."""
NEWS_MAX: Final = 1_000
ASK_S: Final = 10.0
SILENT_S: Final = 600.0
"""How long a peer that does not speak these protocols is left alone."""
SILENT_MAX: Final = 1_000

AnswerT = TypeVar("AnswerT")

_Bytes = Annotated[bytes, Meta(max_length=STATEMENT_BYTES_MAX)]
_Statements = Annotated[list[_Bytes], Meta(max_length=PUSHED_MAX)]
_Outcomes = Annotated[list[str], Meta(max_length=PUSHED_MAX)]
_Buckets = Annotated[list[Annotated[int, Meta(ge=0, lt=BUCKETS)]], Meta(max_length=BUCKETS)]
_Ids = Annotated[list[Annotated[bytes, Meta(min_length=ID_BYTES, max_length=ID_BYTES)]], Meta(max_length=IDS_MAX)]


class StatementExchange:
    """See the module's docstring.

    Args:
        context: of the part.
        index: what this peer has.
        intake: takes statements in.
        weight: of a peer.
    """

    def __init__(
        self, context: Context, index: StatementIndex, intake: StatementIntake, weight: Callable[[PeerId], int]
    ) -> None:
        self._context = context
        self._index = index
        self._intake = intake
        self._weight = weight
        self._rejected: OrderedDict[bytes, None] = OrderedDict()
        self._rejected_until = 0.0
        self._news: dict[tuple[PeerId, PeerId], tuple[Statement, PeerId | None]] = {}
        self._woken = anyio.Event()
        self._pushing = anyio.Lock()
        self._delayed = 0
        self._silent: OrderedDict[PeerId, float] = OrderedDict()

    def answers(self) -> Sequence[Answer]:
        """What this peer answers."""
        return (
            Answer(protocol=PUSH, by=self._take_pushed, bytes_max=65_536, at_once=PUSHES_AT_ONCE, per_sender=2),
            Answer(protocol=DIGESTS, by=self._compare, bytes_max=BUCKETS * DIGEST_BYTES, at_once=16, per_sender=1),
            Answer(protocol=IDS, by=self._list, bytes_max=2_048, at_once=16, per_sender=1),
            Answer(protocol=FETCH, by=self._give, bytes_max=8_192, at_once=16, per_sender=1),
        )

    # --- asked

    async def _take_pushed(self, sender: PeerId, payload: bytes) -> bytes:
        granted = self._intake.grant(sender, min(PUSHED_MAX, len(payload) // STATEMENT_BYTES_MIN + 1))
        if not granted:  # before anything is decoded
            await self._delay()
            raise Refused("you have handed over too many statements; try again later", reason="busy")
        async with self._pushing:  # one message after the other: all of them together get no more turns than one
            pushed = decode(payload, _Statements, what="list of statements")
            taken = await self._intake.take(await _decoded(pushed[:granted]), sender)
        self.tell(taken.fresh, but=sender)
        return encode([*taken.outcomes, *["busy"] * (len(pushed) - len(taken.outcomes))])

    async def _delay(self) -> None:
        """Let a sender that is over its rate wait for the refusal, as long as that takes no places from others."""
        if self._delayed < DELAYED_MAX:
            self._delayed += 1
            try:
                await anyio.sleep(DELAY_S)
            finally:
                self._delayed -= 1

    async def _compare(self, sender: PeerId, payload: bytes) -> bytes:
        if len(payload) != BUCKETS * DIGEST_BYTES:
            raise RemoteProtocolError(f"a comparison has {BUCKETS} digests of {DIGEST_BYTES} bytes")
        return encode(self._index.differing(payload))

    async def _list(self, sender: PeerId, payload: bytes) -> bytes:
        buckets = decode(payload, _Buckets, what="question for ids")
        return encode(self._index.ids(dict.fromkeys(buckets), limit=IDS_MAX))

    async def _give(self, sender: PeerId, payload: bytes) -> bytes:
        ids = decode(payload, _Ids, what="question for statements")
        return encode(next(_messages(self._index.get(ids[:PUSHED_MAX])), []))

    # --- asking

    def tell(self, statements: Iterable[Statement], *, but: PeerId | None = None) -> None:
        """Have :meth:`push_news` push new statements. Beyond :data:`NEWS_MAX`, others learn of them when they compare."""
        for statement in statements:
            if len(self._news) < NEWS_MAX:
                self._news[statement.issuer, statement.subject] = statement, but
        if self._news:
            self._woken.set()

    async def push_news(self) -> None:
        """Until cancelled: push what is new to some of the connected peers."""
        while True:
            await self._woken.wait()
            self._woken = anyio.Event()
            news, self._news = list(self._news.values()), {}
            async with anyio.create_task_group() as pushes:
                for peer in self._choose(FAN_OUT):
                    pushes.start_soon(self._push, peer, [statement for statement, but in news if peer != but])

    async def _push(self, peer: PeerId, statements: Sequence[Statement]) -> None:
        with anyio.move_on_after(ASK_S):
            for message in _messages(statements):
                try:
                    await self._context.peers.send(peer, PUSH, encode(message))
                except FluvialError as error:
                    self._context.log.debug("trust_push_failed", other=peer, error=error.message)
                    return

    def _choose(self, most: int) -> list[PeerId]:
        """Some of the connected peers, at most so many; see the module's docstring."""
        rng = self._context.rng
        others = [peer for peer in sorted(self._context.peers.connected()) if not self._is_silent(peer)]
        heavy = [peer for peer in others if self._weight(peer) > 0]
        half = most // 2 if most > 1 else rng.randrange(2)
        chosen = rng.sample(heavy, min(half, len(heavy)))
        rest = [peer for peer in others if peer not in chosen]
        return chosen + rng.sample(rest, min(most - len(chosen), len(rest)))

    async def compare(self) -> int:
        """Compare with one connected peer and take what is lacking here; returns how many statements are new. Raises StorageError."""
        chosen = self._choose(1)
        if not chosen:
            return 0
        (peer,) = chosen
        try:
            return await self._compare_with(peer)
        except StorageError:
            raise  # that is ours
        except RemoteProtocolError as error:
            self._silence(peer)
            self._context.log.debug("trust_comparison_failed", other=peer, error=error.message)
        except FluvialError as error:
            self._context.log.debug("trust_comparison_failed", other=peer, error=error.message)
        return 0

    async def _compare_with(self, peer: PeerId) -> int:
        buckets = await self._ask(peer, DIGESTS, self._index.digests(), _Buckets)
        if not buckets:
            return 0
        chosen = self._context.rng.sample(buckets, min(BUCKETS_AT_ONCE, len(buckets)))
        ids = await self._ask(peer, IDS, encode(chosen), _Ids)
        wanted = [one for one in self._index.lacking(ids) if one not in self._rejected]
        news = 0
        for at in range(0, min(len(wanted), ROUNDS_MAX * PUSHED_MAX), PUSHED_MAX):
            asked = wanted[at : at + PUSHED_MAX]
            asked = asked[: self._intake.grant(peer, len(asked))]
            if not asked:
                break
            answer = await self._ask(peer, FETCH, encode(asked), _Statements)
            given = await _decoded(answer[: len(asked)])
            taken = await self._intake.take(given, peer)
            news += len(taken.fresh)
            # Only what was here and not accepted: who withholds a statement must not keep others from giving it.
            self._reject(one for one in map(id_of, given) if one not in self._index)
            self.tell(taken.fresh, but=peer)
        return news

    async def _ask(self, peer: PeerId, protocol: str, payload: bytes, kind: type[AnswerT]) -> AnswerT:
        answer = await self._context.peers.request(peer, protocol, payload, timeout_s=ASK_S)
        return decode(answer, kind, what=f"answer of {protocol}")

    def _reject(self, ids: Iterable[bytes]) -> None:
        now = anyio.current_time()
        if now >= self._rejected_until:
            self._rejected.clear()
            self._rejected_until = now + REJECTED_S
        for one in ids:
            self._rejected[one] = None
            if len(self._rejected) > REJECTED_MAX:
                self._rejected.popitem(last=False)

    def _silence(self, peer: PeerId) -> None:
        self._silent[peer] = anyio.current_time() + SILENT_S
        if len(self._silent) > SILENT_MAX:
            self._silent.popitem(last=False)

    def _is_silent(self, peer: PeerId) -> bool:
        return self._silent.get(peer, -math.inf) > anyio.current_time()


def _messages(statements: Iterable[Statement]) -> Iterator[list[bytes]]:
    """Statements as the contents of messages, each within the limits."""
    message: list[bytes] = []
    size = 0
    for statement in statements:
        data = encode_statement(statement)
        if message and (len(message) == PUSHED_MAX or size + len(data) > PUSHED_BYTES_MAX):
            yield message
            message, size = [], 0
        message.append(data)
        size += len(data) + 3
    if message:
        yield message


async def _decoded(given: Sequence[bytes]) -> list[Statement]:
    """The statements that bytes stand for; others get their turn in between."""
    found = []
    for number, data in enumerate(given):
        found.append(decode_statement(data))
        if number % DECODED_AT_ONCE == DECODED_AT_ONCE - 1:
            await anyio.lowlevel.checkpoint()
    return found


def encode_push(statements: Sequence[Statement]) -> bytes:
    """The payload of a push; raises ValueError if it is more than one message can carry."""
    first, *more = [*_messages(statements)] or [[]]
    if more:
        raise ValueError(f"one message carries at most {PUSHED_MAX} statements, {PUSHED_BYTES_MAX:,} bytes")
    return encode(first)


def decode_outcomes(payload: bytes) -> list[str]:
    """What became of pushed statements; raises RemoteProtocolError."""
    return decode(payload, _Outcomes, what="answer to a push")
