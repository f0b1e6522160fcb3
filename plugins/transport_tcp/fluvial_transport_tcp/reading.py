"""The reading half of a connection: bytes from the wire to messages, counted among what the node holds.

There is no task for it: :meth:`FrameReader.read` takes what has come until nothing is left, or until something has to be waited for; then the
connection is not read any further, and whoever grants it calls back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from fluvial.waiting import later, now_s, soon

from fluvial_transport_tcp.accounts import SIGN_S, WorkAccount
from fluvial_transport_tcp.framing import Decoder, Kind, Message
from fluvial_transport_tcp.intake import IntakeShare
from fluvial_transport_tcp.keepalive import KeepAlive
from fluvial_transport_tcp.metrics import Metrics
from fluvial_transport_tcp.pacing import ReadingPace
from fluvial_transport_tcp.requests import not_made
from fluvial_transport_tcp.rounds import WorkRounds
from fluvial_transport_tcp.secure import Session
from fluvial_transport_tcp.standing import Rank
from fluvial_transport_tcp.wire import BUFFERED_BYTES_MAX, READ_BYTES, Wire

TAKEN_BYTES: Final = BUFFERED_BYTES_MAX + READ_BYTES
"""All that a wire has; asking for less would make it copy."""
MESSAGES_AT_ONCE: Final = 32
"""Taken one after the other before other connections get their turn."""
RECORDS_AT_ONCE: Final = 256
"""Pieces of messages that are decrypted before other connections get their turn: a TLS record may have a single byte."""
WORK: Final = frozenset({Kind.REQUEST, Kind.ONE_WAY})
"""Kinds of messages that are held until they have been handled."""
ANSWERS: Final = frozenset({Kind.ANSWER, Kind.ERROR})
"""Kinds of messages that this side has asked for."""
ANSWER_BYTES_FREE: Final = 65_536
"""Of an answer: reading it is charged to nobody. Nothing is agreed upon how long an answer may be, so who sends more pays for the rest."""
MESSAGE_WORK_BYTES: Final = 4_096
"""What a message takes besides its bytes, as bytes: to decrypt so many takes as long."""
_SIGNS: Final = frozenset({Kind.PING, Kind.PONG})
"""Signs of life: one in many seconds is of use."""

Withdraw: TypeAlias = Callable[[], None]
"""Ends a wait: what was waited for is not wanted any more, or given back."""
Take: TypeAlias = Callable[[Message, int, Callable[[], None]], Withdraw | None]
"""Takes over a message, of which so many bytes are counted already: at once (None), or when it calls the third."""


class FrameReader:
    """Hands the other side's messages over, one after the other.

    Args:
        wire: where from.
        session: decrypts.
        decoder: may hold what came with the handshake, as may ``session`` and ``wire``.
        share: long frames are counted there while they arrive; those of ``WORK`` until whoever takes the message gives it back.
        life: marked while a frame is incomplete and while this side does not read.
        metrics: counts bytes and messages.
        pace: how fast this side reads.
        account: what is done for the connection; while it owes something it is not read.
        rounds: when it may be read.
        made: whether this side has made a request with this id and waits for its answer.
        take: takes the messages.
        resume: calls :meth:`read` again; called in a turn of the loop of its own.
    """

    __slots__ = (
        "_account",
        "_asked_bytes",
        "_decoder",
        "_ended",
        "_frame_bytes",
        "_frames",
        "_life",
        "_made",
        "_metrics",
        "_pace",
        "_resume",
        "_rounds",
        "_session",
        "_share",
        "_take",
        "_turn",
        "_waits",
        "_wire",
        "_withdraw",
        "_work_bytes",
    )

    def __init__(
        self,
        wire: Wire,
        session: Session,
        decoder: Decoder,
        *,
        share: IntakeShare,
        life: KeepAlive,
        metrics: Metrics,
        pace: ReadingPace,
        account: WorkAccount,
        rounds: WorkRounds,
        made: Callable[[int], bool],
        take: Take,
        resume: Callable[[], None],
    ) -> None:
        self._wire = wire
        self._session = session
        self._decoder = decoder
        self._share = share
        self._life = life
        self._metrics = metrics
        self._pace = pace
        self._account = account
        self._rounds = rounds
        self._made = made
        self._turn = False  # it has waited in line, and may be read
        self._take = take
        self._resume = resume
        # In one call of read: what it took, as bytes, and how much of that this side has asked for.
        self._work_bytes = self._asked_bytes = 0
        self._frames = 0
        self._frame_bytes = 0  # of the share, for a frame that is not complete
        self._waits = False
        self._withdraw: Withdraw | None = None
        self._ended = False

    def read(self) -> None:
        """Take what is here, if nothing is waited for.

        Raises:
            RemoteProtocolError: the bytes are no frame, or no TLS; or what ``take`` raises.
            OSError, anyio's errors of streams: the connection broke.
        """
        if self._waits or self._ended or (self._account.owes and self._must_rest(self._owed_s)):
            return
        if not (self._turn or self._rounds.open(self._account)):
            self._wait(self._rounds.queue(self._account, self._begin_turn))
            return
        self._turn = False
        began_s, before = self._rounds.clock.now(), self._metrics.bytes_in
        self._work_bytes = self._asked_bytes = 0
        try:
            self._read()
        finally:
            # What this node has asked for is its own work: else whoever answers it most would be the last to be read.
            others = 1.0 - self._asked_bytes / self._work_bytes if self._work_bytes else 1.0
            self._account.read(self._rounds.clock.since(began_s) * others, self._metrics.bytes_in - before)

    def _begin_turn(self) -> None:
        self._turn, self._withdraw = True, None
        self._heard()

    def _read(self) -> None:
        records, next_message, counts = RECORDS_AT_ONCE, self._decoder.next_message, self._metrics.messages_in
        for _ in range(MESSAGES_AT_ONCE):
            if self._waits or self._ended:
                return
            while (message := next_message()) is None and records:
                records -= 1
                if not self._more():
                    return
            if message is None:
                break
            kind, size = message.kind, len(message.body)
            counts[kind] += 1
            self._work_bytes += MESSAGE_WORK_BYTES + size
            if kind in ANSWERS:
                self._asked_bytes += MESSAGE_WORK_BYTES + (size if size < ANSWER_BYTES_FREE else ANSWER_BYTES_FREE)
            elif kind in _SIGNS:
                self._account.waste(SIGN_S, 0, now_s())
            counted = self._frame_is_complete(kind) if self._frame_bytes else 0
            if (withdraw := self._take(message, counted, self._granted)) is not None:
                self._wait(withdraw)
        if not (self._waits or self._ended):
            self._waits = True
            soon(self._continue)

    def end(self) -> None:
        """Read nothing more and hold nothing more; at once: whoever still refers to this connection must not hold on to megabytes."""
        self._ended = True
        withdraw, self._withdraw = self._withdraw, None
        if withdraw is not None:
            withdraw()
        self._decoder.discard()
        self._session.discard()
        if self._frame_bytes:
            self._frame_is_complete(Kind.PONG)

    def _more(self) -> bool:
        """Feed the decoder with at least one byte; False if there is none now, or something has to be waited for."""
        head = self._decoder.head
        if head is not None and not self._frame_bytes:
            solicited = head.kind in ANSWERS
            # To call a message an answer would give it room before all others.
            if solicited and not self._made(head.id):
                raise not_made(head.id)
            if not self._has_room(head.frame_bytes, solicited):
                return False
        while not (data := self._session.read()):
            if not (chunk := self._wire.take(TAKEN_BYTES)):
                return False
            self._life.heard = True
            self._metrics.bytes_in += len(chunk)
            self._session.feed(chunk)
            if self._pace.spend(len(chunk)) and self._must_rest(self._pace.settle):
                return False
        self._decoder.feed(data)
        return True

    def _has_room(self, size: int, solicited: bool) -> bool:
        """Whether there is room for all of a frame of which a part is here; no more of it is read before there is."""
        if not self._share.take(size, solicited=solicited):

            def on_turn() -> None:
                if self._waits:  # else it was granted at once
                    self._begin_frame(size)
                    self._granted()

            claim = self._share.queue(size, solicited=solicited, on_turn=on_turn)
            if self._ended or not claim.granted:
                self._wait(lambda: self._share.withdraw(claim))
                return False
        self._begin_frame(size)
        return True

    def _begin_frame(self, size: int) -> None:
        self._frame_bytes = size
        self._frames += 1
        self._life.frame = self._frames

    def _frame_is_complete(self, kind: Kind) -> int:
        """What of the share stays counted."""
        size, self._frame_bytes, self._life.frame = self._frame_bytes, 0, 0
        counted = size if kind in WORK else 0
        self._share.give(size - counted)
        return counted

    # --- waiting ------------------------------------------------------------------------------------------------------

    def _wait(self, withdraw: Withdraw) -> None:
        """This side does not read until something is granted."""
        if self._ended:  # while it was asked for
            withdraw()
            return
        self._waits, self._withdraw = True, withdraw
        self._life.pause()

    def _granted(self) -> None:
        """For whoever grants what was waited for, perhaps in the middle of another connection's work: this one goes on in a turn of its own."""
        self._withdraw = None
        soon(self._heard)

    def _heard(self) -> None:
        self._life.resume()
        self._continue()

    def _continue(self) -> None:
        self._waits = False
        if not self._ended:
            self._resume()

    def _must_rest(self, owed_s: Callable[..., float]) -> bool:
        """Account for what was read, and rest until more may be. A frame that arrives meanwhile is still under way: its time goes on."""
        wait_s = owed_s(vouched=self._share.holder.rank >= Rank.TRUSTED, now=now_s())
        if wait_s <= 0:
            return False
        self._waits = True
        self._withdraw = later(wait_s, self._rested).cancel
        return True

    def _owed_s(self, *, vouched: bool, now: float) -> float:
        """What the pace and the account owe."""
        return max(self._pace.owed_s(vouched=vouched, now=now), self._account.rest_s(now))

    def _rested(self) -> None:
        self._life.heard = True
        if not self._must_rest(self._owed_s):
            self._withdraw = None
            self._continue()
