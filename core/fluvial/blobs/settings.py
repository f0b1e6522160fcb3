"""``[blobs]`` of ``fluvial.toml``: the limits of the room, in the one place where they have defaults."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class BlobsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[blobs]``: contents that are larger than a message."""

    folder: Annotated[
        str, Meta(description="folder in which blobs are kept; empty for a temporary one that goes with the peer")
    ] = "state/blobs"
    bytes_max: Annotated[
        int, Meta(ge=1, le=2**50, description="most bytes of all blobs, unfinished downloads included")
    ] = 1_073_741_824
    blobs_max: Annotated[int, Meta(ge=1, le=10_000_000, description="most blobs")] = 10_000
    free_bytes_min: Annotated[
        int,
        Meta(ge=0, le=2**50, description="bytes that stay free on the disk: a blob that would take them is refused"),
    ] = 67_108_864
    downloads_max: Annotated[
        int,
        Meta(
            ge=1, le=10_000, description="downloads in progress or interrupted; the oldest interrupted one makes room"
        ),
    ] = 16
    download_timeout_s: Annotated[
        float, Meta(gt=0, le=31_536_000, description="seconds for a download; the next one goes on where it ended")
    ] = 3_600.0
    interrupted_keep_s: Annotated[
        float, Meta(ge=0, le=31_536_000, description="seconds that an interrupted download is kept")
    ] = 86_400.0
    announced_max: Annotated[
        int, Meta(ge=0, le=1_000_000, description="most blobs by which this peer can be looked up")
    ] = 1_000
