"""The metrics of the room of blobs."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge


class BlobMetrics:
    """The room's metrics in one registry.

    Attributes:
        bytes: of all blobs on the disk, unfinished downloads included.
        kept: complete blobs.
        unfinished: downloads in progress or interrupted.
        evicted: blobs and downloads deleted to make room, or interrupted too long ago.
        downloads: that ended, by outcome: ``fetched``, ``unreachable``, ``limit``, ``storage``, ``malformed`` or ``interrupted``.
        sources_dropped: peers that a download gave up, by reason.
        received_bytes: of pieces that were asked for, right or wrong.
        requests: of other peers, by outcome: ``answered``, ``unknown``, ``malformed`` or ``storage``.
        served_bytes: answered to other peers.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.bytes: Final = Gauge(
            "fluvial_blobs_bytes", "Bytes of all blobs, unfinished downloads included", registry=registry
        )
        self.kept: Final = Gauge("fluvial_blobs_kept", "Complete blobs", registry=registry)
        self.unfinished: Final = Gauge(
            "fluvial_blobs_unfinished", "Downloads in progress or interrupted", registry=registry
        )
        self.evicted: Final = Counter(
            "fluvial_blobs_evicted", "Blobs and interrupted downloads that were deleted", registry=registry
        )
        self.downloads: Final = Counter(
            "fluvial_blobs_downloads", "Downloads that ended, by outcome", ["outcome"], registry=registry
        )
        self.sources_dropped: Final = Counter(
            "fluvial_blobs_sources_dropped", "Peers that a download gave up", ["reason"], registry=registry
        )
        self.received_bytes: Final = Counter(
            "fluvial_blobs_received_bytes", "Bytes of pieces that other peers answered", registry=registry
        )
        self.requests: Final = Counter(
            "fluvial_blobs_requests", "Requests of other peers, by outcome", ["outcome"], registry=registry
        )
        self.served_bytes: Final = Counter(
            "fluvial_blobs_served_bytes", "Bytes of pieces that other peers were given", registry=registry
        )
