"""How much a state directory takes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

FILE_BYTES: Final = 4_096
"""What each file and folder counts at least: they take room, too."""


def used_bytes(folder: Path) -> int:
    """The bytes of all files below a folder; links are not followed, and what goes away meanwhile does not count."""
    total, pending = 0, [str(folder)]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    try:
                        if entry.is_dir(follow_symlinks=False):
                            pending.append(entry.path)
                            total += FILE_BYTES
                        else:
                            total += max(entry.stat(follow_symlinks=False).st_size, FILE_BYTES)
                    except OSError:
                        continue
        except OSError:
            continue
    return total
