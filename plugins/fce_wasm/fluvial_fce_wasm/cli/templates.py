"""Small services to begin with, in several languages."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import Final

from fluvial.errors import ConfigError

NAME: Final = re.compile(r"[a-z][a-z0-9]*(?:-[a-z][a-z0-9]*)*")


def make_service(name: str, language: str, where: Path) -> Path:
    """Make the folder of a service from the template of a language.

    Raises:
        ConfigError: the name cannot be one of WIT, or the folder is there.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name: take small letters, digits and hyphens, such as my-service")
    folder = where / name
    try:
        folder.mkdir()
    except FileExistsError as error:
        raise ConfigError(f"{folder} is there already", hint="choose another name") from error
    templates = files("fluvial_fce_wasm") / "templates"
    for source in ("shared", language):
        for file in (templates / source).iterdir():
            target = folder / ("wit/world.wit" if file.name == "world.wit" else file.name.removesuffix(".in"))
            target.parent.mkdir(exist_ok=True)
            target.write_text(file.read_text(encoding="utf-8").replace("@NAME@", name), encoding="utf-8")
    return folder
