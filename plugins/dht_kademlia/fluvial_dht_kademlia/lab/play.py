"""Plays a scenario of any kind."""

from __future__ import annotations

from typing import Any, assert_never

from fluvial_dht_kademlia.lab.lookups import run_churn, run_lookup
from fluvial_dht_kademlia.lab.rules import run_bucket, run_challenge, run_providers
from fluvial_dht_kademlia.lab.scenario import (
    BucketScenario,
    ChallengeScenario,
    LabScenario,
    LookupScenario,
    ProvidersScenario,
)


def play(scenario: LabScenario) -> dict[str, Any]:
    """The outcome of a scenario, with the keys that its kind asks for."""
    match scenario:
        case LookupScenario(kind="churn"):
            return run_churn(scenario)
        case LookupScenario():
            return run_lookup(scenario)
        case ProvidersScenario():
            return run_providers(scenario)
        case BucketScenario():
            return run_bucket(scenario)
        case ChallengeScenario():
            return run_challenge(scenario)
    assert_never(scenario)
