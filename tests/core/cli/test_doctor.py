"""`fluvial doctor`: what it finds, and that no check can harm another."""

from __future__ import annotations

import json
import os
import re
import resource
import socket
import threading
from collections.abc import Iterable
from pathlib import Path

import anyio
import pytest
from click.testing import CliRunner, Result
from fluvial.cli.doctor.containment import FINDINGS_MAX, contained
from fluvial.cli.doctor.machine import check_store
from fluvial.cli.main import main
from fluvial.config import from_values, load
from fluvial.errors import ConfigError
from fluvial.findings import Finding
from fluvial.hosting.genesis_file import read_genesis
from fluvial.storage import open_store

PLUGIN = """
from fluvial import hookimpl
from fluvial.findings import Finding

{check}

@hookimpl
def fluvial_register(registry):
    registry.check("mine", check)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    run("init")
    return tmp_path


def run(*arguments: str, exit_code: int = 0) -> Result:
    result = CliRunner().invoke(main, arguments, prog_name="fluvial")
    assert result.exit_code == exit_code, result.output
    return result


def findings(*arguments: str, exit_code: int = 0) -> dict[str, list[dict[str, str]]]:
    """By subject."""
    report = json.loads(run("doctor", "--json", *arguments, exit_code=exit_code).output)
    found: dict[str, list[dict[str, str]]] = {}
    for one in report["findings"]:
        found.setdefault(one["subject"], []).append(one)
    assert report["failures"] == sum(one["level"] == "fail" for one in report["findings"])
    return found


def with_plugin(check: str, *, sections: str = "") -> None:
    Path("plugins.d").mkdir()
    Path("plugins.d/own.py").write_text(PLUGIN.format(check=check))
    Path("fluvial.toml").write_text(f'[plugins]\npath = "plugins.d"\n{sections}')


def test_a_new_peer_is_well(here: Path) -> None:
    lines = run("doctor").output.splitlines()
    assert lines[-1] == "all is well"
    assert [line.split()[0] for line in lines[:-1]] == ["ok"] * (len(lines) - 1)
    assert set(findings()) == {
        "config",
        "plugins",
        "key",
        "peer",
        "transport tcp",
        "descriptors",
        "clock",
        "store",
        "flows",
    }


def test_without_settings_it_says_what_is_not_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = run("doctor", exit_code=1).output.splitlines()
    assert lines[0].startswith("FAIL  config  fluvial.toml: there is no such file")
    assert "nothing else is checked" in lines[-2]
    assert lines[-1] == "1 failure, 1 warning"


def test_every_mistake_in_the_settings_is_a_finding(here: Path) -> None:
    Path("fluvial.toml").write_text("[particles]\nhops = 3\nttl_ms_max = 0\n")
    found = findings(exit_code=1)
    assert [one["code"] for one in found["config"]] == ["F103", "F103"]
    assert "did you mean `hops_max`?" in found["config"][0]["hint"]
    assert found["plugins"][0]["level"] == "ok"


def test_a_key_that_others_may_read_is_found_and_repaired(here: Path) -> None:
    key = here / "secrets/peer.key"
    key.chmod(0o644)
    (found,) = findings(exit_code=1)["key"]
    assert (found["level"], found["fix"]) == ("fail", "key-mode")
    assert "run `fluvial doctor --fix` to do it" in run("doctor", exit_code=1).output
    assert key.stat().st_mode & 0o777 == 0o644
    (found,) = findings("--fix")["key"]
    assert (found["level"], key.stat().st_mode & 0o777) == ("ok", 0o600)
    assert "mode set to 0600" in found["text"]


@pytest.mark.parametrize("kind", ["missing", "fifo", "garbage"])
def test_a_key_that_is_none_is_a_failure(here: Path, kind: str) -> None:
    key = here / "secrets/peer.key"
    key.unlink()
    if kind == "fifo":
        os.mkfifo(key, 0o600)
    elif kind == "garbage":
        key.write_text("no key")
        key.chmod(0o600)
    (found,) = findings(exit_code=1)["key"]
    assert (found["level"], found["code"]) == ("fail", "F101")
    assert "fix" not in found


def test_a_port_of_another_program_is_a_failure(here: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        Path("fluvial.toml").write_text(f'[transport]\nlisten = ["/ip4/127.0.0.1/tcp/{port}"]\n')
        server.close()
        assert findings()["transport tcp"][0]["text"] == f"/ip4/127.0.0.1/tcp/{port}: free"
    with socket.create_server(("127.0.0.1", port)) as server:
        threading.Thread(target=_hang_up, args=(server,), daemon=True).start()
        found = findings(exit_code=1)
        assert found["transport tcp"][0]["text"].endswith(f"port {port} is taken by another program")
        assert found["peer"][0]["text"].startswith("not running")


def _hang_up(server: socket.socket) -> None:
    while True:
        try:
            server.accept()[0].close()
        except OSError:
            return


def test_an_address_of_another_machine_is_a_failure(here: Path) -> None:
    Path("fluvial.toml").write_text('[transport]\nlisten = ["/ip4/192.0.2.1/tcp/0", "/ip4/192.0.2.1/tcp/7771"]\n')
    first, second = findings(exit_code=1)["transport tcp"]
    assert (first["level"], second["level"]) == ("ok", "fail")
    assert "this machine has no such address" in second["text"]


def test_too_few_file_descriptors_are_a_warning(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hard limit counts: a transport raises the soft one."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 500))
    Path("fluvial.toml").write_text("[transport]\nconnections_max = 400\nhandshakes_max = 30\n")
    assert findings()["descriptors"][0]["text"] == "500 allowed here, 494 needed at most"
    Path("fluvial.toml").write_text("[transport]\nconnections_max = 400\nhandshakes_max = 40\n")
    (found,) = findings()["descriptors"]
    assert found["level"] == "warn"
    assert found["text"].startswith("500 files may be open at a time, but 400 connections and 40 handshakes need 504")
    assert "ulimit -n 504" in found["hint"]


def test_the_database_is_looked_at(here: Path) -> None:
    assert "is not there yet" in findings()["store"][0]["text"]
    (here / "state").mkdir()

    async def make() -> None:
        async with open_store("sqlite:///state/fluvial.db", base_dir=here):
            pass

    anyio.run(make)
    before = (here / "state/fluvial.db").read_bytes()
    (found,) = findings()["store"]
    assert found["level"] == "ok"
    assert re.search(r": schema \d{4}, [\d.]+ [KM]B$", found["text"])
    assert (here / "state/fluvial.db").read_bytes() == before
    (here / "state/fluvial.db").write_bytes(b"something else")
    (found,) = findings(exit_code=1)["store"]
    assert (found["level"], found["code"]) == ("fail", "F701")


def test_a_database_that_a_running_peer_has_lost_is_found(here: Path) -> None:
    settings = load(from_values({}, base_dir=here)).settings
    (found,) = check_store(settings, running=False)
    assert found.level == "ok"
    (found,) = check_store(settings, running=True)
    assert (found.level, found.code) == ("fail", "F701")
    assert "was deleted or moved" in found.text


def test_failed_plugins_and_odd_names_are_found(here: Path) -> None:
    (here / "plugins.d").mkdir()
    (here / "plugins.d/sick.py").write_text("import no_such_library")
    (here / "fluvial.toml").write_text('[plugins]\npath = "plugins.d"\ndisabled = ["transport_tpc"]\n')
    found = findings(exit_code=1)["plugins"]
    assert [one["level"] for one in found] == ["ok", "fail", "warn"]
    assert "sick (plugins.d/sick.py) cannot be loaded: ModuleNotFoundError" in found[1]["text"].replace(f"{here}/", "")
    assert "did you mean `transport_tcp`?" in found[2]["text"]


def test_the_clock_is_compared_with_nobody_if_nobody_is_there(here: Path) -> None:
    assert "not checked" in findings()["clock"][0]["text"]
    peer = "12D3KooWJcqAmKbLJkJ8sZZH2xoVxn8NY7QNxJJgFgu9JeVCexSe"
    Path("fluvial.toml").write_text(f'relays = ["/ip4/127.0.0.1/tcp/9/p2p/{peer}"]\n')
    (found,) = findings()["clock"]
    assert (found["level"], found["text"]) == ("warn", "not checked: none of 1 other peers tells the time")


# --- checks of plugins


def test_a_check_of_a_plugin_sees_its_options_and_not_those_of_others(here: Path) -> None:
    with_plugin(
        """
