"""peer, sig, stat and run-console: the built-in services that know which peer they are on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
import msgspec
import pytest
import structlog
from anyio.abc import TaskStatus
from fluvial.addresses import Address, Contact
from fluvial.clock import ManualClock
from fluvial.effectors import Call, Effector, NoConfig, Tetraplet, function
from fluvial.errors import RemoteProtocolError, ServiceError, Unreachable
from fluvial.fairness import Payer, Upstream
from fluvial.guard.guarded import GuardedRouting, GuardedTransport
from fluvial.identity import KeyPair, PeerId, verify
from fluvial.seats import Receive, Routing, Transport
from fluvial.services import Services, builtin
from fluvial.services.builtin import PING_PROTOCOL, Versions, serve_builtins
from fluvial.services.builtin.sig import RESERVED, Sig
from fluvial.services.disclosure import Disclosure
from fluvial.services.limits import ServiceLimits
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.support.services import KEYS, make_guard

BOB, CAROL, DAVE, ERIN = (KeyPair.from_secret(bytes([seed]) * 32).peer_id for seed in (10, 11, 12, 13))


HERE = Address.parse("/ip4/127.0.0.1/tcp/7771")
THERE = Address.parse("/ip4/127.0.0.1/tcp/7772")


@dataclass
class Neighbourhood(Routing):
    """Transport and routing of a peer that has Bob on the line, reaches Carol (who does not understand it), but not Dave."""

    up: set[PeerId] = field(default_factory=lambda: {BOB})
    dialled: list[tuple[Contact, str]] = field(default_factory=list)
    others: Sequence[Contact] = ()
    looked: int = 0

    @property
    def addresses(self) -> Sequence[Address]:
        return [HERE]

    async def run(self, *args: Any, task_status: TaskStatus[None]) -> None:  # type: ignore[override]
        task_status.started()

    async def request(self, contact: Contact, protocol: str, payload: bytes, *, timeout_s: float) -> bytes:
        self.dialled.append((contact, protocol))
        if contact.peer == DAVE:
            raise Unreachable("nobody there")
        if contact.peer == ERIN:
            await anyio.sleep_forever()
        self.up.add(contact.peer)
        raise RemoteProtocolError("unknown protocol")

    async def send(self, contact: Contact, protocol: str, payload: bytes) -> None:
        await self.request(contact, protocol, payload, timeout_s=1)

    def keep(self, contact: Contact) -> None:
        raise AssertionError("a script must not make the peer keep a connection for good")

    def connected(self) -> frozenset[PeerId]:
        return frozenset(self.up)

    async def disconnect(self, peer: PeerId) -> None:
        self.up.discard(peer)

    def dialable(self, address: Address) -> bool:
        return True

    async def prove(self, contact: Contact, *, timeout_s: float) -> Sequence[Address]:
        raise AssertionError("a script must not make the peer dial")

    async def find(self, peer: PeerId) -> Contact | None:
        return next((contact for contact in self.contacts() if contact.peer == peer), None)

    def learn(self, contact: Contact) -> None:
        return None

    def contacts(self) -> Sequence[Contact]:
        self.looked += 1
        return [Contact(CAROL, (THERE.with_peer(CAROL),)), Contact(DAVE, (THERE.with_peer(DAVE),)), *self.others]


def types_fit(neighbourhood: Neighbourhood) -> tuple[Transport, Routing, Receive | None]:
    return neighbourhood, neighbourhood, None


@pytest.fixture
def neighbourhood() -> Neighbourhood:
    return Neighbourhood()


@pytest.fixture
async def builtins(services: Services, neighbourhood: Neighbourhood, keys: KeyPair, clock: ManualClock) -> None:
    guard = make_guard()
    transport, routing = GuardedTransport(guard, "transport"), GuardedRouting(guard, "routing")
    transport.take(neighbourhood, "test")
    routing.take(neighbourhood, "test")
    await serve_builtins(
        services,
        keys=keys,
        transport=transport,
        routing=routing,
        clock=clock,
        versions=Versions(node="0.1.0", air="1"),
        log=structlog.get_logger(),
    )


@pytest.fixture
async def ask(ask: Any, builtins: None) -> Any:
    return ask


async def test_all_builtins_are_there(services: Services, builtins: None) -> None:
    assert set(services.functions()) == {service.service_id for service in builtin.BUILTINS}


async def refused(asked: Any) -> tuple[int, str]:
    with pytest.raises(ServiceError) as failure:
        await asked
    return failure.value.status, failure.value.message


# --- peer -------------------------------------------------------------------------------------------------------------


async def test_identify_tells_addresses_and_versions(ask: Any) -> None:
    assert await ask("peer.identify") == {
        "external_addresses": ["/ip4/127.0.0.1/tcp/7771"],
        "node_version": "0.1.0",
        "air_version": "1",
        "spell_version": "",
        "allowed_binaries": [],
        "vm_info": None,
    }


async def test_the_time_is_the_clocks(ask: Any, clock: ManualClock) -> None:
    assert await ask("peer.timestamp_ms") == 1_700_000_000_123
    assert await ask("peer.timestamp_sec") == 1_700_000_000
    clock.time_ms += 2_000
    assert await ask("peer.timestamp_sec") == 1_700_000_002


async def test_connections_are_told(ask: Any) -> None:
    assert await ask("peer.is_connected", BOB) is True
    assert await ask("peer.is_connected", CAROL) is False
    assert (await refused(ask("peer.is_connected", "nobody")))[0] == 4


async def test_a_connection_is_made_to_a_known_peer(ask: Any, neighbourhood: Neighbourhood) -> None:
    assert await ask("peer.connect", CAROL) is True
    assert await ask("peer.connect", CAROL) is True  # it stands already
    assert neighbourhood.dialled == [(Contact(CAROL, (THERE.with_peer(CAROL),)), PING_PROTOCOL)]


async def test_addresses_given_go_before_those_known(ask: Any, neighbourhood: Neighbourhood, stranger: PeerId) -> None:
    assert await ask("peer.connect", stranger, ["/ip4/127.0.0.1/tcp/7779"]) is True
    assert [str(address) for address in neighbourhood.dialled[0][0].addresses] == [
        f"/ip4/127.0.0.1/tcp/7779/p2p/{stranger}"
    ]


async def test_a_peer_that_does_not_answer_or_is_not_known_is_not_connected(
    ask: Any, stranger: PeerId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fluvial.services.builtin.peer.CONNECT_S_MAX", 0.02)
    assert await ask("peer.connect", DAVE) is False
    assert await ask("peer.connect", stranger) is False
    assert await ask("peer.connect", ERIN, ["/ip4/127.0.0.1/tcp/7779"]) is False


async def test_connect_answers_only_to_the_peer_itself(
    ask: Any, stranger: PeerId, neighbourhood: Neighbourhood
) -> None:
    status, text = await refused(ask("peer.connect", CAROL, initiator=stranger))
    assert status == 8
    assert "only for particles that it began itself" in text
    assert neighbourhood.dialled == []


@pytest.mark.parametrize(
    ("addresses", "complaint"),
    [
        (["somewhere"], "is no address like"),
        ([f"/ip4/127.0.0.1/tcp/1/p2p/{DAVE}"], "is not one of"),
        (["/ip4/127.0.0.1/tcp/1"] * 17, "17 addresses are too many"),
    ],
)
async def test_impossible_addresses_are_refused(ask: Any, addresses: list[str], complaint: str) -> None:
    status, text = await refused(ask("peer.connect", CAROL, addresses))
    assert status == 4
    assert complaint in text


async def test_a_peer_does_not_connect_to_itself(ask: Any, keys: KeyPair) -> None:
    assert (await refused(ask("peer.connect", keys.peer_id)))[0] == 7


async def test_many_contacts_are_not_gone_through_for_each_call(neighbourhood: Neighbourhood, ask: Any) -> None:
    """A script that asks for its initiator's thousands of times kept a peer with 4,096 of them busy for 8 ms each time."""
    neighbourhood.others = [Contact(PeerId.from_public_key(bytes([n]) * 32), (THERE,)) for n in range(100)]
    for _ in range(100):
        assert await ask("peer.get_contact", CAROL, initiator=CAROL) is not None
        assert await ask("peer.get_contact", ERIN, initiator=ERIN) is None
    assert neighbourhood.looked < 10


