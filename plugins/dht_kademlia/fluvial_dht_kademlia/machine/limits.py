"""The numbers of the machine: sizes, times and bounds, each with the reason for its default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fluvial.errors import ConfigError

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
VALUE_BYTES_MAX: Final = 1_000
"""The value of a record. Source: BEP-44 takes 1,000 bytes."""
SOLUTION_BYTES_MAX: Final = 8_192
"""The solution of a challenge: a trust path of 16 statements with their signatures."""
CHALLENGE_BYTES_MAX: Final = 1_024
ADDRESSES_MAX: Final = 8
"""Addresses in one record or contact."""
ADDRESS_CHARACTERS_MAX: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class KademliaLimits:
    """Sizes, times and bounds of one peer. Times are in milliseconds.

    Attributes:
        k: contacts in a bucket, and peers that a lookup ends with. Source: Kademlia, section 2.2 (20).
        bucket_reserve: places of a bucket that weighted peers cannot keep from strangers.
        alpha: requests of one lookup in flight. Source: Kademlia, section 2.3 (3).
        replicas: peers that are asked to keep a record; half of them are the nearest with weight, if there are such.
        disjoint_paths: paths of a lookup that share no peer. Source: S/Kademlia, section 4.4.
        quorum: replicas whose records a lookup of providers waits for, unless the lookup ends before.
        requests_max: requests of one lookup: bounds what liars can make a peer send.
        lookups_max: lookups at the same time.
        request_timeout_ms: after this a request has failed.
        patience_max_ms: after this, or sooner on quick networks, an outstanding request holds up its lookup no more.
        refresh_ms: a bucket without a lookup for so long is refreshed. Source: Kademlia, section 2.3 (1 h).
        republish_ms: provider's own records are published again after this; 0 means never.
        replicate_ms: a replica hands a record on if nobody has sent it for so long; 0 means never.
        record_lifetime_ms: how long a record of this peer lives.
        record_lifetime_max_ms: a record that wants to live longer is refused.
        clock_skew_ms: how far ahead of this peer's time a record may be issued.
        providers_max: records kept for one key.
        providers_reserve: of these, how many are kept for providers without weight.
        keys_max: keys for which records are kept.
        records_bytes_max: memory of all these records; see :mod:`.record_shares`.
        keys_per_stranger_max: of the keys, keys at which one provider without weight is kept.
        own_records_max: records that this peer itself publishes.
    """

    k: int = 20
    bucket_reserve: int = 5
    alpha: int = 3
    replicas: int = 20
    disjoint_paths: int = 1
    quorum: int = 3
    requests_max: int = 256
    lookups_max: int = 256
    request_timeout_ms: int = 3_000
    patience_max_ms: int = 500
    refresh_ms: int = HOUR_MS
    republish_ms: int = 6 * HOUR_MS
    replicate_ms: int = 2 * HOUR_MS
    record_lifetime_ms: int = 24 * HOUR_MS
    record_lifetime_max_ms: int = 48 * HOUR_MS
    clock_skew_ms: int = MINUTE_MS
    providers_max: int = 32
    providers_reserve: int = 8
    keys_max: int = 10_000
    records_bytes_max: int = 64 * 2**20
    keys_per_stranger_max: int = 256
    own_records_max: int = 1_024

    def __post_init__(self) -> None:
        """Refuse numbers with which the machine could not work.

        Raises:
            ConfigError: which one, and what it must be.
        """
        if not 0 <= self.bucket_reserve < self.k:
            raise ConfigError(f"bucket_reserve is {self.bucket_reserve}: it must be 0 to k - 1, and k is {self.k}")
        if not 0 <= self.providers_reserve < self.providers_max:
            raise ConfigError(
                f"providers_reserve is {self.providers_reserve}: it must be 0 to providers_max - 1, which is {self.providers_max - 1}"
            )
        for name in ("alpha", "replicas", "disjoint_paths", "quorum", "requests_max", "lookups_max", "keys_max"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}: it must be at least 1")
