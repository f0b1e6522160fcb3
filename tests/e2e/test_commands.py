"""The command line against a running peer: the way from `fluvial init` to results, and how it ends when things go wrong.

The peers are processes. So are the commands where it matters; elsewhere they run in this one, which spares their imports.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fluvial import __version__
from fluvial.cli.main import main

from tests.support.postgres import PostgresServer
from tests.support.processes import START_S, STOP_S, fluvial, free_port, wait_until


class Home:
    """A folder in which ``fluvial init`` was run, with its peer running."""

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        self.folder = folder
        self.variables = variables
        self.port = free_port()
        self._log = folder / "log"

    def fluvial(self, *arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """A command as a process."""
        return fluvial(*arguments, cwd=self.folder, variables=self.variables, stdin=stdin)

    def command(self, *arguments: str) -> Result:
        """A command in this process."""
        with contextlib.chdir(self.folder):
            return CliRunner().invoke(main, arguments, prog_name="fluvial")

    def run(self, *arguments: str) -> subprocess.Popen[bytes]:
        """``fluvial run``, as soon as it works."""
        started = self.log.count("peer_started")
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "fluvial", "run", *arguments]
            process = subprocess.Popen(command, cwd=self.folder, env=dict(self.variables), stdout=log, stderr=log)
        wait_until(
            lambda: self.log.count("peer_started") > started or process.poll() is not None,
            within_s=START_S,
            what="the peer starts",
        )
        assert process.poll() is None, self.log
        return process

    @contextlib.contextmanager
    def running(self, *arguments: str, ended_by: signal.Signals = signal.SIGTERM) -> Iterator[None]:
        """``fluvial run`` for the time of a block; a signal ends it cleanly."""
        process = self.run(*arguments)
        try:
            yield
        finally:
            process.send_signal(ended_by)
            code = process.wait(STOP_S)
        assert code == 0
        assert "peer_stopped" in self.log
        assert "Traceback" not in self.log

    @property
    def listen(self) -> str:
        return f"/ip4/127.0.0.1/tcp/{self.port}"

    @property
    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, variables: Mapping[str, str]) -> Iterator[Home]:
    home = Home(tmp_path_factory.mktemp("home"), variables)
    assert home.command("init", "--listen", f"/ip4/127.0.0.1/tcp/{home.port}").exit_code == 0
    with home.running():
        yield home


def test_call(home: Home) -> None:
    done = home.fluvial("call", 'op.identity("x")')
    assert (done.returncode, done.stdout, done.stderr) == (0, '"x"\n', "")
    assert json.loads(home.command("call", 'array.slice(["a", "b", "c"], 1, 3)', "--json").stdout) == ["b", "c"]


def test_flow_run_and_what_the_peer_knows_of_it(home: Home) -> None:
    (home.folder / "hello.air").write_text(
        '(seq (call peer ("op" "concat_strings") ["hello " name] greeting)\n'
        '     (call %init_peer_id% ("return" "") [greeting]))\n'
    )
    peer_id = json.loads(home.command("key", "show", "--json").stdout)["peer_id"]
    done = home.fluvial(
        "flow", "run", "hello.air", "--arg", f"peer={peer_id}", "--arg", "name=world", "--id", "hello-1"
    )
    assert done.returncode == 0
    assert json.loads(done.stdout) == "hello world", "nothing else: it may go through `| jq`"
    assert done.stderr == "particle hello-1\n"
    assert "hello-1" in home.command("particle", "list", "--json").stdout
    assert "op.concat_strings" in home.command("particle", "show", "hello-1").stdout


def test_a_script_from_stdin(home: Home) -> None:
    done = home.fluvial("flow", "run", "-", stdin='(call %init_peer_id% ("return" "") ["from stdin"])')
    assert done.stdout == '"from stdin"\n'


def test_a_log_where_there_are_no_settings(home: Home, tmp_path: Path) -> None:
    peer_id = json.loads(home.command("key", "show", "--json").stdout)["peer_id"]
    relay = f"/ip4/127.0.0.1/tcp/{home.port}/p2p/{peer_id}"
    script = '(call %init_peer_id% ("return" "") [1])'
    arguments = ("flow", "run", "-", "--relay", relay, "--log", "info", "--id", "logged-1")
    done = fluvial(*arguments, cwd=tmp_path, variables=home.variables, stdin=script)
    assert (done.returncode, done.stdout) == (0, "1\n")
    assert "particle_finished" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("call", "nobody.at_home()"), 1, "error F601: no service 'nobody' on this peer"),
        (("call", "math.div(1, 0)"), 1, "error F601: 1 / 0: division by zero"),
        (("call", "op.identity(1)", "--on", "chat"), 1, "the relay holds no ledger on which 'chat' could be looked up"),
        (("call", "op.identity(1)", "--network", "other"), 4, "is not in the network 'other'"),
        (("call", "op.identity(1)", "--key", "no.key"), 1, "no.key: the peer's key cannot be read"),
        (("call", "op.identity(x)"), 2, "is no call"),
        (("call", "op.identity()", "--relay", "nonsense"), 2, "is no address"),
        (("call", "op.identity()", "--on", "12D3KooW"), 2, "is no peer id"),
        (("call", "peer.timeout(5000)", "--ttl", "0.3"), 4, "came to no result within 0.3 s"),
        (("flow", "run", "wrong.air"), 1, "wrong.air:1:1: error A002"),
        (("flow", "run", "unknown.air"), 1, "unknown.air:1:37: error A012: `city` is not defined"),
        (("flow", "run", "failing.air"), 1, "error F601: the script failed at line 2: Local service error"),
        (("run",), 1, "another process writes to it"),
    ],
)
def test_errors_come_without_tracebacks(home: Home, arguments: tuple[str, ...], code: int, says: str) -> None:
    (home.folder / "wrong.air").write_text("(seq (null)")
    (home.folder / "unknown.air").write_text('(call %init_peer_id% ("return" "") [city])')
    (home.folder / "failing.air").write_text('(seq (null)\n (call %init_peer_id% ("op" "nothing") []))')
    done = home.command(*arguments)
    assert done.exit_code == code, done.output
    assert isinstance(done.exception, SystemExit), "anything else is a traceback"
    assert says in done.stderr
    assert done.stdout == ""


def test_a_peer_that_cannot_go_on_is_told_of_with_the_place(home: Home, tmp_path: Path) -> None:
    """The initiator is a client behind the peer; what it keeps, `particle show` tells."""
    client = Home(tmp_path, home.variables)
    assert client.command("init").exit_code == 0
    (tmp_path / "state").mkdir()
    peer_id = json.loads(home.command("key", "show", "--json").stdout)["peer_id"]
    relay = f"/ip4/127.0.0.1/tcp/{home.port}/p2p/{peer_id}"
    (tmp_path / "flow.air").write_text(
        f'(seq (null)\n  (seq (call "{peer_id}" ("no" "tea") [] x)\n  (call %init_peer_id% ("return" "") [x])))'
    )
    who = ("--relay", relay, "--key", "secrets/peer.key", "--store")
    done = client.command("flow", "run", "flow.air", *who, "--ttl", "60", "--id", "lost-1")
    assert done.exit_code == 1, done.stderr
    *_, error, where, _ = done.stderr.splitlines()
    assert error.startswith("error F601: no service 'no' on this peer")
    assert where.strip() == f'on {peer_id}, line 2:8: call "{peer_id}" ("no" "tea") [] x'
    shown = client.command("particle", "show", "lost-1").stdout
    assert "CANNOT GO ON: 10000: Local service error" in shown
    assert "has not answered yet, since " in shown
    shown = json.loads(client.command("particle", "show", "lost-1", "--json").stdout)
    assert [event["peer"] for event in shown["events"] if event["kind"] == "notice"] == [peer_id]


def test_the_true_reason_comes_at_once(home: Home, tmp_path: Path) -> None:
    """With the exit code that it has, whatever time the particle has left."""
    nobody = "12D3KooWJcqAmKbLJkJ8sZZH2xoVxn8NY7QNxJJgFgu9JeVCexSe"
    done = home.command("call", "op.identity(1)", "--ttl", "1000")
    assert (done.exit_code, done.stdout) == (3, "")
    (error, *_) = done.stderr.splitlines()
    assert error.startswith("error F401: ")
    assert error.endswith("does not take the particle: ttl: its ttl of 1000000 ms is longer than 120000 ms")
    done = home.command("call", "op.identity(1)", "--on", nobody, "--ttl", "1.5")
    assert done.exit_code == 4
    notice, error, *_ = done.stderr.splitlines()
    assert notice.startswith("notice: ")
    assert f"{nobody} cannot be reached so far: no way to {nobody} is known" in notice
    assert f"{nobody} could not be reached: no way to {nobody} is known" in error


def test_a_call_on_a_peer_that_only_the_relay_knows(home: Home, tmp_path: Path) -> None:
    hub = Home(tmp_path, home.variables)
    assert hub.command("init", "--listen", hub.listen).exit_code == 0
    peer_id = json.loads(home.command("key", "show", "--json").stdout)["peer_id"]
    with hub.running("--set", f'routing.peers=["/ip4/127.0.0.1/tcp/{home.port}/p2p/{peer_id}"]'):
        done = hub.command("call", 'op.identity("hi")', "--on", peer_id)
        assert (done.exit_code, done.stdout) == (0, '"hi"\n'), done.stderr


def test_notices_of_a_run_that_has_a_result_are_in_its_report(home: Home) -> None:
    peer_id = json.loads(home.command("key", "show", "--json").stdout)["peer_id"]
    (home.folder / "both.air").write_text(
        f'''(par (seq (call "{peer_id}" ("op" "identity") ["Bob"] name) (call name ("a" "b") []))
                 (seq (call "{peer_id}" ("peer" "timeout") [500 "done"] x) (call %init_peer_id% ("return" "") [x])))'''
    )
    done = home.command("flow", "run", "both.air", "--json")
    assert done.exit_code == 0, done.output
    (notice,) = json.loads(done.stdout)["notices"]
    assert (notice["peer"], notice["kind"], notice["message"]) == (peer_id, "impossible", "'Bob' is no peer id")
    assert "notice: " in done.stderr


def test_a_port_in_use_is_told(home: Home, tmp_path: Path) -> None:
    other = Home(tmp_path, home.variables)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"/ip4/127.0.0.1/tcp/{server.getsockname()[1]}"
        assert other.command("init", "--listen", address).exit_code == 0
        done = other.command("run")
    assert done.exit_code == 1
    (line,) = [line for line in done.stderr.splitlines() if "error F101" in line]
    assert address in line
    assert "already in use" in line
    assert "Traceback" not in done.stderr


def test_the_doctor_of_a_peer_that_runs(home: Home) -> None:
    done = home.command("doctor")
    assert done.exit_code == 0, done.stdout
    assert f"running at /ip4/127.0.0.1/tcp/{home.port}/p2p/" in done.stdout
    assert f"/ip4/127.0.0.1/tcp/{home.port}: taken by this peer itself, which runs" in done.stdout
    assert re.search(rf"{home.folder / 'state' / 'fluvial.db'}: schema \d{{4}}, ", done.stdout)


HEALTH = """
from fluvial import hookimpl
from fluvial.effectors import NoConfig
from fluvial.findings import Finding
from fluvial.seats import Contributions, Part