async def test_contacts_are_those_known_here(ask: Any, keys: KeyPair, stranger: PeerId) -> None:
    assert await ask("peer.get_contact", CAROL) == {
        "peer_id": CAROL,
        "addresses": [f"/ip4/127.0.0.1/tcp/7772/p2p/{CAROL}"],
    }
    assert await ask("peer.get_contact", BOB) == {"peer_id": BOB, "addresses": []}
    assert await ask("peer.get_contact", keys.peer_id) == {
        "peer_id": keys.peer_id,
        "addresses": ["/ip4/127.0.0.1/tcp/7771"],
    }
    assert await ask("peer.get_contact", stranger) is None


ABOUT_OTHERS = {
    "peer.is_connected": (BOB,),
    "peer.get_contact": (CAROL,),
    "stat.service_stat": ("math",),
    "stat.service_memory": ("math",),
}


@pytest.mark.parametrize("question", ABOUT_OTHERS)
async def test_strangers_are_told_nothing_of_neighbours_and_services(ask: Any, stranger: PeerId, question: str) -> None:
    there = await refused(ask(question, *ABOUT_OTHERS[question], initiator=stranger))
    nowhere = await refused(ask(question, ERIN if question.startswith("peer") else "made-up", initiator=stranger))
    assert there == nowhere, "the answer itself tells nothing"
    assert there[0] == 8
    assert "its owner tells nobody else" in there[1]


