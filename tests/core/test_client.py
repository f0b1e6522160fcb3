"""The client: runs scripts, gives them values, hands back what they return."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from fluvial.air.syntax import AirSyntaxError, UndefinedName
from fluvial.air.syntax.errors import UnknownInstruction
from fluvial.client import Client, connect
from fluvial.effectors import Effector, NoConfig, function
from fluvial.errors import ConfigError, Refused, ServiceError, Unreachable
from fluvial.script_values import with_values
from fluvial.storage import open_store

from tests.support.nodes import NETWORK, WAIT_S, Peer, Work, id_of, keys_of, peer

RETURN_X = '(call %init_peer_id% ("return" "") [x])'


@pytest.fixture(scope="module")
async def relay(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Peer]:
    async with peer("relay", tmp_path_factory.mktemp("relay"), serves=[Work()]) as running:
        yield running


@pytest.fixture(scope="module")
async def client(relay: Peer) -> AsyncIterator[Client]:
    async with connect(relay.address, network=NETWORK) as connected:
        yield connected


async def result(client: Client, script: str, **options: Any) -> list[Any]:
    async with client.run(script, **options) as flow:
        return list(await flow.result())


async def test_what_others_send_to_a_client_leaves_it_memory(client: Client) -> None:
    """Anybody may, through its relay."""
    assert (client.node.metrics.get_sample_value("fluvial_disk_bytes_max") or 0) <= 256 * 2**20


async def test_it_gets_back_what_the_script_returns(client: Client) -> None:
    script = f'(seq (call "{client.relay_id}" ("work" "step") [41] x) (call %init_peer_id% ("return" "") [x "and" []]))'
    assert await result(client, script) == [42, "and", []]


@pytest.mark.parametrize("value", [None, True, -1, 2**63, 1.5, "ü\0", [], {"a": [{"b": None}]}])
async def test_names_that_the_script_does_not_define_are_values_of_the_run(client: Client, value: Any) -> None:
    script = f'(seq (call "{client.relay_id}" ("op" "identity") [given] x) {RETURN_X})'
    assert await result(client, script, given=value) == [value]


async def test_load_answers_for_values(client: Client) -> None:
    script = f'(seq (call %init_peer_id% ("load" "city") [] x) {RETURN_X})'
    assert await result(client, script, city="Oslo") == ["Oslo"]


async def test_load_says_what_values_there_are(client: Client) -> None:
    script = """
        (xor (call %init_peer_id% ("load" "town") [] x)
             (call %init_peer_id% ("return" "") [:error:.$.message :error:.$.error_code]))"""
    message, code = await result(client, script, city="Oslo")
    assert "no value 'town'; given are: city" in message
    assert code == 10000


async def test_a_name_without_a_value_is_told_before_anything_runs(client: Client) -> None:
    with pytest.raises(UndefinedName, match="town"):
        client.run('(call %init_peer_id% ("return" "") [town])', city="Oslo")
    with pytest.raises(AirSyntaxError):
        client.run("(call")


async def test_other_calls_can_end_a_run(client: Client) -> None:
    script = '(call %init_peer_id% ("chat" "error") ["no"])'
    async with client.run(script, until=("chat.delivered", "chat.error")) as flow:
        ending = await flow.ending()
    assert (ending.service, ending.function, ending.arguments) == ("chat", "error", ("no",))


async def test_any_function_of_a_service_can_end_a_run(client: Client) -> None:
    async with client.run('(call %init_peer_id% ("chat" "whatever") [])', until=("chat",)) as flow:
        assert (await flow.ending()).function == "whatever"


async def test_a_call_that_is_no_end_fails_in_the_script(client: Client) -> None:
    script = '(xor (call %init_peer_id% ("chat" "other") []) (call %init_peer_id% ("chat" "end") [:error:.$.message]))'
    async with client.run(script, until=("chat.end",)) as flow:
        (message,) = await flow.result()
    assert "chat.other is no end of this run" in message


async def test_the_first_end_counts(client: Client) -> None:
    script = '(seq (call %init_peer_id% ("return" "") [1]) (call %init_peer_id% ("return" "") [2]))'
    assert await result(client, script) == [1]


async def test_service_errors_are_the_scripts_to_catch(client: Client) -> None:
    script = f"""
        (xor (call "{client.relay_id}" ("work" "fail") ["no tea"] x)
             (call %init_peer_id% ("return" "") [:error:.$.error_code :error:.$.message :error:.$.peer_id]))"""
    code, message, where = await result(client, script)
    assert code == 10000
    assert "418" in message
    assert "no tea" in message
    assert where == client.relay_id


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ('("nobody" "f") []', "no service 'nobody'"),
        ('("work" "nothing") []', "no function 'nothing'; it has: fail, hold, step"),
        ('("work" "step") ["x"]', "value"),
        ('("work" "step") []', "value"),
    ],
)
async def test_wrong_calls_say_what_is_wrong(client: Client, call: str, says: str) -> None:
    script = f'(xor (call "{client.relay_id}" {call} x) (call %init_peer_id% ("return" "") [:error:.$.message]))'
    (message,) = await result(client, script)
    assert says in message


async def test_a_run_without_a_result_ends_with_its_time_and_says_what_it_waited_for(client: Client) -> None:
    script = f'(seq (null)\n (seq (call "{id_of("nobody")}" ("a" "b") [] x)\n {RETURN_X}))'
    with pytest.raises(Unreachable) as caught:
        await result(client, script, ttl_s=0.5)
    assert (
        f"within 0.5 s: {id_of('nobody')} could not be reached: no way to {id_of('nobody')} is known; "
        f"{id_of('nobody')} has not answered yet (line 2)"
    ) in str(caught.value)


async def test_a_peer_that_cannot_be_reached_is_named_while_the_flow_runs(client: Client) -> None:
    async with client.run(f'(call "{id_of("nobody")}" ("a" "b") [] x)', ttl_s=30) as flow:
        with anyio.fail_after(10):
            notice = await anext(flow.listen())
    assert (notice.kind, notice.peer_id) == ("unreachable", client.peer_id)
    assert str(notice).startswith(
        f"{client.peer_id} goes on trying: {id_of('nobody')} cannot be reached so far: no way"
    )


async def test_a_service_error_of_another_peer_that_nothing_catches_ends_the_run_at_once(client: Client) -> None:
    script = f'(seq (call relay ("work" "nothing") [] x)\n {RETURN_X})'
    async with client.run(script, relay=client.relay_id, ttl_s=60) as flow:
        with pytest.raises(ServiceError) as caught, anyio.fail_after(10):
            await flow.result()
    error = caught.value
    assert (error.status, error.peer) == (2, client.relay_id)
    assert error.message.startswith("service 'work' has no function 'nothing'")
    assert error.hint == f'on {client.relay_id}, line 1:6: call relay ("work" "nothing") [] x'


async def test_a_service_error_does_not_end_a_run_that_can_go_on(relay: Peer, client: Client) -> None:
    script = """
        (par (call there ("work" "nothing") [] x)
             (seq (call relay ("peer" "timeout") [700 "done"] y) (call %init_peer_id% ("return" "") [y])))"""
    async with connect(relay.address, network=NETWORK) as another:
        await another.serve(Work())
        async with client.run(script, relay=client.relay_id, there=another.peer_id, ttl_s=30) as flow:
            assert await flow.result() == ("done",)


async def test_a_refusal_that_will_not_change_ends_the_run_at_once(client: Client) -> None:
    script = f'(seq (call relay ("op" "identity") [1] x) {RETURN_X})'
    async with client.run(script, relay=client.relay_id, ttl_s=1_000_000) as flow:
        with pytest.raises(Refused, match="does not take the particle: ttl: its ttl") as caught, anyio.fail_after(10):
            await flow.result()
    assert caught.value.reason == "ttl"


async def test_the_first_call_of_a_script_may_be_of_a_peer_that_only_the_relay_knows(tmp_path: Path) -> None:
    """At an address that the relay knows, or a client of it: nothing need be called at the relay first."""
    async with (
        peer("c", tmp_path, serves=[Work()]) as c,
        peer("hub", tmp_path, knows=[c]) as hub,
        connect(hub.address, network=NETWORK) as client,
        connect(hub.address, network=NETWORK) as another,
    ):
        await another.serve(Work())
        for there in (c.peer_id, another.peer_id):
            script = f'(seq (call there ("op" "identity") ["hi"] x) {RETURN_X})'
            async with client.run(script, there=there, ttl_s=20) as flow:
                assert await flow.result() == ("hi",)
        assert c.peer_id not in client.node.transport.connected()


async def test_an_error_that_nothing_catches_ends_a_run_at_once(client: Client) -> None:
    script = f'(seq (null)\n (seq (call %init_peer_id% ("tea" "pot") [] x)\n {RETURN_X}))'
    with pytest.raises(ServiceError, match=r"the script failed at line 2: .*no service 'tea'") as caught:
        await result(client, script, ttl_s=60)
    assert caught.value.status == 10000


@pytest.mark.parametrize(
    "script",
    [
        "(seq (ap 1 x)\n (ap 2 x))",
        '(seq (call %init_peer_id% ("op" "identity") [1] x)\n (call %init_peer_id% ("op" "identity") [2] x))',
    ],
)
async def test_names_that_clash_end_a_run_at_once(client: Client, script: str) -> None:
    """Also if the very first run is undone, and nothing was ever written."""
    async with client.run(script, ttl_s=60) as flow:
        with pytest.raises(ServiceError, match="the script failed at line 2: `x` is set already") as caught:
            with anyio.fail_after(10):
                await flow.result()
    assert caught.value.status == 20007


async def test_an_error_in_one_branch_does_not_end_the_others(client: Client) -> None:
    script = f"""
        (par (call %init_peer_id% ("work" "nothing") [])
             (seq (call "{client.relay_id}" ("op" "identity") [1] x) {RETURN_X}))"""
    assert await result(client, script) == [1]


async def test_what_a_peer_said_is_harmless_in_an_error(client: Client) -> None:
    evil = "\x9b31m\u202e"
    script = f"""
        (seq (call "{client.relay_id}" ("op" "identity") [given] x)
             (seq (call %init_peer_id% ("load" "given") []) (seq (ap x.$.y z) (call %init_peer_id% ("return" "") [z]))))"""
    with pytest.raises(ServiceError, match="the script failed") as failure:
        await result(client, script, given=evil)
    assert failure.value.message.isprintable()
    assert "\\x9b31m\\u202e" in failure.value.message


async def test_a_script_that_ends_without_a_result_says_so_at_once(client: Client) -> None:
    with pytest.raises(ServiceError, match="came to its end without a result"):
        await result(client, "(null)", ttl_s=60)


async def test_errors_come_out_of_the_clients_block_as_they_are(relay: Peer) -> None:
    with pytest.raises(ServiceError, match="without a result"):
        async with connect(relay.address, network=NETWORK) as client:
            await result(client, "(null)")
    with pytest.raises(ZeroDivisionError):
        async with connect(relay.address, network=NETWORK):
            raise ZeroDivisionError


async def test_a_client_can_serve(client: Client) -> None:
    class Greeter(Effector[NoConfig]):
        service_id = "greeter"

        @function
        async def greet(self, name: str) -> str:
            return f"hello {name}"

    await client.serve(Greeter())
    # Named by its id, so that the particle goes to the relay and back.
    script = f"""
        (seq (call "{client.relay_id}" ("op" "identity") ["you"] name)
             (seq (call "{client.peer_id}" ("greeter" "greet") [name] x) {RETURN_X}))"""
    assert await result(client, script) == ["hello you"]


async def test_many_runs_at_once_keep_their_values_apart(client: Client) -> None:
    script = f'(seq (call "{client.relay_id}" ("op" "identity") [given] x) {RETURN_X})'
    found: dict[int, Any] = {}

    async def run(number: int) -> None:
        (found[number],) = await result(client, script, given=number)

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(run, number)
    assert found == {number: number for number in range(20)}


async def test_handlers_of_a_finished_run_are_forgotten(client: Client) -> None:
    async with client.run('(call %init_peer_id% ("return" "") [1])') as flow:
        await flow.result()
    script = f'(seq (call %init_peer_id% ("load" "x") [] x) {RETURN_X})'
    async with client.run(script, particle_id=flow.particle_id, x=1) as again:
        assert list(await again.result()) == [1]


async def test_a_relay_that_is_not_there_is_unreachable() -> None:
    with pytest.raises(Unreachable, match="does not answer"):
        async with connect(f"/ip4/127.0.0.1/tcp/1/p2p/{id_of('nobody')}"):
            raise AssertionError("connected")


async def test_a_relay_that_is_somebody_else_is_unreachable(relay: Peer) -> None:
    address = relay.address.replace(relay.peer_id, id_of("nobody"))
    with pytest.raises(Unreachable):
        async with connect(address, network=NETWORK):
            raise AssertionError("connected")


async def test_a_relay_must_say_who_it_is(relay: Peer) -> None:
    with pytest.raises(ConfigError, match="add /p2p/"):
        async with connect(relay.address.partition("/p2p/")[0]):
            raise AssertionError("connected")


async def test_keys_make_the_client_who_it_is(relay: Peer) -> None:
    async with connect(relay.address, network=NETWORK, keys=keys_of("alice")) as client:
        assert client.peer_id == id_of("alice")
        assert client.relay_id == relay.peer_id


async def test_a_client_can_keep_its_particles(relay: Peer, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/client.db"
    async with connect(relay.address, network=NETWORK, keys=keys_of("bob"), storage_url=url) as client:
        assert await result(client, '(call %init_peer_id% ("return" "") [1])') == [1]
    assert (tmp_path / "client.db").stat().st_size > 0


def test_positions_in_errors_stay_right_for_later_lines() -> None:
    script = with_values("(seq\n (null)\n (call %init_peer_id% (a b) [c]))", {"a": 1, "b": 2, "c": 3})
    assert script.count("\n") == 2
    with pytest.raises(UndefinedName):
        with_values(script.replace("[c]", "[d]"), {"a": 1})


@pytest.mark.parametrize("text", ["(seq (call a (b c) [x]) (foo))", "(seq (call a (b c) [x])\n (foo))"])
def test_errors_in_a_script_show_it_as_its_author_wrote_it(text: str) -> None:
    """Not with the calls before it that load values."""
    with pytest.raises(UnknownInstruction) as caught:
        with_values(text, dict.fromkeys("abcx", "v"))
    line = text.splitlines()[caught.value.at.line - 1]
    assert line[caught.value.at.column - 1 :].startswith("foo")
    assert caught.value.excerpt[0] == line


async def test_places_in_notices_are_those_of_the_authors_script(relay: Peer) -> None:
    script = '(seq (call there ("nobody" "home") [name] x) (call %init_peer_id% ("return" "") [x]))'
    async with connect(relay.address, network=NETWORK) as client:
        async with client.run(script, there=client.relay_id, name="Ada") as flow:
            notice = await anext(flow.listen())
        assert notice.position == "1:6"
        assert notice.instruction == 'call there ("nobody" "home") [name] x'
        async with client.run(script, ttl_s=1, there=client.relay_id, name="Ada") as flow:
            with pytest.raises(ServiceError) as caught:
                await flow.result()
        assert "line 1:6: call there" in caught.value.hint


async def test_who_could_not_be_reached_is_named_before_who_waits_for_that(tmp_path: Path) -> None:
    """The flow went on from another peer; that one has nothing to do with it."""
    async with (
        peer("other", tmp_path) as other,
        peer("relay", tmp_path, knows=[other]) as relay,
        connect(relay.address, network=NETWORK) as client,
    ):
        script = f"""
            (seq (call "{other.peer_id}" ("op" "identity") [1] x)
                 (seq (call "{id_of("nobody")}" ("op" "identity") [x] y)
                      (call %init_peer_id% ("return" "") [y])))"""
        async with client.run(script, ttl_s=2) as flow:
            with pytest.raises(Unreachable) as error:
                await flow.result()
    reason = error.value.message.partition("within 2 s: ")[2]
    assert reason.startswith(f"{other.peer_id} goes on trying: {id_of('nobody')} cannot be reached so far")


async def test_a_part_that_a_result_does_not_have_ends_the_run_at_once(client: Client) -> None:
    script = f"""
        (seq (call "{client.relay_id}" ("op" "identity") [1] x)
             (call %init_peer_id% ("return" "") [x.$.part]))"""
    async with client.run(script, ttl_s=60) as flow:
        with anyio.fail_after(WAIT_S), pytest.raises(ServiceError, match="field_name = 'part'"):
            await flow.result()


WITHOUT_SQL = """
import sys
import anyio
from fluvial.client import connect

async def main(relay, network):
    async with connect(relay, network=network) as client:
        async with client.run('(seq (call relay ("work" "step") [1] x) (call %init_peer_id% ("return" "") [x]))', relay=client.relay_id) as flow:
            assert await flow.result() == (2,)
    assert not {name for name in sys.modules if name.partition(".")[0] in ("sqlalchemy", "alembic")}

anyio.run(main, *sys.argv[1:])
"""


async def test_it_needs_no_database(relay: Peer) -> None:
    await anyio.run_process([sys.executable, "-c", WITHOUT_SQL, relay.address, NETWORK], stderr=None)


async def test_it_keeps_its_particles_where_it_is_told_to(relay: Peer, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'client.db'}"
    async with connect(relay.address, network=NETWORK, storage_url=url) as client:
        assert await result(client, f'(seq (call "{client.relay_id}" ("work" "step") [1] x) {RETURN_X})') == [2]
    async with open_store(url, base_dir=tmp_path, read_only=True) as store:
        assert len(await store.particles.recent()) == 1
