"""``fluvial particle``: stories from a real database that a real store has written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import anyio
import msgspec
import pytest
from click.testing import CliRunner, Result
from fluvial.cli import particle
from fluvial.cli.main import main
from fluvial.clock import SystemClock
from fluvial.storage import StoredParticle, open_store
from fluvial.story.story import Story, as_of

from tests.core.story.chats import chat
from tests.core.story.flows import Flow

DATABASE = "state/fluvial.db"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a peer, without particles."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fluvial.toml").write_text("[transport]\nlisten = []\n")
    (tmp_path / "state").mkdir()
    return tmp_path


def run(*arguments: str, exit_code: int = 0) -> Result:
    result = CliRunner().invoke(main, arguments, prog_name="fluvial")
    assert result.exit_code == exit_code, result.output
    return result


async def write(folder: Path, stored: StoredParticle) -> None:
    async with open_store(f"sqlite:///{DATABASE}", base_dir=folder) as store:
        await store.particles.admit(
            stored.particle,
            sender=stored.sender,
            hops=stored.hops,
            now_ms=stored.received_at_ms,
            entries=stored.journal,
            peers=[row.peer for row in stored.outbox],
        )
        for row in stored.outbox:
            for _ in range(row.attempts):
                store.particles.attempt_failed(row.key, row.peer, row.last_error)


def keep(here: Path, teller: str, *flows: Flow) -> None:
    """Make ``here`` the peer ``teller``, with what it knows of these flows."""
    flows[0].key(teller).save(here / "secrets" / "peer.key")
    for flow in flows:
        anyio.run(write, here, flow.stored(teller))


def named(flow: Flow) -> Sequence[str]:
    return [word for peer, name in flow.names.items() for word in ("--name", f"{peer}={name}")]


def test_show_tells_the_story_as_text(here: Path) -> None:
    flow = chat(absent=["carol"])
    keep(here, "members", flow)
    lines = run("particle", "show", flow.particle.id, *named(flow)).output
    assert "told by members" in lines
    assert 'members call members.list() → ["bob","carol"]' in lines
    assert "signed ✓" in lines
    assert "not delivered: carol, tried without success: no address answers: connection refused" in lines


def test_show_of_a_long_flow_does_not_tell_since_when_it_waits(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger's may have as many steps as it likes, and they are made again for each moment that is looked at."""
    flow = chat(absent=["carol"])
    keep(here, "members", flow)
    told = run("particle", "show", flow.particle.id).output
    monkeypatch.setattr(particle, "STEPS_MAX", 1)
    short = run("particle", "show", flow.particle.id).output
    assert "until the particle expired" in told
    assert "until the particle expired" not in short


def test_show_prints_the_story_as_json(here: Path) -> None:
    flow = chat()
    keep(here, "relay", flow)
    for options in (["--json"], ["--format", "json"]):
        told = msgspec.json.decode(run("particle", "show", flow.particle.id, *options).output, type=Story)
        assert told == as_of(flow.story("relay"), SystemClock().now_ms())


def test_show_and_list_agree_on_a_particle_whose_time_is_over(here: Path) -> None:
    flow = chat(absent=["carol"])
    keep(here, "members", flow)
    (listed,) = json.loads(run("particle", "list", "--json").output)
    shown = json.loads(run("particle", "show", flow.particle.id, "--json").output)
    assert listed["state"] == shown["state"] == "expired"
    assert f"particle {flow.particle.id}, expired" in run("particle", "show", flow.particle.id).output
    assert as_of(flow.story("members"), flow.particle.deadline_ms - 1).state == "live"


def test_show_draws_the_story(here: Path) -> None:
    flow = chat()
    keep(here, "bob", flow)
    for form, beginning in (("mermaid", "sequenceDiagram"), ("svg", "<svg"), ("html", "<!doctype html>")):
        assert run("particle", "show", flow.particle.id, "--format", form).output.startswith(beginning)


def test_show_writes_a_file_in_the_format_of_its_suffix(here: Path) -> None:
    flow = chat()
    keep(here, "alice", flow)
    beginnings = {"a.txt": "particle chat", "a.json": "{", "a.mmd": "seq", "a.svg": "<svg", "a.html": "<!doctype"}
    for file, beginning in beginnings.items():
        result = run("particle", "show", flow.particle.id, "--output", file)
        assert result.stdout == ""
        assert result.stderr == f"wrote {file}\n"
        assert (here / file).read_text(encoding="utf-8").startswith(beginning)


def test_show_says_where_a_file_cannot_be_written(here: Path) -> None:
    flow = chat()
    keep(here, "alice", flow)
    result = run("particle", "show", flow.particle.id, "--output", "nowhere/a.svg", exit_code=1)
    assert "nowhere/a.svg: this cannot be written" in result.stderr


