"""Plugins as strangers write them: folders outside of the repository, installed with pip, seen by separate processes.

:func:`write_distribution` makes the folder of a plugin, :class:`Site` is a place into which pip installs it and whose processes see it
next to what is installed here anyway. :class:`Environment` is an environment of its own, from which pip can also take it away again. Nothing comes over the network: the build backend is among the tools of ``requirements-dev.txt``.
"""

from __future__ import annotations

import os
import site
import subprocess
import sys
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

INSTALL_TIMEOUT_S: Final = 60.0
COMMAND_TIMEOUT_S: Final = 30.0

WEATHER: Final = '''\
"""Weather for AIR scripts, read from a station's JSON file."""
import json
import anyio
import msgspec
from fluvial import hookimpl
from fluvial.effectors import Call, Effector, EffectorError, function
from fluvial.offers import Registry


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    station_file: str


class Weather(Effector[Config]):
    service_id = "weather"

    @function
    async def temperature(self, call: Call, city: str) -> float:
        """Degrees Celsius; code 404 if the station does not know the city."""
        text = await anyio.Path(self.config.station_file).read_text()
        if (celsius := json.loads(text).get(city)) is None:
            raise EffectorError(404, f"no reading for {city!r}")
        return float(celsius)


@hookimpl
def fluvial_register(registry: Registry) -> None:
    registry.effector("weather", Weather)
'''
"""A whole third-party effector; a config switches it on with ``[effectors.weather] station_file = "…"``."""

BROKEN: Final = '"""A plugin whose library is not there."""\nimport libfoo_that_nobody_has\n'

_PROJECT: Final = """\
[build-system]
requires = ["flit_core>=3.9"]
build-backend = "flit_core.buildapi"

[project]
name = "{name}"
version = "0.1.0"
description = "A plugin by somebody else"
dependencies = ["fluvial>=0.1,<0.2"]
"""


def write_distribution(
    folder: Path, name: str, source: str, *, entry_point: str = "", commands: Mapping[str, str] | None = None
) -> Path:
    """Write the project of a one-module plugin and return its folder.

    Args:
        folder: where to make it; outside of the checkout.
        name: of the distribution, ``fluvial-effector-weather``; the module is called alike.
        source: the module's text.
        entry_point: its name in the group ``fluvial``; empty if it is not in it.
        commands: objects of the module by the names of the commands that they are.
    """
    project, module = folder / name, name.replace("-", "_")
    project.mkdir(parents=True)
    (project / f"{module}.py").write_text(source)
    text = _PROJECT.format(name=name)
    if entry_point:
        text += f'\n[project.entry-points.fluvial]\n{entry_point} = "{module}"\n'
    if commands:
        text += '\n[project.entry-points."fluvial.commands"]\n'
        text += "".join(f'"{command}" = "{module}:{value}"\n' for command, value in commands.items())
    (project / "pyproject.toml").write_text(text)
    return project


@dataclass(frozen=True, slots=True)
class Site:
    """A folder of installed distributions, in addition to those of this interpreter."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a process that sees the site; settings of this shell left out."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("FLUVIAL_")}
        return {**own, "PYTHONPATH": str(self.folder)}

    def install(self, project: Path) -> None:
        """Install a project's folder with pip, offline."""
        options = ["--no-build-isolation", "--no-deps", "--no-index", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run(
            [sys.executable, "-m", "pip", "install", *options, "--target", self.folder, project],
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def fluvial(self, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run ``fluvial`` in a process of its own and return what it printed."""
        return subprocess.run(
            [sys.executable, "-m", "fluvial", *arguments],
            cwd=cwd,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )


class Environment:
    """A virtual environment that has what is installed here, and what pip puts into it.

    Args:
        folder: where to make it.

    Attributes:
        python: its interpreter.
    """

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=False, symlinks=True)
        self.python: Final = folder / "bin" / "python"
        (own,) = folder.glob("lib/python*/site-packages")
        lines = [f"import site; site.addsitedir({path!r})\n" for path in site.getsitepackages()]
        (own / "installed_here.pth").write_text("".join(lines))

    def install(self, project: Path) -> None:
        """Install a project's folder with pip, offline."""
        self._pip("install", "--no-build-isolation", "--no-deps", "--no-index", project)

    def uninstall(self, name: str) -> None:
        """Take a distribution away with pip."""
        self._pip("uninstall", "--yes", name)

    def _pip(self, *arguments: str | Path) -> None:
        options = ["--python", self.python, "--quiet", "--disable-pip-version-check"]
        done = subprocess.run(
            [sys.executable, "-m", "pip", *options, *arguments],
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
