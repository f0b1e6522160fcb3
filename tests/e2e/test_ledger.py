"""Four validators as processes: killed one at a time and all at once; what ``fluvial testnet`` and ``fluvial consensus`` say and do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fluvial.cli.main import main

from tests.e2e.ledger_kills import LedgerProcesses, processes, torment
from tests.support.processes import wait_until

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def testnet(tmp_path_factory: pytest.TempPathFactory, variables: Mapping[str, str]) -> Iterator[LedgerProcesses]:
    with processes(tmp_path_factory.mktemp("ledger"), "simplex", variables) as network:
        with (network.made.folders[0][0] / "fluvial.toml").open("a", encoding="utf-8") as settings:
            settings.write("\n[ledger.prices]\nmath = 5\n")
        for number in range(4):
            network.start(number)
        wait_until(lambda: network.look(3) > 1, within_s=120, what="the validators decide about blocks")
        yield network


def commanded(network: LedgerProcesses, *words: str | Path, code: int = 0) -> Any:
    """What `fluvial … --json` at the first validator prints; in this process, which has loaded everything already."""
    settings = network.made.folders[0][0] / "fluvial.toml"
    done = CliRunner().invoke(main, ["--config", str(settings), *map(str, words), "--json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout) if done.stdout else done.stderr


def test_the_commands_of_the_ledger(testnet: LedgerProcesses, tmp_path: Path) -> None:
    administrator = ("--key", testnet.made.administrator)
    peers = [str(peer) for _, peer in testnet.made.folders]
    now = commanded(testnet, "consensus", "status")
    assert now["role"] == "validator"
    assert now["chain"] == testnet.genesis.chain.hex()
    assert sorted(one["peer"] for one in commanded(testnet, "consensus", "validators")) == sorted(peers)
    done = commanded(testnet, "consensus", "submit", "transfer", peers[1], "5", *administrator)
    assert done["height"] > now["height"]
    balance = commanded(testnet, "consensus", "query", "accounts", peers[1])
    assert (balance["value"]["balance"], balance["height"] >= done["height"]) == (5, True)
    assert "balance" in str(commanded(testnet, "consensus", "submit", "transfer", peers[1], "9", code=1))

    commanded(testnet, "consensus", "submit", "name", "chat", peers[2], *administrator)
    assert commanded(testnet, "consensus", "query", "names", "chat")["value"]["target"] == peers[2]
    assert commanded(testnet, "consensus", "query", "names", "chess")["value"] is None
    # A proof is checked with the genesis, whatever the peer says.
    other = tmp_path / "other.json"
    other.write_bytes(testnet.made.genesis.read_bytes().replace(b'"name": "kills"', b'"name": "others"'))
    assert "this is no proof" in commanded(testnet, "consensus", "query", "names", "chat", "--genesis", other, code=1)
    made = commanded(testnet, "consensus", "submit", "perimeter", "--member", f"chat@{peers[0]}", *administrator)
    terms = commanded(testnet, "consensus", "query", "perimeters", made["perimeter"])["value"]
    assert terms["version"] == 1
    assert terms["terms"]["members"] == [{"service": "chat", "peer": peers[0]}]
    assert commanded(testnet, "consensus", "explain") == []


def test_a_name_resolves_in_a_flow(testnet: LedgerProcesses) -> None:
    home, peer = testnet.made.folders[0]
    commanded(testnet, "consensus", "submit", "name", "here", str(peer), "--key", testnet.made.administrator)
    script = home / "named.air"
    script.write_text(
        f'(seq (call "{peer}" ("name" "resolve") ["here"] there)\n'
        ' (seq (call there ("op" "identity") ["hi"] said) (call %init_peer_id% ("return" "") [said])))'
    )
    assert commanded(testnet, "flow", "run", script)["result"] == ["hi"]
    assert commanded(testnet, "call", 'op.identity("hi")', "--on", "here") == "hi"
    assert "nobody has the name" in commanded(testnet, "call", "op.noop()", "--on", "there", code=1)


@pytest.mark.long
def test_a_licence_from_the_command_line(testnet: LedgerProcesses, tmp_path: Path) -> None:
    _, peer = testnet.made.folders[0]
    administrator, shown = ("--key", testnet.made.administrator), tmp_path / "paid"
    call = ("call", "math.add(1, 2)", *administrator)
    assert "costs 5 units" in commanded(testnet, *call, code=1)
    made = commanded(testnet, "consensus", "licence", "open", str(peer), "math", "100", *administrator)
    licence = made["licence"]
    commanded(testnet, "consensus", "licence", "extend", licence, "--units", "20", *administrator)
    genesis = ("--genesis", testnet.made.genesis)
    done = CliRunner().invoke(
        main, list(map(str, ["consensus", "licence", "voucher", licence, 5, "--out", shown, *genesis, *administrator]))
    )
    assert done.exit_code == 0, done.output
    commanded(testnet, *call, "--credentials", shown)
    assert "sign a voucher of 10 units" in commanded(testnet, *call, "--credentials", shown, code=1)
    (held,) = commanded(testnet, "consensus", "licence", "show")
    assert (held["service"], held["amount"], held["used"]) == ("math", 5, 5)
    (paid,) = commanded(testnet, "consensus", "licence", "settle")
    assert (paid["units"], paid["failed"]) == (5, "")
    assert commanded(testnet, "consensus", "licence", "settle") == []
    assert commanded(testnet, "consensus", "query", "licences", licence)["value"]["settled"] == 5
    commanded(testnet, "consensus", "licence", "close", licence)
    assert commanded(testnet, "consensus", "query", "licences", licence)["value"] is None


@pytest.mark.long
async def test_nothing_final_is_lost(tmp_path: Path, variables: Mapping[str, str]) -> None:
    with processes(tmp_path, "simplex", variables) as network:
        found = await torment(network, tmp_path, seconds=0, seed=1)
    assert found["kills"] == 5
    assert found["transactions"] > 0
