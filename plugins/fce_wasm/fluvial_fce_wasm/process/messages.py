"""What the node and its child processes say to each other: MessagePack behind four bytes of length, over the child's stdin and stdout."""

from __future__ import annotations

import struct
from typing import Any, Final

import msgspec

from fluvial_fce_wasm.limits import GuestLimits
from fluvial_fce_wasm.linking import LinkPlan
from fluvial_fce_wasm.wit.types import ModuleShape

LENGTH: Final = struct.Struct(">I")
FRAME_BYTES_MAX: Final = 256 * 1_048_576


class CompileOrder(msgspec.Struct, frozen=True, tag="compile"):
    """Compile a component. ``source`` and ``target`` are paths; ``is_text`` allows WAT."""

    source: str
    target: str
    counts_fuel: bool
    is_text: bool


class ComposeOrder(msgspec.Struct, frozen=True, tag="compose"):
    """Compose components into ``target`` with a tool; ``config`` and ``root`` are paths, too."""

    tool: str
    config: str
    root: str
    target: str


class ModuleOrder(msgspec.Struct, frozen=True):
    """A compiled module that is to be loaded from the path ``compiled``."""

    name: str
    compiled: str
    shape: ModuleShape
    share_bytes: int


class LoadOrder(msgspec.Struct, frozen=True, tag="load"):
    """Make the instances of a service."""

    modules: tuple[ModuleOrder, ...]
    plan: LinkPlan
    limits: GuestLimits
    state: str
    seconds: float


class CallOrder(msgspec.Struct, frozen=True, tag="call"):
    """Call a function of the facade."""

    interface: str
    name: str
    arguments: list[Any]
    seconds: float


class HostAnswer(msgspec.Struct, frozen=True, tag="answer"):
    """What the host's function gave; ``trap`` is a text if it failed."""

    value: Any = None
    trap: str = ""


class HostQuestion(msgspec.Struct, frozen=True, tag="host"):
    """A guest calls a function of the host."""

    interface: str
    function: str
    arguments: list[Any]


class OrderDone(msgspec.Struct, frozen=True, tag="done"):
    """An order was carried out."""

    value: Any = None
    fuel_used: int = 0


class Compiled(msgspec.Struct, frozen=True, tag="compiled"):
    """A component was compiled."""

    shape: ModuleShape


class OrderFailed(msgspec.Struct, frozen=True, tag="failed"):
    """An order failed; ``dead`` says that the instances are gone."""

    kind: str
    reason: str
    dead: bool = False
    fuel_used: int = 0


Order = CompileOrder | ComposeOrder | LoadOrder | CallOrder | HostAnswer
Reply = OrderDone | Compiled | OrderFailed | HostQuestion

_orders: Final = msgspec.msgpack.Decoder(Order)
_replies: Final = msgspec.msgpack.Decoder(Reply)
_encoder: Final = msgspec.msgpack.Encoder()


def frame(message: Order | Reply) -> bytes:
    """A message with its length; raises OverflowError, TypeError or ValueError for values that MessagePack does not have."""
    data = _encoder.encode(message)
    if len(data) > FRAME_BYTES_MAX:
        raise ValueError(f"a message of {len(data):,} bytes")
    return LENGTH.pack(len(data)) + data


def order_of(data: bytes) -> Order:
    """The order that these bytes are."""
    order: Order = _orders.decode(data)
    return order


def reply_of(data: bytes) -> Reply:
    """The reply that these bytes are; raises msgspec.MsgspecError."""
    reply: Reply = _replies.decode(data)
    return reply
