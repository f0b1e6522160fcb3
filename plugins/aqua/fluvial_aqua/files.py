"""Programs on disk: reads files and imports."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec
from fluvial.errors import ConfigError

from fluvial_aqua.checking.modules import ImportTable
from fluvial_aqua.compiler import Compilation, CompilerOptions, compile_text

FILE_BYTES_MAX: Final = 4 * 1024 * 1024
"""Longest file that is read."""


def read_file(path: str) -> str | None:
    """The text of a file; None if there is none.

    Raises:
        ConfigError: it is there and cannot be used.
    """
    file = Path(path)
    try:
        if not file.is_file():
            return None
        if file.stat().st_size > FILE_BYTES_MAX:
            raise ConfigError(f"{path}: the file has more than {FILE_BYTES_MAX} bytes")
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: this is no text in UTF-8 (byte {error.start})") from error


def compile_file(path: Path, options: CompilerOptions | None = None) -> Compilation:
    """Check a program whose main file is on disk.

    Raises:
        ConfigError: the file cannot be read.
    """
    text = read_file(str(path))
    if text is None:
        raise ConfigError(f"{path}: there is no such file")
    return compile_text(str(path), text, read_file, options)


def import_table(folders: Iterable[Path], mapping: Path | None = None) -> ImportTable:
    """Where imports are looked for.

    Args:
        folders: searched for any import.
        mapping: a JSON file: by prefix of the importing file, then by prefix of the import, lists of folders.

    Raises:
        ConfigError: the file is not of that shape.
    """
    table: dict[str, dict[str, list[str]]] = {}
    if mapping is not None:
        try:
            table = msgspec.json.decode(mapping.read_bytes(), type=dict[str, dict[str, list[str]]])
        except OSError as error:
            raise ConfigError(f"{mapping}: {error.strerror}") from error
        except msgspec.MsgspecError as error:
            raise ConfigError(f"{mapping}: {error}") from error
    return ImportTable(tuple(str(folder) for folder in folders), table)
