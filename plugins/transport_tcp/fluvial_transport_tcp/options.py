"""The keys of ``[transport]`` in ``fluvial.toml``."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from fluvial.addresses import Address
from msgspec import Meta

from fluvial_transport_tcp.own_scope import DialScope

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
    dial_scope: Annotated[
        DialScope,
        Meta(
            description="which addresses that others tell are dialled: public ones, private ones too, local (loopback) ones too, any; "
            "auto: those of the networks in which this peer is reached itself"
        ),
    ] = "auto"
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
    incoming_bytes_max: Annotated[
        int,
        Meta(
            ge=2 * FRAME_BYTES_MIN,
            le=2**40,
            description="bytes of long messages that have begun to arrive or are being handled, from all peers together; "
            "each connection has 64 KiB besides",
        ),
    ] = 134_217_728
    unvouched_bytes_per_s: Annotated[
        int,
        Meta(
            ge=0,
            le=2**40,
            description="bytes per second that are read from a peer without weight that is not kept; it may be ahead by one second; 0: all that comes",
        ),
    ] = 16_777_216
    unvouched_prefix_bytes_per_s: Annotated[
        int,
        Meta(
            ge=0,
            le=2**40,
            description="the same for all such peers of one network prefix of public addresses together; 0: all that comes",
        ),
    ] = 67_108_864
    queue_bytes_max: Annotated[
        int,
        Meta(
            ge=1,
            le=2**40,
            description="bytes that wait to be written to one peer before senders wait; one message may exceed it",
        ),
    ] = 262_144
    connections_max: Annotated[
        int,
        Meta(ge=1, le=1_000_000, description="connections in total; at the limit the lightest and idlest makes room"),
    ] = 1024
    connections_reserved_percent: Annotated[
        int,
        Meta(
            ge=0,
            le=90,
            description="of these, what is kept for peers that are kept, trusted, or known from earlier messages; strangers get the rest",
        ),
    ] = 25
    connections_strangers_percent: Annotated[
        int, Meta(ge=0, le=90, description="of these, what is always left to strangers; one at least")
    ] = 10
    prefix_connections_max: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="connections accepted from one network prefix of public addresses; 0: any number",
        ),
    ] = 64
    prefix_connections_private_max: Annotated[
        int,
        Meta(ge=0, le=1_000_000, description="the same for loopback, private and link-local addresses; 0: any number"),
    ] = 0
    prefix_ipv4_bits: Annotated[
        int, Meta(ge=8, le=32, description="length of an IPv4 prefix whose addresses are counted together")
    ] = 24
    prefix_ipv6_bits: Annotated[
        int, Meta(ge=16, le=128, description="length of an IPv6 prefix whose addresses are counted together")
    ] = 48
    handshakes_max: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="accepted connections whose peer has not proven its key yet; the oldest makes room",
        ),
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
    frame_timeout_s: Annotated[
        _Seconds, Meta(description="seconds for a message that has begun to arrive to be complete")
    ] = 60.0
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
        if self.incoming_bytes_max < 2 * self.frame_bytes_max:
            raise ValueError(
                f"incoming_bytes_max = {self.incoming_bytes_max} must be at least twice frame_bytes_max = {self.frame_bytes_max}"
            )
        if self.connections_reserved_percent + self.connections_strangers_percent > 100:
            raise ValueError(
                "connections_reserved_percent and connections_strangers_percent are more than 100 together"
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
