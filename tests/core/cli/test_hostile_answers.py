"""A peer that lies to a command can neither write to the terminal as it likes nor make the command break down."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from fluvial.cli import flow, particle, plugins
from fluvial.cli.main import Failure, main
from fluvial.cli.reaching import Reach
from fluvial.client import Ending
from fluvial.encoding import encode
from fluvial.errors import Refused
from fluvial.identity import KeyPair
from fluvial.ledger.statements import FINALIZE, NULLIFY, Evidence
from fluvial.remote_ledger import RemoteLedger
from fluvial.testing.nodes import keys_of

EVIL = "\x1b[2J\x9b31m\u202e\nall is well"
RELAY = f"/ip4/127.0.0.1/tcp/1/p2p/{keys_of('ada').peer_id}"
EVIDENCE = Evidence(1, 2, bytes(32), (FINALIZE, bytes(32), bytes(64)), (NULLIFY, bytes(32), bytes(64)))
OFFENCE = {
    "validator": EVIL,
    "offence": EVIL,
    "epoch": 1,
    "slot": 2,
    "evidence": base64.b64encode(encode(EVIDENCE)).decode(),
}
STATUS = {"chain": "00" * 32, "height": 7, "alarmed": EVIL}
VOUCHER = {"licence": EVIL, "licensee": EVIL, "service": EVIL, "amount": 2, "used": 1, "signature": "00"}

Asking = Callable[..., Result]


@pytest.fixture
def asking(monkeypatch: pytest.MonkeyPatch) -> Asking:
    """Runs a command whose relay gives these answers, by the names of functions."""

    def run(answers: Mapping[str, Any], *words: str) -> Result:
        async def ask(ledger: RemoteLedger, function: str, *given: Any, service: str = "ledger") -> Any:
            return answers[function]

        monkeypatch.setattr(RemoteLedger, "ask", ask)
        monkeypatch.setattr(Reach, "connect", lambda _: nullcontext())
        return CliRunner().invoke(main, [*words, "--relay", RELAY])

    return run


HONEST_SHAPES = [
    (("consensus", "status"), {"status": STATUS}),
    (("consensus", "validators"), {"validators": [{"peer": EVIL, "power": 1, "more": 2}]}),
    (("consensus", "explain"), {"status": STATUS, "offences": [OFFENCE]}),
    (("consensus", "licence", "show"), {"held": [VOUCHER]}),
]


@pytest.mark.parametrize(("words", "answers"), HONEST_SHAPES)
def test_text_of_a_peer_is_no_command_to_the_terminal(
    asking: Asking, words: tuple[str, ...], answers: dict[str, Any]
) -> None:
    shown = asking(answers, *words)
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.replace("\n", "").isprintable()
    assert "\nall is well" not in shown.stdout, "it looks like a line of the command's own"


@pytest.mark.parametrize(("words", "answers"), HONEST_SHAPES)
def test_programs_get_what_the_peer_said(asking: Asking, words: tuple[str, ...], answers: dict[str, Any]) -> None:
    shown = asking(answers, *words, "--json")
    assert shown.stdout.replace("\n", "").isprintable()
    said, found = answers[next(reversed(answers))], json.loads(shown.stdout)
    if words[-1] == "explain":
        found = [{name: one[name] for name in OFFENCE} for one in found]
    assert found == said


@pytest.mark.parametrize(
    ("words", "answers"),
    [
        (("consensus", "status"), {"status": [1]}),
        (("consensus", "validators"), {"validators": {"peer": 1}}),
        (("consensus", "validators"), {"validators": [{"peer": "ada"}]}),
        (("consensus", "explain"), {"status": None, "offences": []}),
        (("consensus", "explain"), {"status": {"chain": "zz", "height": 1}, "offences": []}),
        (("consensus", "explain"), {"status": STATUS, "offences": [{**OFFENCE, "evidence": "=" + EVIL}]}),
        (("consensus", "explain"), {"status": STATUS, "offences": [{**OFFENCE, "evidence": None}]}),
        (("consensus", "licence", "show"), {"held": [{"licence": 1}]}),
        (("call", "a.b()", "--on", "ada"), {"resolve": {"target": 1}}),
    ],
)
def test_an_answer_of_another_shape_is_told_as_such(
    asking: Asking, words: tuple[str, ...], answers: dict[str, Any]
) -> None:
    shown = asking(answers, *words)
    assert isinstance(shown.exception, SystemExit), "no traceback"
    assert shown.exit_code == 1
    assert "F302" in shown.stderr
    assert shown.stderr.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    "answers",
    [
        {"status": {"chain": "00" * 32, "height": 2**80}},
        {"status": STATUS, "account": {"nonce": "x"}},
        {"status": STATUS, "account": {"nonce": 1}, "submit": "", "outcome": {"height": 1}},
    ],
)
def test_a_transaction_that_is_answered_with_noise_is_told_as_such(
    asking: Asking, answers: dict[str, Any], tmp_path: Any
) -> None:
    KeyPair.generate().save(tmp_path / "key")
    words = ("consensus", "submit", "transfer", str(keys_of("bob").peer_id), "1", "--key", str(tmp_path / "key"))
    shown = asking(answers, *words)
    assert isinstance(shown.exception, SystemExit), "no traceback"
    assert "F302" in shown.stderr


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_the_result_of_a_call_is_json_without_commands_to_the_terminal(
    form: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "_run", lambda *_: (Ending("return", "result", (EVIL,)), SimpleNamespace()))
    shown = CliRunner().invoke(main, ["call", "a.b()", "--relay", RELAY, *form])
    assert shown.stdout.replace("\n", "").isprintable()
    assert json.loads(shown.stdout) == EVIL


def test_an_error_in_the_words_of_a_peer_is_no_command_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Failure(Refused(f"no: {EVIL}", reason="perimeter")).show()
    said = capsys.readouterr().err
    assert said.replace("\n", "").isprintable()
    assert "F401" in said


def test_a_time_beyond_the_calendar_is_told_as_a_number() -> None:
    row = {"at_ms": 2**60, "what": EVIL, "other": EVIL, "reason": EVIL, "explanation": EVIL}
    assert all(line.isprintable() for line in particle._reasons([row]))


def test_the_state_of_a_broken_plugin_is_red_and_its_error_is_no_command_to_the_terminal() -> None:
    row = {"seat": None, "name": None, "plugin": "p", "distribution": "d", "version": "1", "state": "failed"}
    line = plugins._table([{**row, "error": EVIL}])[1]
    red = click.style("FAILED", fg="red")
    assert line.count(red) == 1
    assert line.replace(red, "").isprintable()
