"""Runs the build commands of a manifest."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from fluvial.errors import ConfigError

from fluvial_fce_wasm.manifest import ManifestModule, read_manifest


def build_modules(manifest: Path) -> Iterator[tuple[str, Path]]:
    """Name and file of each module, when it has been built.

    Raises:
        ConfigError: the manifest is wrong, a command is missing or fails, or a file is not there afterwards.
    """
    manifest = manifest / "service.toml" if manifest.is_dir() else manifest
    folder = manifest.parent
    for module in read_manifest(manifest).module:
        file = folder / module.file
        if module.build:
            file.parent.mkdir(parents=True, exist_ok=True)
        for command in module.build:
            _run(command, module, folder)
        if not file.is_file():
            raise ConfigError(f"{manifest}: module {module.name!r}: there is no file {file}")
        yield module.name, file


def _run(command: tuple[str, ...], module: ManifestModule, folder: Path) -> None:
    hint = "docs/fce.md says what each language needs"
    words = [sys.executable if word == "{python}" else word for word in command]
    scripts = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
    try:
        done = subprocess.run(  # noqa: S603 - the author's own commands, from the author's own manifest
            words, cwd=folder, env={**os.environ, "PATH": scripts}, check=False
        )
    except FileNotFoundError as error:
        raise ConfigError(f"module {module.name!r}: there is no command {words[0]!r}", hint=hint) from error
    if done.returncode:
        raise ConfigError(
            f"module {module.name!r}: {' '.join(words)} failed with {done.returncode}; what it says stands above",
            hint=hint,
        )
