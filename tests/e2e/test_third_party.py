"""Plugins of strangers, installed with pip from outside of the repository, on running peers."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from click.testing import CliRunner
from fluvial import __version__
from fluvial.cli.main import main

from tests.docs.pages import ROOT
from tests.support.processes import NETWORK, PeerProcess, fluvial, fluvial_here
from tests.support.third_party import BROKEN, WEATHER, Environment, Site, write_distribution

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
    assert fluvial_here("init", cwd=tmp_path).returncode == 0
    done = fluvial("doctor", cwd=tmp_path, variables=with_it)
    assert done.returncode == 0, done.stdout
    assert re.search(r"^warn  hello +looked at fluvial\n +look again$", done.stdout, re.MULTILINE)

    done = fluvial_here("hello", *reach(station), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "No such command 'hello'" in done.stderr
    assert "hello" not in fluvial_here("doctor", cwd=tmp_path).stdout


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody with a shell, an environment and peers."""

    environment: Environment
    variables: Mapping[str, str]

    def peer(self, folder: Path, **sections: Any) -> PeerProcess:
        return PeerProcess(folder, self.variables, python=self.environment.python, **sections)

    def run(self, peer: PeerProcess, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """A command of fluvial in the peer's folder."""
        return fluvial(*arguments, cwd=peer.folder, variables=self.variables, python=self.environment.python)

    def call(self, peer: PeerProcess, call: str) -> Any:
        """What a service of the peer returns to somebody who knows nothing of the plugin."""
        done = CliRunner().invoke(main, ["call", call, *reach(peer), "--json"])
        assert done.exit_code == 0, done.stderr
        return json.loads(done.stdout)


def set_extras(peer: PeerProcess, extras: Mapping[str, Any]) -> None:
    """As an operator edits ``fluvial.toml``."""
    settings = tomlkit.parse(peer.config.read_text()).unwrap()
    peer.config.write_text(tomlkit.dumps({**settings, "extras": extras}))


GREETINGS = {"greetings": {"word": "good morning"}}


@pytest.mark.long
@pytest.mark.timeout(180)
def test_a_plugin_with_tables_comes_goes_and_finds_its_data_again(
    storage_url: str, tmp_path: Path, variables: Mapping[str, str]
) -> None:
    """The distribution is the one that the documentation shows, copied out of the repository."""
    project = shutil.copytree(ROOT / "examples" / "greetings", tmp_path / "project")
    operator = Operator(Environment(tmp_path / "environment"), variables)
    operator.environment.install(project)
    bob = operator.peer(tmp_path / "bob", extras={"greetings": {"word": "good night"}})
    relays = {"relays": [bob.address]}
    ada = operator.peer(tmp_path / "ada", extras=GREETINGS, storage={"url": storage_url}, **relays)
    try:
        bob.start()
        ada.start()
        _it_works(operator, ada, bob)
        ada.stop()
        operator.environment.uninstall("fluvial-greetings")
        _it_is_gone(operator, ada)
        operator.environment.install(project)
        set_extras(ada, GREETINGS)
        ada.start()
        assert operator.call(ada, "greetings.words()") == {bob.peer_id: "good night"}
    finally:
        ada.close()
        bob.close()


def _it_works(operator: Operator, ada: PeerProcess, bob: PeerProcess) -> None:
    """Two peers speak its protocol; its command, its service, its check and its health are there."""
    assert operator.call(ada, "greetings.words()") == {}
    done = operator.run(ada, "hello", bob.peer_id, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"peer": bob.peer_id, "word": "good night"}
    assert operator.call(ada, "greetings.words()") == {bob.peer_id: "good night"}
    assert operator.call(bob, "greetings.words()") == {ada.peer_id: "good morning"}
    done = operator.run(ada, "doctor")
    assert done.returncode == 0, done.stdout
    assert re.search(r"^ok +greetings +says 'good morning'$", done.stdout, re.MULTILINE)
    assert re.search(r"^ok +extra greetings +1 words heard since the start$", done.stdout, re.MULTILINE)
    installed = operator.run(ada, "plugins", "list").stdout
    assert re.search(r"^extra +greetings +fluvial-greetings +0\.1\.0 +in use$", installed, re.MULTILINE)
    assert re.search(r"^command +hello +fluvial-greetings +0\.1\.0 +installed$", installed, re.MULTILINE)


def _it_is_gone(operator: Operator, ada: PeerProcess) -> None:
    """Settings that name it are refused with what to do; without it the peer works."""
    done = operator.run(ada, "run")
    assert (done.returncode, done.stdout) == (1, "")
    assert "F103" in done.stderr
    assert "no loaded plugin offers extra 'greetings'" in done.stderr
    assert "take [extras.greetings] out of the settings" in done.stderr
    set_extras(ada, {})
    ada.start()
    assert operator.call(ada, 'op.identity("here")') == "here"
    done = operator.run(ada, "call", "greetings.words()")
    assert done.returncode == 1
    assert "no service 'greetings' on this peer" in done.stderr
    done = operator.run(ada, "hello", ada.peer_id)
    assert done.returncode == 2
    assert "No such command 'hello'" in done.stderr
    done = operator.run(ada, "doctor")
    assert done.returncode == 0, done.stdout
    ada.stop()
