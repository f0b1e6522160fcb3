"""The keys of ``[transport]`` with ``kind = "memory"``: those of ``tcp`` that mean something without sockets."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

FRAME_BYTES_MIN: Final = 65_536
"""What every peer can be sent, over whatever transport."""

_Seconds = Annotated[float, Meta(gt=0, le=86_400)]


class MemoryOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether to listen, and the limits.

    Raises:
        ValueError: two options do not go together.
    """

    listen: Annotated[bool, Meta(description="whether others can dial this peer")] = True
    port: Annotated[int, Meta(ge=0, le=65_535, description="the port to listen on; 0 takes a free one")] = 0
    frame_bytes_max: Annotated[
        int, Meta(ge=FRAME_BYTES_MIN, le=2**30, description="largest message with its header, in bytes, both ways")
    ] = 12_582_912
    window_bytes: Annotated[
        int,
        Meta(
            ge=2 * FRAME_BYTES_MIN,
            le=2**31,
            description="messages of one peer that are under way to this one or being handled here, in bytes; each counts 32 KiB more",
        ),
    ] = 33_554_432
    connections_max: Annotated[int, Meta(ge=1, description="connections in total; further ones are refused")] = 1024
    dial_timeout_s: Annotated[_Seconds, Meta(description="seconds after which a dial across a partition fails")] = 10.0
    send_timeout_s: Annotated[
        _Seconds, Meta(description="seconds that a one-way message waits for a connection and room")
    ] = 30.0
    handling_timeout_s: Annotated[
        _Seconds,
        Meta(description="seconds this node takes at most to handle one message; then the sender gets an error"),
    ] = 60.0
    silence_max_s: Annotated[
        _Seconds, Meta(description="seconds of a partition after which a connection across it is dead")
    ] = 45.0
    reconnect_min_s: Annotated[_Seconds, Meta(description="first pause before a kept connection is dialled again")] = (
        0.5
    )
    reconnect_max_s: Annotated[
        _Seconds, Meta(description="longest pause before a kept connection is dialled again")
    ] = 60.0

    def __post_init__(self) -> None:
        """Check what the ranges of the single options cannot say."""
        if self.window_bytes < 2 * self.frame_bytes_max:
            raise ValueError(
                f"window_bytes = {self.window_bytes} must be at least twice frame_bytes_max = {self.frame_bytes_max}"
            )
        if self.reconnect_max_s < self.reconnect_min_s:
            raise ValueError("reconnect_max_s must not be shorter than reconnect_min_s")