async def test_everybody_may_ask_about_itself_and_the_peer(ask: Any, keys: KeyPair) -> None:
    assert await ask("peer.is_connected", BOB, initiator=BOB) is True
    assert await ask("peer.get_contact", CAROL, initiator=CAROL) == await ask("peer.get_contact", CAROL)
    assert await ask("peer.get_contact", keys.peer_id, initiator=CAROL) is not None


@pytest.mark.parametrize("limits", [ServiceLimits(disclosed_to="everybody")])
@pytest.mark.parametrize("question", ABOUT_OTHERS)
async def test_an_owner_may_disclose_all(ask: Any, stranger: PeerId, question: str) -> None:
    arguments = ABOUT_OTHERS[question]
    assert await ask(question, *arguments, initiator=stranger) == await ask(question, *arguments)


async def test_an_unknown_service_is_no_question_about_services(ask: Any, services: Services, stranger: PeerId) -> None:
    """A stranger who guesses is told of the services that every peer has; the owner of all."""
    await services.serve(Secret())
    own = await refused(ask("a.b"))
    told = await refused(ask("a.b", initiator=stranger))
    assert (own[0], told[0]) == (1, 1)
    assert "launch-codes" in own[1]
    assert "launch-codes" not in told[1]
    assert "op" in told[1]


class Secret(Effector[NoConfig]):
    service_id = "launch-codes"

    @function
    def get(self) -> str:
        return "0000"


def test_trust_opens_what_the_owner_opens_to_the_trusted() -> None:
    weights = {BOB: 1}
    for to, told in (
        ("nobody", [KEYS.peer_id]),
        ("trusted", [KEYS.peer_id, BOB]),
        ("everybody", [KEYS.peer_id, BOB, CAROL]),
    ):
        disclosure = Disclosure(KEYS.peer_id, to, lambda peer: weights.get(peer, 0))  # type: ignore[arg-type]  # one of the three
        assert [peer for peer in (KEYS.peer_id, BOB, CAROL) if disclosure.allows(peer)] == told


async def test_timeout_waits_and_gives_its_message(ask: Any) -> None:
    began = anyio.current_time()
    assert await ask("peer.timeout", 20, "late") == "late"
    assert anyio.current_time() - began >= 0.02
    assert await ask("peer.timeout", "1") == ""
    assert await ask("peer.timeout", 0, ["m"]) == "m"


@pytest.mark.parametrize("duration", [600_001, 2**64 - 1, "600001", "soon", "-1", "٣", "9" * 10_000, "", -1, 1.5, None])
async def test_impossible_durations_are_refused(ask: Any, duration: Any) -> None:
    assert (await refused(ask("peer.timeout", duration)))[0] == 4


