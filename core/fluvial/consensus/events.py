"""What the host tells an engine: one event at a time, to completion."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from fluvial.identity import PeerId
from fluvial.ledger.blocks import Anchor


class MessageReceived(msgspec.Struct, frozen=True):
    """A message came. The transport has authenticated the sender, who may have passed on what somebody else signed."""

    sender: PeerId
    data: bytes


class TimerFired(msgspec.Struct, frozen=True):
    """A timer that was set and not cancelled has run out."""

    name: str


class PayloadBuilt(msgspec.Struct, frozen=True):
    """The answer to ``BuildPayload``.

    Attributes:
        request: of the effect.
        payload: what to propose.
        state: root of the state after it; empty for engines that do not certify state.
        time_ms: of the block: the host's clock in milliseconds since 1970, or one more than the parent's time.
        terminal: whether it changes the validators, so that it must be the last block of the epoch.
    """

    request: int
    payload: bytes
    state: bytes
    time_ms: int
    terminal: bool = False


class PayloadChecked(msgspec.Struct, frozen=True):
    """The answer to ``CheckPayload``.

    Attributes:
        block: its id.
        reason: why the block must not be voted for; empty if all is right.
        terminal: whether it changes the validators.
    """

    block: bytes
    reason: str = ""
    terminal: bool = False


class Synced(msgspec.Struct, frozen=True):
    """The host has learned, with proof, of blocks that the engine does not know; everything up to the anchor is final."""

    anchor: Anchor


class PayloadOrdered(msgspec.Struct, frozen=True):
    """The next entry of the log of the ordering service."""

    position: int
    data: bytes


class OrderLost(msgspec.Struct, frozen=True):
    """The ordering service does not have the entries any more that come next."""


Event: TypeAlias = MessageReceived | TimerFired | PayloadBuilt | PayloadChecked | Synced | PayloadOrdered | OrderLost