import msgspec
from fluvial.effectors import Effector

class Config(msgspec.Struct, frozen=True):
    city: str

class Weather(Effector[Config]):
    service_id = "weather"

@hookimpl
def fluvial_particle_received(): ...

def check(subject):
    yield Finding(level="warn", text=f"{sorted(subject.options)} {subject.network} {subject.running} {subject.database}")
    yield Finding(level="ok", subject="weather", text=subject.options["effectors.weather"].city, code="F101")
""",
        sections='[effectors.weather]\ncity = "Oslo"\n',
    )
    plugin = Path("plugins.d/own.py")
    plugin.write_text(plugin.read_text() + '    registry.effector("weather", Weather)\n')
    found = findings()
    assert found["mine"] == [
        {"level": "warn", "subject": "mine", "text": "['effectors.weather'] fluvial False None"},
    ]
    assert found["weather"] == [{"level": "ok", "subject": "weather", "text": "Oslo", "code": "F101"}]


def test_a_check_of_a_plugin_reads_the_database_and_cannot_write(here: Path) -> None:
    with_plugin(
        """
from sqlalchemy import text

def check(subject):
    yield Finding(level="ok", text=str(subject.database.execute(text("SELECT count(*) FROM particles")).scalar()))
    subject.database.execute(text("DELETE FROM particles"))
