"""Commands of plugins: found without an import, run with one, and nobody's mistake is anybody else's."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fluvial.cli.installed import plugin_commands
from fluvial.cli.main import COMMANDS, main

COMMAND = """
import click
from fluvial.commands import common_options, pass_invocation, table

@click.command()
@click.option("--name", default="world", help="Whom to greet.")
@common_options
@pass_invocation
def hello(invocation, name):
    '''Greet somebody.'''
    invocation.print({"hello": name}, lambda: table([("hello", name)]))
"""


class Site:
    """A folder of installed distributions, first on the path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self, name: str, commands: Mapping[str, str], source: str = "", *, plugins: str = "") -> None:
        """A distribution, its module ``name`` with underscores."""
        module = name.replace("-", "_")
        (self.folder / f"{module}.py").write_text(source)
        about = self.folder / f"{module}-1.2.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n\nName: not-this\n")
        lines = [f"{command} = {value}" for command, value in commands.items()]
        text = "\n".join(["[console_scripts]", "x = y:z", "", "[fluvial.commands]", "# ours", *lines, ""])
        (about / "entry_points.txt").write_text(text + (f"[fluvial]\n{plugins} = {module}\n" if plugins else ""))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    (tmp_path / "site").mkdir()
    (tmp_path / "home").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.chdir(tmp_path / "home")
    yield Site(tmp_path / "site")
    for name in [name for name, one in sys.modules.items() if str(tmp_path) in (getattr(one, "__file__", "") or "")]:
        del sys.modules[name]


def run(*arguments: str, exit_code: int = 0, **environment: str) -> Result:
    result = CliRunner().invoke(main, arguments, env=environment, prog_name="fluvial")
    assert result.exit_code == exit_code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), "anything else is a traceback"
    return result


def test_a_command_runs_and_has_the_shared_options(site: Site) -> None:
    site.install("fluvial-hello", {"hello": "fluvial_hello:hello"}, COMMAND)
    assert run("hello", "--name", "Oslo").output == "hello  Oslo\n"
    assert json.loads(run("--json", "hello").output) == {"hello": "world"}
    assert "Whom to greet." in run("hello", "-h").output


def test_help_and_completion_import_nothing(site: Site) -> None:
    site.install(
        "fluvial-hello", {"hello": "fluvial_hello:hello", "works.dht": "fluvial_hello:dht"}, "raise SystemExit"
    )
    lines = run("--help").output.splitlines()
    there = [line.split(maxsplit=1) for line in lines[lines.index("Commands of plugins:") :]]
    assert ["hello", "From fluvial-hello 1.2."] in there
    assert ["works", "Commands from fluvial-hello 1.2."] in there
    assert "dht  From fluvial-hello 1.2." in run("works", "--help").output
    for words, offered in (("fluvial hel", "plain,hello"), ("fluvial works ", "plain,dht"), ("fluvial hello ", "")):
        count = str(words.count(" "))
        shell = {"_FLUVIAL_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": count}
        assert run(**shell).output.strip() == offered


def test_commands_of_several_distributions_stand_below_one_word(site: Site) -> None:
    for part in ("dht", "consensus"):
        site.install(f"works-{part}", {f"works.{part}": f"works_{part}:hello"}, COMMAND)
    assert run("works", "dht").output == run("works", "consensus").output == "hello  world\n"
    assert "Commands from works-consensus 1.2 and works-dht 1.2." in run("--help").output
    assert "No such command" in run("works", "fce", exit_code=2).stderr


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library' (sick.py:1)"),
        ("raise SystemExit(7)", "SystemExit: 7"),
        ("def broken(:", "SyntaxError"),
        ("class Odd(Exception):\n    def __str__(self): raise OSError\nraise Odd", "Odd: (its text cannot be had"),
        ("raise BaseExceptionGroup('many', [ValueError('one')])", "ExceptionGroup: many"),
        ("", "AttributeError: module 'sick' has no attribute 'command'"),
        ("command = 3", "'sick:command' is of the type int, not click.Command"),
    ],
)
def test_a_command_that_cannot_be_imported_says_whose_it_is(site: Site, source: str, says: str) -> None:
    site.install("sick", {"sick": "sick:command"}, source)
    site.install("well", {"well": "well:hello"}, COMMAND)
    for arguments in (("sick",), ("sick", "--help")):
        result = run(*arguments, exit_code=1)
        assert "error F201: the command 'sick' of sick 1.2" in result.stderr
        assert says in result.stderr
        assert result.stdout == ""
    assert "sick" in run("--help").output
    assert run("well").output == "hello  world\n"


