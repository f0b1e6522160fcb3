"""The log in a real etcd: the kit, and what etcd does to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest
from fluvial.consensus.ordering import OrderingService, OrderLostError
from fluvial.errors import ConfigError, Unreachable
from fluvial.testing.ordering import OrderingConformance
from fluvial_consensus_etcd.gateway import EtcdGateway
from fluvial_consensus_etcd.log import EtcdLog
from fluvial_consensus_etcd.plugin import EtcdOptions, _tls

from tests.support.etcd import EtcdServer, etcd_server


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    with etcd_server(tmp_path_factory.mktemp("etcd")) as server:
        yield server


@pytest.fixture
def open_service(etcd: EtcdServer, request: pytest.FixtureRequest) -> Callable[[], OrderingService]:
    return lambda: EtcdLog(EtcdGateway([etcd.url]), f"/{request.node.name}/", 10_000)


class TestEtcdLog(OrderingConformance):
    @pytest.fixture
    def open_service(self, open_service: Callable[[], OrderingService]) -> Callable[[], OrderingService]:
        return open_service


async def test_what_was_deleted_is_reported(etcd: EtcdServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fluvial_consensus_etcd.log.PRUNE_EVERY", 4)
    log = EtcdLog(EtcdGateway([etcd.url]), "/pruned/", 6)
    for number in range(12):
        await log.submit(b"%d" % number)
    with pytest.raises(OrderLostError, match="entry 1 of the log is gone; the next one is 6"):
        async for _ in log.follow(0):
            pass
    async for entry in log.follow(5):
        assert entry.data == b"5"
        break
    await log.close()


async def test_an_etcd_that_comes_back_has_kept_everything(tmp_path: Path) -> None:
    with etcd_server(tmp_path) as server:
        log = EtcdLog(EtcdGateway([server.url]), "/kept/", 10_000)
        await log.submit(b"before")
        server.stop()
        with pytest.raises(Unreachable):
            await log.submit(b"lost")
        with pytest.raises(Unreachable):
            async for _ in log.follow(0):
                pass
        await anyio.to_thread.run_sync(server.start)
        await log.submit(b"after")
        found = []
        async for entry in log.follow(0):
            found.append(entry.data)
            if len(found) == 2:
                break
        assert found == [b"before", b"after"]
        await log.close()


async def test_the_next_endpoint_is_asked(etcd: EtcdServer) -> None:
    log = EtcdLog(EtcdGateway(["http://127.0.0.1:1", etcd.url]), "/second/", 10_000)
    await log.submit(b"here")
    async for entry in log.follow(0):
        assert entry.data == b"here"
        break
    await log.close()


def test_certificates_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    assert _tls(tmp_path, EtcdOptions()) is None
    with pytest.raises(ConfigError, match="certificates for etcd"):
        _tls(tmp_path, EtcdOptions(ca_file="none.pem"))
