"""How statements get around: what waits, what is compared, what floods do. Peers are in one process, under virtual time."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from fluvial.effectors import Call
from fluvial.encoding import encode
from fluvial.errors import FluvialError, StorageError
from fluvial.identity import KeyPair, PeerId
from fluvial.memory.network import Memory
from fluvial.seats import ALLOWED, Answer, Contributions, Decision
from fluvial.testing.solo import Solo, solo
from fluvial.virtual.clock import EPOCH_MS
from fluvial.virtual.loop import BACKEND
from fluvial_trust_graph.authorization import TrustGraphAuthorization
from fluvial_trust_graph.evaluation import TrustEvaluation
from fluvial_trust_graph.gossip.digest import BUCKETS, StatementIndex
from fluvial_trust_graph.gossip.exchange import DELAY_S, FETCH, PUSH, decode_outcomes, encode_push
from fluvial_trust_graph.gossip.rates import SenderRates
from fluvial_trust_graph.gossip.waiting_room import WaitingRoom
from fluvial_trust_graph.intake import ENDS_AT_ONCE, SWEPT_AT_ONCE
from fluvial_trust_graph.live import STEPS_PER_S_MAX, LiveTrust
from fluvial_trust_graph.options import TrustGraphOptions
from fluvial_trust_graph.policy.rules import CallRule
from fluvial_trust_graph.statements import RevocationStatement, Statement, TrustStatement, sign_revocation, sign_trust
from fluvial_trust_graph.storage.store import StatementStore
from fluvial_trust_graph.tables import TABLES
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plugins.trust_graph.worlds import PEERS, bans, keys_of, peers, trust_statements, trusts

NOW = EPOCH_MS // 1000
KEYS = {keys.peer_id: keys for keys in map(keys_of, "abcdefg")}
ROOT, ADA, BOB, EVE = (keys_of(name) for name in ("root", "ada", "bob", "eve"))


@pytest.fixture
def anyio_backend() -> Any:
    return BACKEND


def trust(issuer: KeyPair, subject: PeerId, *, at: int = NOW, lasts_s: int = 100_000, **fields: Any) -> TrustStatement:
    statement = TrustStatement(
        network="test", issuer=issuer.peer_id, subject=subject, issued_at=at, expires_at=at + lasts_s, **fields
    )
    return sign_trust(statement, issuer)


def ban(issuer: KeyPair, subject: PeerId, *, at: int = NOW) -> RevocationStatement:
    return sign_revocation(
        RevocationStatement(network="test", issuer=issuer.peer_id, subject=subject, issued_at=at), issuer
    )


@asynccontextmanager
async def peer(
    name: str,
    network: Memory | None = None,
    *,
    base_dir: Path = Path(),
    keys: KeyPair | None = None,
    part: type[TrustGraphAuthorization] = TrustGraphAuthorization,
    **options: Any,
) -> AsyncIterator[Solo[TrustGraphAuthorization]]:
    given = TrustGraphOptions(**{"roots": {str(ROOT.peer_id): 5}, **options})
    async with solo(
        part,
        given,
        name=name,
        kind="authorization",
        network=network,
        keys=keys,
        tables=TABLES,
        base_dir=base_dir,
    ) as running:
        yield running


async def push(sender: Solo[Any], to: Solo[Any], statements: Sequence[Statement]) -> list[str]:
    answer = await sender.around.context.peers.request(to.contact, PUSH, encode_push(statements), timeout_s=5)
    return decode_outcomes(answer)


async def test_what_comes_early_waits_until_its_issuer_has_weight() -> None:
    network = Memory()
    async with peer("one", network) as one, peer("other", network) as other:
        part = one.part
        early = [trust(ADA, BOB.peer_id), trust(ADA, EVE.peer_id)]
        assert await push(other, one, early) == ["waiting", "waiting"]
        assert part.weight(BOB.peer_id) == 0
        assert await push(other, one, [trust(ROOT, ADA.peer_id)]) == ["accepted"]
        assert part.weight(BOB.peer_id) == 0, "the root has not signed itself"
        assert await push(other, one, [trust(ROOT, ROOT.peer_id)]) == ["accepted"]
        assert (part.weight(ADA.peer_id), part.weight(BOB.peer_id)) == (16, 8)
        assert len(part.book.intake.waiting) == 0


async def test_what_waits_goes_on_waiting_if_it_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Memory()
    async with peer("one", network) as one, peer("other", network) as other:
        book = one.part.book
        assert await push(other, one, [trust(ADA, BOB.peer_id)]) == ["waiting"]
        put, times = StatementStore.put, 0

        async def put_once(store: StatementStore, found: Sequence[Statement]) -> None:
            nonlocal times
            times += 1
            if times > 1:
                raise StorageError("the disk is full")
            await put(store, found)

        with monkeypatch.context() as patch:
            patch.setattr(StatementStore, "put", put_once)
            with pytest.raises(StorageError):
                await book.take([trust(ROOT, ROOT.peer_id), trust(ROOT, ADA.peer_id)], one.peer)
        assert one.metric("fluvial_trust_statements_waiting") == 1
        assert one.part.weight(BOB.peer_id) == 0
        await book.take([], one.peer)
        assert one.part.weight(BOB.peer_id) == 8


async def test_what_waits_is_looked_at_when_something_is_new_not_with_each_push(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weight, asked = TrustEvaluation.weight, 0

    def counting(evaluation: TrustEvaluation, peer: PeerId) -> int:
        nonlocal asked
        asked += 1
        return weight(evaluation, peer)

    monkeypatch.setattr(TrustEvaluation, "weight", counting)
    async with peer("one") as one:
        book, waiting = one.part.book, 60
        await book.take([trust(ROOT, ROOT.peer_id)], one.peer)
        crowd = [trust(keys_of(f"stranger {number}"), ADA.peer_id) for number in range(waiting)]
        assert set((await book.take(crowd, EVE.peer_id)).outcomes) == {"waiting"}
        forged = replace(trust(ADA, BOB.peer_id), signature=bytes(64))
        for given in ([], [forged], [trust(ROOT, ROOT.peer_id)]):
            asked = 0
            await book.take(given, BOB.peer_id)
            assert asked <= len(given)
        asked = 0
        await book.take([trust(ROOT, crowd[7].issuer)], BOB.peer_id)
        assert asked >= waiting
        assert len(book.intake.waiting) == waiting - 1


async def test_an_issuer_for_whom_no_search_was_left_is_looked_at_again_in_another_second() -> None:
    async with peer("one") as one:
        book, (b, c, d, f, g) = one.part.book, map(keys_of, "bcdfg")
        ways = ((ROOT, b, c, EVE), (ROOT, d, f, g, EVE))
        links = [trust(by, to.peer_id) for way in ways for by, to in pairwise(way)]
        await book.take([trust(ROOT, ROOT.peer_id), *links, ban(b, EVE.peer_id)], one.peer)
        book.trust.pay(STEPS_PER_S_MAX - 1)
        assert (await book.take([trust(EVE, ADA.peer_id)], one.peer)).outcomes == ["waiting"]
        await book.take([], one.peer)
        assert len(book.intake.waiting) == 1
        await anyio.sleep(1)
        await book.take([], one.peer)
        assert len(book.intake.waiting) == 0
        assert one.part.weight(ADA.peer_id) == 1


async def test_new_statements_and_revocations_get_around_at_once() -> None:
    network = Memory()
    async with peer("a", network) as a, peer("b", network) as b, peer("c", network) as c:
        for one, other in ((a, b), (b, c)):
            await one.around.context.peers.request(other.contact, PUSH, encode_push([]), timeout_s=5)
        await a.part.book.take([trust(ROOT, ROOT.peer_id), trust(ROOT, ADA.peer_id)], a.peer)
        await anyio.sleep(1)
        assert [one.part.weight(ADA.peer_id) for one in (a, b, c)] == [16, 16, 16]
        await anyio.sleep(1)
        await c.part.book.take([ban(ROOT, ADA.peer_id, at=NOW + 1)], c.peer)
        await anyio.sleep(1)
        assert [one.part.weight(ADA.peer_id) for one in (a, b, c)] == [0, 0, 0]


async def test_peers_that_were_apart_compare() -> None:
    network = Memory()
    async with peer("a", network) as a:
        chain = [trust(ROOT, ROOT.peer_id), *(trust(ROOT, one) for one in PEERS)]
        crowd = [trust(ROOT, keys_of(f"user {number}").peer_id) for number in range(600)]
        await a.part.book.take([*chain, *crowd], a.peer)
        async with peer("b", network, gossip_s=2.0) as b:
            await b.around.context.peers.request(a.contact, PUSH, encode_push([]), timeout_s=5)
            await anyio.sleep(120)
            assert len(b.part.book.trust) >= len(chain) + len(crowd)
            assert b.part.weight(crowd[-1].subject) == 16


class Withholding(TrustGraphAuthorization):
    """Names what it has, and gives nothing of it."""

    def contributions(self) -> Contributions:
        given = super().contributions()
        nothing = Answer(protocol=FETCH, by=self._nothing, bytes_max=8_192)
        return msgspec.structs.replace(
            given, answers=(*(one for one in given.answers if one.protocol != FETCH), nothing)
        )

    async def _nothing(self, sender: PeerId, payload: bytes) -> bytes:
        return encode([])


async def test_who_withholds_a_statement_keeps_nobody_from_giving_it() -> None:
    network, told = Memory(), [trust(ROOT, ROOT.peer_id), trust(ROOT, ADA.peer_id)]
    async with (
        peer("liar", network, part=Withholding) as liar,
        peer("a", network) as a,
        peer("b", network, gossip_s=2.0) as b,
    ):
        for one in (liar, a):
            await one.part.book.take(told, one.peer)
        await b.around.context.peers.request(liar.contact, PUSH, encode_push([]), timeout_s=5)
        await anyio.sleep(10)
        assert b.part.weight(ADA.peer_id) == 0
        await b.around.context.peers.request(a.contact, PUSH, encode_push([]), timeout_s=5)
        await anyio.sleep(60)
        assert b.part.weight(ADA.peer_id) == 16


async def test_a_crowd_of_strangers_does_not_keep_news_from_peers_with_weight() -> None:
    network = Memory()
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(peer("a", network))
        ada = await stack.enter_async_context(peer("ada", network, keys=ADA))
        crowd = [await stack.enter_async_context(peer(f"stranger {number}", network)) for number in range(16)]
        for one in (*crowd, ada):
            await one.around.context.peers.request(a.contact, PUSH, encode_push([]), timeout_s=5)
        told = [trust(ROOT, ROOT.peer_id), trust(ROOT, ADA.peer_id)]
        for one in (a, ada):
            await one.part.book.take(told, one.peer)
        for number in range(8):
            await a.part.book.take([ban(ROOT, keys_of(f"banned {number}").peer_id)], a.peer)
            await anyio.sleep(1)
        for number in range(8):
            assert ada.part.book.trust.newest(ROOT.peer_id, keys_of(f"banned {number}").peer_id) is not None


async def test_what_is_known_is_there_again_after_a_restart(tmp_path: Path) -> None:
    from fluvial.storage import open_store
    from fluvial_trust_graph.storage.store import StatementStore

    async with open_store(f"sqlite:///{tmp_path}/x.db", base_dir=tmp_path, tables=[TABLES], inline=True) as store:
        kept = StatementStore(store.part("authorization"))
        statements = [trust(ROOT, ADA.peer_id), ban(ADA, BOB.peer_id)]
        await kept.put(statements)
        await kept.put([trust(ROOT, ADA.peer_id, at=NOW + 1)])
        await kept.set_root(ADA.peer_id, 3)
        await kept.set_root(ADA.peer_id, -1)
    async with open_store(f"sqlite:///{tmp_path}/x.db", base_dir=tmp_path, tables=[TABLES], inline=True) as store:
        kept = StatementStore(store.part("authorization"))
        found, roots = await kept.load()
        assert sorted(one.issued_at for one in found) == [NOW, NOW + 1]
        assert roots == {ADA.peer_id: -1}
        await kept.remove([(ADA.peer_id, BOB.peer_id)])
        assert len((await kept.load())[0]) == 1


async def test_forged_and_untimely_statements_are_not_taken() -> None:
    async with peer("one") as one:
        good = trust(ROOT, ADA.peer_id)
        report = await one.part.book.take(
            [
                replace(good, signature=bytes(64)),
                replace(good, subject=BOB.peer_id),
                trust(ROOT, BOB.peer_id, at=NOW + 50),
                trust(ROOT, BOB.peer_id, at=NOW - 50, lasts_s=10),
                replace(good, network="other"),
                good,
                good,
            ],
            EVE.peer_id,
        )
        assert report.outcomes == ["forged", "forged", "future", "expired", "forged", "accepted", "known"]


async def test_time_passes_and_what_is_over_is_forgotten() -> None:
    async with peer("one", keep_expired_s=1_000, keep_weightless_s=2_000) as one:
        book = one.part.book
        await book.take(
            [
                trust(ROOT, ROOT.peer_id),
                trust(ROOT, ADA.peer_id, lasts_s=100),
                trust(ADA, BOB.peer_id, lasts_s=1_000_000),
            ],
            one.peer,
        )
        version = one.part.version
        assert one.part.weight(BOB.peer_id) == 8
        await anyio.sleep(101)
        assert (one.part.weight(ADA.peer_id), one.part.weight(BOB.peer_id)) == (0, 0)
        assert one.part.version > version
        assert book.trust.newest(ROOT.peer_id, ADA.peer_id) is not None, "it still stands against older ones"
        await anyio.sleep(2_000)
        assert book.trust.newest(ROOT.peer_id, ADA.peer_id) is None
        assert book.trust.newest(ADA.peer_id, BOB.peer_id) is not None
        await anyio.sleep(2_500)
        assert book.trust.newest(ADA.peer_id, BOB.peer_id) is None
        statements, _ = await book._store.load()
        assert {(one.issuer, one.subject) for one in statements} == {
            (ROOT.peer_id, ROOT.peer_id),
            (one.peer, one.peer),
        }


class Turns:
    """Counts the turns of others while something is at work, and how much of it is done at most in one of them."""

    def __init__(self) -> None:
        self.turn = 0
        self.work: Counter[int] = Counter()

    async def run(self) -> None:
        while True:
            await anyio.lowlevel.checkpoint()
            self.turn += 1

    def did(self, work: int) -> None:
        self.work[self.turn] += work

    @property
    def most(self) -> int:
        return max(self.work.values(), default=0)


def stranger(number: int) -> PeerId:
    return PeerId.from_public_key(number.to_bytes(32, "big"))


def unsigned(issuer: PeerId, subject: PeerId, lasts_s: int) -> TrustStatement:
    return TrustStatement(
        network="test", issuer=issuer, subject=subject, issued_at=NOW, expires_at=NOW + lasts_s, signature=bytes(64)
    )


async def test_many_trusts_that_end_together_let_others_have_their_turn_and_count_for_no_decision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns, changed = Turns(), TrustEvaluation.changed

    def counting(evaluation: TrustEvaluation, subjects: Sequence[PeerId]) -> None:
        turns.did(len(subjects))
        changed(evaluation, subjects)

    rules = {"s": {"f": (CallRule(weight=4),)}}
    async with peer("one", services=rules) as one, anyio.create_task_group() as tasks:
        book, many = one.part.book, [stranger(number) for number in range(3 * ENDS_AT_ONCE)]
        asked = Call(particle_id="p", initiator=max(many), service="s", function="f", arguments=[])
        book.trust.put([trust(ROOT, ROOT.peer_id), *(unsigned(ROOT.peer_id, to, 100) for to in many)])
        assert one.part.permit(asked, None) == ALLOWED
        monkeypatch.setattr(TrustEvaluation, "changed", counting)
        monkeypatch.setattr(type(one.around.context.clock), "now_ms", lambda _: EPOCH_MS + 100_000)
        tasks.start_soon(turns.run)
        decision = one.part.permit(asked, None)
        assert not isinstance(decision, Decision), "it takes some turns"
        assert not (await decision).allowed
        assert turns.most == ENDS_AT_ONCE
        tasks.cancel_scope.cancel()


async def test_a_sweep_lets_others_have_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    looks, removed = Turns(), Turns()
    hears, remove = LiveTrust.hears, LiveTrust.remove

    def counting(live: LiveTrust, issuer: PeerId) -> bool | None:
        looks.did(1)
        return hears(live, issuer)

    def counting_removed(live: LiveTrust, pairs: Sequence[tuple[PeerId, PeerId]]) -> None:
        removed.did(len(pairs))
        remove(live, pairs)

    async with peer("one", keep_weightless_s=0) as one, anyio.create_task_group() as tasks:
        book, many = one.part.book, [stranger(number) for number in range(2 * SWEPT_AT_ONCE + 9)]
        book.trust.put([unsigned(issuer, ADA.peer_id, 100) for issuer in many])
        monkeypatch.setattr(LiveTrust, "hears", counting)
        monkeypatch.setattr(LiveTrust, "remove", counting_removed)
        for turns in (looks, removed):
            tasks.start_soon(turns.run)
        assert await book.intake.sweep() == len(many)
        assert looks.most <= SWEPT_AT_ONCE + 1, "some are looked at twice, in another turn"
        assert 0 < removed.most <= SWEPT_AT_ONCE
        assert len(book.trust) == 1, "its own trust in itself"
        assert book.trust.count_of(many[0]) == 0
        tasks.cancel_scope.cancel()


async def test_a_flood_stays_within_its_limits_and_honest_statements_get_through() -> None:
    network = Memory()
    limits = {"waiting_max": 200, "waiting_sender_max": 50, "waiting_issuer_max": 4, "sender_burst": 300}
    async with peer("one", network, **limits) as one, peer("flood", network) as flood, peer("good", network) as good:
        part, outcomes = one.part, []
        for batch in range(12):
            keys = [KeyPair.from_secret(f"{batch} {number}".encode().ljust(32)) for number in range(100)]
            try:
                outcomes += await push(flood, one, [trust(key, ADA.peer_id) for key in keys])
            except FluvialError as error:
                outcomes.append(error.code)
            assert len(part.book.intake.waiting) <= 50
        assert {"waiting", "full", "busy"} <= set(outcomes)
        assert outcomes.count("waiting") == 50
        assert len(part.book.trust) == 1, "nothing of it is stored"
        await anyio.sleep(60)
        assert await push(good, one, [trust(ROOT, ROOT.peer_id), trust(ROOT, BOB.peer_id)]) == ["accepted", "accepted"]
        assert part.weight(BOB.peer_id) == 16
        assert one.metric("fluvial_trust_statements_waiting") == 50


async def test_where_nobody_can_wait_the_signatures_of_strangers_are_not_looked_at() -> None:
    async with peer("one", waiting_max=0) as one:
        book, forged = one.part.book, replace(trust(ADA, BOB.peer_id), signature=bytes(64))
        assert (await book.take([forged], EVE.peer_id)).outcomes == ["full"]
        assert (
            await book.take([forged, replace(trust(ROOT, ADA.peer_id), signature=bytes(64))], one.peer)
        ).outcomes == [
            "full",
            "forged",
        ], "what is forged in the name of a root gives nobody hope"
        arriving = [forged, trust(ADA, EVE.peer_id), trust(ROOT, ADA.peer_id), trust(ROOT, ROOT.peer_id)]
        assert (await book.take(arriving, EVE.peer_id)).outcomes == ["forged", "accepted", "accepted", "accepted"]
        assert one.part.weight(EVE.peer_id) == 8


async def test_who_hands_over_too_much_waits_for_the_refusal() -> None:
    network = Memory()
    async with peer("one", network, sender_burst=250) as one, peer("flood", network) as flood:
        crowd = [trust(keys_of(f"stranger {number}"), ADA.peer_id) for number in range(250)]
        await push(flood, one, crowd)
        began = anyio.current_time()
        with pytest.raises(FluvialError, match="too many statements"):
            await push(flood, one, crowd[:1])
        assert anyio.current_time() - began >= DELAY_S


async def test_one_issuer_and_all_issuers_have_a_limit() -> None:
    async with peer("one", statements_max=100, issuer_max=30) as one:
        book = one.part.book
        crowd = [trust(ROOT, keys_of(str(number)).peer_id) for number in range(40)]
        assert (await book.take([trust(ROOT, ROOT.peer_id), *crowd], one.peer)).outcomes.count("full") == 11
        newer = trust(ROOT, crowd[0].subject, at=NOW, sequence=1)
        assert (await book.take([newer], one.peer)).outcomes == ["accepted"], "in place of the older one"
        heavy = [keys_of(str(number)) for number in range(25)]
        more = [trust(key, keys_of(f"{n} of {key.peer_id}").peer_id) for key in heavy for n in range(5)]
        await book.take(more, one.peer)
        assert len(book.trust) == 100


# --- the parts


@settings(deadline=None)
@given(st.lists(st.tuples(trust_statements, peers), max_size=60))
def test_the_waiting_room_keeps_its_bounds(arrivals: list[tuple[TrustStatement, PeerId]]) -> None:
    room = WaitingRoom(places=8, issuer_max=3, sender_max=5)
    for statement, sender in arrivals:
        may = room.may_take(statement, sender)
        assert not room.put(statement, sender) or may
        waiting = [one for one, _ in room._waiting.values()]
        assert len(room) == len(waiting) <= 8
        assert all(sum(one.issuer == issuer for one in waiting) <= 3 for issuer in PEERS)
        assert all(len(pairs) <= 5 for pairs in room._of_sender.values())
        assert room._most == max(map(len, room._of_sender.values()), default=0)
    issuers = set(room.issuers())
    assert {one.issuer for one, _ in room.release(lambda issuer: True)} == issuers
    assert len(room) == 0


def test_a_newcomer_takes_a_place_from_the_sender_that_has_most() -> None:
    room = WaitingRoom(places=4, issuer_max=9, sender_max=9)
    a, b, c, d, *_ = PEERS
    assert all(room.put(trusts(one, d), a) for one in (a, b, c, d))
    assert not room.put(trusts(a, c), a), "its own are not displaced"
    assert room.put(trusts(b, c), b)
    assert room.put(trusts(c, a), b)
    assert not room.put(trusts(d, a), b), "two and two: nobody has more"
    assert room.put(bans(b, c), b), "a newer one takes the place of the older one"


def test_a_newer_statement_without_a_place_leaves_that_of_the_older_one() -> None:
    room = WaitingRoom(places=4, issuer_max=9, sender_max=1)
    a, b, c, *_ = PEERS
    older = trusts(a, b)
    assert room.put(older, a)
    assert room.put(trusts(b, c), b)
    assert not room.put(bans(a, b), b), "its sender has enough"
    assert [one for one, _ in room.release(lambda issuer: issuer == a)] == [older]


@settings(max_examples=40, deadline=None)
@given(st.lists(trust_statements, max_size=30), st.lists(trust_statements, max_size=30))
def test_comparing_finds_what_is_lacking(here: list[TrustStatement], there: list[TrustStatement]) -> None:
    def index(statements: list[TrustStatement]) -> tuple[StatementIndex, dict[Any, TrustStatement]]:
        made, newest = StatementIndex(), {}
        for one in statements:
            signed = sign_trust(one, KEYS[one.issuer])
            made.put(signed)
            newest[one.issuer, one.subject] = signed
        return made, newest

    one, mine = index(here)
    other, theirs = index(there)
    differing = other.differing(one.digests())
    lacking = one.lacking(other.ids(differing, limit=1_000))
    assert sorted(map(repr, other.get(lacking))) == sorted(repr(x) for x in theirs.values() if x not in mine.values())
    for statement in mine.values():
        one.remove(statement)
    assert one.digests() == StatementIndex().digests()


def test_senders_have_rates() -> None:
    rates = SenderRates(per_s=10, burst=100, strangers_per_s=40)
    a, b, c, *_ = PEERS
    assert rates.take(a, 150, 0.0) == 100
    assert rates.take(a, 5, 0.0) == 0
    assert rates.take(b, 50, 0.0) == 0, "strangers share a bucket"
    assert rates.take(c, 50, 0.0, weight=1) == 50, "who has weight does not"
    assert rates.take(a, 50, 1.0) == 10
    assert rates.take(b, 50, 1.0) == 30


def test_a_list_of_ids_looks_at_no_more_buckets_than_it_needs() -> None:
    """Whoever asks for all buckets of a large graph must not have each of them sorted."""
    index = StatementIndex()
    for subject in (ADA, BOB, EVE):
        index.put(ban(ROOT, subject.peer_id))
    first = min(at for at in range(BUCKETS) if index.ids([at], limit=1))
    buckets = iter(range(BUCKETS))
    assert len(index.ids(buckets, limit=1)) == 1
    assert next(buckets) == first + 2