def test_two_distributions_with_one_name_are_both_named_and_neither_is_used(site: Site) -> None:
    for name in ("one", "two"):
        site.install(name, {"hello": f"{name}:hello"}, COMMAND)
    assert "Contested by one 1.2 and two 1.2." in run("--help").output
    stderr = run("hello", exit_code=1).stderr
    assert "of one 1.2 cannot be used: also a command of two 1.2; none can be used" in stderr


def test_a_command_and_a_shared_word_of_one_name_are_refused(site: Site) -> None:
    site.install("one", {"works": "one:hello"}, COMMAND)
    site.install("two", {"works.dht": "two:hello"}, COMMAND)
    for arguments in (("works",), ("works", "dht")):
        stderr = run(*arguments, exit_code=1).stderr
        assert "of one 1.2 cannot be used: `fluvial works` is the shared word of works.dht (two 1.2)" in stderr
    (row,) = [row for row in json.loads(run("plugins", "list", "--json").output) if row["name"] == "works.dht"]
    assert row["state"] == "contested"
    assert "`fluvial works` is itself a command of works (one 1.2)" in row["error"]


def test_the_names_of_core_are_reserved(site: Site) -> None:
    site.install("one", {"run": "one:hello", "config.more": "one:hello"}, COMMAND)
    assert "Run the peer until" in run("run", "--help").output
    assert "No such command" in run("config", "more", exit_code=2).stderr
    assert "From one 1.2." not in run("--help").output
    rows = [row for row in json.loads(run("plugins", "list", "--json").output) if row["distribution"] == "one"]
    assert [row["error"] for row in rows] == [
        f"`fluvial {name}` is a command of fluvial itself" for name in ("config", "run")
    ]


@pytest.mark.parametrize("name", ["Hello", "a.b.c", "-x", "hello world"])
def test_what_is_no_name_is_told(site: Site, name: str) -> None:
    site.install("one", {name: "one:hello"}, COMMAND)
    (found,) = plugin_commands(COMMANDS, path=[str(site.folder)])
    assert "is no command's name" in found.error
    assert "Contested by" in run("--help").output


def test_plugins_list_shows_commands(site: Site) -> None:
    site.install("fluvial-hello", {"hello": "fluvial_hello:hello"}, "raise SystemExit")
    assert ["command", "hello", "fluvial-hello", "1.2", "installed"] in [
        line.split() for line in run("plugins", "list").output.splitlines()
    ]


@pytest.mark.parametrize(
    ("disabled", "off"),
    [(["hello"], True), (["greeter"], True), (["fluvial-hello"], False), ([], False)],
)
def test_who_disables_a_plugin_disables_its_commands(site: Site, disabled: list[str], *, off: bool) -> None:
    site.install("fluvial-hello", {"hello": "fluvial_hello:hello"}, COMMAND, plugins="greeter")
    Path("fluvial.toml").write_text(f"[plugins]\ndisabled = {json.dumps(disabled)}\n")
    result = run("hello", exit_code=1 if off else 0)
    assert ("the command 'hello' of fluvial-hello 1.2 is disabled" in result.stderr) is off
    rows = json.loads(run("plugins", "list", "--json").output)
    (row,) = [row for row in rows if (row["seat"], row["distribution"]) == ("command", "fluvial-hello")]
    assert row["state"] == ("disabled" if off else "installed")


