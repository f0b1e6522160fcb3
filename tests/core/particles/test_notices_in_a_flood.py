"""Failure notices of honest flows while strangers have very many, whose initiators never answer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import anyio
import pytest
import structlog
from fluvial.clock import SystemClock
from fluvial.errors import Unreachable
from fluvial.fairness import Payer, Upstream
from fluvial.identity import PeerId
from fluvial.particle import Header, Particle, ParticleKey
from fluvial.particles.delivery.carrier import Carrier
from fluvial.particles.failure_detector import HANDED_MAX, FailureDetector
from fluvial.particles.limits import ParticleLimits
from fluvial.particles.notice import SignedNotice, encode_notice, make_notice
from fluvial.particles.notice_inbox import PASSED_ON_MAX, NoticeInbox
from fluvial.particles.receipt import Receipt
from fluvial.particles.reporter import SENDING_MAX, Reporter
from fluvial.throttling import ThrottledLog
from fluvial.waiting import now_s
from prometheus_client import CollectorRegistry

from tests.support.deliveries import make_particle
from tests.support.nodes import id_of, keys_of, until

ME, HONEST, RELAY, STRANGER = map(keys_of, ("me", "honest", "relay", "stranger"))
NOBODYS = ParticleKey(bytes(32))
NAMES = [keys_of(f"name {number}") for number in range(16)]


class DeafCarrier:
    """Brings notices to some, who take them; all others never answer."""

    def __init__(self, *hear: PeerId) -> None:
        self._hear = hear
        self.tried: list[PeerId] = []

    def is_connected(self, peer: PeerId) -> bool:
        return True

    async def tell(self, header: Header, payload: bytes) -> Receipt:
        return await self._ask(PeerId.from_public_key(header.initiator))

    async def pass_on(
        self, peer: PeerId, protocol: str, payload: bytes, *, sender: PeerId, deadline_ms: int
    ) -> Receipt:
        return await self._ask(peer)

    async def _ask(self, peer: PeerId) -> Receipt:
        self.tried.append(peer)
        await anyio.sleep(0 if peer in self._hear else 60)
        return Receipt()


def notice(to: PeerId, about: ParticleKey, number: int) -> bytes:
    """What the stranger says."""
    said = make_notice(about, STRANGER.peer_id, "failed", f"no tea {number}", at_ms=1)
    return encode_notice(SignedNotice.sign(to, said, STRANGER))


def telling(carrier: DeafCarrier, metrics: CollectorRegistry) -> dict[str, Any]:
    """What a reporter and an inbox need."""
    log = structlog.get_logger()
    return {
        "limits": ParticleLimits(),
        "carrier": carrier,
        "clock": SystemClock(),
        "metrics": metrics,
        "log": log,
        "throttled": ThrottledLog(log, clock=now_s),
    }


async def test_a_strangers_failures_leave_a_place_for_the_notice_of_an_honest_flow() -> None:
    carrier, metrics = DeafCarrier(HONEST.peer_id), CollectorRegistry()
    reporter = Reporter(ME, **telling(carrier, metrics))

    async def hear(signed: SignedNotice) -> Receipt:
        raise AssertionError("nothing here is this peer's own")

    async with anyio.create_task_group() as tasks:
        reporter.start(tasks, hear)
        for number in range(SENDING_MAX + 50):
            particle = make_particle("(null)", keys=NAMES[number % 16], particle_id=f"p{number}")
            # The same peer has brought both: names are free, and so are branches.
            payer = Payer(Upstream(RELAY.peer_id, number % 5), particle.initiator)
            reporter.impossible(particle, payer, "nobody")
        await until(lambda: len(carrier.tried) >= SENDING_MAX)
        honest = make_particle("(null)", keys=HONEST)
        reporter.impossible(honest, Payer(Upstream(RELAY.peer_id, 7), honest.initiator), "nobody")
        sent = "fluvial_failure_notices_sent_total"
        await until(lambda: metrics.get_sample_value(sent, {"outcome": "accepted"}) == 1)
        assert metrics.get_sample_value(sent, {"outcome": "limited"}) == 51
        tasks.cancel_scope.cancel()


async def test_a_relay_passes_a_notice_on_though_very_many_wait_for_clients_that_never_answer() -> None:
    carrier, metrics = DeafCarrier(HONEST.peer_id), CollectorRegistry()
    keeper: Any = None
    observers: Any = None
    inbox = NoticeInbox(RELAY.peer_id, keeper=keeper, on_notice=print, observers=observers, **telling(carrier, metrics))

    reasons: list[str] = []

    async def flood(number: int) -> None:
        receipt = await inbox.receive(STRANGER.peer_id, notice(id_of(f"deaf {number % 4}"), NOBODYS, number))
        reasons.append(receipt.reason)

    async with anyio.create_task_group() as tasks:
        for number in range(PASSED_ON_MAX + 20):
            tasks.start_soon(flood, number)
        await until(lambda: len(reasons) == 20)
        assert set(reasons) == {"busy"}
        assert await inbox.receive(STRANGER.peer_id, notice(HONEST.peer_id, NOBODYS, 0)) == Receipt()
        tasks.cancel_scope.cancel()


async def test_what_one_peer_sends_about_others_costs_nobody_its_notice() -> None:
    """Who passes on much brings everybody's: floods for other clients, or about nothing, keep those from none that are about something."""
    known = make_particle("(null)", keys=RELAY)
    actor = SimpleNamespace(particle=known, note=_kept)
    keeper: Any = SimpleNamespace(present={known.key: actor}, find=_finding({known.key: actor}))
    observers: Any = SimpleNamespace(failure_noticed=lambda *_: None)
    inbox = NoticeInbox(
        RELAY.peer_id,
        keeper=keeper,
        on_notice=lambda *_: None,
        observers=observers,
        **telling(DeafCarrier(HONEST.peer_id, id_of("other")), CollectorRegistry()),
    )

    async def reasons(to: PeerId, key: ParticleKey) -> list[str]:
        return [(await inbox.receive(STRANGER.peer_id, notice(to, key, number))).reason for number in range(61)]

    assert await reasons(id_of("other"), NOBODYS) == [""] * 60 + ["busy"]
    assert await inbox.receive(STRANGER.peer_id, notice(HONEST.peer_id, NOBODYS, 0)) == Receipt()
    assert await reasons(RELAY.peer_id, NOBODYS) == ["unknown"] * 60 + ["busy"]
    assert await inbox.receive(STRANGER.peer_id, notice(RELAY.peer_id, known.key, 0)) == Receipt()


