"""Between real peers: what nobody can read any more does not travel, and who lacks something asks for it by id."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import anyio
from fluvial.addresses import Contact
from fluvial.air.data.content import content_id
from fluvial.effectors import Effector, NoConfig, function
from msgspec.structs import replace

from tests.support.deliveries import make_delivery, without_contents
from tests.support.nodes import id_of, peer, until

LARGE: Final = {"name": "Ada", "picture": "x" * 1_000_000}


class Album(Effector[NoConfig]):
    """Has something large, and tells what it was shown."""

    service_id = "album"

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[Any] = []
        self.all_shown = anyio.Event()

    @function
    async def page(self) -> dict[str, Any]:
        """A page of it."""
        return LARGE

    @function
    async def show(self, value: Any) -> str:
        """Look at something."""
        self.shown.append(value)
        if value == "end":
            self.all_shown.set()
        return "shown"


def script(reads: dict[str, str]) -> str:
    """A page from b, which then goes through c, d and e, who read something of it or not, and back to a."""
    text = f'(call "{id_of("b")}" ("album" "page") [] page)'
    for name in ("c", "d", "e"):
        text = f'(seq {text} (call "{id_of(name)}" ("album" "show") [{reads.get(name, 1)}] {name}))'
    return f'(seq {text} (call %init_peer_id% ("album" "show") ["end"]))'


async def play(tmp_path: Path, reads: dict[str, str]) -> tuple[dict[str, Album], int]:
    """What everybody was shown, and how many bytes of data were sent."""
    albums = {name: Album() for name in "abcde"}
    async with (
        peer("a", tmp_path, serves=[albums["a"]]) as a,
        peer("e", tmp_path, serves=[albums["e"]], knows=[a]) as e,
        peer("d", tmp_path, serves=[albums["d"]], knows=[a, e]) as d,
        peer("c", tmp_path, serves=[albums["c"]], knows=[a, d, e]) as c,
        peer("b", tmp_path, serves=[albums["b"]], knows=[a, c, d, e]) as b,
    ):
        peers = (a, b, c, d, e)
        a.node.routing.learn(Contact.parse(b.address))
        particle = a.node.particle(script(reads), ttl_ms=60_000, particle_id="p")
        await a.node.submit(particle)
        with anyio.fail_after(20):
            await albums["a"].all_shown.wait()
        await until(lambda: e.events("particle_sent"))
        assert sum(one.outcomes("missing") for one in peers) == 0
        return albums, sum(event["bytes"] for one in peers for event in one.events("particle_sent"))


async def test_a_megabyte_of_which_one_peer_reads_a_field_stays_where_it_is(tmp_path: Path) -> None:
    albums, sent = await play(tmp_path, {"d": "page.$.name"})
    assert (albums["c"].shown, albums["d"].shown) == ([1], ["Ada"])
    assert sent < 10_000


async def test_what_is_read_whole_goes_as_far_as_it_is_read(tmp_path: Path) -> None:
    albums, sent = await play(tmp_path, {"d": "page"})
    assert albums["d"].shown == [LARGE]
    assert 2_000_000 < sent < 2_010_000, "from b over c to d, and no further"


async def test_who_lacks_a_value_names_it_and_gets_it(tmp_path: Path) -> None:
    value = "v" * 1_000
    async with peer("receiver", tmp_path) as receiver, peer("sender", tmp_path) as sender:
        good = make_delivery(receiver.peer_id, value=value, particle_id="p")
        pruned = replace(good, data=without_contents(good.data))
        receipt = await sender.deliver(pruned, receiver)
        assert (receipt.reason, receipt.lacks) == ("missing", (content_id(value),))
        assert (await sender.deliver(good, receiver)).reason == ""
        await until(lambda: receiver.watcher.calls)
