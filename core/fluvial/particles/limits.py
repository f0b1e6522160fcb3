"""What a peer accepts of particles: ``[particles]`` and most of ``[storage]`` in ``fluvial.toml``; the only place where the defaults stand."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class ParticleLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[particles]``: the limits of what this peer accepts."""

    ttl_ms_max: Annotated[int, Meta(ge=1, le=86_400_000, description="longest life of a particle")] = 120_000
    clock_skew_ms_max: Annotated[
        int, Meta(ge=0, le=86_400_000, description="how far ahead an initiator's clock may be")
    ] = 30_000
    hops_max: Annotated[int, Meta(ge=1, le=65_535, description="most hops that a particle may ask for")] = 64
    script_bytes_max: Annotated[int, Meta(ge=1, le=2**28, description="largest script")] = 1_048_576
    data_bytes_max: Annotated[int, Meta(ge=1, le=2**30, description="most data that a particle may carry")] = 8_388_608
    destinations_max: Annotated[
        int, Meta(ge=1, le=1_000_000, description="most peers to which this peer sends one particle")
    ] = 512
    live_max: Annotated[int, Meta(ge=1, le=10_000_000, description="most particles alive here at one time")] = 10_000
    memory_bytes_max: Annotated[
        int, Meta(ge=65_536, le=2**40, description="most memory of one particle; over it the flow fails here")
    ] = 67_108_864
    node_memory_bytes_max: Annotated[
        int,
        Meta(
            ge=1_048_576,
            le=2**40,
            description="memory of all particles; over it whoever holds more than their part is refused",
        ),
    ] = 134_217_728
    failure_notices: Annotated[
        bool, Meta(description="tell initiators that their particle cannot go on here; take and pass on such notices")
    ] = True
    failure_notices_per_minute: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="notices to one initiator, and notices taken from one peer for one client, or about one particle",
        ),
    ] = 60
    resend_after_ms: Annotated[
        int,
        Meta(
            ge=0,
            le=86_400_000,
            description="how long others are relied on to send a particle on, before this peer does it; 0 for ever",
        ),
    ] = 10_000


class DiskLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of ``[storage]``: how much particles may write, and for how long it is kept."""

    keep_ms: Annotated[
        int, Meta(ge=0, le=315_360_000_000, description="how long a particle stays for inspection after its deadline")
    ] = 3_600_000
    keep_bytes_max: Annotated[
        int,
        Meta(
            ge=0,
            le=2**50,
            description="bytes of particles above which those that have ended go earlier, oldest first; never more than a third of "
            "`bytes_max`",
        ),
    ] = 268_435_456
    bytes_max: Annotated[
        int, Meta(ge=2**24, le=2**50, description="most bytes of the database for particles, its log included")
    ] = 1_073_741_824
    particle_bytes_max: Annotated[
        int,
        Meta(ge=2**16, le=2**40, description="most bytes of one particle's journal; it ends here before it has more"),
    ] = 67_108_864
    initiator_bytes_per_s: Annotated[
        int, Meta(ge=1, le=2**40, description="bytes a second that one initiator's particles may write for long")
    ] = 8_388_608
    initiator_burst_bytes: Annotated[
        int, Meta(ge=1, le=2**40, description="bytes that they may write at once after a pause")
    ] = 67_108_864