async def _kept(signed: SignedNotice) -> bool:
    return True


def _finding(actors: dict[ParticleKey, SimpleNamespace]) -> Any:
    async def find(key: ParticleKey) -> Any:
        return actors.get(key)

    return find


class Silent:
    """All that are asked give no sign of life."""

    async def missing(self, peer: PeerId, *, relay: PeerId | None, dial: bool) -> str:
        return "it gives no sign of life"


class Waiting:
    """All particles wait for everybody."""

    def __init__(self, *particles: Particle) -> None:
        self._particles = {particle.key: particle for particle in particles}

    def awaiting(self, key: ParticleKey, peer: PeerId) -> Particle | None:
        return self._particles.get(key)


class Heard:
    """Is told of suspicions."""

    def __init__(self) -> None:
        self.suspected_of: list[tuple[Particle, PeerId]] = []

    def suspected(self, particle: Particle, payer: Payer, peer: PeerId, why: str, *, there: bool) -> None:
        self.suspected_of.append((particle, peer))


async def test_a_strangers_peers_and_particles_do_not_end_the_watch_over_what_honest_flows_wait_for() -> None:
    signs: Any = Silent()
    reporter: Any = Heard()
    detector = FailureDetector(signs, reporter=reporter, clock=SystemClock())
    honest, strange = make_particle("(null)", keys=HONEST), make_particle("(null)", keys=STRANGER)
    silent, until_ms = id_of("silent"), SystemClock().now_ms() + 60_000
    async with anyio.create_task_group() as tasks:
        detector.start(tasks, Waiting(honest, strange))
        detector.handing(honest.key, silent, Payer(Upstream(RELAY.peer_id, 1), honest.initiator), deadline_ms=until_ms)
        detector.handed(honest.key, silent, relay=None)
        payer = Payer(Upstream(RELAY.peer_id, 2), strange.initiator)
        for number in range(HANDED_MAX // 2):
            detector.handing(strange.key, id_of(f"peer {number}"), payer, deadline_ms=until_ms)
            detector.handing(ParticleKey(number.to_bytes(32, "big")), silent, payer, deadline_ms=until_ms)
        await until(lambda: (honest, silent) in reporter.suspected_of)
        tasks.cancel_scope.cancel()


async def test_nobody_is_looked_for_to_hand_a_notice_over() -> None:
    """A script can cause very many, and a routing looks for few at the same time."""

    async def find(peer: PeerId) -> None:
        raise AssertionError(f"{peer} is looked for")

    routing: Any = SimpleNamespace(known=lambda peer: None, failed=lambda contact: None, find=find)
    transport: Any = SimpleNamespace(connected=lambda: frozenset[PeerId]())
    hold: Any = None
    carrier = Carrier(ME.peer_id, transport, routing, relays=lambda: (), hold=hold)
    with pytest.raises(Unreachable, match="no way to"):
        await carrier.tell(make_particle("(null)", keys=HONEST).header, b"")