"""
    )
    (here / "state").mkdir()

    async def make() -> None:
        async with open_store("sqlite:///state/fluvial.db", base_dir=here):
            pass

    anyio.run(make)
    good, bad = findings(exit_code=1)["mine"]
    assert (good["level"], good["text"]) == ("ok", "0")
    assert "readonly" in bad["text"]


@pytest.mark.parametrize(
    ("check", "says"),
    [
        ("def check(subject):\n    raise ValueError('no luck')", "ValueError: no luck (own.py:6)"),
        ("def check(subject):\n    raise SystemExit(3)", "SystemExit: 3"),
        ("def check(subject):\n    raise KeyboardInterrupt", "KeyboardInterrupt"),
        (
            "def check(subject):\n    raise BaseExceptionGroup('many', [KeyboardInterrupt()])",
            "BaseExceptionGroup: many",
        ),
        (
            "class Odd(Exception):\n    def __str__(self): raise OSError\ndef check(subject):\n    raise Odd",
            "Odd: (its text cannot be had: __str__ raised OSError)",
        ),
        ("def check(subject):\n    return 3", "TypeError: 'int' object is not iterable"),
        ("def check(subject):\n    yield 'well'", "an object of the type str, which is no sound Finding"),
        ("def check(subject):\n    yield Finding(level=[], text=3)", "which is no sound Finding"),
        ("def check():\n    return []", "takes 0 positional arguments"),
    ],
)
def test_a_check_that_fails_is_a_finding_that_names_its_plugin(here: Path, check: str, says: str) -> None:
    with_plugin(check)
    found = findings(exit_code=1)
    (failed,) = found["mine"]
    assert failed["text"].startswith("the check 'mine' of the plugin own (")
    assert says in failed["text"]
    assert found["store"][0]["level"] == "ok"


def test_a_check_that_hangs_is_left_behind() -> None:
    never = threading.Event()

    def check() -> Iterable[Finding]:
        yield Finding(level="ok", text="begun")
        never.wait()

    first, second = contained("slow", "the check 'slow' of the plugin own", check, timeout_s=0.05)
    never.set()
    assert first.text == "begun"
    assert second.text == "the check 'slow' of the plugin own has not ended within 0.05 s"


def test_a_check_that_finds_without_end_is_cut() -> None:
    def check() -> Iterable[Finding]:
        while True:
            yield Finding(level="ok", text="again")

    *found, last = contained("endless", "it", check)
    assert len(found) == FINDINGS_MAX
    assert last.level == "fail"


def test_errors_of_ours_keep_code_and_hint() -> None:
    def check() -> Iterable[Finding]:
        raise ConfigError("not so", hint="but so")

    (found,) = contained("mine", "it", check)
    assert found == Finding(level="fail", subject="mine", text="not so", hint="but so", code="F101")


def test_a_plugin_that_offers_one_check_twice_fails(here: Path) -> None:
    with_plugin("def check(subject):\n    return []")
    plugin = Path("plugins.d/own.py")
    plugin.write_text(plugin.read_text() + '    registry.check("mine", check)\n')
    assert "the check 'mine' is offered twice" in findings(exit_code=1)["plugins"][1]["text"]


def test_what_strangers_say_is_printed_harmlessly(here: Path) -> None:
    with_plugin("def check(subject):\n    yield Finding(level='ok', text='a\\x1b[2Jb\\nc', hint='d\\x07')")
    output = run("doctor").output
    assert "\x1b" not in output
    assert "\x07" not in output
    assert sum("mine" in line for line in output.splitlines()) == 1


def test_the_ledger_is_looked_at(here: Path) -> None:
    assert "ledger" not in findings()
    run("testnet", "init", "--dir", "net", "--validators", "4")
    (one,) = findings("--set", "ledger.genesis=net/genesis.json")["ledger"]
    assert (one["level"], "neither takes part nor follows" in one["text"]) == ("warn", True)
    ledger = ("--set", "ledger.genesis=net/genesis.json", "--set", "consensus=simplex")
    found = findings(*ledger)["ledger"]
    assert [one["level"] for one in found] == ["ok", "ok"]
    assert "begun by 4 validators" in found[0]["text"]
    assert "none of the first validators" in found[1]["text"]
    assert findings(*ledger, "--set", "storage.url=memory://", exit_code=1)["ledger"][1]["level"] == "fail"
    chain = read_genesis(Path("net/genesis.json")).chain.hex()
    Path("secrets/peer.voted").write_text(f"{chain} 0\n\n{chain} 3\n{'00' * 32} 9\n")
    assert "its database is gone: it will be silent until epoch 4 begins" in findings(*ledger)["ledger"][2]["text"]
    Path("secrets/peer.voted").write_text(f"{chain} 0\n{chain}")
    assert "for good" in findings(*ledger)["ledger"][2]["text"]
    Path("secrets/peer.voted").unlink()
    Path("net/genesis.json").write_text('{"name": "x"}')
    (one,) = findings(*ledger, exit_code=1)["ledger"]
    assert (one["level"], one["code"]) == ("fail", "F101")
    assert "the ledger cannot begin with this file" in one["text"]
