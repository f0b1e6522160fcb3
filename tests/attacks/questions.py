"""Attacks by the protocols that plugins and rooms answer besides particles: tables, trust, blobs, relays, ledger, and questions of owners.

The same payloads are good many times, so asking costs the attacker next to nothing, and what they ask for is chosen to cost the target as much as it can.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any, Final, TypeAlias

import anyio
import anyio.lowlevel
from fluvial.blob_id import BlobId
from fluvial.blobs.wire import PIECE_BYTES_MAX, PieceRequest
from fluvial.blobs.wire import PROTOCOL as BLOBS
from fluvial.encoding import encode
from fluvial.health import PROTOCOL as HEALTH
from fluvial.identity import KeyPair, PeerId
from fluvial.particle import Delivery, encode_delivery
from fluvial.particles.receipt import PROTOCOL as PARTICLES
from fluvial.particles.refusals import PROTOCOL as REFUSALS
from fluvial.relaying.lease import make_lease
from fluvial.relaying.room import PROTOCOL as LEASES
from fluvial_dht_kademlia import wire
from fluvial_dht_kademlia.machine import messages
from fluvial_dht_kademlia.machine.challenges import Challenge, open_challenge, owned_challenge
from fluvial_dht_kademlia.machine.keyspace import Key, key_bytes
from fluvial_dht_kademlia.machine.records import RecordFields, sign_record
from fluvial_dht_kademlia.shell.reachability import PROTOCOL as REACH
from fluvial_transport_tcp.framing import Kind, Message, encode_frame
from fluvial_trust_graph.gossip.digest import BUCKETS, DIGEST_BYTES, ID_BYTES
from fluvial_trust_graph.gossip.exchange import DIGESTS, FETCH, IDS, PUSH
from fluvial_trust_graph.proofs import encode_path
from fluvial_trust_graph.statements import (
    SCOPE_BYTES_MAX,
    SCOPES_MAX,
    RevocationStatement,
    TrustStatement,
    encode_statement,
    sign_revocation,
    sign_trust,
)

from tests.attacks.arena import AT_ONCE, GONE, Arena
from tests.support.processes import NETWORK

TOGETHER: Final = 48
"""Requests that are written in one go: as many as one sender may have at once of the protocol that allows most, nearly."""
CROWD: Final = 100
"""Connections of a crowd."""
AGAIN_S: Final = 0.2
PROVIDERS: Final = 40
"""More than a key keeps."""

Payloads: TypeAlias = Callable[[Arena, KeyPair], Iterator[bytes]]


async def ask(
    arena: Arena,
    protocol: str,
    payloads: Payloads,
    *,
    reads: bool = True,
    connections: int = AT_ONCE,
    together: int = TOGETHER,
) -> None:
    """Ask without end on a few connections, and read the answers, or do not."""

    async def stay() -> None:
        while True:
            keys = arena.stranger()
            with suppress(*GONE, TimeoutError):
                async with arena.link(keys) as link, anyio.create_task_group() as both:

                    async def read() -> None:
                        while (message := await link.hear()) is not None:
                            arena.receipts[f"{message.kind.name.lower()} {message.label}".strip()] += 1
                        both.cancel_scope.cancel()

                    if reads:
                        both.start_soon(read)
                    numbered = zip(count(), payloads(arena, keys), strict=False)
                    while True:
                        next_ones = itertools.islice(numbered, together)
                        frames = [
                            b"".join(encode_frame(Message(Kind.REQUEST, number & 0xFFFFFFFF, protocol, payload)))
                            for number, payload in next_ones
                        ]
                        await link.say_bytes(b"".join(frames))
                        await anyio.lowlevel.checkpoint()
            await anyio.sleep(AGAIN_S)

    async with anyio.create_task_group() as tasks:
        for _ in range(connections):
            tasks.start_soon(stay)


async def _hit_and_run(arena: Arena, protocol: str, payloads: Payloads) -> None:
    """Ask for much over one connection after the other, and go before a question is answered."""

    async def hit() -> None:
        while True:
            keys = arena.stranger()
            with suppress(*GONE, TimeoutError):
                async with arena.link(keys) as link:
                    made = itertools.islice(payloads(arena, keys), 8 * TOGETHER)
                    for number, payload in enumerate(made):
                        await link.say_bytes(b"".join(encode_frame(Message(Kind.REQUEST, number, protocol, payload))))
                    arena.receipts["hit"] += 1

    async with anyio.create_task_group() as tasks:
        for _ in range(5 * AT_ONCE):
            tasks.start_soon(hit)


def _again(make: Callable[[Arena, KeyPair], Sequence[bytes]]) -> Payloads:
    """The same payloads again and again, made once for each connection."""

    def payloads(arena: Arena, keys: KeyPair) -> Iterator[bytes]:
        made = make(arena, keys)
        while True:
            yield from made

    return payloads


def now_ms() -> int:
    """The time of now."""
    return time.time_ns() // 1_000_000


def _trust(issuer: KeyPair, subject: PeerId, *, scopes: tuple[str, ...] = ()) -> TrustStatement:
    now = int(time.time())
    made = TrustStatement(
        network=NETWORK, issuer=issuer.peer_id, subject=subject, issued_at=now, expires_at=now + 10_000, scopes=scopes
    )
    return sign_trust(made, issuer)


def _revocation(issuer: KeyPair, subject: PeerId) -> RevocationStatement:
    made = RevocationStatement(network=NETWORK, issuer=issuer.peer_id, subject=subject, issued_at=int(time.time()))
    return sign_revocation(made, issuer)


# --- the table


def _record(
    arena: Arena,
    keys: KeyPair,
    challenge: Challenge,
    *,
    solution: bytes = b"",
    value: bytes = b"",
    signed: bool = True,
    **more: Any,
) -> bytes:
    begin_ms = now_ms()
    fields = RecordFields(
        key=key_bytes(challenge.key),
        provider=str(keys.peer_id),
        sequence=begin_ms,
        issued_at_ms=begin_ms,
        expires_at_ms=begin_ms + 3_600_000,
        value=value,
        solution=solution,
        **more,
    )
    record = sign_record(keys if signed else arena.stranger(), NETWORK, fields)
    return wire.encode_request(messages.AddProvider(challenge, record))


def _key(arena: Arena) -> Key:
    return Key(int.from_bytes(arena.rng.randbytes(32), "big"))


def find_peers(arena: Arena, keys: KeyPair) -> Iterator[bytes]:
    """Who is nearest to keys that are never the same?"""
    while True:
        yield wire.encode_request(messages.FindPeers(_key(arena)))


def find_providers(arena: Arena, keys: KeyPair) -> Iterator[bytes]:
    """Who provides at keys, those included at which this attacker has put large records?"""
    challenge = open_challenge(f"full-{arena.rng.randint(0, 3)}")
    yield _record(arena, keys, challenge, value=b"v" * 1_000)
    while True:
        key = challenge.key if arena.rng.random() < 0.8 else _key(arena)
        yield wire.encode_request(messages.FindProviders(key, 1_024))


def records(arena: Arena, keys: KeyPair) -> Iterator[bytes]:
    """Records of ever new providers at ever new keys, as large as they may be."""
    for number in count():
        provider = arena.stranger() if number % 16 == 0 else keys
        challenge = open_challenge(f"{arena.rng.randbytes(20).hex()}")
        yield _record(arena, provider, challenge, value=arena.rng.randbytes(1_000))


def renewed_records(arena: Arena, keys: KeyPair) -> Iterator[bytes]:
    """One record at one key, newer each time: each has to be written."""
    challenge = open_challenge("renewed")
    for number in count():
        begin_ms = now_ms()
        fields = RecordFields(
            key=key_bytes(challenge.key),
            provider=str(keys.peer_id),
            sequence=number,
            issued_at_ms=begin_ms,
            expires_at_ms=begin_ms + 3_600_000,
            value=arena.rng.randbytes(1_000),
        )
        yield wire.encode_request(messages.AddProvider(challenge, sign_record(keys, NETWORK, fields)))


def unsigned_records(arena: Arena, keys: KeyPair) -> Sequence[bytes]:
    """Records that somebody else has signed."""
    return [_record(arena, keys, open_challenge("x"), value=b"v" * 1_000, signed=False) for _ in range(8)]


def path_records(arena: Arena, keys: KeyPair) -> Sequence[bytes]:
    """Records at a key with an owner, each with a path of sixteen trusts that are all well signed but the last."""
    chain = [arena.stranger() for _ in range(16)]
    people = [*chain, keys]
    trusts = [_trust(issuer, subject.peer_id) for issuer, subject in itertools.pairwise(people)]
    challenge = owned_challenge(chain[0].peer_id, 16)
    return [_record(arena, keys, challenge, solution=encode_path(trusts), signed=False)]


def owned_providers(arena: Arena, keys: KeyPair) -> Iterator[bytes]:
    """A key with an owner, filled with as many providers as it takes, each with a good path of sixteen trusts; then who provides there?"""
    chain = [arena.stranger() for _ in range(16)]
    challenge = owned_challenge(chain[0].peer_id, 16)
    links = [_trust(issuer, subject.peer_id) for issuer, subject in itertools.pairwise(chain)]
    for _ in range(PROVIDERS):
        provider = arena.stranger()
        path = encode_path([*links, _trust(chain[-1], provider.peer_id)])
        yield _record(arena, provider, challenge, solution=path)
    while True:
        yield wire.encode_request(messages.FindProviders(challenge.key, 1_024))


def largest_records(arena: Arena, keys: KeyPair) -> Iterator[bytes]:
    """Records that take as much memory as any that is accepted, each of a new provider at a key of its own, with a good path and texts that are larger than
    what is sent."""
    wide = "x" * 255 + "\N{GRINNING FACE}"
    scopes = tuple(sorted(["dht", *(f"{number:x}" * SCOPE_BYTES_MAX for number in range(SCOPES_MAX - 1))]))
    chain = [arena.stranger() for _ in range(3)]
    links = [_trust(issuer, subject.peer_id, scopes=scopes) for issuer, subject in itertools.pairwise(chain)]
    while True:
        provider = arena.stranger()
        yield _record(
            arena,
            provider,
            owned_challenge(chain[0].peer_id, 16, arena.rng.randbytes(64)),
            solution=encode_path([*links, _trust(chain[-1], provider.peer_id, scopes=scopes)]),
            value=arena.rng.randbytes(1_000),
            addresses=(wide,) * 8,
            service=wide,
            relay=wide[-64:],
        )


def table_noise(arena: Arena, keys: KeyPair) -> Iterator[bytes]:
    """What is no request of the table, or nearly one: nested, cut off, of kinds that nobody knows, with challenges that are noise."""
    good = [
        _record(arena, keys, Challenge("k" * 64, arena.rng.randbytes(1_024)), solution=b"s" * 8_000),
        _record(arena, keys, Challenge("owned", arena.rng.randbytes(1_000))),
        _record(arena, keys, Challenge("open", b"\x91" * 1_000)),
    ]
    while True:
        kind = arena.rng.randrange(4)
        if kind == 0:
            yield b"\x91" * arena.rng.randint(1, 16_000)
        elif kind == 1:
            yield arena.rng.randbytes(arena.rng.randint(0, 2_000))
        elif kind == 2:
            one = arena.rng.choice(good)
            yield one[: arena.rng.randint(0, len(one))]
        else:
            yield arena.rng.choice(good)


def reach(arena: Arena, keys: KeyPair) -> Iterator[bytes]:
    """Where can I be dialled?"""
    while True:
        yield b""


# --- relays


def leases(arena: Arena, keys: KeyPair) -> Iterator[bytes]:
    """Leases of one client, each a moment newer, and badly signed ones."""
    for number in count():
        lease = make_lease(keys, arena.target.peer_id, network=NETWORK, now_ms=now_ms() - 50_000 + number)
        data = encode(lease)
        yield data if number % 3 else data[:-1] + bytes([data[-1] ^ 1])


async def crowd_of_clients(arena: Arena) -> None:
    """Fresh keys, each of which becomes a client of the target and goes."""

    async def come() -> None:
        while True:
            keys = arena.stranger()
            with suppress(*GONE, TimeoutError):
                async with arena.link(keys) as link:
                    lease = make_lease(keys, arena.target.peer_id, network=NETWORK, now_ms=now_ms())
                    await link.say(Message(Kind.REQUEST, 1, LEASES, encode(lease)))
                    while (message := await link.hear()) is not None and message.kind is not Kind.ANSWER:
                        if message.kind is Kind.ERROR:
                            arena.receipts[f"error {message.label}"] += 1
                            break

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(come)


# --- trust


def _statements(arena: Arena, number: int, *, signed: bool) -> list[bytes]:
    made = []
    for _ in range(number):
        make = arena.rng.choice((_trust, _revocation))
        data = encode_statement(make(arena.stranger(), arena.stranger().peer_id))
        made.append(data if signed else data[:-1] + bytes([data[-1] ^ 1]))
    return made


def statements(arena: Arena, keys: KeyPair) -> Sequence[bytes]:
    """Well signed statements of strangers about strangers, as many as a message carries."""
    return [encode(_statements(arena, 200, signed=True)) for _ in range(4)]


def forged_statements(arena: Arena, keys: KeyPair) -> Sequence[bytes]:
    """The same, and the last byte of each signature is wrong."""
    return [encode(_statements(arena, 200, signed=False)) for _ in range(4)]


def statements_in_circles(arena: Arena, keys: KeyPair) -> Sequence[bytes]:
    """Rings and stars of trusts and revocations among a few dozen strangers and the target itself."""
    people = [arena.stranger() for _ in range(30)]
    subjects: list[PeerId] = [*(one.peer_id for one in people), arena.target.peer_id, arena.other.peer_id]
    made = [
        encode_statement((_trust if arena.rng.random() < 0.8 else _revocation)(issuer, subject))
        for issuer in people
        for subject in subjects
        if subject != issuer.peer_id
    ]
    return [encode(made[start : start + 200]) for start in range(0, len(made), 200)]


def trust_noise(arena: Arena, keys: KeyPair) -> Iterator[bytes]:
    """Lists of what is no statement."""
    while True:
        yield encode([arena.rng.randbytes(arena.rng.choice((0, 1, 170, 250))) for _ in range(200)])


def digests(arena: Arena, keys: KeyPair) -> Iterator[bytes]:
    """Comparisons without end."""
    while True:
        yield arena.rng.randbytes(BUCKETS * DIGEST_BYTES)


def ids(arena: Arena, keys: KeyPair) -> Sequence[bytes]:
    """All ids of everything, each bucket named eight times."""
    return [encode([*range(BUCKETS)] * 4)[:2_048], encode([*range(BUCKETS)])]


def fetches(arena: Arena, keys: KeyPair) -> Iterator[bytes]:
    """Statements that are not here."""
    while True:
        yield encode([arena.rng.randbytes(ID_BYTES) for _ in range(400)])


# --- particles


def deliveries(arena: Arena, keys: KeyPair) -> Sequence[bytes]:
    """Particles that are well formed, with credentials; one in two is signed by somebody else."""
    made = []
    for number in range(8):
        particle = arena.particle(keys, "(null)", ttl_ms=60_000, credentials=(arena.rng.randbytes(4_000),) * 2)
        signature = particle.signature if number % 2 else arena.rng.randbytes(64)
        to = arena.target.peer_id.public_key
        made.append(encode_delivery(Delivery(to, 1, particle.header, signature, particle.script, b"")))
    return made


# --- blobs, ledger, owners


def absent_blobs(arena: Arena, keys: KeyPair) -> Iterator[bytes]:
    """Pieces of blobs that are not here, and what is no request."""
    while True:
        blob = BlobId.of_node(arena.rng.randbytes(32))
        block = arena.rng.choice((0, 1, 2**40 - 1))
        good = PieceRequest(blob=str(blob), block=block, offset=0, length=PIECE_BYTES_MAX).encoded()
        yield good if arena.rng.random() < 0.8 else arena.rng.randbytes(100)


def owners_questions(arena: Arena, keys: KeyPair) -> Iterator[bytes]:
    """Questions of an owner with the signature of somebody else."""
    while True:
        yield encode([now_ms(), arena.rng.randbytes(64)])


def pushed_noise(arena: Arena, keys: KeyPair) -> Iterator[bytes]:
    """Noise of all sizes."""
    while True:
        yield arena.rng.randbytes(arena.rng.choice((0, 100, 2_000, 60_000)))


QUESTIONS: Final[Mapping[str, Callable[[Arena], Awaitable[None]]]] = {
    name: partial(ask, protocol=protocol, payloads=payloads)
    for name, protocol, payloads in (
        ("find-peers", wire.PROTOCOL, find_peers),
        ("find-providers", wire.PROTOCOL, find_providers),
        ("records", wire.PROTOCOL, records),
        ("largest-records", wire.PROTOCOL, largest_records),
        ("renewed-records", wire.PROTOCOL, renewed_records),
        ("unsigned-records", wire.PROTOCOL, _again(unsigned_records)),
        ("path-records", wire.PROTOCOL, _again(path_records)),
        ("owned-providers", wire.PROTOCOL, owned_providers),
        ("table-noise", wire.PROTOCOL, table_noise),
        ("reach", REACH, reach),
        ("leases", LEASES, leases),
        ("statements", PUSH, _again(statements)),
        ("forged-statements", PUSH, _again(forged_statements)),
        ("trust-circles", PUSH, _again(statements_in_circles)),
        ("trust-noise", PUSH, trust_noise),
        ("digests", DIGESTS, digests),
        ("ids", IDS, _again(ids)),
        ("fetches", FETCH, fetches),
        ("absent-blobs", BLOBS, absent_blobs),
        ("health", HEALTH, owners_questions),
        ("refusals", REFUSALS, pushed_noise),
    )
} | {
    "deaf-find": partial(ask, protocol=wire.PROTOCOL, payloads=find_providers, reads=False),
    "path-crowd": partial(ask, protocol=wire.PROTOCOL, payloads=_again(path_records), connections=CROWD),
    "delivery-crowd": partial(ask, protocol=PARTICLES, payloads=_again(deliveries), connections=CROWD),
    "push-crowd": partial(ask, protocol=PUSH, payloads=_again(forged_statements), connections=CROWD),
    "find-crowd": partial(ask, protocol=wire.PROTOCOL, payloads=find_providers, connections=CROWD),
    "clients": crowd_of_clients,
    "path-hits": partial(_hit_and_run, protocol=wire.PROTOCOL, payloads=_again(path_records)),
    "delivery-hits": partial(_hit_and_run, protocol=PARTICLES, payloads=_again(deliveries)),
}
"""By name."""
