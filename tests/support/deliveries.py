"""Deliveries as peers make them, without the peers: particles, batches and values that tests can then spoil."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from fluvial.air.data.batch import Known
from fluvial.air.data.content import content_id
from fluvial.air.data.wire import WireData, encode_data
from fluvial.air.machine.machine import Machine
from fluvial.air.machine.outcomes import Answered
from fluvial.air.syntax import parse
from fluvial.clock import SystemClock
from fluvial.encoding import decode, encode
from fluvial.identity import KeyPair, PeerId
from fluvial.particle import Delivery, Particle

from tests.support.nodes import NETWORK, keys_of

SENDER: Final = keys_of("sender")


def script_for(receiver: PeerId) -> str:
    """A value from the initiator for the receiver, which then hands something back: nothing is finished before that."""
    return f"""
        (seq (call %init_peer_id% ("load" "given") [] given)
             (seq (call "{receiver}" ("op" "identity") [given] answer)
                  (call %init_peer_id% ("return" "") [answer])))"""


def make_particle(script: str, *, keys: KeyPair = SENDER, particle_id: str = "p", **fields: Any) -> Particle:
    """A signed particle that begins now and lives for a minute, unless told otherwise."""
    defaults = {"timestamp_ms": SystemClock().now_ms(), "ttl_ms": 60_000, "max_hops": 10, "network": NETWORK}
    return Particle.create(keys, script, particle_id=particle_id, **{**defaults, **fields})


def answered(particle: Particle, keys: KeyPair, *values: Any) -> bytes:
    """The data of a particle after the owner of ``keys`` has made its calls, which gave these values."""
    header = particle.header
    machine = Machine(
        parse(particle.script),
        particle.key,
        keys.peer_id,
        initiator=particle.initiator,
        timestamp_ms=header.timestamp_ms,
        ttl_ms=header.ttl_ms,
    )
    effects = machine.merge(Known((), {}))
    left = list(values)
    while effects.requests:
        effects = machine.resolve({request.instance: Answered(left.pop(0)) for request in effects.requests})
    machine.seal(keys.sign)
    return encode_data(machine.batches(), machine.contents())


def make_delivery(receiver: PeerId, *, value: Any = "v", **fields: Any) -> Delivery:
    """A good delivery: the receiver accepts it."""
    particle = make_particle(script_for(receiver), **fields)
    data = answered(particle, SENDER, value)
    return Delivery(receiver.public_key, 1, particle.header, particle.signature, particle.script, data)


def with_contents(data: bytes, *contents: Any) -> bytes:
    """The same batches with other values."""
    wire = decode(data, WireData, what="particle data")
    return encode(msgspec.structs.replace(wire, contents=contents))


def without_contents(data: bytes) -> bytes:
    """The same batches without any values."""
    wire = decode(data, WireData, what="particle data")
    return encode(msgspec.structs.replace(wire, contents=(), ids=tuple(map(content_id, wire.contents)) + wire.ids))
