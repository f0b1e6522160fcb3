"""The documentation runs: scripts parse, scenarios play, settings load, programs work."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from anyio import to_thread
from fluvial.air.syntax import AirSyntaxError, format_text, parse
from fluvial.config import from_values, load
from fluvial.plugins import load_plugins
from fluvial.simulation.network import Observation, simulate
from fluvial.simulation.scenario import Scenario

from tests.docs.pages import ROOT, Block, blocks, made, rows, section
from tests.support.nodes import Peer, peer

EXAMPLES = ROOT / "examples"
ONE_FILE_PLUGINS = ("weather.py", "members.py", "neighbours.py")
SERVICES = [
    {"service": "load", "function": "matrix", "returns": [[1, 2], [3]]},
    {"service": "load", "function": "row", "returns": 1},
    {"service": "load", "function": "item", "returns": "tea"},
    {"service": "price", "function": "of", "returns": 7},
    {"returns": None},
]


# --- AIR


@pytest.mark.parametrize("block", blocks("air"), ids=str)
def test_scripts_parse_or_are_refused_as_said(block: Block) -> None:
    match block.info:
        case ("air",):
            assert not parse(block.text).paper
        case ("air", "older"):
            assert parse(block.text).paper
        case ("air", "refused", code):
            with pytest.raises(AirSyntaxError) as caught:
                parse(block.text)
            assert caught.value.code == code
        case _:
            pytest.fail(f"{block}: what does {block.info} mean?")


def test_every_instruction_has_an_example() -> None:
    text = "".join(block.text for block in blocks("air"))
    names = ("call", "ap", "canon", "seq", "par", "xor", "match", "fold", "next", "new", "fail")
    assert [name for name in names if not re.search(rf"\({name}\s", text)] == []


@pytest.mark.parametrize(
    ("heading", "number", "shown"),
    [
        ("## Lambdas", 0, [[3, 2]]),
        ("## Canon: fixing a stream", 0, [[["tea"], 1, "tea"]]),
        ("## Stream maps", 0, [[["red", "blue"], "red"]]),
        ("## Scopes", 0, [[["inner"]], [["outer"]]]),
        ("## Completeness and waiting", 0, [[7, 7]]),
        ("## Streams and generations", 1, [["both have voted"]]),
    ],
)
def test_examples_do_what_their_text_says(heading: str, number: int, shown: list[list[Any]]) -> None:
    chosen = [block for block in blocks("air") if block.text in section("air.md", heading)]
    assert [call.args for call in _play(chosen[number].text).calls if call.service in ("return", "show")] == shown


def test_branches_that_end_elsewhere_do_not_meet() -> None:
    block, *_ = [one for one in blocks("air") if one.text in section("air.md", "## Completeness and waiting")]
    without = block.text.replace('(call %init_peer_id% ("op" "noop") [])', "(null)")
    assert without != block.text
    assert [call for call in _play(without).calls if call.service == "return"] == []


def _play(script: str) -> Observation:
    names = ("client", "12D3KooWBob", "12D3KooWCarol")
    for name in names[1:]:
        script = script.replace(f'"{name}"', f'"@{name}"')
    values = {"name": "page", "script": script, "init_peer": "client", "peers": names, "services": SERVICES}
    return simulate(msgspec.convert(values, Scenario))


def test_examples_of_scripts_are_formatted_and_parse() -> None:
    scripts = sorted(EXAMPLES.glob("*.air"))
    assert scripts
    for path in scripts:
        text = path.read_text(encoding="utf-8")
        assert format_text(text) == text, f"fluvial air fmt {path}"
        assert parse(text, name=path.name).size > 1


# --- scenarios


@pytest.mark.parametrize("block", blocks("json", "scenario"), ids=str)
def test_scenarios_play(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "scenario.json"
    file.write_text(block.text)
    assert simulate(Scenario.load(file)).calls


def test_the_votes_arrive_as_the_page_says() -> None:
    seen = simulate(Scenario.load(EXAMPLES / "vote.json"))
    calls = [
        f"{call.service}.{call.function}({', '.join(msgspec.json.encode(one).decode() for one in call.args)})"
        for call in seen.calls
    ]
    told = rows(section("simulation.md", "## The observation"))[-len(calls) :]
    assert told == [[f"`{call.peer}`", f"`{text}`"] for call, text in zip(seen.calls, calls, strict=True)]
    assert (seen.deliveries, seen.lost, seen.failures) == (4, ["@carol"], [])


# --- settings


SETTINGS = [block for block in blocks("toml") if "fluvial.toml" in block.info or block.page.startswith("plugins/")]


@pytest.mark.parametrize("block", SETTINGS, ids=str)
def test_settings_load(block: Block, tmp_path: Path) -> None:
    if "plugins.d" in block.info:
        (tmp_path / "plugins.d").mkdir()
        for name in ONE_FILE_PLUGINS:
            shutil.copy(EXAMPLES / name, tmp_path / "plugins.d")
    configuration = load(from_values(tomllib.loads(block.text), base_dir=tmp_path))
    assert not configuration.plugins.failed


def test_tables_about_settings_are_marked_as_such() -> None:
    for block in blocks("toml"):
        assert block.info[1:] or block.page.startswith("plugins/"), f"{block} is loaded by no test"


# --- programs


@pytest.fixture(scope="module")
async def relay(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Peer]:
    async with peer("relay", tmp_path_factory.mktemp("relay"), network="fluvial") as running:
        yield running


@pytest.mark.parametrize("block", blocks("python", "run"), ids=str)
async def test_programs_run(block: Block, relay: Peer, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("FLUVIAL_RELAY", relay.address)
    code = compile(block.text, str(block), "exec")
    with anyio.fail_after(30):
        await to_thread.run_sync(exec, code, {"__name__": "page"})
    if block.file == "examples/ask.py":
        assert capsys.readouterr().out == "Hello, Ada!\n"


@pytest.mark.long
def test_test_files_pass(tmp_path: Path) -> None:
    for plugin in ONE_FILE_PLUGINS:
        shutil.copy(EXAMPLES / plugin, tmp_path)
    for block in blocks("python", "tests"):
        (tmp_path / f"test_line_{block.line}.py").write_text(block.text)
    (tmp_path / "pytest.ini").write_text("[pytest]\nanyio_mode = auto\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("block", [block for block in blocks() if block.file], ids=str)
def test_blocks_repeat_their_files(block: Block) -> None:
    assert block.text == (ROOT / block.file).read_text(encoding="utf-8")


def test_the_weather_of_the_readme_is_a_plugin(tmp_path: Path) -> None:
    (block,) = [one for one in blocks("python") if one.page == "README.md"]
    (tmp_path / "weather.py").write_text(block.text)
    plugins = load_plugins(entry_points=(), folder=tmp_path)
    assert not plugins.failed
    assert plugins.registry.get("effector", "weather") is not None


# --- what is made from the code, and where links lead


@pytest.mark.parametrize("page", ["air.md", "operate.md", "plugins.md"])
def test_stretches_are_those_of_the_code(page: str) -> None:
    from tests.docs.pages import MAKERS

    found: Mapping[str, str] = dict(made(ROOT / "docs" / page))
    assert found
    for what, text in found.items():
        assert text == MAKERS[what](), "run: python -m tests.docs.pages"


def test_a_new_peer_starts_as_the_page_says(tmp_path: Path) -> None:
    """``fluvial init`` and ``fluvial run``, nothing between them."""

    def start(*words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "fluvial", *words],
            cwd=tmp_path,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    with start("init", "--listen", "/ip4/127.0.0.1/tcp/0") as init:
        assert init.wait(timeout=30) == 0
    with start("run") as node:
        said = []
        assert node.stdout is not None
        for line in node.stdout:
            said.append(line)
            if "peer_started" in line:
                node.terminate()
        assert node.wait(timeout=30) == 0, "".join(said)
    assert "peer_stopped" in said[-1]
