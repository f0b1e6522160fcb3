"""Validators as processes: one that lies is convicted, shown and removed; one that is new joins from a snapshot; one that lost its database comes back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fluvial.cli.main import main

from tests.e2e.ledger_kills import LedgerProcesses, processes
from tests.support.processes import wait_until

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

LIAR = '''
"""Simplex that notarizes, nullifies and finalizes whatever is proposed."""
from fluvial import hookimpl
from fluvial_consensus_bft.plugin import TRAITS, SimplexOptions


@hookimpl
def fluvial_register(registry):
    registry.engine("liar", TRAITS.rebels["sign_everything"], options=SimplexOptions, traits=TRAITS)
'''
NEW, LIES, LOST = 5, 4, 3
"""Numbers of the processes: the last of six is no validator at first."""


class Commands:
    """``fluvial … --json`` at one of the peers, in this process, which has loaded everything already.

    Args:
        network: the processes.
    """

    def __init__(self, network: LedgerProcesses) -> None:
        self.network = network

    def __call__(self, number: int, *words: str | Path) -> Any:
        """What it prints."""
        settings = self.network.made.folders[number][0] / "fluvial.toml"
        done = CliRunner().invoke(main, ["--config", str(settings), *map(str, words), "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def change(self, *words: str) -> Any:
        """A change of the validators, by the administrator."""
        key = str(self.network.made.administrator)
        return self(0, "consensus", "submit", "validators", *words, "--key", key)

    def status(self, number: int) -> dict[str, Any]:
        """Of a peer; empty while it does not answer."""
        settings = self.network.made.folders[number][0] / "fluvial.toml"
        done = CliRunner().invoke(main, ["--config", str(settings), "consensus", "status", "--json"])
        return json.loads(done.stdout) if done.exit_code == 0 else {}

    def until(self, number: int, true: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """Wait for a status."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            now = self.status(number)
            found.append(now)
            return bool(now) and true(now)

        wait_until(look, within_s=120, what=f"{what}: {found[-1:]} {self.network.log(number)}")
        return found[-1]


def without_the_new(genesis: Path, peer: str) -> None:
    document = json.loads(genesis.read_text())
    document["validators"] = [one for one in document["validators"] if one["peer"] != peer]
    genesis.write_text(json.dumps(document))


def test_validators_come_and_go(tmp_path: Path, variables: Mapping[str, str]) -> None:
    settings = ("ledger.snapshot_blocks=10", "ledger.kept_blocks=10")
    with processes(tmp_path, "simplex", variables, validators=6, settings=settings) as network:
        peers = [str(peer) for _, peer in network.made.folders]
        without_the_new(network.made.genesis, peers[NEW])
        plugins = network.made.folders[LIES][0] / "plugins.d"
        plugins.mkdir()
        (plugins / "liar.py").write_text(LIAR)
        for number in range(4):
            network.start(number)
        network.start(LIES, "plugins.path=plugins.d", "consensus.kind=liar")
        asked = Commands(network)

        # The liar is convicted by two signatures of its own, and removed.
        asked.until(0, lambda now: now["epoch"] == 1, "the liar is removed")
        (offence,) = asked(1, "consensus", "explain")
        assert offence["validator"] == peers[LIES]
        assert offence["convicts"]
        assert len({one["signature"] for one in offence["statements"]}) == 2
        assert peers[LIES] not in [one["peer"] for one in asked(0, "consensus", "validators")]
        network.kill(LIES)
        # What the ledger says is proven beyond the first validators.
        members = asked(0, "consensus", "query", "validators")["value"]
        assert (members["epoch"], len(members["validators"])) == (1, 4)

        # A new one joins: the blocks that it lacks are gone, so it begins with a snapshot.
        asked.until(0, lambda now: now["height"] > 60, "there are blocks to forget")
        for number in range(4):  # what they still have in memory
            network.kill(number)
        for number in range(4):
            network.start(number)
        asked.until(0, lambda now: now["height"] > 70, "they go on from their snapshots")
        network.start(NEW)
        height = asked.status(0)["height"]
        now = asked.until(NEW, lambda now: now["height"] >= height, "it has caught up")
        assert (now["role"], now["epoch"]) == ("follower", 1)
        assert "snapshot_installed" in (network.made.folders[NEW][0] / "log").read_text()
        asked.change("--add", peers[NEW])
        asked.until(NEW, lambda now: now["role"] == "validator", "it is made a validator")

        # Four of five are a quorum: without another one its vote counts.
        network.kill(LOST)
        height = asked.status(0)["height"]
        asked.until(NEW, lambda now: now["height"] > height + 5, "it votes")

        # A validator that has lost its database is silent, until an epoch begins.
        shutil.rmtree(network.made.folders[LOST][0] / "state")
        network.start(LOST)
        now = asked.until(LOST, lambda now: now["epoch"] == 2, "it follows")
        assert (now["role"], now["votes_from_epoch"]) == ("silent", 3)
        asked.change("--add", f"{peers[NEW]}=2")
        asked.until(LOST, lambda now: now["role"] == "validator", "its key votes again")
        network.kill(1)
        height = asked.status(0)["height"]
        asked.until(LOST, lambda now: now["height"] > height + 5, "without its vote there is no quorum")
        assert len(asked(0, "consensus", "explain")) == 1, "nobody else can be convicted"
