"""What is looked at before a particle is let in; pure, cheapest checks first. The signature is verified after it, since that costs more."""

from __future__ import annotations

from dataclasses import dataclass

from fluvial.errors import Refused
from fluvial.particle import Delivery


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What this peer accepts.

    Attributes:
        ttl_ms_max: longest life of a particle.
        clock_skew_ms_max: how far in the future a particle may have begun.
        hops_max: most hops that a particle may ask for.
        script_bytes_max, data_bytes_max: largest script and data.
        live_max: most particles whose state is in memory at one time.
        failure_notices: whether failure notices are sent, taken and passed on.
        failure_notices_per_minute: how many are sent to one initiator, and taken from one peer.
        resend_after_ms: how long other peers' promises to send a particle on are relied on; 0 for ever.
    """

    ttl_ms_max: int = 120_000
    clock_skew_ms_max: int = 30_000
    hops_max: int = 64
    script_bytes_max: int = 1_048_576
    data_bytes_max: int = 8_388_608
    live_max: int = 10_000
    failure_notices: bool = True
    failure_notices_per_minute: int = 60
    resend_after_ms: int = 10_000


def inspect(delivery: Delivery, *, network: str, limits: Limits, now_ms: int) -> None:
    """Look at what a delivery says of itself.

    Raises:
        Refused: with one of the reasons ``network``, ``expired``, ``future``, ``ttl``, ``hops``, ``size``, ``script_hash``.
    """
    header = delivery.header
    particle = delivery.particle
    if header.network != network:
        raise Refused(f"the particle is of network {header.network!r}, this peer of {network!r}", reason="network")
    if particle.deadline_ms <= now_ms:
        raise Refused(
            f"the particle expired {now_ms - particle.deadline_ms} ms ago",
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
    if (size := len(delivery.script.encode())) > limits.script_bytes_max:
        raise Refused(f"its script has {size} bytes, {limits.script_bytes_max} are allowed", reason="size")
    if len(delivery.data) > limits.data_bytes_max:
        raise Refused(
            f"it carries {len(delivery.data)} bytes of data, {limits.data_bytes_max} are allowed", reason="size"
        )
    if not particle.has_its_script():
        raise Refused("its script is not the one that the initiator signed", reason="script_hash")
