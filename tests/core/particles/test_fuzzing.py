"""Ten thousand spoilt deliveries: each gets its receipt, the peer goes on, and its memory stays bounded.

Most are real deliveries with a few bytes changed, which end at a decoder or a signature. The others are changed by somebody who holds
the keys: a value anywhere in a header or a fact is replaced and everything is signed again, so that it reaches
the AIR machine.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import anyio
import msgspec
import pytest
from fluvial.air.data.batch import Batch
from fluvial.air.data.content import content_id
from fluvial.air.data.wire import WireData, _from_wire
from fluvial.encoding import decode, encode
from fluvial.errors import RemoteProtocolError
from fluvial.identity import PeerId
from fluvial.particle import SIGNING_TAG, Delivery, Particle, encode_delivery
from fluvial.particles.receipt import PROTOCOL, REASONS, decode_receipt

from tests.support.deliveries import SENDER, answered, make_delivery, make_particle
from tests.support.nodes import WAIT_S, Peer, id_of, peer

INPUTS: Final = {"with changed bytes": 8_000, "signed again": 2_000}
SEED: Final = 20_250_101
LIVE_MAX: Final = 50
RECEIVER: Final = id_of("receiver")

SCRIPTS: Final[Sequence[tuple[str, tuple[Any, ...]]]] = (
    (
        f'(seq (call %init_peer_id% ("l" "x") [] x) (seq (call "{RECEIVER}" ("op" "identity") [x.$.[0]] y) (call %init_peer_id% ("r" "") [y])))',
        ([{"a": 1}, 2],),
    ),
    (
        f"""(seq (call %init_peer_id% ("l" "list") [] list)
             (seq (fold list x (par (seq (call %init_peer_id% ("l" "each") [x] $all) (null)) (next x)))
             (seq (canon %init_peer_id% $all #all)
                  (call "{RECEIVER}" ("op" "concat_strings") [#all.$.[0] #all.$.[1]] z))))""",
        (["a", "b"], "c", "d"),
    ),
    (
        """(xor (call %init_peer_id% ("l" "x") [] x)
                 (null))""".replace("(null)", f'(call "{RECEIVER}" ("op" "identity") [:error:] y)'),
        (1,),
    ),
    (
        f"""(seq (call %init_peer_id% ("l" "peer") [] peer)
             (par (call peer ("op" "identity") ["x"] $s)
                  (fold $s i (seq (call "{RECEIVER}" ("op" "identity") [i]) (next i)))))""",
        (str(RECEIVER),),
    ),
    (
        f"""(seq (ap ("k" 1) %map) (seq (canon %init_peer_id% %map #%m)
             (seq (match #%m.$.k.[0] 1 (null)) (call "{RECEIVER}" ("op" "identity") [#%m.$.k.[0]] y))))""",
        (),
    ),
)
"""Scripts in which the sender makes calls and fixes streams before the receiver's turn, and the values of these calls."""


@pytest.fixture(scope="module")
async def receiver(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Peer]:
    folder: Path = tmp_path_factory.mktemp("receiver")
    settings = {"storage": {"url": "sqlite://"}, "particles": {"live_max": LIVE_MAX}}
    async with peer("receiver", folder, listen=None, **settings) as running:
        yield running


NOISE: Final[Sequence[Any]] = (
    *(None, True, 0, -1, 1, 7, 2**31, 2**32, 2**63 - 1, 2**63, -(2**63), 0.5, float("inf")),
    *("", "x", "\0", "result", "canon", str(RECEIVER), str(SENDER.peer_id), "é" * 500),
    *(b"", bytes(16), bytes(32), bytes(64)),
    *([], [[]], ["sent", b"", 1, True], [0] * 300, {}, {"key": 1, "value": 2}, {"error_code": 1, "message": "x"}),
)
"""What may stand where it does not belong."""


def spoil(value: Any, rng: random.Random) -> Any:
    """A nested value with one place in it changed, mostly to something of the same type."""
    if isinstance(value, list) and value and rng.random() < 0.95:
        at = rng.randrange(len(value))
        match rng.randrange(16):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return value[: at + 1] + value[at:]
            case 2:
                return rng.sample(value, len(value))
            case _:
                return [*value[:at], spoil(value[at], rng), *value[at + 1 :]]
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = rng.choice(sorted(value))
        return {**value, key: spoil(value[key], rng)}
    if type(value) is int and rng.random() < 0.8:
        return value + rng.choice((-1, 1, 2, 10))
    if isinstance(value, bytes) and rng.random() < 0.6:
        return rng.randbytes(len(value))
    alike = [one for one in NOISE if type(one) is type(value)]
    return rng.choice(alike if alike and rng.random() < 0.8 else NOISE)


def with_changed_bytes(payloads: Sequence[bytes], rng: random.Random) -> bytes:
    """A real delivery with a few bytes other than they were."""
    data = bytearray(rng.choice(payloads))
    for _ in range(rng.randint(1, 4)):
        at, size = rng.randrange(len(data) + 1), rng.randint(0, 8)
        match rng.randrange(5):
            case 0:
                data[at : at + size] = rng.randbytes(size)
            case 1:
                del data[at : at + size]
            case 2:
                data[at:at] = rng.randbytes(size)
            case 3:
                del data[at:]
            case _:
                other = rng.choice(payloads)
                data[at:] = other[at:]
    return bytes(data)


def signed_again(fields: Any, rng: random.Random) -> bytes:
    """A decoded delivery, spoilt in its header or its data by the one who signs both."""
    to, hops, header, signature, script, data, branch = fields
    header = [*header[:1], f"f{rng.getrandbits(64)}", *header[2:]]
    contents, parts, ids, signers, batches = msgspec.msgpack.decode(data)
    if rng.random() < 0.15:
        header = spoil(header, rng)
    signed_header = SIGNING_TAG + _encode(header)
    signature = SENDER.sign(signed_header)
    key = hashlib.sha256(signed_header).digest()
    if contents and rng.random() < 0.6:
        at = rng.randrange(len(contents))
        contents = [*contents[:at], spoil(contents[at], rng), *contents[at + 1 :]]
    batches = [[signer, spoil(items, rng) if rng.random() < 0.6 else items, old] for signer, items, old in batches]
    data = _sealed(key, _encode([contents, parts, ids, signers, batches]))
    return _encode([to, hops, header, signature, script, data, branch])


def _sealed(key: bytes, data: bytes) -> bytes:
    """The data with signatures that are right, where that can be."""
    try:
        wire = decode(data, WireData, what="particle data")
    except RemoteProtocolError:
        return data
    ids: list[bytes] = [*map(_content_id, wire.contents), *wire.ids]
    batches = []
    for one in wire.batches:
        try:
            items = tuple(_from_wire(item, ids) for item in one.items)
            batch = Batch.seal(key, SENDER.peer_id, items, SENDER.sign)
        except (IndexError, ValueError, OverflowError, TypeError):
            batches.append(one)
            ids.append(bytes(32))
        else:
            batches.append(msgspec.structs.replace(one, signature=batch.signed.signature))
            ids.append(batch.id)
    return _encode(msgspec.structs.replace(wire, batches=tuple(batches)))


def _encode(value: Any) -> bytes:
    try:
        return encode(value)
    except (TypeError, ValueError, OverflowError):
        return msgspec.msgpack.encode(str(value))


def _content_id(value: Any) -> bytes:
    try:
        return content_id(value)
    except (TypeError, ValueError, OverflowError):
        return bytes(32)


def deliveries() -> Sequence[bytes]:
    """Real ones, of every script."""
    found = [encode_delivery(make_delivery(RECEIVER))]
    for script, values in SCRIPTS:
        particle: Particle = make_particle(script)
        data = answered(particle, SENDER, *values)
        delivery = Delivery(RECEIVER.public_key, 1, particle.header, particle.signature, particle.script, data)
        found.append(encode_delivery(delivery))
    return found


async def receive(receiver: Peer, payload: bytes) -> str:
    with anyio.fail_after(WAIT_S):
        answer = await receiver.node.switchboard.receive(SENDER.peer_id, PROTOCOL, payload)
    return decode_receipt(answer).reason


async def test_the_real_ones_are_accepted(receiver: Peer) -> None:
    for payload in deliveries():
        assert await receive(receiver, payload) == ""


@pytest.mark.parametrize("how", INPUTS)
async def test_spoilt_deliveries(receiver: Peer, how: str) -> None:
    rng = random.Random(f"{SEED} {how}")
    real = deliveries()
    decoded = [msgspec.msgpack.decode(payload) for payload in real]
    make: Callable[[], bytes] = {
        "with changed bytes": lambda: with_changed_bytes(real, rng),
        "signed again": lambda: signed_again(rng.choice(decoded), rng),
    }[how]
    reasons: dict[str, int] = {}
    for _ in range(INPUTS[how]):
        reason = await receive(receiver, make())
        reasons[reason] = reasons.get(reason, 0) + 1
    assert set(reasons) - {""} <= REASONS - {"broken", "storage"}
    assert reasons["malformed"] > 100
    assert receiver.events("particle_broken") == []
    assert receiver.metric("fluvial_particles_in_memory") <= LIVE_MAX
    assert await receive(receiver, encode_delivery(make_delivery(RECEIVER, particle_id=f"after {how}"))) == ""


def test_the_receiver_is_who_the_scripts_name() -> None:
    assert PeerId.parse(RECEIVER) == RECEIVER
