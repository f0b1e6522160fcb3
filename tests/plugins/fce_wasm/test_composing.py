"""Services whose modules are composed into one component: they do what linked ones do."""

from __future__ import annotations

import json
import shutil
import stat
import sysconfig
from pathlib import Path

import pytest
from click.testing import CliRunner
from fluvial.errors import ConfigError
from fluvial.testing.nodes import keys_of, nodes
from fluvial_fce_wasm.cli.lab import fce
from fluvial_fce_wasm.compiling import CodeCache
from fluvial_fce_wasm.composing import TOOL, Composer
from fluvial_fce_wasm.lab.play import Laboratory
from fluvial_fce_wasm.limits import GuestLimits
from wasmtime import wat2wasm

from tests.conformance.test_fce import FILES, differences
from tests.plugins.fce_wasm.deploying import WAT, ask
from tests.plugins.fce_wasm.stages import CONNECTOR, FACADE, LIBRARY, LOGIC, STORAGE

SCRIPTS = sysconfig.get_path("scripts")
composes = pytest.mark.skipif(
    not (shutil.which(TOOL, path=SCRIPTS) or shutil.which(TOOL)), reason="`make toolchains` installs what it needs"
)
BOB = str(keys_of("bob").peer_id)


@pytest.mark.long
@composes
def test_cases_of_several_modules_give_what_they_give_without(tmp_path: Path) -> None:
    cases = [
        {**case, "modules": [str(path.parent / module) for module in case["modules"]]}
        for path in FILES
        for case in json.loads(path.read_text())["cases"]
        if len(case["modules"]) > 1
    ]
    file = tmp_path / "cases.json"
    file.write_text(json.dumps({"cases": cases}))
    result = CliRunner().invoke(fce, ["run", "--compose", str(file)], catch_exceptions=False)
    outcomes = [json.loads(line) for line in result.output.splitlines()]
    assert len(cases) > 10
    wrong = {one["name"]: found for one, got in zip(cases, outcomes, strict=True) if (found := differences(one, got))}
    assert wrong == {}


@composes
async def test_a_module_that_two_use_is_one_instance_of_one_component(tmp_path: Path) -> None:
    cache, files = CodeCache(tmp_path / "code"), [WAT / f"diamond_{name}.wat" for name in ("d", "left", "right", "top")]
    results = []
    for composer in (None, Composer.installed()):
        service = await Laboratory(cache, tmp_path, composer).service(files, GuestLimits())
        assert len(service.plan.modules) == (4 if composer is None else 1)
        names = sorted(service.functions)
        results.append([names, *[await service.call(names[0], [], seconds=5) for _ in range(3)]])
        await service.close()
    assert results[0] == results[1]


@composes
async def test_services_whose_price_counts_are_never_composed(tmp_path: Path) -> None:
    laboratory = Laboratory(CodeCache(tmp_path / "code"), tmp_path, Composer.installed())
    service = await laboratory.service([WAT / "store.wat", WAT / "front.wat"], GuestLimits(fuel=1_000_000))
    assert len(service.plan.modules) == 2
    await service.close()


@composes
async def test_a_peer_composes_a_service_with_an_effector(tmp_path: Path) -> None:
    grant = {"effector": "kv", "owners": [BOB]}
    sections = {"extras": {"kv": {}}, "execution": {"kind": "wasm", "grants": [grant], "compose": True}}
    async with nodes("ada", "bob", base_dir=tmp_path, **sections) as network:
        ada, bob = network["ada"], network["bob"]
        texts = (LIBRARY, CONNECTOR, STORAGE, LOGIC, FACADE)
        blobs = [await bob.node.blobs.put(bytes(wat2wasm(text))) for text in texts]
        body = {"name": "paper", "dependencies": [{"/": str(blob)} for blob in blobs]}
        service = await ask(bob, bob, "srv create", await ask(bob, bob, "dist add_blueprint", body))
        assert [await ask(ada, bob, f"{service} send", "x") for _ in range(2)] == [3, 7]
        assert "paper:app/api@0.1.0" in (await ask(bob, bob, "srv get_interface", service))["exports"]


def test_another_program_of_the_tools_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fluvial_fce_wasm.composing.sysconfig.get_path", lambda name: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="no command"):
        Composer.installed()
    fake = tmp_path / TOOL
    fake.write_text("#!/bin/sh\necho wasm-tools of another kind\n")
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(ConfigError, match="another program"):
        Composer.installed()
