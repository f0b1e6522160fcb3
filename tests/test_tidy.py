"""The house style, as far as a machine can judge it."""

from __future__ import annotations

import ast
import os
import re
import tomllib
from collections import Counter
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Final

import fluvial
import grimp
import msgspec
import pluggy
import pytest
from fluvial import hooks
from fluvial.air.machine.errors import LIMITS
from fluvial.cli.explain import explanations
from fluvial.config.settings import CoreSections

ROOT: Final = Path(__file__).resolve().parent.parent
FUNCTION_LINES_MAX: Final = 70
MODULE_LINES_MAX: Final = 500
ALLOWED_LONGER: Final[dict[str, str]] = {}
"""Modules or ``module:function`` that may be longer, each with the reason."""
BANNED: Final = {
    "asyncio": "anyio owns every task",
    "concurrent": "anyio owns every thread",
    "marshal": "not a format for what others send",
    "pickle": "runs what it reads",
    "pytest_asyncio": "anyio's plugin runs our tests",
    "requests": "blocks the event loop",
    "trio": "fluvial runs on asyncio through anyio",
}
ALLOWED_IMPORTS: Final = {
    ("core/fluvial/begun.py", "asyncio"): "the first stretch of a task, made before its turn; anyio has nothing for it",
    (
        "core/fluvial/light_tasks.py",
        "asyncio",
    ): "tasks that cost a tenth of those of a group, for what is begun for each particle",
    ("core/fluvial/begun.py", "asyncio.tasks"): "what asyncio has for those who make tasks of their own",
    (
        "core/fluvial/virtual/loop.py",
        "asyncio",
    ): "it is an event loop; anyio runs on one and has no word for another clock",
    ("core/fluvial/guard/detached.py", "asyncio"): "a task that nobody must wait for, for which anyio has nothing",
    (
        "core/fluvial/guard/stand_in.py",
        "asyncio",
    ): "one that stands by for work which somebody else begins, for which anyio has nothing either",
    ("core/fluvial/guard/steady_loop.py", "asyncio"): "it is an event loop; anyio runs on one",
    ("core/fluvial/guard/steady_uvloop.py", "asyncio"): "it is an event loop; anyio runs on one",
    ("core/fluvial/hosting/log_writer.py", "asyncio"): "a timer and a turn of the loop without a task for each entry",
    ("core/fluvial/hosting/messenger.py", "asyncio"): "what is said in one turn of the loop leaves at its end",
    (
        "core/fluvial/storage/writer.py",
        "asyncio",
    ): "its thread tells the loop without waiting, for which anyio has nothing",
    (
        "core/fluvial/waiting.py",
        "asyncio",
    ): "locks, events and the time: anyio looks for the kind of loop each time, a tenth of what a peer computes",
    (
        "plugins/fce_wasm/fluvial_fce_wasm/threads.py",
        "asyncio",
    ): "its threads tell the loop without waiting; a hop through anyio costs several times what a short call costs",
    (
        "plugins/transport_tcp/fluvial_transport_tcp/wire.py",
        "asyncio",
    ): "anyio's stream goes through the loop once more for each send and receive: a quarter of what a request costs",
}
THREAD_DOORS: Final = {
    "core/fluvial/storage/database.py": "it has an inline mode of its own",
    "core/fluvial/storage/writer.py": "the threaded one of two writers",
    "core/fluvial/virtual/threads.py": "the door",
}
"""Modules that start threads; all others would be out of virtual time's reach."""
CLASS_NAMES_TWICE: Final[dict[str, str]] = {}
"""Public names that two classes may have, each with the reason."""
HOOK_PARTS: Final = ("When:", "May / must not:", "Results:", "Order:", "Errors:", "Since:")
TEXT_FILES: Final = {".py", ".toml", ".md", ".txt", ".air", ".html", ".css", ".js", ".json", ".yml", ""}
NOT_OURS: Final = {".git", ".fluvial-demo", ".venv", "__pycache__", "node_modules", "build", "dist", ".hypothesis"}