async def test_timeout_may_be_longer_than_the_usual_limit_of_a_call(services: Services, ask: Any) -> None:
    with anyio.move_on_after(0.05) as scope:
        await ask("peer.timeout", 600_000)
    assert scope.cancelled_caught


# --- sig --------------------------------------------------------------------------------------------------------------


def own(keys: KeyPair, *, service: str = "", function: str = "") -> list[list[Tetraplet]]:
    return [[Tetraplet(keys.peer_id, service, function)]]


async def test_a_signature_can_be_verified_by_anybody(ask: Any, keys: KeyPair, stranger: PeerId) -> None:
    result = await ask("sig.sign", [1, 2, 3], tetraplets=own(keys))

    assert result["success"] is True
    assert result["error"] == []
    (signature,) = result["signature"]
    assert verify(keys.public_key, bytes(signature), bytes([1, 2, 3]))
    assert await ask("sig.verify", signature, [1, 2, 3], initiator=stranger) is True
    assert await ask("sig.verify", signature, [1, 2, 4]) is False
    assert await ask("sig.verify", [0] * 64, [1, 2, 3]) is False
    assert await ask("sig.verify", [], []) is False


async def test_a_peer_signs_results_of_its_own_services(ask: Any, keys: KeyPair) -> None:
    assert (await ask("sig.sign", [1], tetraplets=own(keys, service="registry", function="get_record_bytes")))[
        "success"
    ]


async def test_the_key_is_named(ask: Any, keys: KeyPair) -> None:
    assert await ask("sig.get_peer_id") == keys.peer_id


async def test_nothing_is_signed_for_the_particles_of_others(ask: Any, keys: KeyPair, stranger: PeerId) -> None:
    status, text = await refused(ask("sig.sign", [1], tetraplets=own(keys), initiator=stranger))
    assert status == 8
    assert (
        text == f"peer {keys.peer_id} signs only for particles that it began itself; this one was begun by {stranger}"
    )


@pytest.mark.parametrize("tetraplets", [[], [[]]])
async def test_nothing_is_signed_whose_origin_is_not_known(ask: Any, tetraplets: Any) -> None:
    assert (await refused(ask("sig.sign", [1], tetraplets=tetraplets)))[0] == 8


async def test_nothing_is_signed_that_another_peer_has_made(ask: Any, keys: KeyPair) -> None:
    mixed = [[Tetraplet(keys.peer_id), Tetraplet(BOB, "app", "bytes")]]
    status, text = await refused(ask("sig.sign", [1], tetraplets=mixed))
    assert status == 8
    assert f"comes from app.bytes on {BOB}" in text


@pytest.mark.parametrize("start", RESERVED)
async def test_messages_of_the_protocols_are_never_signed(ask: Any, keys: KeyPair, start: bytes) -> None:
    status, text = await refused(ask("sig.sign", list(start + b"rest"), tetraplets=own(keys)))
    assert status == 8
    assert "never signed" in text


async def test_bytes_must_be_bytes(ask: Any, keys: KeyPair) -> None:
    assert (await refused(ask("sig.sign", [256], tetraplets=own(keys))))[0] == 4
    assert (await refused(ask("sig.sign", "text", tetraplets=own(keys))))[0] == 4


@given(st.binary(max_size=80), st.binary(min_size=64, max_size=64))
def test_sign_and_verify_agree(data: bytes, other: bytes) -> None:
    keys = KeyPair.from_secret(b"\x01" * 32)
    call = Call(
        particle_id="p", initiator=keys.peer_id, service="sig", function="sign", arguments=[], tetraplets=own(keys)
    )
    sig = Sig(keys)
    if data.startswith(RESERVED):
        return
    (signature,) = sig.sign(call, list(data)).signature
    assert sig.verify(signature, list(data))
    assert sig.verify(list(other), list(data)) is (other == bytes(signature))


# --- stat -------------------------------------------------------------------------------------------------------------


