"""``fluvial demo``, as a newcomer runs it."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from fluvial.demo.network import Network
from fluvial.demo.settings import SEED, SERVERS, VALIDATORS

from tests.support.processes import fluvial, fluvial_here, wait_until

pytestmark = pytest.mark.timeout(300)

DEMO_S = 240.0


def peers_of(folder: Path) -> list[str]:
    """The command lines of the running peers whose settings lie in a folder."""
    lines = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:  # it has ended meanwhile
            continue
        if f"fluvial run --config {folder}" in line:
            lines.append(line)
    return lines


def test_the_whole_story_over_six_processes(tmp_path: Path, variables: Mapping[str, str]) -> None:
    done = fluvial("demo", "--message", "hi all", cwd=tmp_path, variables=variables, timeout_s=DEMO_S)
    assert done.returncode == 0, done.stdout + done.stderr
    for said in (
        "5 peers up in",
        "alice is the sixth process",
        "20 of 20 lookups through the DHT found the others",
        "held by relay, members, history and bob (simplex)",
        "the perimeter chat = app@relay, members@members, history@history, chat@bob, chat@carol",
        "not revoked as of height",
        "chat is @relay, alice hears from carol: a light client has checked the proof, signed by 3 of 4",
        'chat.message("hi all") → "bob got it"',
        'chat.message("hi all") → "carol got it"',
        "alice    chat.delivered()",
        "✓ delivered to bob and carol",
        "\n         revoked as of height",
        "@developer has revoked it",
    ):
        assert said in done.stdout, said
    assert done.stdout.count("✗") == 1, "the refusal"
    after = done.stdout.split("revoked  the developer takes the certificate back")[1]
    assert "relay    ✗ refused: authorization.admit does not let this in" in after
    assert "got it" not in after
    folder = tmp_path / ".fluvial-demo"
    assert peers_of(folder) == []
    page, picture = (folder / "chat.html").read_text(), (folder / "chat.svg").read_text()
    assert picture.lstrip().startswith(("<svg", "<?xml"))
    for name in ("alice", "relay", "members", "history", "bob", "carol"):
        assert name in page
        assert name in picture
    for act in ("found", "ledger", "let in", "name", "revoked", "refused"):
        assert f"<li>{act}: " in page, "the page tells all of it"
    assert "has revoked it" in (folder / "refused.html").read_text()
    # Self-contained: a browser fetches nothing.
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", page)


def test_the_peers_know_one_address(tmp_path: Path) -> None:
    network = Network.prepare(tmp_path / "demo")
    for name in SERVERS:
        settings = tomllib.loads(network.members[name].config.read_text())
        seats = [settings[seat]["kind"] for seat in ("transport", "routing", "authorization", "execution", "consensus")]
        assert seats == ["tcp", "kademlia", "trust_graph", "wasm", "simplex" if name in VALIDATORS else "none"]
        assert settings["routing"]["peers"] == ([] if name == SEED else [network.address(SEED)])
        others = [network.address(one) for one in SERVERS if one not in (name, SEED)]
        assert not any(address in network.members[name].config.read_text() for address in others)


@pytest.mark.long
def test_with_a_member_offline_it_says_what_was_lost_and_goes_on(tmp_path: Path, variables: Mapping[str, str]) -> None:
    done = fluvial("demo", "--offline", "bob", "--json", cwd=tmp_path, variables=variables, timeout_s=DEMO_S)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 peers up in" in done.stderr
    assert '→ "carol got it"' in done.stderr
    assert "bob got it" not in done.stderr
    assert "✗ cannot reach bob" in done.stderr
    lost = next(line for line in done.stderr.splitlines() if "lost on the way to:" in line)
    assert "bob (" in lost
    assert "carol" not in lost
    assert "bob was offline; the others have the message, and every peer is well" in done.stderr
    figures = json.loads(done.stdout)
    assert (figures["delivered"], set(figures["unreachable"])) == (False, {"bob"})
    assert figures["calls"] >= 7
    assert Path(figures["drawing"]).exists()
    assert set(figures["peers"]) == {"alice", "relay", "members", "history", "bob", "carol", "developer"}
    # Three of four validators decide.
    proof = figures["revocation"]
    assert figures["not_revoked_at"] < proof["height"] <= proof["proven_at"]
    assert sorted(proof["signed_by"]) == ["history", "members", "relay"]
    assert set(figures["refused_by"]) == {"relay"}
    assert peers_of(tmp_path) == []


def test_a_folder_of_somebody_elses_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    done = fluvial_here("demo", "--dir", "mine", cwd=tmp_path)
    assert done.returncode == 1
    assert "was not made by the demo" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


@pytest.fixture
def kept(tmp_path: Path, variables: Mapping[str, str]) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """``fluvial demo --keep`` in a process group of its own, as a terminal starts it, and what it prints."""
    output = tmp_path / "output"
    with output.open("w") as file:
        command = [sys.executable, "-u", "-m", "fluvial", "demo", "--aqua", "--keep", "--message", "hi all"]
        process = subprocess.Popen(
            command, cwd=tmp_path, env=dict(variables), stdout=file, stderr=file, text=True, start_new_session=True
        )
    yield process, output
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.mark.long
def test_the_paper_s_script_in_aqua_and_the_network_stays_up_until_ctrl_c(
    kept: tuple[subprocess.Popen[str], Path], tmp_path: Path, variables: Mapping[str, str]
) -> None:
    process, output = kept
    wait_until(
        lambda: "Ctrl-C ends it." in output.read_text() or process.poll() is not None, within_s=DEMO_S, what="it is up"
    )
    assert process.poll() is None, output.read_text()
    for said in (
        'app.resolve_backend("room-1")',
        "members.is_member(@alice) → true",
        'history.message_sent("hi all") → 1',
        'chat.message("hi all") → "bob got it"',
        'chat.message("hi all") → "carol got it"',
        "protocol.noop() → null",
        "alice    chat.delivered()",
        "✓ delivered to bob and carol",
    ):
        assert said in output.read_text(), said
    assert len(peers_of(tmp_path)) == 5
    message, revoke, submit, query = (
        shlex.split(line)[1:] for line in output.read_text().splitlines() if line.startswith("  fluvial ")
    )
    sent = fluvial(*message, cwd=tmp_path, variables=variables)
    assert sent.returncode == 0, sent.stderr
    assert "chat.delivered" in sent.stdout
    assert output.read_text().count('chat.message("hello again")') == 2, "told while it happens"
    for command in (query, revoke, submit):
        done = fluvial(*command, cwd=tmp_path, variables=variables)
        assert done.returncode == 0, done.stderr
        assert ("nothing" in done.stdout) == (command is query), "not revoked as of that height"
    wait_until(
        lambda: "statement" in fluvial(*query, cwd=tmp_path, variables=variables).stdout,
        within_s=60,
        what="it is proven",
    )
    refused = fluvial(*message, cwd=tmp_path, variables=variables)
    assert refused.returncode == 3
    assert "has revoked it" in refused.stderr
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to everybody in the foreground
    assert process.wait(60) == 0
    assert "Traceback" not in output.read_text()
    assert "ended by itself" not in output.read_text()
    assert peers_of(tmp_path) == []
