"""What holds for all tests: fluvial runs on asyncio, on the build machine nothing is skipped, and no test fails because a machine is slow.

A skip says that something is missing on this machine (PostgreSQL, say). On a developer's machine that is fine; where ``CI=true`` is
set everything must be there, so a skip fails. The one exception are compliance kits: what a plugin declares not to offer is no
shortcoming of the machine; such skips begin with ``not offered:``.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Generator, Iterator
from typing import TypeVar

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests.support.postgres import PostgresServer, server_for_session

NOT_OFFERED = "not offered:"
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
ReportT = TypeVar("ReportT", pytest.TestReport, pytest.CollectReport)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the garbage collector from looking through all modules and tests again and again: they stay until the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _skip_fails((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _skip_fails((yield))


def _skip_fails(report: ReportT) -> ReportT:
    expected = hasattr(report, "wasxfail")
    if os.environ.get("CI") == "true" and report.outcome == "skipped" and not expected:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not reason.removeprefix("Skipped: ").startswith(NOT_OFFERED):
            report.outcome = "failed"
            report.longrepr = (
                f"{reason}\nCI=true: everything that a test needs must be there, so this skip is a failure"
            )
    return report


@pytest.fixture(scope="module")
def plain_logs() -> Iterator[None]:
    """Tracebacks as plain text: structlog's default colours them, which takes longer than all these tests."""
    before = structlog.get_config()
    structlog.configure(processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()])
    yield
    structlog.configure(**before)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A private server, started once for all tests of a worker."""
    yield from server_for_session()


@pytest.fixture(params=["sqlite", "postgresql"])
def storage_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database of each kind that lasts."""
    if request.param == "sqlite":
        yield "sqlite:///peer.db"
    else:
        server: PostgresServer = request.getfixturevalue("postgres_server")
        with server.database() as address:
            yield address