def files(*tops: str) -> list[Path]:
    """The files in some folders of the checkout, without environments, caches and build output."""
    found = []
    for top in tops:
        for folder, inner, names in os.walk(ROOT / top):
            inner[:] = [
                one
                for one in inner
                if one not in NOT_OURS
                and not one.endswith(("_cache", ".egg-info"))
                and not Path(folder, one, "pyvenv.cfg").exists()
            ]
            found += [Path(folder, one) for one in names if one not in NOT_OURS]
    return sorted(found)


PACKAGES: Final = [path for path in files("core", "plugins") if path.suffix == ".py"]
PLUGINS: Final = sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml"))


def name(path: Path) -> str:
    return path.resolve().relative_to(ROOT).as_posix()


@cache
def trees() -> list[tuple[str, ast.Module]]:
    return [(name(path), ast.parse(path.read_text(encoding="utf-8"))) for path in PACKAGES]


def table(path: Path) -> dict[str, object]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def test_the_package_under_test_is_the_checkouts() -> None:
    assert Path(fluvial.__file__).is_relative_to(ROOT / "core"), "`make setup` mends it"


def test_functions_fit_on_a_screen() -> None:
    long = [
        f"{module}:{node.name} has {lines} lines"
        for module, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES_MAX
        and f"{module}:{node.name}" not in ALLOWED_LONGER
    ]
    assert long == []


def test_modules_are_about_one_noun() -> None:
    lengths = {name(path): path.read_text(encoding="utf-8").count("\n") for path in PACKAGES}
    assert [one for one in lengths.items() if one[1] > MODULE_LINES_MAX and one[0] not in ALLOWED_LONGER] == []


def test_banned_modules_are_not_imported() -> None:
    found = [
        f"{module}:{node.lineno} imports {imported}: {BANNED[imported.partition('.')[0]]}"
        for module, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for imported in ([one.name for one in node.names] if isinstance(node, ast.Import) else [node.module or ""])
        if imported.partition(".")[0] in BANNED and (module, imported) not in ALLOWED_IMPORTS
    ]
    assert found == []


def test_threads_have_one_door() -> None:
    found = {
        module
        for module, tree in trees()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Import) and any(one.name == "anyio.to_thread" for one in node.names))
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "anyio"
            and "to_thread" in {one.name for one in node.names}
        )
        or (isinstance(node, ast.Attribute) and node.attr in ("to_thread", "run_in_executor"))
    }
    assert found == set(THREAD_DOORS), "use fluvial.virtual.threads.in_thread"


def test_nothing_shared_is_read_before_an_await_and_written_after_it() -> None:
    """``self.used += await take()`` forgets what others have added meanwhile: the left side is read first."""
    found = []
    for path in files("core", "plugins", "tests", "bench"):
        if path.suffix != ".py":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        shared = {one for node in ast.walk(tree) if isinstance(node, ast.Nonlocal | ast.Global) for one in node.names}
        found += [
            f"{name(path)}:{node.lineno}"
            for node in ast.walk(tree)
            if isinstance(node, ast.AugAssign)
            and (not isinstance(node.target, ast.Name) or node.target.id in shared)
            and any(isinstance(inner, ast.Await) for inner in ast.walk(node.value))
        ]
    assert found == []


def test_a_public_class_has_a_name_of_its_own() -> None:
    homes: dict[str, list[str]] = {}
    for module, tree in trees():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(f"{module}:{node.lineno}")
    assert len(homes) > 100
    twice = {name: where for name, where in homes.items() if len(where) > 1}
    assert {name: where for name, where in twice.items() if name not in CLASS_NAMES_TWICE} == {}
    assert set(CLASS_NAMES_TWICE) <= set(twice), "what stands once needs no exception"


