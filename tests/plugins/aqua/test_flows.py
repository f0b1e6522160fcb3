"""Flows from Python: typed arguments and results, callbacks, errors with their line of Aqua; over real peers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fluvial_aqua
import msgspec
import pytest
from fluvial.client import Client, Ending, connect
from fluvial.effectors import Effector, NoConfig, function
from fluvial.errors import ConfigError, ServiceError
from fluvial_aqua import AquaError, AquaFlows, AquaValueError

from tests.support.nodes import NETWORK, peer

PROGRAM = """aqua Shop declares *

export price, nothing, told, maybe, broken, quiet, lies

data Item:
  name: string
  count: u8
  note: ?string

service Store("store"):
  price(item: Item) -> u32
  fail() -> string
  lie() -> u32

service Here("here"):
  done(text: string)

func price(item: Item, sizes: []u32) -> u32, []u32:
  on HOST_PEER_ID:
    p <- Store.price(item)
  <- p, sizes

func nothing(b: bool):
  if b:
    x = "a"

func told(words: []string, tell: string -> string) -> []string:
  answers: *string
  for word <- words:
    on HOST_PEER_ID:
      answers <- tell(word)
  <- answers

func maybe(o: ?string) -> ?string, ?string:
  <- o, nil

func broken() -> string:
  on HOST_PEER_ID:
    r <- Store.fail()
  <- r

func quiet(s: string):
  Here.done(s)

func lies() -> u32:
  on HOST_PEER_ID:
    r <- Store.lie()
  <- r
"""


class Store(Effector[NoConfig]):
    service_id = "store"

    @function
    async def price(self, item: dict[str, Any]) -> int:
        return int(item["count"]) * 7

    @function
    async def fail(self) -> str:
        raise ServiceError(3, "out of stock")

    @function
    async def lie(self) -> str:
        return "no number"


@pytest.fixture(scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    async with (
        peer("relay", tmp_path_factory.mktemp("relay"), serves=[Store(NoConfig())]) as relay,
        connect(relay.address, network=NETWORK) as connected,
    ):
        yield connected


@pytest.fixture(scope="module")
def flows(tmp_path_factory: pytest.TempPathFactory) -> AquaFlows:
    path = tmp_path_factory.mktemp("aqua") / "shop.aqua"
    path.write_text(PROGRAM)
    return fluvial_aqua.load(path)


@dataclass
class Item:
    name: str
    count: int
    note: str | None = None


class ItemStruct(msgspec.Struct):
    name: str
    count: int
    note: str | None = None


@pytest.mark.parametrize(
    "item", [{"name": "tea", "count": 3, "note": "hot"}, Item("tea", 3), ItemStruct("tea", 3, "hot")]
)
async def test_arguments_go_in_and_results_come_out_as_the_types_say(
    client: Client, flows: AquaFlows, item: object
) -> None:
    assert await client.run(flows.price, item=item, sizes=[1, 2]) == (21, [1, 2])


async def test_a_flow_without_results_ends_all_the_same(client: Client, flows: AquaFlows) -> None:
    assert await client.run(flows.nothing, b=True) is None


async def test_functions_of_python_are_called_back(client: Client, flows: AquaFlows) -> None:
    heard: list[str] = []

    async def tell(word: str) -> str:
        heard.append(word)
        return word.upper()

    assert await client.run(flows.told, words=["a", "b"], tell=tell) == ["A", "B"]
    assert heard == ["a", "b"]
    assert await client.run(flows.told, words=["a"], tell=str.title) == ["A"]


async def test_an_option_is_the_value_or_none(client: Client, flows: AquaFlows) -> None:
    assert await client.run(flows.maybe, o="x") == ("x", None)
    assert await client.run(flows.maybe, o=None) == (None, None)


async def test_an_error_names_the_line_of_aqua(client: Client, flows: AquaFlows) -> None:
    with pytest.raises(ServiceError, match=r"out of stock.* at .*shop\.aqua:39 in `broken`"):
        await client.run(flows.broken)


async def test_a_result_that_is_not_of_its_type_is_refused(client: Client, flows: AquaFlows) -> None:
    with pytest.raises(AquaValueError, match="result 1 is `u32`, 'no number' is not"):
        await client.run(flows.lies)


async def test_other_calls_can_end_a_flow(client: Client, flows: AquaFlows) -> None:
    ending = await client.run(flows.quiet.until("here.done"), s="bye")
    assert ending == Ending("here", "done", ("bye",))


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("price", {"item": {"name": "tea", "count": 3}}, "lacks the argument sizes"),
        ("price", {"item": {"name": "tea"}, "sizes": []}, "argument `item`: `Item` lacks count"),
        ("price", {"item": {"name": "tea", "count": 300}, "sizes": []}, "`item`.count is `u8`, 300 is not"),
        ("price", {"item": {"name": 5, "count": 3}, "sizes": []}, "`item`.name is `string`, 5 is not"),
        ("price", {"item": {"name": "t", "count": 3, "more": 1}, "sizes": []}, "`Item` has no more"),
        ("price", {"item": 5, "sizes": []}, "argument `item` is `Item`, 5 is not"),
        ("price", {"item": {"name": "t", "count": 3}, "sizes": [1, -1]}, r"`sizes`\[1\] is `u32`, -1 is not"),
        ("nothing", {"b": 1}, "argument `b` is `bool`, 1 is not"),
        ("nothing", {"c": True}, "has no argument `c`"),
        ("told", {"words": [], "tell": "x"}, "argument `tell` is a function"),
    ],
)
async def test_arguments_are_checked_before_anything_runs(
    client: Client, flows: AquaFlows, name: str, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(AquaValueError, match=message):
        client.run(flows[name], **values)


def test_flows_are_found_by_name(flows: AquaFlows) -> None:
    assert list(flows) == ["price", "nothing", "told", "maybe", "broken", "quiet", "lies"]
    assert flows.nothing.signature == "func nothing(b: bool) -> ()"
    with pytest.raises(ConfigError, match="did you mean `price`"):
        flows["prise"]
    with pytest.raises(AttributeError, match="exports no function `prise`"):
        _ = flows.prise


def test_a_program_with_mistakes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wrong.aqua"
    path.write_text(PROGRAM.replace("<- p, sizes", "<- q, sizes").replace("tell(word)", "tell(5)"))
    with pytest.raises(AquaError) as caught:
        fluvial_aqua.load(path)
    assert [one.code for one in caught.value.diagnostics if one.severity == "error"] == ["Q305", "Q401"]
    assert "^" in str(caught.value)
    with pytest.raises(ConfigError, match="no such file"):
        fluvial_aqua.load(tmp_path / "none.aqua")


async def test_the_command_runs_a_flow(client: Client, flows: AquaFlows) -> None:
    values = flows.price.parse_arguments(['item={"name": "5", "count": 2}', "sizes=[]"])
    assert flows.price.check_arguments(values) == {"item": {"name": "5", "count": 2, "note": []}, "sizes": []}
    assert flows.quiet.parse_arguments(["s=5"]) == {"s": "5"}
    with pytest.raises(ConfigError, match="write NAME=VALUE"):
        flows.quiet.parse_arguments(["s"])
