"""Schedules: adversarial runs as data. The format is described in `docs/consensus.md`; it knows nothing of any algorithm."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec

from fluvial.errors import ConfigError

FORMAT: Final = "fluvial-consensus-schedule/1"

REBELS: Final = ("build_on_old", "sign_everything")
"""The words for an engine's own bad variants."""

Reference: TypeAlias = int | str
"""A node: its number, which means all its copies, or one copy of a twin: "3" and "3b"."""
Ms: TypeAlias = Annotated[float, msgspec.Meta(ge=0)]
Probability: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1)]
Range: TypeAlias = tuple[Ms, Ms]


class Conditions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How messages fare: delay in ms (uniform), and the probabilities of loss and of coming twice."""

    delay_ms: Range = (10, 10)
    loss: Probability = 0.0
    duplicate: Probability = 0.0


class NetworkSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The conditions, and those before the time of stabilisation."""

    delay_ms: Range = (10, 10)
    loss: Probability = 0.0
    duplicate: Probability = 0.0
    before_gst: Conditions | None = None


class Load(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Payments of one unit: ``burst`` of them every ``every_ms``, given to some nodes, from some account."""

    from_ms: Ms = 0
    until_ms: Ms = 0
    every_ms: Annotated[float, msgspec.Meta(gt=0)] = 20
    burst: Annotated[int, msgspec.Meta(ge=1)] = 1
    to: Literal["all"] | list[Reference] = "all"
    account: int | None = None


class Action(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A transaction of the administrator, given to all nodes."""

    kind: Literal["validator_update"]
    at_ms: Ms
    nonce: int
    add: list[int] = []
    remove: list[int] = []


class Partition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="partition"):
    """Messages between different groups are lost; nodes in no group form one more."""

    at_ms: Ms
    until_ms: Ms
    groups: list[list[Reference]]


class LinkFault(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="link", rename={"sender": "from"}
):
    """One direction between two nodes is bad."""

    sender: Reference
    to: Reference
    at_ms: Ms = 0
    until_ms: Ms | None = None
    loss: Probability = 0.0
    extra_delay_ms: Ms = 0


class Crash(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="crash"):
    """A node stops, and comes back with what its disk has kept."""

    node: Reference
    at_ms: Ms
    restart_ms: Ms | None = None
    disk: Literal["keep", "lose_unsynced", "torn"] = "keep"


class ClockFault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="clock"):
    """A node's wall clock reads rate × time + offset, and its timers run at that rate."""

    node: Reference
    at_ms: Ms = 0
    until_ms: Ms | None = None
    offset_ms: float = 0
    rate: Annotated[float, msgspec.Meta(gt=0)] = 1.0


Fault: TypeAlias = Partition | LinkFault | Crash | ClockFault


class Role(msgspec.Struct, frozen=True):
    """What a Byzantine node does; which fields count depends on the role. The word for a rebel may stand in any field."""

    node: int
    role: Literal[
        "silent",
        "withhold",
        "delay",
        "twin",
        "equivocate",
        "amnesia",
        "bad_signature",
        "impersonate",
        "wrong_state_root",
        "invalid_payload",
        "censor",
        "flood",
        "replay",
        "garbage",
        "rebel",
    ]
    from_ms: Ms = 0
    until_ms: Ms | None = None
    classes: list[str] | None = None
    to: Literal["all"] | list[Reference] | None = None
    ms: Range | float = 0
    lag_ms: Ms = 0
    split: list[list[Reference]] | None = None
    at_ms: list[Ms] | Ms = []
    down_ms: Ms = 0
    probability: Probability = 1.0
    account: int | None = None
    copies: Annotated[int, msgspec.Meta(ge=1, le=100)] = 2
    size: Annotated[int, msgspec.Meta(ge=1, le=65_536)] = 64
    rebel: str = ""

    def during(self, ms: float) -> bool:
        """Whether it plays its role at a time."""
        return self.from_ms <= ms and (self.until_ms is None or ms < self.until_ms)


class FaultSchedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One run."""

    format: Literal["fluvial-consensus-schedule/1"]
    name: str
    validators: Annotated[int, msgspec.Meta(ge=1, le=128)]
    delta_ms: Annotated[int, msgspec.Meta(ge=1)]
    end_ms: Annotated[float, msgspec.Meta(gt=0, le=3_600_000)]
    about: str = ""
    seed: int = 0
    standby: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0
    timeout_hint_ms: int | None = None
    gst_ms: Ms = 0
    network: NetworkSection = NetworkSection()
    fsync_ms: Ms = 0
    max_clock_skew_ms: int = 500
    max_block_txs: Annotated[int, msgspec.Meta(ge=1)] = 500
    accounts: Annotated[int, msgspec.Meta(ge=2, le=10_000)] = 16
    workload: list[Load] | None = None
    actions: list[Action] = []
    faults: list[Fault] = []
    byzantine: list[Role] = []
    expect: dict[str, Any] = {}
    expect_by_algorithm: dict[str, dict[str, Any]] = {}

    @property
    def nodes(self) -> int:
        """Validators and standby nodes."""
        return self.validators + self.standby

    @property
    def loads(self) -> list[Load]:
        """The workload: without any word of it, a payment each 20 ms."""
        return [Load(until_ms=self.end_ms)] if self.workload is None else self.workload

    def expected(self, algorithm: str) -> dict[str, Any]:
        """What must hold for an algorithm."""
        return {**self.expect, **self.expect_by_algorithm.get(algorithm, {})}


def read_schedule(path: Path) -> FaultSchedule:
    """The schedule in a file.

    Raises:
        ConfigError: it cannot be read, or is none.
    """
    try:
        values = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        for row in values.get("byzantine", ()):
            if row.get("role") == "rebel":
                row["rebel"] = next((one for one in row.values() if one in REBELS), "")
        return msgspec.convert(values, FaultSchedule)
    except OSError as error:
        raise ConfigError(f"{path}: the schedule cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"{path}: this is no schedule: {error}", hint="docs/consensus.md describes the format"
        ) from error
