"""Scenario files: what they say, as values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

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
    """A trust between named peers; times in seconds. One that somebody else than the issuer has signed is forged."""

    issuer: str
    issued_for: str
    issued_at: int
    expires_at: int
    signed_by: str | None = None


class RevocationSpec(msgspec.Struct, frozen=True):
    """A trust that was taken back."""

    revoked_by: str
    revoked: str
    revoked_at: int
    signed_by: str | None = None


COLUMNS: Final = ("peer", "weight", "registered_at")


class ProviderRegistration(msgspec.Struct, frozen=True):
    """A provider registers, in seconds; without a weight it has the one that trusts give it."""

    peer: str
    registered_at: int
    weight: int | None = None


class ProvidersScenario(msgspec.Struct, frozen=True, kw_only=True):
    """Kind ``providers``: who is kept at a key, in which order.

    Attributes:
        limit, reserve: as in the limits of a peer.
        columns: what the numbers of a row mean; rows without a weight take it from the trusts.
        providers: rows.
        roots: who weighs how much without being trusted by anybody: ``[peer, exponent]``.
        trusts, revocations: statements; each counts from its own time on.
        now, at: when the providers are asked for, in seconds, under either name; without it, when the last registration or statement was made.
    """

    name: str
    kind: Literal["providers"]
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)]
    reserve: Annotated[int, msgspec.Meta(ge=0)]
    providers: tuple[tuple[str | int | None, ...], ...]
    columns: tuple[str, ...] | None = None
    roots: tuple[tuple[str, Annotated[int, msgspec.Meta(ge=0)]], ...] = ()
    trusts: tuple[TrustSpec, ...] = ()
    revocations: tuple[RevocationSpec, ...] = ()
    now: int | None = None
    at: int | None = None

    def registrations(self) -> list[ProviderRegistration]:
        """The rows by their columns, in the order of the times.

        Raises:
            ConfigError: a row does not fit the columns.
        """
        rows = []
        for row in self.providers:
            columns = self.columns or (COLUMNS if len(row) == len(COLUMNS) else ("peer", "registered_at"))
            if len(row) != len(columns):
                raise ConfigError(f"{self.name}: the row {list(row)} must have {', '.join(columns)}")
            try:
                rows.append(msgspec.convert(dict(zip(columns, row, strict=True)), ProviderRegistration))
            except msgspec.ValidationError as error:
                raise ConfigError(f"{self.name}: the row {list(row)} is none: {error}") from error
        return sorted(rows, key=lambda row: row.registered_at)

    def asked_at(self) -> int:
        """When the providers are asked for, in seconds."""
        return _asked_at(self, *(row.registered_at for row in self.registrations()))


class ArrivingPeer(msgspec.Struct, frozen=True):
    """A peer that comes to a bucket; without a weight it has the one that trusts give it."""

    peer: str
    weight: int | None = None


class BucketScenario(msgspec.Struct, frozen=True, kw_only=True):
    """Kind ``bucket``: who stays in one bucket.

    Attributes:
        k, reserve: of the bucket.
        arrivals: rows ``[peer, weight]``; those without a weight take it from the trusts.
        all_answer_pings: whether members that are pinged answer.
        roots, trusts, revocations: as in :class:`ProvidersScenario`.
        now, at: the moment of the weights, under either name.
    """

    name: str
    kind: Literal["bucket"]
    k: Annotated[int, msgspec.Meta(ge=1, le=1_000)]
    reserve: Annotated[int, msgspec.Meta(ge=0)]
    arrivals: tuple[tuple[str | int | None, ...] | str, ...]
    all_answer_pings: bool = True
    roots: tuple[tuple[str, Annotated[int, msgspec.Meta(ge=0)]], ...] = ()
    trusts: tuple[TrustSpec, ...] = ()
    revocations: tuple[RevocationSpec, ...] = ()
    now: int | None = None
    at: int | None = None

    def asked_at(self) -> int:
        """The moment of the weights, in seconds."""
        return _asked_at(self)

    def peers(self) -> list[ArrivingPeer]:
        """The arrivals, in order.

        Raises:
            ConfigError: a row is none.
        """
        rows = [(row,) if isinstance(row, str) else row for row in self.arrivals]
        try:
            return [msgspec.convert(dict(zip(("peer", "weight"), row, strict=False)), ArrivingPeer) for row in rows]
        except msgspec.ValidationError as error:
            raise ConfigError(f"{self.name}: an arrival is a peer and its weight: {error}") from error


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


def _asked_at(scenario: ProvidersScenario | BucketScenario, *events: int) -> int:
    """The moment that a scenario names, or its last event."""
    for given in (scenario.now, scenario.at):
        if given is not None:
            return given
    issued = (trust.issued_at for trust in scenario.trusts)
    return max((0, *events, *issued, *(one.revoked_at for one in scenario.revocations)))


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
