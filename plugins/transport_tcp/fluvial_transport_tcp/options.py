"""The keys of ``[transport]`` in ``fluvial.toml``."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from fluvial.addresses import Address
from msgspec import Meta

FRAME_BYTES_MIN: Final = 65_536
"""No peer may announce a smaller frame limit: what every peer can be sent."""

ADDRESSES_MAX: Final = 16
"""Addresses that a peer announces at most; a host has few interfaces."""

_Seconds = Annotated[float, Meta(gt=0, le=86_400)]


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where to listen, and the limits; the defaults suit a peer with some hundred connections.

    Raises:
        ValueError: an address cannot be used or two options do not go together.
    """

    listen: Annotated[
        tuple[str, ...],
        Meta(
            description="addresses to listen on, such as /ip4/0.0.0.0/tcp/7771; port 0 picks a free one; none: only dial"
        ),
    ] = ()
    announce: Annotated[
        tuple[str, ...],
        Meta(description="addresses under which others can reach this peer, announced instead of those in `listen`"),
    ] = ()
    frame_bytes_max: Annotated[
        int, Meta(ge=FRAME_BYTES_MIN, le=2**30, description="largest message with its header, in bytes, both ways")
    ] = 12_582_912
    window_bytes: Annotated[
        int,
        Meta(
            ge=2 * FRAME_BYTES_MIN,
            le=2**31,
            description="messages of one peer that wait or are being handled here, in bytes; each counts 32 KiB more than its size",
        ),
    ] = 33_554_432
    queue_bytes_max: Annotated[
        int,
        Meta(
            ge=1, description="bytes that wait to be written to one peer before senders wait; one message may exceed it"
        ),
    ] = 1_048_576
    connections_max: Annotated[
        int, Meta(ge=1, description="connections in total; at the limit the longest idle one makes room")
    ] = 1024
    handshakes_max: Annotated[
        int, Meta(ge=1, description="accepted connections whose peer has not proven its key yet; the oldest makes room")
    ] = 64
    handshake_timeout_s: Annotated[_Seconds, Meta(description="seconds for a peer to prove its key and say hello")] = (
        10.0
    )
    dial_timeout_s: Annotated[_Seconds, Meta(description="seconds to connect to a peer, over all of its addresses")] = (
        10.0
    )
    send_timeout_s: Annotated[
        _Seconds, Meta(description="seconds that a one-way message waits for a connection and room")
    ] = 30.0
    handling_timeout_s: Annotated[
        _Seconds,
        Meta(description="seconds this node takes at most to handle one message; then the sender gets an error"),
    ] = 60.0
    keepalive_s: Annotated[
        _Seconds, Meta(description="seconds of silence after which the other side is asked for a sign of life")
    ] = 20.0
    silence_max_s: Annotated[
        _Seconds,
        Meta(
            description="seconds without a sign of life, or without taking any bytes, after which a connection is dead"
        ),
    ] = 45.0
    idle_s: Annotated[
        _Seconds,
        Meta(
            description="seconds without messages after which a connection that this peer dialled, but does not keep, is closed"
        ),
    ] = 180.0
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
        if self.silence_max_s <= self.keepalive_s:
            raise ValueError(
                f"silence_max_s = {self.silence_max_s:g} must be longer than keepalive_s = {self.keepalive_s:g}"
            )
        if self.reconnect_max_s < self.reconnect_min_s:
            raise ValueError("reconnect_max_s must not be shorter than reconnect_min_s")
        if max(len(self.listen), len(self.announce)) > ADDRESSES_MAX:
            raise ValueError(f"listen and announce take at most {ADDRESSES_MAX} addresses each")
        for address in self.listen_addresses():
            if not address.host_kind.startswith("ip") or address.relay or address.peer:
                raise ValueError(f"cannot listen on {address}: only /ip4/… or /ip6/… and a TCP port will do")
        for address in self.announce_addresses():
            if not address.port:
                raise ValueError(f"cannot announce {address}: name the port at which others can dial")

    def listen_addresses(self) -> tuple[Address, ...]:
        """``listen``, parsed."""
        return tuple(map(Address.parse, self.listen))

    def announce_addresses(self) -> tuple[Address, ...]:
        """``announce``, parsed."""
        return tuple(map(Address.parse, self.announce))