async def test_calls_are_counted_by_service_and_function(ask: Any) -> None:
    for _ in range(7):
        await ask("math.add", 1, 2)
    await ask("math.sub", 1, 2)
    await refused(ask("math.div", 1, 0))
    await refused(ask("math.made_up", 1, 0))

    result = await ask("stat.service_stat", "math")

    assert (result["status"], result["error"]) == (True, "")
    (stat,) = result["result"]
    total = stat["total_stats"]
    assert (total["success_req_count"], total["failed_req_count"]) == (8, 1)
    assert total["call_time_sec"]["total"] > 0
    assert total["call_time_sec"]["avg"] == pytest.approx(total["call_time_sec"]["total"] / 8)
    assert len(total["call_time_sec"]["series"]) == 5
    assert total["timestamps"] == [1_700_000_000] * 5
    assert total["memory_deltas_bytes"] == {"avg": 0.0, "series": [], "total": 0.0}
    functions = {each["name"]: each["stats"] for each in stat["functions_stats"]}
    assert list(functions) == ["add", "div", "sub"]
    assert functions["add"]["success_req_count"] == 7
    assert functions["div"]["failed_req_count"] == 1
    assert functions["div"]["call_time_sec"] == {"avg": 0.0, "series": [], "total": 0.0}


async def test_a_service_that_was_not_called_has_no_statistics(ask: Any) -> None:
    assert await ask("stat.service_stat", "array") == {
        "status": False,
        "error": "service 'array' was not called yet",
        "result": [],
    }
    assert await ask("stat.service_memory", "array") == []


@pytest.mark.parametrize("function", ["service_stat", "service_memory"])
async def test_statistics_of_unknown_services_are_refused(ask: Any, function: str) -> None:
    status, text = await refused(ask(f"stat.{function}", "made-up"))
    assert status == 7
    assert "no service 'made-up' here; there are: array, cmp" in text


async def test_counters_go_with_their_service(services: Services, ask: Any) -> None:
    await ask("op.noop")
    assert services.accounts.of("op") is not None
    await services.withdraw("op")
    assert services.accounts.of("op") is None


# --- run-console ------------------------------------------------------------------------------------------------------


async def test_own_particles_print_at_info_those_of_others_at_debug(ask: Any, stranger: PeerId) -> None:
    with capture_logs() as logs:
        assert await ask("run-console.print", "two\nlines", {"a": 1}) == ""
        assert await ask("run-console.print", initiator=stranger) == ""
    printed = [entry for entry in logs if entry["event"] == "run_console"]
    assert [(entry["log_level"], entry["text"]) for entry in printed] == [
        ("info", '"two\\nlines",{"a":1}'),
        ("debug", ""),
    ]
    assert printed[1]["initiator"] == stranger


async def test_long_prints_are_cut(ask: Any) -> None:
    with capture_logs() as logs:
        for long in (["x" * 10_000], [["x" * 1_000_000] * 5, 1], [{"a": "x" * 4_000_000, "b": 1}]):
            await ask("run-console.print", *long)
    assert [len(entry["text"]) for entry in logs if entry["event"] == "run_console"] == [2_000] * 3


async def test_pauses_are_bounded_for_each_initiator_and_keep_nobody_else_waiting(
    services: Services, call: Any, builtins: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fluvial.services.builtin.peer.TIMERS_PER_INITIATOR_MAX", 3)
    busy: list[int] = []

    async def pause() -> None:
        try:
            await services.call(call("peer.timeout", 600_000))
        except ServiceError as error:
            busy.append(error.status)

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(pause)
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        assert busy == [6, 6]
        other = msgspec.structs.replace(call("peer.timeout", 1, "m"), initiator=ERIN)
        assert await services.call(other) == "m"
        tasks.cancel_scope.cancel()


async def test_names_that_one_peer_brings_do_not_have_all_pauses(services: Services, call: Any, builtins: None) -> None:
    ended: list[int] = []

    async def pause(number: int) -> None:
        payer = Payer(Upstream(ERIN), PeerId(f"name {number}"))
        each = msgspec.structs.replace(call("peer.timeout", 600_000), initiator=payer.initiator, paid_by=payer)
        try:
            await services.call(each)
        except ServiceError as error:
            ended.append(error.status)

    async with anyio.create_task_group() as tasks:
        for number in range(2_500):
            tasks.start_soon(pause, number)
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        assert set(ended) == {6}
        assert 300 < len(ended) < 1_000, "a fifth of all"
        assert await services.call(call("peer.timeout", 1, "m")) == "m"
        tasks.cancel_scope.cancel()
