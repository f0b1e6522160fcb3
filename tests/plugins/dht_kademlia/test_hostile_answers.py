"""A peer that lies to `fluvial dht` can neither write to the terminal as it likes nor make the command break down."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fluvial.cli.main import main
from fluvial.cli.reaching import Reach
from fluvial.testing.nodes import keys_of
from fluvial_dht_kademlia import cli

EVIL = "\x1b[2J\x9b31m\u202e\nall is well"
RELAY = f"/ip4/127.0.0.1/tcp/1/p2p/{keys_of('ada').peer_id}"
PEER = {"peer_id": EVIL, "addresses": [EVIL, EVIL]}
COMMANDS: list[tuple[tuple[str, ...], Any]] = [
    (("dht", "find", "x"), PEER),
    (("peer", "find", "x"), PEER),
    (("dht", "near", "x"), [PEER]),
    (("dht", "providers", "service:x"), [{**PEER, "service": EVIL, "value": EVIL, "weight": 1, "more": 2}]),
]


def asked(monkeypatch: pytest.MonkeyPatch, answer: Any, *words: str) -> Result:
    async def ask(client: object, function: str, arguments: list[Any]) -> Any:
        return answer

    monkeypatch.setattr(cli, "_ask", ask)
    monkeypatch.setattr(Reach, "connect", lambda _: nullcontext())
    return CliRunner().invoke(main, [*words, "--relay", RELAY])


@pytest.mark.parametrize(("words", "answer"), COMMANDS)
def test_text_of_a_peer_is_no_command_to_the_terminal(
    words: tuple[str, ...], answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = asked(monkeypatch, answer, *words)
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.replace("\n", "").isprintable()
    assert "\nall is well" not in shown.stdout, "it looks like a line of the command's own"
    assert json.loads(asked(monkeypatch, answer, *words, "--json").stdout) == answer


@pytest.mark.parametrize("words", [words for words, _ in COMMANDS])
@pytest.mark.parametrize("answer", [1, {"peer_id": 1}, [{"peer_id": "x"}]])
def test_an_answer_of_another_shape_is_told_as_such(
    words: tuple[str, ...], answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = asked(monkeypatch, answer, *words)
    assert isinstance(shown.exception, SystemExit), "no traceback"
    assert shown.exit_code == 1
    assert "F302" in shown.stderr
