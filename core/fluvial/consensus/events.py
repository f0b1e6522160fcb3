"""What the host tells an engine: one event at a time, to completion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from fluvial.identity import PeerId
from fluvial.ledger.blocks import Anchor


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A message came. The transport has authenticated the sender, who may have passed on what somebody else signed."""

    sender: PeerId
    data: bytes


@dataclass(frozen=True, slots=True)
class TimerFired:
    """A timer that was set and not cancelled has run out."""

    name: str


@dataclass(frozen=True, slots=True)
class PayloadBuilt:
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


@dataclass(frozen=True, slots=True)
class PayloadChecked:
    """The answer to ``CheckPayload``.

    Attributes:
        block: its id.
        reason: why the block must not be voted for; empty if all is right.
        terminal: whether it changes the validators.
    """

    block: bytes
    reason: str = ""
    terminal: bool = False


@dataclass(frozen=True, slots=True)
class Synced:
    """The host has learned, with proof, of blocks that the engine does not know; everything up to the anchor is final."""

    anchor: Anchor


@dataclass(frozen=True, slots=True)
class PayloadOrdered:
    """The next entry of the log of the ordering service."""

    position: int
    data: bytes


@dataclass(frozen=True, slots=True)
class OrderLost:
    """The ordering service does not have the entries any more that come next."""


Event: TypeAlias = MessageReceived | TimerFired | PayloadBuilt | PayloadChecked | Synced | PayloadOrdered | OrderLost