def test_no_imports_go_in_a_circle() -> None:
    packages = ("fluvial", *(f"fluvial_{plugin.name}" for plugin in PLUGINS))
    graph = grimp.build_graph(*packages, exclude_type_checking_imports=False, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    TopologicalSorter(imports).prepare()  # raises CycleError, which names the circle


def test_every_hook_is_a_contract() -> None:
    manager = pluggy.PluginManager("fluvial")
    manager.add_hookspecs(hooks)
    specifications = [hook for hook in vars(manager.hook) if hook.startswith("fluvial_")]
    assert specifications
    lacking = {
        hook: missing
        for hook in specifications
        if (missing := [part for part in HOOK_PARTS if part not in (getattr(hooks, hook).__doc__ or "")])
    }
    assert lacking == {}


def test_every_metric_is_prefixed_and_documented() -> None:
    metrics = [
        (module, node)
        for module, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("Counter", "Gauge", "Histogram", "Summary", "Info")
        and any(keyword.arg == "registry" for keyword in node.keywords)
    ]
    assert metrics
    for module, node in metrics:
        where = f"{module}:{node.lineno}"
        texts = [argument.value for argument in node.args[:2] if isinstance(argument, ast.Constant)]
        assert len(texts) == 2, f"{where}: a metric's name and description stand there as texts"
        assert re.fullmatch(r"fluvial_[a-z0-9_]+", str(texts[0])), f"{where}: {texts[0]!r}"
        assert texts[1], where


def test_every_error_code_is_explained_and_used_once() -> None:
    codes = Counter(
        code
        for path in PACKAGES
        for code in re.findall(
            r'^    code(?:: ClassVar\[str\])? = "(\w+)"$', path.read_text(encoding="utf-8"), re.MULTILINE
        )
    )
    assert len(codes) > 10
    assert {*codes, *map(str, LIMITS)} == set(explanations())
    assert [code for code, uses in codes.items() if uses > 1] == []
    for code, text in explanations().items():
        assert set(text) == {"title", "meaning", "remedy"}, code
        assert all(part.strip() for part in text.values()), code


def test_every_setting_of_core_is_described() -> None:
    silent = []
    for section in msgspec.structs.fields(CoreSections):
        inner = msgspec.structs.fields(section.type) if isinstance(section.default, msgspec.Struct) else (section,)
        silent += [one.name for one in inner if "description=" not in str(one.type)]
    assert silent == []


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda path: path.name)
def test_every_plugin_is_a_member_of_the_workspace(plugin: Path) -> None:
    package = f"fluvial_{plugin.name}"
    project = table(plugin / "pyproject.toml")["project"]
    assert isinstance(project, dict)
    assert project["name"] == package.replace("_", "-")
    groups = set(project["entry-points"])
    assert groups
    assert groups <= {"fluvial", "fluvial.commands"}
    assert (plugin / package / "py.typed").exists()
    assert (plugin / "README.md").exists()
    assert f"-e ./plugins/{plugin.name}" in (ROOT / "requirements-dev.txt").read_text().splitlines()
    linter = msgspec.convert(table(ROOT / "pyproject.toml"), dict)["tool"]["importlinter"]
    assert package in linter["root_packages"]
    independent = next(one for one in linter["contracts"] if one["type"] == "independence")
    assert package in independent["modules"]
    forbidden = [one for one in linter["contracts"] if one["type"] == "forbidden"]
    assert any(package in one["forbidden_modules"] for one in forbidden)
    assert any(package in one["source_modules"] for one in forbidden)


def test_no_file_knows_a_machine() -> None:
    machine = re.compile(r"(?<![\w.])/(?:root|home|Users|work)/\w|/tmp/(?:venv|clone)")
    found = []
    for path in files("."):
        if path.suffix in TEXT_FILES:
            text = path.read_text(encoding="utf-8", errors="replace")
            found += [f"{name(path)}: {match[0]}" for match in machine.finditer(text)]
    assert found == []


@pytest.mark.parametrize("file", ["constraints.txt", "requirements-dev.txt", "requirements-toolchains.txt"])
def test_requirements_name_no_host(file: str) -> None:
    text = (ROOT / file).read_text()
    assert "://" not in text
    if file == "constraints.txt":
        assert [line for line in text.splitlines() if not re.fullmatch(r"[a-z0-9-]+==[\w.]+( ; .+)?", line)] == []
