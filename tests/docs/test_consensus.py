"""The page about consensus: its engine works, and fails as the page says."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from click.testing import CliRunner
from fluvial.cli.lab_consensus import consensus
from fluvial.consensus.lab.play import play
from fluvial.consensus.lab.run import Algorithm
from fluvial.consensus.lab.schedule import Action, Fault, FaultSchedule, Role, read_schedule
from fluvial.errors import RemoteProtocolError
from fluvial.ledger.genesis import ACCOUNTS
from fluvial.ledger.light_client import LightClient
from fluvial.ledger.revocations import revocation_key
from fluvial.ledger.transactions import Body, TransferUnits, UrgentTransaction
from fluvial.offers import Registry
from fluvial.testing.nodes import nodes, until
from fluvial.virtual.loop import BACKEND

from tests.core.ledger.test_light_client import GENESIS, fact
from tests.docs.pages import blocks, rows, section, words
from tests.support.ledgers import VALIDATORS, chain_of, host_of, start_holder, transaction, write_genesis
from tests.support.revocations import ANN, BOB

SCHEDULES = Path(__file__).parents[1] / "conformance" / "consensus"


def names_of(part: str) -> dict[str, Any]:
    """The names that the block of the page with this text defines."""
    (block,) = [one for one in blocks("python") if one.page == "docs/consensus.md" and part in one.text]
    names: dict[str, Any] = {}
    exec(compile(block.text, str(block), "exec"), names)
    return names


def algorithm() -> Algorithm:
    names = names_of("fluvial_register")
    registry = Registry()
    names["fluvial_register"](registry)
    (offer,) = registry.offers("engine")
    assert offer.traits is not None
    return Algorithm(name=offer.name, make=offer.factory, options=offer.options(), traits=offer.traits)


def test_the_engine_of_the_page_works_until_a_message_is_lost() -> None:
    schedule = read_schedule(SCHEDULES / "p01-good-case.json")
    late = msgspec.structs.replace(schedule.network, delay_ms=(1, 100))
    calm = msgspec.structs.replace(
        schedule, network=late, expect={"txs_committed_by_ms": [{"submitted_until": 3000, "by": 4000}]}
    )
    report = play(calm, algorithm(), 1)
    assert [one for one in report["verdicts"] if not one["ok"]] == []
    lossy = msgspec.structs.replace(calm, network=msgspec.structs.replace(late, loss=0.05))
    assert not play(lossy, algorithm(), 1)["passed"]


def plugin_file(folder: Path) -> Path:
    (block,) = [one for one in blocks("python") if one.page == "docs/consensus.md" and "fluvial_register" in one.text]
    path = folder / "plugins.d" / "first_decides.py"
    path.parent.mkdir()
    path.write_text(block.text)
    return path


def settings_of(part: str) -> str:
    (block,) = [one for one in blocks("toml") if one.page == "docs/consensus.md" and part in one.text]
    return block.text


def test_the_commands_of_the_page_find_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin_file(tmp_path)
    (tmp_path / "fluvial.toml").write_text(settings_of("[plugins]"))
    monkeypatch.chdir(tmp_path)
    schedule = str(SCHEDULES / "p01-good-case.json")
    call = ["compare", schedule, "--algorithm", "first-decides", "--sizes", "4", "--loads", "50"]
    done = CliRunner().invoke(consensus, call)
    assert done.exit_code == 0, done.output
    assert "first-decides" in (tmp_path / "comparison.html").read_text()


@pytest.mark.parametrize("anyio_backend", [BACKEND])
async def test_the_engine_of_the_page_holds_a_ledger(tmp_path: Path, anyio_backend: object) -> None:
    kind = tomllib.loads(settings_of("[consensus]"))["consensus"]["kind"]
    write_genesis(tmp_path / "genesis.json")
    async with nodes(base_dir=tmp_path, plugins={"own": plugin_file(tmp_path)}) as network:
        for name in VALIDATORS:
            await start_holder(network, name, kind)
        bob, payee = network["bob"], ANN.public_key
        await host_of(bob).submit(transaction(bob, TransferUnits(payee, 7), 0))
        await until(lambda: all(host_of(one).view().get(ACCOUNTS, payee) for one in network.values()))
        assert len({chain_of(one)[0] for one in network.values()}) == 1


def test_a_light_client_learns_whether_a_key_is_revoked() -> None:
    is_revoked = names_of("is_revoked")["is_revoked"]
    client = LightClient(GENESIS)
    ann, bob = ANN.public_key, BOB.public_key
    assert is_revoked(client, fact(revocation_key("fluvial", ann, bob)), ann, bob, height=1)
    assert not is_revoked(client, fact(revocation_key("fluvial", bob, ann)), bob, ann, height=1)
    with pytest.raises(RemoteProtocolError, match="too old"):
        is_revoked(client, fact(revocation_key("fluvial", bob, ann)), bob, ann, height=2)


def test_all_kinds_of_transactions_are_named() -> None:
    named = {word for row in rows(section("consensus.md", "## The ledger")) for cell in row for word in words(cell)}
    bodies = [one for part in get_args(Body) for one in (get_args(part) or (part,))]
    assert {one.__name__ for one in [*bodies, *get_args(UrgentTransaction)]} <= named


def test_all_fields_faults_and_roles_are_named() -> None:
    text = section("consensus.md", "## The laboratory")
    named = {word for row in rows(text) for cell in row for word in words(cell)}
    fields = set(FaultSchedule.__struct_fields__) - {"format", "name", "about", "seed", "end_ms", "max_clock_skew_ms"}
    fields -= {"max_block_txs", "accounts", "expect_by_algorithm", "gst_ms"}
    assert fields <= named
    roles = next(one for one in msgspec.structs.fields(Role) if one.name == "role")
    assert set(roles.type.__args__) <= named
    assert {one.__struct_config__.tag for one in Fault.__args__} <= named
    assert Action.__struct_fields__
