"""Files of credentials: what a flow carries for the authorizations of the peers that it visits."""

from __future__ import annotations

import base64
from pathlib import Path

from fluvial.errors import ConfigError


def read_credentials(path: Path) -> list[bytes]:
    """The credentials in a file: one in each line, as base64; empty lines and those that begin with ``#`` are skipped.

    Raises:
        ConfigError: the file cannot be read, or a line is no base64.
    """
    found = []
    try:
        lines = path.read_text(encoding="ascii").splitlines()
        for number, line in enumerate(lines, 1):  # noqa: B007 - the error names it
            if line.strip() and not line.startswith("#"):
                found.append(base64.b64decode(line.strip(), validate=True))
    except OSError as error:
        raise ConfigError(f"{path}: it cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: this is no file of credentials: it is not ASCII") from error
    except ValueError as error:
        raise ConfigError(f"{path}:{number}: this is no credential: {error}") from error
    return found
