"""``fluvial demo``, as a newcomer runs it."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.processes import fluvial, wait_until

pytestmark = pytest.mark.timeout(180)

DEMO_S = 120.0


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


def test_the_chat_is_delivered_over_six_processes(tmp_path: Path, variables: Mapping[str, str]) -> None:
    done = fluvial("demo", "--message", "hi all", cwd=tmp_path, variables=variables, timeout_s=DEMO_S)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 peers up in" in done.stdout
    assert "alice is the sixth process" in done.stdout
    assert 'chat.message("hi all") → "bob got it"' in done.stdout
    assert 'chat.message("hi all") → "carol got it"' in done.stdout
    assert "alice    chat.delivered()" in done.stdout
    assert "✓ delivered to bob and carol" in done.stdout
    assert "✗" not in done.stdout
    folder = tmp_path / ".fluvial-demo"
    assert peers_of(folder) == []
    page, picture = (folder / "chat.html").read_text(), (folder / "chat.svg").read_text()
    assert picture.lstrip().startswith(("<svg", "<?xml"))
    for name in ("alice", "relay", "members", "history", "bob", "carol"):
        assert name in page
        assert name in picture
    # Self-contained: a browser fetches nothing.
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", page)


def test_its_figures_as_data(tmp_path: Path, variables: Mapping[str, str]) -> None:
    done = fluvial("demo", "--json", cwd=tmp_path, variables=variables, timeout_s=DEMO_S)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout)
    assert (figures["delivered"], figures["unreachable"]) == (True, {})
    assert figures["calls"] >= 8
    assert Path(figures["drawing"]).exists()
    assert set(figures["peers"]) == {"alice", "relay", "members", "history", "bob", "carol"}
    assert "✓ delivered" in done.stderr


def test_the_paper_s_script_in_aqua_does_the_same(tmp_path: Path, variables: Mapping[str, str]) -> None:
    done = fluvial("demo", "--aqua", "--message", "hi all", cwd=tmp_path, variables=variables, timeout_s=DEMO_S)
    assert done.returncode == 0, done.stdout + done.stderr
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
        assert said in done.stdout, said


def test_with_a_member_offline_it_says_what_was_lost(tmp_path: Path, variables: Mapping[str, str]) -> None:
    done = fluvial("demo", "--offline", "carol", cwd=tmp_path, variables=variables, timeout_s=DEMO_S)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 peers up in" in done.stdout
    assert '→ "bob got it"' in done.stdout
    assert "carol got it" not in done.stdout
    assert "✗ cannot reach carol" in done.stdout
    lost = next(line for line in done.stdout.splitlines() if "lost on the way to:" in line)
    assert "carol (" in lost
    assert "bob" not in lost
    assert "carol was offline; the others have the message, and every peer is well" in done.stdout
    assert done.stderr == ""
    assert peers_of(tmp_path) == []


def test_a_folder_of_somebody_elses_is_left_alone(tmp_path: Path, variables: Mapping[str, str]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    done = fluvial("demo", "--dir", "mine", cwd=tmp_path, variables=variables)
    assert done.returncode == 1
    assert "was not made by the demo" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


@pytest.fixture
def kept(tmp_path: Path, variables: Mapping[str, str]) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """``fluvial demo --keep`` in a process group of its own, as a terminal starts it, and what it prints."""
    output = tmp_path / "output"
    with output.open("w") as file:
        command = [sys.executable, "-u", "-m", "fluvial", "demo", "--keep"]
        process = subprocess.Popen(
            command, cwd=tmp_path, env=dict(variables), stdout=file, stderr=file, text=True, start_new_session=True
        )
    yield process, output
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def test_keep_leaves_the_network_up_until_ctrl_c(
    kept: tuple[subprocess.Popen[str], Path], tmp_path: Path, variables: Mapping[str, str]
) -> None:
    process, output = kept
    wait_until(
        lambda: "Ctrl-C ends it." in output.read_text() or process.poll() is not None, within_s=DEMO_S, what="it is up"
    )
    assert process.poll() is None, output.read_text()
    assert len(peers_of(tmp_path)) == 5
    command = next(line for line in output.read_text().splitlines() if line.startswith("  fluvial flow run"))
    words = shlex.split(command)
    assert words[0] == "fluvial"
    sent = fluvial(*words[1:], cwd=tmp_path, variables=variables)
    assert sent.returncode == 0, sent.stderr
    assert "chat.delivered" in sent.stdout
    assert output.read_text().count('chat.message("hello again")') == 2, "told while it happens"
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to everybody in the foreground
    assert process.wait(60) == 0
    assert "Traceback" not in output.read_text()
    assert "ended by itself" not in output.read_text()
    assert peers_of(tmp_path) == []
