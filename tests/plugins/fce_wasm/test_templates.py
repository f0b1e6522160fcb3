"""The templates of ``fluvial service new``: built with toolchains from the registry, and called."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner
from fluvial.errors import ConfigError
from fluvial_fce_wasm.cli.building import build_modules
from fluvial_fce_wasm.cli.service import service
from fluvial_fce_wasm.cli.templates import make_service
from fluvial_fce_wasm.compiling import CodeCache
from fluvial_fce_wasm.lab.play import Laboratory
from fluvial_fce_wasm.limits import GuestLimits
from fluvial_fce_wasm.manifest import read_manifest

from tests.docs.pages import blocks

pytestmark = pytest.mark.timeout(300)


NODE_MODULES = Path(sys.prefix) / "npm" / "node_modules"


def is_installed(language: str) -> bool:
    if language == "js":
        return (NODE_MODULES / "componentize-qjs").is_dir()
    return find_spec({"python": "componentize_py", "c": "ziglang"}[language]) is not None


@pytest.mark.long
@pytest.mark.parametrize("language", ["python", "c", "js"])
async def test_a_template_is_built_and_answers(tmp_path: Path, language: str) -> None:
    if not is_installed(language):
        pytest.skip("`make toolchains` installs what it needs")
    if language == "js":
        (tmp_path / "node_modules").symlink_to(NODE_MODULES)
    folder = make_service("my-service", language, tmp_path)
    ((_, file),) = build_modules(folder)
    made = await Laboratory(CodeCache(tmp_path / "code"), tmp_path).service([file], GuestLimits())
    assert sorted({one.name for one in made.functions.values()}) == ["greet", "visits"]
    assert await made.call("greet", ["Ada"], seconds=10) == "Hello, Ada!"
    assert await made.call("local:my-service/api@0.1.0#greet", ["Ada"], seconds=10) == "Hello, Ada!"
    assert await made.call("greet", ["Bob"], seconds=10) == "Hello, Bob!"
    assert await made.call("visits", [], seconds=10) == [{"name": "Ada", "times": 2}, {"name": "Bob", "times": 1}]
    await made.close()


@pytest.mark.parametrize("language", ["python", "c", "js"])
def test_every_template_has_a_manifest(tmp_path: Path, language: str) -> None:
    folder = make_service("hello", language, tmp_path)
    manifest = read_manifest(folder / "service.toml")
    assert (manifest.name, manifest.module[0].file) == ("hello", "build/hello.wasm")
    assert not [path for path in folder.rglob("*") if path.is_file() and "@NAME@" in path.read_text()]


def test_the_manifest_of_the_documentation_is_one(tmp_path: Path) -> None:
    (block,) = [one for one in blocks("toml") if "service.toml" in one.info]
    path = tmp_path / "service.toml"
    path.write_text(block.text)
    manifest = read_manifest(path)
    assert (manifest.alias, [one.name for one in manifest.module]) == ("my-notes", ["store", "front"])


def test_a_name_that_is_none_and_a_folder_that_is_there_are_refused(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name in ("My", "a_b", "-a", "there", "../x"):
        with pytest.raises(ConfigError):
            make_service(name, "c", tmp_path)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "name"),
        ('name = "x"', "module"),
        ('name = "x"\nmodule = []', "module"),
        ('name = "x"\nfoo = 1\n[[module]]\nname = "m"\nfile = "f"', "foo"),
        ('name = "x"\n[[module]]\nname = "m"\nfile = 7', "file"),
        ("[", "service.toml"),
    ],
)
def test_a_wrong_manifest_is_named_with_its_key(tmp_path: Path, text: str, where: str) -> None:
    path = tmp_path / "service.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=where):
        read_manifest(path)


def test_a_build_that_fails_or_makes_nothing_is_told(tmp_path: Path) -> None:
    path = tmp_path / "service.toml"
    for build, text in (
        ('[["{python}", "-c", "raise SystemExit(3)"]]', "failed with 3"),
        ('[["no-such-command"]]', "no command"),
        ('[["{python}", "-c", ""]]', "no file"),
    ):
        path.write_text(f'name = "x"\n[[module]]\nname = "m"\nfile = "m.wasm"\nbuild = {build}')
        result = CliRunner().invoke(service, ["build", str(path)])
        assert text in str(result.exception)
