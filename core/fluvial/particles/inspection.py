"""The checks that a delivery passes before anything else is done with it; pure, cheapest checks first.

The signature is verified afterwards, since that costs more; then the seat of authorization is asked.
"""

from __future__ import annotations

import hashlib

from fluvial.errors import Refused
from fluvial.particle import Delivery
from fluvial.particles.limits import ParticleLimits


def inspect(delivery: Delivery, *, network: str, limits: ParticleLimits, now_ms: int) -> None:
    """Check what a delivery says of itself.

    Args:
        delivery: what came.
        network: name of this peer's network.
        limits: what this peer accepts.
        now_ms: milliseconds since 1970.

    Raises:
        Refused: with one of the reasons ``network``, ``expired``, ``future``, ``ttl``, ``hops``, ``size``, ``script_hash``.
    """
    header = delivery.header
    deadline_ms = header.timestamp_ms + header.ttl_ms
    if header.network != network:
        raise Refused(f"the particle is of network {header.network!r}, this peer of {network!r}", reason="network")
    if deadline_ms <= now_ms:
        raise Refused(
            f"the particle expired {now_ms - deadline_ms} ms ago",
            reason="expired",
            hint="give it a longer ttl, or check the clocks of initiator and peer",
        )
    if header.timestamp_ms > now_ms + limits.clock_skew_ms_max:
        raise Refused(
            f"the particle begins {header.timestamp_ms - now_ms} ms in the future, "
            f"more than the {limits.clock_skew_ms_max} ms that clocks may differ",
            reason="future",
        )
    if header.ttl_ms > limits.ttl_ms_max:
        raise Refused(f"its ttl of {header.ttl_ms} ms is longer than {limits.ttl_ms_max} ms", reason="ttl")
    if header.max_hops > limits.hops_max:
        raise Refused(f"it may make {header.max_hops} hops, this peer allows {limits.hops_max}", reason="hops")
    if delivery.hops > header.max_hops:
        raise Refused(f"it has made {delivery.hops} hops, {header.max_hops} were allowed", reason="hops")
    script = delivery.script.encode()
    if len(script) > limits.script_bytes_max:
        raise Refused(f"its script has {len(script)} bytes, {limits.script_bytes_max} are allowed", reason="size")
    if len(delivery.data) > limits.data_bytes_max:
        raise Refused(
            f"it carries {len(delivery.data)} bytes of data, {limits.data_bytes_max} are allowed", reason="size"
        )
    if hashlib.sha256(script).digest() != header.script_hash:
        raise Refused("its script is not the one that the initiator signed", reason="script_hash")
