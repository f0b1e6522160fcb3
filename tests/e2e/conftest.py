"""Real processes on the loopback; what takes long to start is started once."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.support.processes import environment


@pytest.fixture(scope="session")
def variables(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The environment of all processes; compiled modules are shared, also with those that other workers of this run start."""
    return environment(tmp_path_factory.getbasetemp().parent / "compiled")