def test_show_takes_the_beginning_of_an_id(here: Path) -> None:
    flow = chat()
    keep(here, "alice", flow)
    assert "particle chat-8f1c2d3e" in run("particle", "show", "chat-8").output


def test_show_refuses_a_beginning_of_several_ids(here: Path) -> None:
    flows = [Flow("(null)", peers=["alice"], particle_id=name) for name in ("same-1", "same-2", "same")]
    keep(here, "alice", *flows)
    result = run("particle", "show", "sam", exit_code=1)
    assert "'sam' may be any of 3 particles" in result.stderr
    assert "same-1" in result.stderr
    assert "particle same," in run("particle", "show", "same").output, "a whole id is not ambiguous"


def test_show_tells_particles_of_one_id_apart_by_their_keys(here: Path) -> None:
    flows = [Flow("(null)", peers=["alice"], particle_id="twin", ttl_ms=ttl_ms) for ttl_ms in (1_000, 2_000)]
    keep(here, "alice", *flows)
    result = run("particle", "show", "twin", exit_code=1)
    assert "give its key instead" in result.stderr
    for flow in flows:
        assert flow.particle.key.hex() in result.stderr
        told = json.loads(run("particle", "show", flow.particle.key.hex(), "--json").output)
        assert told["ttl_ms"] == flow.particle.header.ttl_ms


def test_show_does_not_know_every_particle(here: Path) -> None:
    keep(here, "alice", chat())
    result = run("particle", "show", "nothing", exit_code=1)
    assert "there is no particle whose id begins with 'nothing'" in result.stderr
    assert "fluvial particle list" in result.stderr


@pytest.mark.parametrize("text", ["alice", "alice=", "12D3KooW=alice"])
def test_show_refuses_names_for_what_is_no_peer(here: Path, text: str) -> None:
    assert "--name" in run("particle", "show", "chat", "--name", text, exit_code=2).stderr


def test_show_refuses_two_formats(here: Path) -> None:
    keep(here, "alice", chat())
    assert "contradict" in run("particle", "show", "chat", "--json", "--format", "svg", exit_code=2).stderr


def test_list_has_a_line_for_each_particle(here: Path) -> None:
    lost, whole = chat(absent=["carol"]), Flow("(null)", peers=["alice", "members"], particle_id="own")
    keep(here, "members", lost)
    anyio.run(write, here, whole.stored("alice"))
    head, *lines = run("particle", "list").output.splitlines()
    assert head.split() == ["ID", "INITIATOR", "STATE", "AGE", "HOPS", "RECORDS", "WAITING"]
    assert len(lines) == 2
    line = next(line for line in lines if line.startswith("chat-8f1c2d3e")).split()
    assert line[1:3] == [f"…{lost.particle.initiator[-6:]}", "expired"]
    assert line[-3:] == ["2", str(len(lost.stored("members").journal)), "1"]


def test_list_as_json_has_the_keys(here: Path) -> None:
    flow = chat()
    keep(here, "alice", flow)
    (row,) = json.loads(run("particle", "list", "--json").output)
    assert row["id"] == flow.particle.id
    assert row["key"] == flow.particle.key.hex()
    assert row["initiator"] == flow.particle.initiator
    assert (row["hops"], row["waiting"]) == (0, 0)


def test_list_can_be_limited_and_may_be_empty(here: Path) -> None:
    keep(here, "alice", chat(), Flow("(null)", peers=["alice"], particle_id="another"))
    assert len(run("particle", "list", "--limit", "1").output.splitlines()) == 2
    assert "--limit" in run("particle", "list", "--limit", "0", exit_code=2).stderr


def test_list_shows_hostile_ids_harmlessly(here: Path) -> None:
    keep(here, "alice", Flow("(null)", peers=["alice"], particle_id="\x1b[31mred\n\u202e"))
    output = run("particle", "list").output
    assert r"\x1b[31mred\n\u202e" in output
    assert output.replace("\n", "").isprintable()


def test_without_a_database_it_says_so(here: Path) -> None:
    assert "there is no such file" in run("particle", "list", exit_code=1).stderr


async def test_particles_can_be_read_while_the_peer_writes(here: Path) -> None:
    flow = chat()
    flow.key("alice").save(here / "secrets" / "peer.key")
    await write(here, flow.stored("alice"))
    async with open_store(f"sqlite:///{DATABASE}", base_dir=here) as store:
        await store.particles.recent()
        result = await anyio.to_thread.run_sync(run, "particle", "list")
    assert "chat-8f1c2d3e" in result.output
