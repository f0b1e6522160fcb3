"""Scenario files: what they say, as values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from fluvial.errors import ConfigError

Fraction: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1)]
_PEERS_MAX = 100_000


class LiarsSpec(msgspec.Struct, frozen=True):
    """Liars: a fraction of the peers at random places, or ``count`` that made ids nearest to each key."""

    fraction: Fraction = 0.0
    count: Annotated[int, msgspec.Meta(ge=0, le=1_000)] = 0
    behaviour: str = ""


class NetworkSpec(msgspec.Struct, frozen=True):
    """The network of a scenario."""

    peers: Annotated[int, msgspec.Meta(ge=2, le=_PEERS_MAX)]
    k: Annotated[int, msgspec.Meta(ge=2, le=64)] = 20
    alpha: Annotated[int, msgspec.Meta(ge=1, le=64)] = 3
    replicas: Annotated[int, msgspec.Meta(ge=1, le=64)] = 20
    disjoint_paths: Annotated[int, msgspec.Meta(ge=1, le=16)] = 1
    seed: int = 1
    offline: Fraction = 0.0
    trusted: Fraction = 0.0
    loss: Fraction = 0.0
    liars: LiarsSpec | Fraction = 0.0
    sybils: LiarsSpec | Fraction = 0.0


class LookupScenario(msgspec.Struct, frozen=True, kw_only=True):
    """Kinds ``lookup`` and ``churn``: records are put into a network, then looked up."""

    name: str
    kind: Literal["lookup", "churn"]
    network: NetworkSpec
    keys: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 30
    lookups: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 100
    hours: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 10
    replaced_per_hour: Fraction = 0.0
    republish_hours: Annotated[float, msgspec.Meta(ge=0, le=1_000)] | None = None
    record_ttl_hours: Annotated[float, msgspec.Meta(gt=0, le=10_000)] = 24.0


class TrustSpec(msgspec.Struct, frozen=True):
    """A trust between named peers; times in seconds."""

    issuer: str
    issued_for: str
    issued_at: int
    expires_at: int


class RevocationSpec(msgspec.Struct, frozen=True):
    """A trust that was taken back."""

    revoked_by: str
    revoked: str
    revoked_at: int


class ProvidersScenario(msgspec.Struct, frozen=True, kw_only=True):
    """Kind ``providers``: who is kept at a key, in which order. Rows are [peer, weight, registered_at]."""

    name: str
    kind: Literal["providers"]
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)]
    reserve: Annotated[int, msgspec.Meta(ge=0)]
    providers: tuple[tuple[str, int, int], ...]


class BucketScenario(msgspec.Struct, frozen=True, kw_only=True):
    """Kind ``bucket``: who stays in one bucket. Rows are [peer, weight]."""

    name: str
    kind: Literal["bucket"]
    k: Annotated[int, msgspec.Meta(ge=1, le=1_000)]
    reserve: Annotated[int, msgspec.Meta(ge=0)]
    arrivals: tuple[tuple[str, int], ...]
    all_answer_pings: bool = True


class ChallengeCase(msgspec.Struct, frozen=True):
    """One registration at an owned key; ``at`` in seconds."""

    case: str
    provider: str
    path: tuple[str, ...]
    at: int


class ChallengeScenario(msgspec.Struct, frozen=True, kw_only=True):
    """Kind ``challenge``: which registrations a replica takes."""

    name: str
    kind: Literal["challenge"]
    owner: str
    max_trust_path_length: Annotated[int, msgspec.Meta(ge=0, le=16)]
    trusts: tuple[TrustSpec, ...] = ()
    revocations: tuple[RevocationSpec, ...] = ()
    cases: tuple[ChallengeCase, ...]


LabScenario: TypeAlias = LookupScenario | ProvidersScenario | BucketScenario | ChallengeScenario
_KINDS: dict[str, type[Any]] = {
    "lookup": LookupScenario,
    "churn": LookupScenario,
    "providers": ProvidersScenario,
    "bucket": BucketScenario,
    "challenge": ChallengeScenario,
}


def read_scenario(path: Path) -> LabScenario:
    """A scenario from its JSON file; keys that only say what to expect are not looked at.

    Raises:
        ConfigError: the file cannot be read, or is no scenario of a known kind.
    """
    try:
        data = msgspec.json.decode(path.read_bytes())
        kind = data.get("kind") if isinstance(data, dict) else None
        if kind not in _KINDS:
            raise ConfigError(f"{path}: scenarios are of the kind {', '.join(_KINDS)}, not {kind!r}")
        scenario: LabScenario = msgspec.convert(data, _KINDS[kind])
    except OSError as error:
        raise ConfigError(f"{path}: the scenario cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{path}: this is no scenario: {error}") from error
    return scenario
