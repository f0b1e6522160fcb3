"""The page about consensus: its engine works, and fails as the page says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from fluvial.consensus.lab.play import play
from fluvial.consensus.lab.run import Algorithm
from fluvial.consensus.lab.schedule import Action, Fault, FaultSchedule, Role, read_schedule
from fluvial.seats import Registry

from tests.docs.pages import blocks, rows, section, words

SCHEDULES = Path(__file__).parents[1] / "conformance" / "consensus"


def algorithm() -> Algorithm:
    (block,) = [one for one in blocks("python") if one.page == "docs/consensus.md"]
    names: dict[str, Any] = {}
    exec(compile(block.text, str(block), "exec"), names)
    registry = Registry()
    names["fluvial_register"](registry)
    (offer,) = registry.offers("engine")
    assert offer.traits is not None
    return Algorithm(name=offer.name, make=offer.factory, options=offer.options(), traits=offer.traits)


def test_the_engine_of_the_page_works_while_messages_keep_their_order() -> None:
    schedule = read_schedule(SCHEDULES / "p01-good-case.json")
    calm = msgspec.structs.replace(schedule, expect={"txs_committed_by_ms": [{"submitted_until": 3000, "by": 4000}]})
    report = play(calm, algorithm(), 1)
    assert [one for one in report["verdicts"] if not one["ok"]] == []
    stormy = msgspec.structs.replace(calm, network=msgspec.structs.replace(calm.network, delay_ms=(1, 100)))
    assert not play(stormy, algorithm(), 1)["passed"]


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