class Ill(Part):
    def contributions(self):
        return Contributions(health=lambda: [Finding(level="fail", text="I do not feel well", hint="give me tea")])

@hookimpl
def fluvial_register(registry):
    registry.extra("ill", lambda context, options: Ill(), options=NoConfig)
"""


def test_the_doctor_asks_a_peer_that_runs_how_it_is(home: Home, tmp_path: Path) -> None:
    other = Home(tmp_path, home.variables)
    other.command("init", "--listen", f"/ip4/127.0.0.1/tcp/{other.port}")
    (tmp_path / "plugins.d").mkdir()
    (tmp_path / "plugins.d" / "ill.py").write_text(HEALTH)
    settings = tmp_path / "fluvial.toml"
    settings.write_text(f'[plugins]\npath = "plugins.d"\n[extras.ill]\n[transport]\nlisten = ["{other.listen}"]\n')
    with other.running(ended_by=signal.SIGINT):
        done = other.command("doctor")
        assert done.exit_code == 1
        assert f"version {__version__}, connected with 0 other peers" in done.output
        lines = done.output.splitlines()
        ill = next(number for number, line in enumerate(lines) if line.startswith("FAIL  extra ill"))
        assert lines[ill].endswith("I do not feel well")
        assert lines[ill + 1].strip() == "give me tea"
    assert other.command("doctor").exit_code == 0


def test_the_doctor_compares_clocks(home: Home, tmp_path: Path) -> None:
    other = Home(tmp_path, home.variables)
    assert other.command("init").exit_code == 0
    peer_id = json.loads(home.command("key", "show", "--json").stdout)["peer_id"]
    way = f"/ip4/127.0.0.1/tcp/{home.port}/p2p/{peer_id}"
    done = other.command("doctor", "--json", "--set", f'relays=["{way}"]')
    found = [one for one in json.loads(done.stdout)["findings"] if one["subject"] == "clock"]
    assert [(one["level"], one["text"]) for one in found] == [("ok", "less than 1 s from that of 1 other peer")]


def test_a_relay_that_is_not_there_is_unreachable(home: Home) -> None:
    peer_id = "12D3KooWJcqAmKbLJkJ8sZZH2xoVxn8NY7QNxJJgFgu9JeVCexSe"
    done = home.command("call", "op.identity()", "--relay", f"/ip4/127.0.0.1/tcp/{free_port()}/p2p/{peer_id}")
    assert done.exit_code == 4
    assert "does not answer" in done.stderr


def test_the_doctor_looks_at_a_database_of_postgresql(
    postgres_server: PostgresServer, tmp_path: Path, variables: Mapping[str, str]
) -> None:
    other = Home(tmp_path, variables)
    other.command("init", "--listen", other.listen)
    with postgres_server.database() as address:
        settings = ("--set", f"storage.url={address}")
        with other.running(*settings):
            done = other.command("doctor", "--json", *settings)
    (store,) = [one for one in json.loads(done.stdout)["findings"] if one["subject"] == "store"]
    assert store["level"] == "ok"
    assert re.search(r"PostgreSQL database.*: schema \d{4}, ", store["text"])
