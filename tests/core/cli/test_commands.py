"""The command line: what it prints, where, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fluvial import __version__
from fluvial.cli import main as root
from fluvial.cli.explain import explanations
from fluvial.errors import PluginError, Refused, Unreachable
from fluvial.identity import KeyPair

HEAVY = (
    "anyio",
    "sqlalchemy",
    "cryptography",
    "msgspec",
    "structlog",
    "prometheus_client",
    "pluggy",
    "tomlkit",
    "asyncio",
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, exit_code: int = 0, **environment: str) -> Result:
    result = CliRunner().invoke(root.main, arguments, env=environment, prog_name="fluvial")
    assert result.exit_code == exit_code, result.output
    return result


def test_help_and_version_load_nothing_heavy() -> None:
    script = (
        "import sys\nfrom fluvial.cli.main import main\n"
        "for option in ('--help', '--version'):\n    main([option], standalone_mode=False)\n"
        f"sys.exit(' '.join(name for name in {HEAVY} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr.strip() == ""
    assert "Commands:" in done.stdout
    assert __version__ in done.stdout


@pytest.mark.parametrize("name", list(root.COMMANDS))
def test_every_command_of_the_table_has_help(name: str) -> None:
    assert "Usage: fluvial" in run(name, "--help").output


def test_init_writes_what_config_check_finds_good(here: Path) -> None:
    output = run("init", "--listen", "/ip4/127.0.0.1/tcp/7771").output
    keys = KeyPair.load(here / "secrets/peer.key")
    assert keys.peer_id in output
    assert "next: fluvial doctor, then fluvial run" in output
    assert (here / "secrets/peer.key").stat().st_mode & 0o777 == 0o600
    assert (here / "secrets").stat().st_mode & 0o777 == 0o700
    assert "ok    fluvial.toml: valid" in run("config", "check").output
    shown = json.loads(run("config", "show", "transport.listen", "--json").output)
    assert shown == [
        {"key": "transport.listen", "value": ["/ip4/127.0.0.1/tcp/7771"], "origin": "fluvial.toml:" + _line(here)}
    ]
    key = json.loads(run("key", "show", "--json").output)
    assert (key["peer_id"], key["public_key"]) == (keys.peer_id, keys.public_key.hex())


def _line(folder: Path) -> str:
    lines = (folder / "fluvial.toml").read_text().splitlines()
    return str(1 + next(number for number, line in enumerate(lines) if line.startswith("listen =")))


def test_init_never_overwrites(here: Path) -> None:
    first = run("--json", "init", "--dir", "node").output
    settings, key = here / "node/fluvial.toml", here / "node/secrets/peer.key"
    before = settings.read_bytes(), key.read_bytes()
    assert "there already" in run("init", "--dir", "node", exit_code=1).stderr
    assert (settings.read_bytes(), key.read_bytes()) == before
    settings.unlink()
    again = json.loads(run("init", "--dir", "node", "--json").output)
    assert again["key_kept"] is True
    assert again["peer_id"] == json.loads(first)["peer_id"]
    assert key.read_bytes() == before[1]


def test_init_wants_an_address_to_listen_on(here: Path) -> None:
    assert "is no address like" in run("init", "--listen", "7771", exit_code=2).stderr
    assert list(here.iterdir()) == []


def test_settings_may_stand_before_or_after_the_command(here: Path) -> None:
    run("init", "--dir", "a")
    for arguments in (
        ("--config", "a/fluvial.toml", "--set", "network=x", "--json", "config", "show", "network"),
        ("config", "show", "network", "--config", "a/fluvial.toml", "--set", "network=x", "--json"),
        ("--config", "a/fluvial.toml", "config", "show", "network", "--set", "network=x", "--json"),
    ):
        assert json.loads(run(*arguments).output) == [{"key": "network", "value": "x", "origin": "--set network"}]
    output = run("config", "show", "network", "--origin", FLUVIAL_CONFIG="a/fluvial.toml", FLUVIAL_NETWORK="y").output
    assert output == 'network  "y"  env FLUVIAL_NETWORK\n'


def test_the_command_line_beats_fluvial_config(here: Path) -> None:
    run("init", "--dir", "a")
    assert "valid" in run("--config", "a/fluvial.toml", "config", "check", FLUVIAL_CONFIG="nowhere.toml").output
    assert "valid" in run("config", "check", "--config", "a/fluvial.toml", FLUVIAL_CONFIG="nowhere.toml").output
    assert (
        "nowhere.toml: there is no such file"
        in run("config", "check", FLUVIAL_CONFIG="nowhere.toml", exit_code=1).stderr
    )


def test_without_a_file_config_check_says_what_next(here: Path) -> None:
    result = run("config", "check", exit_code=1)
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "error F101: fluvial.toml: there is no such file",
        "    `fluvial init` writes one",
        "    `fluvial explain F101` says more",
    ]


def test_mistakes_in_the_file_are_all_shown(here: Path) -> None:
    (here / "fluvial.toml").write_text("[particles]\nhops = 3\nttl_ms_max = 0\n")
    stderr = run("config", "check", exit_code=1).stderr
    assert "error F103: fluvial.toml:2: unknown key `hops` in [particles]" in stderr
    assert "did you mean `hops_max`?" in stderr
    assert "fluvial.toml:3: `particles.ttl_ms_max`" in stderr


def test_a_misspelt_disabled_plugin_is_a_warning(here: Path) -> None:
    (here / "fluvial.toml").write_text('[plugins]\ndisabled = ["transport_tpc"]\n')
    assert (
        "warn  plugins.disabled: no plugin or command 'transport_tpc' is installed; did you mean `transport_tcp`?"
        in (run("config", "check").output)
    )


def test_config_show_is_a_file_again(here: Path) -> None:
    run("init", "--listen", "/ip4/127.0.0.1/tcp/7771")
    shown = run("config", "show").output
    (here / "again.toml").write_text(shown)
    assert run("config", "show", "--config", "again.toml").output == shown


def test_config_show_hides_passwords(here: Path) -> None:
    run("init")
    url = "postgresql+psycopg://me:pa:ss%40@db.example.org/x"
    for option in ((), ("--origin",), ("--json",)):
        output = run("config", "show", "storage", *option, "--set", f"storage.url={url}").output
        assert "pa:ss" not in output
        assert "postgresql+psycopg://me:***@db.example.org/x" in output


def test_config_show_of_an_unknown_section(here: Path) -> None:
    run("init")
    assert "did you mean `routing`?" in run("config", "show", "rooting", exit_code=1).stderr


def test_config_schema_needs_no_file(here: Path) -> None:
    schema = json.loads(run("config", "schema").output)
    assert schema["title"] == "fluvial.toml"
    assert "transport tcp" in [form.get("title") for form in schema["properties"]["transport"]["anyOf"]]


def test_plugins_list_shows_seats_and_failures(here: Path) -> None:
    (here / "plugins.d").mkdir()
    (here / "plugins.d" / "sick.py").write_text("import no_such_library")
    (here / "fluvial.toml").write_text('[plugins]\npath = "plugins.d"\ndisabled = ["transport_tcp"]\n[nonsense]\n')
    lines = run("plugins", "list").output.splitlines()
    assert lines[0].split() == ["SEAT", "NAME", "PLUGIN", "VERSION", "STATE"]
    assert ["routing", "static", "fluvial", __version__, "in", "use"] in [line.split() for line in lines]
    assert any("transport_tcp" in line and line.endswith("disabled") for line in lines)
    assert any("FAILED ModuleNotFoundError: No module named 'no_such_library' (sick.py:1)" in line for line in lines)
    rows = json.loads(run("plugins", "list", "--json").output)
    sick = next(row for row in rows if row["plugin"] == "sick")
    assert (sick["state"], sick["seat"]) == ("failed", None)
    assert "no_such_library" in sick["error"]


def test_contested_offers_are_shown(here: Path) -> None:
    (here / "plugins.d").mkdir()
    (here / "plugins.d" / "rival.py").write_text(
        "from fluvial import hookimpl\nfrom fluvial.effectors import NoConfig\n"
        "@hookimpl\ndef fluvial_register(registry):\n    registry.routing('static', object, options=NoConfig)\n"
    )
    (here / "fluvial.toml").write_text('[plugins]\npath = "plugins.d"\n')
    lines = [line for line in run("plugins", "list").output.splitlines() if "CONTESTED" in line]
    assert len(lines) == 2
    assert "rival.py" in lines[0]
    assert "is offered by core (fluvial" in run("config", "check", exit_code=1).stderr


def test_explain_knows_every_code(here: Path) -> None:
    for code, text in explanations().items():
        output = run("explain", code.lower()).output
        assert output.startswith(f"{code}  {text['title']}")
        assert text["remedy"].strip() in output
    assert len(run("explain").output.splitlines()) == len(explanations())
    assert json.loads(run("explain", "F103", "--json").output)["code"] == "F103"
    assert "there is no code" in run("explain", "F999", exit_code=2).stderr


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (PluginError("away"), 1),
        (Refused("no", reason="policy"), 3),
        (Unreachable("gone", hint="try again"), 4),
    ],
)
def test_errors_end_with_the_exit_code_of_who_must_act(
    here: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, exit_code: int
) -> None:
    def fail(*_arguments: object) -> None:
        raise error

    monkeypatch.setattr("fluvial.cli.explain.explanations", fail)
    stderr = run("explain", exit_code=exit_code).stderr
    assert stderr.startswith(f"error {error.code}: {error}")  # type: ignore[attr-defined]
    assert stderr.count("try again") == str(error).count("try again") <= 1, "a hint is printed once"


def test_usage_errors_end_with_2(here: Path) -> None:
    assert "No such command" in run("plugin", exit_code=2).stderr
    run("--set", exit_code=2)


def test_colours_only_for_terminals_that_want_them(here: Path) -> None:
    runner = CliRunner()
    assert "\x1b[" not in runner.invoke(root.main, ["config", "check"]).output
    assert "\x1b[" in runner.invoke(root.main, ["config", "check"], color=True).output
    assert "\x1b[" not in runner.invoke(root.main, ["config", "check"], color=True, env={"NO_COLOR": "1"}).output