def test_a_disabled_command_is_not_imported(site: Site) -> None:
    site.install("fluvial-hello", {"hello": "fluvial_hello:hello"}, "raise SystemExit(9)")
    Path("peer.toml").write_text('[plugins]\ndisabled = ["hello"]\n')
    for arguments, environment in (
        (("--config", "peer.toml", "hello"), {}),
        (("hello",), {"FLUVIAL_CONFIG": "peer.toml"}),
        (("--set", 'plugins.disabled=["hello"]', "hello"), {}),
        (("hello",), {"FLUVIAL_PLUGINS__DISABLED": '["hello"]'}),
    ):
        assert "is disabled" in run(*arguments, exit_code=1, **environment).stderr


def test_with_settings_that_cannot_be_read_no_command_of_a_plugin_is_imported(site: Site) -> None:
    site.install("fluvial-hello", {"hello": "fluvial_hello:hello"}, "raise SystemExit(9)")
    Path("fluvial.toml").write_text("[plugins\n")
    assert "fluvial.toml:1" in run("hello", exit_code=1).stderr


def test_a_misspelt_command_among_the_disabled_is_a_warning(site: Site) -> None:
    site.install("fluvial-hello", {"hello": "fluvial_hello:hello"}, COMMAND)
    Path("fluvial.toml").write_text('[plugins]\ndisabled = ["hallo", "hello"]\n')
    output = run("config", "check").output
    assert output.count("warn") == 1
    assert "no plugin or command 'hallo' is installed; did you mean `hello`?" in output


def test_of_a_distribution_that_is_installed_twice_the_first_on_the_path_counts(site: Site, tmp_path: Path) -> None:
    site.install("fluvial-hello", {"hello": "fluvial_hello:hello"}, COMMAND)
    (tmp_path / "newer").mkdir()
    newer = Site(tmp_path / "newer")
    newer.install("fluvial-hello", {"hello": "fluvial_hello:other", "hi": "fluvial_hello:hi"})
    found = plugin_commands((), path=[str(site.folder), str(newer.folder)])
    assert [(one.name, one.value, one.error) for one in found] == [("hello", "fluvial_hello:hello", "")]


def test_distributions_in_archives_are_found(site: Site, tmp_path: Path) -> None:
    site.install("fluvial-hello", {"hello": "fluvial_hello:hello"}, COMMAND)
    archive = tmp_path / "site.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in site.folder.rglob("*"):
            file.write(path, path.relative_to(site.folder))
    (found,) = plugin_commands((), path=[str(archive)])
    assert (found.name, found.value, found.origin) == ("hello", "fluvial_hello:hello", "fluvial-hello 1.2")


def test_what_commands_import_is_cheap() -> None:
    """The module for authors of commands imports nothing that a command may not need."""
    heavy = ("anyio", "sqlalchemy", "cryptography", "msgspec", "structlog", "prometheus_client", "pluggy", "tomlkit")
    script = f"import sys, fluvial.commands\nsys.exit(' '.join(name for name in {heavy} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr.strip() == ""


def test_every_name_of_the_public_module_is_there() -> None:
    import fluvial.commands

    assert all(hasattr(fluvial.commands, name) for name in fluvial.commands.__all__)


def test_a_command_reads_the_tables_and_cannot_write(site: Site) -> None:
    source = """
import click
from sqlalchemy import text
from fluvial.commands import common_options, open_tables, pass_invocation

@click.command()
@click.argument("statement")
@common_options
@pass_invocation
def sql(invocation, statement):
    with open_tables(invocation) as connection:
        result = connection.execute(text(statement))
        click.echo(result.scalar() if result.returns_rows else "written")
"""
    site.install("fluvial-sql", {"sql": "fluvial_sql:sql"}, source)
    run("init")
    assert "does not exist" in run("sql", "SELECT 1", exit_code=1).stderr
    Path("state").mkdir()
    _make_database()
    assert run("sql", "SELECT count(*) FROM particles").output == "0\n"
    assert "error F701" in run("sql", "DELETE FROM particles", exit_code=1).stderr
    assert "no such table: nowhere" in run("sql", "SELECT 1 FROM nowhere", exit_code=1).stderr


def _make_database() -> None:
    import anyio
    from fluvial.storage import open_store

    async def make() -> None:
        async with open_store("sqlite:///state/fluvial.db", base_dir=Path.cwd()):
            pass

    anyio.run(make)
