"""A stranger's effector, installed with pip from outside of the repository, answers scripts on a running peer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner
from fluvial import __version__
from fluvial.cli.main import main

from tests.docs.pages import ROOT
from tests.support.processes import NETWORK, PeerProcess, fluvial
from tests.support.third_party import BROKEN, WEATHER, Site, write_distribution

FLOW = """
(seq (call station ("weather" "temperature") [city] celsius)
     (seq (call %init_peer_id% ("op" "concat_strings") [city "!"] more)
          (call %init_peer_id% ("return" "") [city celsius more])))
"""


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory, variables: Mapping[str, str]) -> Iterator[PeerProcess]:
    """A running peer that has a working and a broken plugin of strangers."""
    folder = tmp_path_factory.mktemp("strangers")
    site = Site(folder / "site")
    site.install(write_distribution(folder, "fluvial-effector-weather", WEATHER, entry_point="effector_weather"))
    site.install(write_distribution(folder, "fluvial-effector-foo", BROKEN, entry_point="effector_foo"))
    readings = folder / "station.json"
    readings.write_text(json.dumps({"Oslo": 3.5}))
    peer = PeerProcess(
        folder / "peer",
        {**variables, "PYTHONPATH": str(site.folder)},
        effectors={"weather": {"station_file": str(readings)}},
    )
    peer.start()
    yield peer
    peer.close()


def reach(station: PeerProcess) -> tuple[str, ...]:
    return ("--relay", station.address, "--network", NETWORK)


def test_it_is_called_from_a_script(station: PeerProcess, tmp_path: Path, variables: Mapping[str, str]) -> None:
    """By a client who knows nothing of the plugin."""
    (tmp_path / "flow.air").write_text(FLOW)
    arguments = ("--arg", f"station={station.peer_id}", "--arg", "city=Oslo")
    done = fluvial("flow", "run", "flow.air", *arguments, *reach(station), "--json", cwd=tmp_path, variables=variables)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["result"] == ["Oslo", 3.5, "Oslo!"]


def test_its_errors_are_told(station: PeerProcess) -> None:
    done = CliRunner().invoke(main, ["call", 'weather.temperature("Ur")', *reach(station)])
    assert done.exit_code == 1
    assert "no reading for 'Ur'" in done.stderr
    assert "404" in done.stderr


def test_a_broken_plugin_is_told_while_the_peer_runs(station: PeerProcess) -> None:
    (failed,) = station.events("plugin_failed")
    assert failed["plugin"] == "effector_foo"
    assert "No module named 'libfoo_that_nobody_has'" in failed["error"]
    assert [event["service"] for event in station.events("service_started") if event["kind"] == "effector"] == [
        "weather"
    ]


CHECK = """
from fluvial import hookimpl
from fluvial.findings import Finding

def look(subject):
    yield Finding(level="warn", text=f"looked at {subject.network}", hint="look again")

@hookimpl
def fluvial_register(registry):
    registry.check("hello", look)
"""


def test_a_command_and_a_check_come_and_go_with_their_distribution(
    station: PeerProcess, tmp_path: Path, variables: Mapping[str, str]
) -> None:
    """The command's source is the one that the documentation shows."""
    site = Site(tmp_path / "site")
    source = (ROOT / "examples" / "hello.py").read_text() + CHECK
    project = write_distribution(
        tmp_path, "fluvial-hello", source, entry_point="hello_check", commands={"hello": "hello"}
    )
    site.install(project)
    with_it = {**variables, "PYTHONPATH": str(site.folder)}
    assert "From fluvial-hello 0.1.0." in fluvial("--help", cwd=tmp_path, variables=with_it).stdout
    done = fluvial("hello", *reach(station), "--json", cwd=tmp_path, variables=with_it)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"peer": station.peer_id, "version": __version__}
    fluvial("init", cwd=tmp_path, variables=with_it)
    done = fluvial("doctor", cwd=tmp_path, variables=with_it)
    assert done.returncode == 0, done.stdout
    assert re.search(r"^warn  hello +looked at fluvial\n +look again$", done.stdout, re.MULTILINE)

    done = fluvial("hello", *reach(station), cwd=tmp_path, variables=variables)
    assert (done.returncode, done.stdout) == (2, "")
    assert "No such command 'hello'" in done.stderr
    assert "hello" not in fluvial("doctor", cwd=tmp_path, variables=variables).stdout
