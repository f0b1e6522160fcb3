"""Build hook: the root depends on the members beside it, or, for a release, on their pinned versions."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class Siblings(MetadataHookInterface):
    """Fills ``dependencies`` with every member of the workspace; ``FLUVIAL_RELEASE=1`` pins versions instead of paths."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Called by hatchling with the project's metadata."""
        root = Path(self.root)
        dependencies = []
        for member in [root / "core", *sorted(path.parent for path in (root / "plugins").glob("*/pyproject.toml"))]:
            project = tomllib.loads((member / "pyproject.toml").read_text())["project"]
            pinned = f"{project['name']}=={project['version']}"
            dependencies.append(
                pinned if os.environ.get("FLUVIAL_RELEASE") else f"{project['name']} @ {member.as_uri()}"
            )
        metadata["dependencies"] = dependencies
