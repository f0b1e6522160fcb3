"""A stranger's plugin, from a folder outside of the repository, comes in through the same door as our own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import fluvial_here
from tests.support.third_party import BROKEN, WEATHER, Site, write_distribution


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Where a working and a broken plugin are installed."""
    folder = tmp_path_factory.mktemp("strangers")
    site = Site(folder / "site")
    site.install(write_distribution(folder, "fluvial-effector-weather", WEATHER, entry_point="effector_weather"))
    site.install(write_distribution(folder, "fluvial-effector-foo", BROKEN, entry_point="effector_foo"))
    return site


def test_it_is_the_one_in_the_readme() -> None:
    assert WEATHER in (Path(__file__).parents[2] / "README.md").read_text()


@pytest.fixture(scope="module")
def listed(site: Site, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Where there are no settings."""
    return plugins(site, tmp_path_factory.mktemp("empty"))


def plugins(site: Site, folder: Path) -> dict[str, dict[str, Any]]:
    done = site.fluvial("plugins", "list", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return {row["plugin"]: row for row in json.loads(done.stdout)}


def test_it_appears_in_the_list(listed: dict[str, dict[str, Any]]) -> None:
    assert listed["effector_weather"] == {
        "seat": "effector",
        "name": "weather",
        "plugin": "effector_weather",
        "distribution": "fluvial-effector-weather",
        "version": "0.1.0",
        "state": "installed",
        "error": None,
    }


def test_a_broken_one_appears_with_its_error_while_the_others_work(listed: dict[str, dict[str, Any]]) -> None:
    assert listed["effector_foo"]["state"] == "failed"
    assert listed["effector_foo"]["error"] == (
        "ModuleNotFoundError: No module named 'libfoo_that_nobody_has' (fluvial_effector_foo.py:2)"
    )
    assert listed["core"]["state"] == "in use"


def test_a_config_switches_it_on_with_its_own_keys(site: Site, tmp_path: Path) -> None:
    assert fluvial_here("init", cwd=tmp_path).returncode == 0
    with (tmp_path / "fluvial.toml").open("a") as file:
        file.write('[effectors.weather]\nstation_file = "station.json"\n')
    assert plugins(site, tmp_path)["effector_weather"]["state"] == "in use"
    checked = site.fluvial("config", "check", cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert "warn  plugin effector_foo (fluvial-effector-foo 0.1.0) failed: ModuleNotFoundError" in checked.stdout
    wrong = site.fluvial("config", "check", "--set", "effectors.weather.station=x", cwd=tmp_path)
    assert wrong.returncode == 1
    assert "keys offered by fluvial-effector-weather 0.1.0: station_file" in wrong.stderr
    strict = site.fluvial("config", "check", "--set", "plugins.on_failure=refuse", cwd=tmp_path)
    assert strict.returncode == 1
    assert "effector_foo (fluvial-effector-foo 0.1.0) failed" in strict.stderr
