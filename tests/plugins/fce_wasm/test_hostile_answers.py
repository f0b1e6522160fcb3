"""A peer that lies to `fluvial module` and `fluvial service` can neither write to the terminal as it likes nor make them break down."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fluvial.cli.main import main
from fluvial.cli.reaching import Reach
from fluvial.testing.nodes import keys_of
from fluvial_fce_wasm.cli import answers as asked

EVIL = "\x1b[2J\x9b31m\u202e\nall is well"
RELAY = f"/ip4/127.0.0.1/tcp/1/p2p/{keys_of('ada').peer_id}"
SERVICE = {"id": EVIL, "name": EVIL, "owner": EVIL, "aliases": [EVIL], "running": True, "isolation": EVIL, "more": 1}

Asking = Callable[..., Result]


@pytest.fixture
def asking(monkeypatch: pytest.MonkeyPatch) -> Asking:
    """Runs a command whose relay gives these answers, by the names of functions."""

    def run(answers: Mapping[str, Any], *words: str) -> Result:
        async def ask(client: object, service: str, function: str, *given: Any) -> Any:
            return answers[function]

        monkeypatch.setattr(asked, "ask", ask)
        monkeypatch.setattr(Reach, "connect", lambda _: nullcontext())
        return CliRunner().invoke(main, [*words, "--relay", RELAY])

    return run


@pytest.mark.parametrize(
    ("words", "answers"),
    [
        (("module", "list"), {"list_modules": [{"id": EVIL, "size": 1, "name": EVIL, "added_ms": 1}]}),
        (("module", "interfaces"), {"list_interfaces": [{"interface": EVIL, "effector": EVIL}]}),
        (("service", "list"), {"list": [SERVICE]}),
        (("service", "show", "x"), {"info": SERVICE, "get_interface": {"functions": [{"text": EVIL}]}}),
    ],
)
def test_text_of_a_peer_is_no_command_to_the_terminal(
    asking: Asking, words: tuple[str, ...], answers: dict[str, Any]
) -> None:
    shown = asking(answers, *words)
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.replace("\n", "").isprintable()
    assert "\nall is well" not in shown.stdout, "it looks like a line of the command's own"
    found = json.loads(asking(answers, *words, "--json").stdout)
    said = [*answers.values()]
    assert found == (said[0] if len(said) == 1 else {**said[0], **said[1]})


@pytest.mark.parametrize(
    ("words", "answers"),
    [
        (("module", "list"), {"list_modules": [{"id": "x", "size": "large", "name": ""}]}),
        (("module", "interfaces"), {"list_interfaces": None}),
        (("module", "remove", "x"), {"list_blueprints": [{"id": "x", "dependencies": 1}]}),
        (("service", "list"), {"list": {"id": 1}}),
        (("service", "show", "x"), {"info": SERVICE, "get_interface": [EVIL]}),
    ],
)
def test_an_answer_of_another_shape_is_told_as_such(
    asking: Asking, words: tuple[str, ...], answers: dict[str, Any]
) -> None:
    shown = asking(answers, *words)
    assert isinstance(shown.exception, SystemExit), "no traceback"
    assert shown.exit_code == 1
    assert "F302" in shown.stderr
