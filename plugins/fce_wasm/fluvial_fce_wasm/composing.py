"""Static composition: the modules of a service as one component, made by ``wasm-tools compose``.

Calls from module to module then cost nothing, where linking in the process costs microseconds. Which import is met by what is decided by ``linking.py`` in
both cases; the tool gets that decision. Some services stay linked in the process: those whose fuel is counted (their prices must be the same on every
peer), and those whose blueprint divides the memory by modules.
"""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from fluvial.errors import ConfigError

from fluvial_fce_wasm.linking import LinkPlan

TOOL: Final = "wasm-tools"
VERSION_S: Final = 10.0
_ROOT: Final = "root"


class Composer(msgspec.Struct, frozen=True):
    """The tool.

    Attributes:
        path: where it is.
        version: what it says it is.
    """

    path: Path
    version: str

    @classmethod
    def installed(cls) -> Composer:
        """The one beside this interpreter, or on the path.

        Raises:
            ConfigError: there is none, or it is another program of that name.
        """
        hint = "pip install 'fluvial-fce-wasm[compose]', or switch `compose` of [execution] off"
        found = shutil.which(TOOL, path=sysconfig.get_path("scripts")) or shutil.which(TOOL)
        if found is None:
            raise ConfigError(f"execution.compose: there is no command `{TOOL}`", hint=hint)
        try:
            said = subprocess.run(  # noqa: S603 - found above
                [found, "--version"], capture_output=True, text=True, timeout=VERSION_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ConfigError(f"execution.compose: {found} cannot be run: {error}", hint=hint) from error
        if said.returncode or not said.stdout.startswith(f"{TOOL} 1."):
            raise ConfigError(f"execution.compose: {found} is another program, not the one that composes", hint=hint)
        return cls(Path(found), said.stdout.strip())


def composition(plan: LinkPlan, files: Sequence[Path]) -> bytes:
    """The tool's configuration for modules in files: JSON, which is YAML, too. The last one is the root."""
    last = len(files) - 1
    instantiations: dict[str, Any] = {}
    for place in plan.order:
        arguments = {
            one.name: {"instance": f"m{one.provider}", "export": one.export}
            for one in plan.imports[place]
            if one.source == "module"
        }
        if place == last:
            instantiations[_ROOT] = {"arguments": arguments}
        else:
            instantiations[f"m{place}"] = {"dependency": f"d{place}", "arguments": arguments}
    dependencies = {f"d{place}": str(path.absolute()) for place, path in enumerate(files[:-1])}
    return msgspec.json.encode({"dependencies": dependencies, "instantiations": instantiations})
