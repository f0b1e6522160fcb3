"""The language server, spoken to as an editor does: JSON-RPC over stdin and stdout."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.plugins.aqua.support import HEAD_LINES, program

TEXT = program(
    'first <- Op.echo(given)\nq = Pair(left = first, right = 1, inner = Inner(word = "ü"))\nOp.note(q.left)\nhelper(first)',
    signature="(given: string)",
    more="func helper(s: string):\n  Op.note(s)\n",
)
LINE = TEXT.splitlines().index("func main(given: string):")
"""Of ``main``, from 0."""


class Editor:
    """Starts the server and talks to it."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fluvial", "aqua", "lsp"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
        )
        self._number = 0
        self.notes: list[dict[str, Any]] = []
        self.uri = (folder / "main.aqua").as_uri()

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self._process.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        length = 0
        while (line := self._process.stdout.readline().strip()) != b"":
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        assert length, "the server has ended"
        message: dict[str, Any] = json.loads(self._process.stdout.read(length))
        return message

    def notify(self, method: str, params: dict[str, Any]) -> None:
        self._send({"method": method, "params": params})

    def request(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """The whole answer; what the server says by itself meanwhile is kept."""
        self._number += 1
        self._send({"id": self._number, "method": method, "params": params})
        while True:
            message = self._receive()
            if message.get("id") == self._number and "method" not in message:
                return message
            self.notes.append(message)

    def at(self, method: str, line: int, column: int, **more: Any) -> Any:
        place = {"textDocument": {"uri": self.uri}, "position": {"line": line, "character": column}}
        return self.request(f"textDocument/{method}", place | more)["result"]

    def diagnostics(self) -> list[dict[str, Any]]:
        """The newest ones of the main file."""
        self.request("textDocument/hover", {"textDocument": {"uri": self.uri}, "position": {"line": 0, "character": 0}})
        found = [
            note["params"]["diagnostics"]
            for note in self.notes
            if note.get("method") == "textDocument/publishDiagnostics" and note["params"]["uri"] == self.uri
        ]
        newest: list[dict[str, Any]] = found[-1]
        return newest

    def change(self, text: str, version: int) -> None:
        document = {"uri": self.uri, "version": version}
        self.notify("textDocument/didChange", {"textDocument": document, "contentChanges": [{"text": text}]})

    def close(self) -> None:
        self.request("shutdown")
        self.notify("exit", {})
        assert self._process.wait(timeout=30) == 0
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture(scope="module")
def editor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Editor]:
    folder = tmp_path_factory.mktemp("editor")
    started = Editor(folder)
    said = started.request("initialize", {"processId": None, "rootUri": None, "capabilities": {}})
    assert said["result"]["capabilities"]["renameProvider"]
    started.notify("initialized", {})
    document = {"uri": started.uri, "languageId": "aqua", "version": 1, "text": TEXT}
    started.notify("textDocument/didOpen", {"textDocument": document})
    yield started
    started.close()


def spot(word: str, line: int) -> int:
    """The column of a word on a line."""
    return TEXT.splitlines()[line].index(word)


def test_mistakes_are_shown_as_one_writes(editor: Editor) -> None:
    assert editor.diagnostics() == []
    editor.change(TEXT.replace("q.left", "q.lift"), 2)
    (found,) = editor.diagnostics()
    assert found["code"] == "Q307"
    assert "did you mean `left`?" in found["message"]
    assert found["range"] == {
        "start": {"line": LINE + 3, "character": 12},
        "end": {"line": LINE + 3, "character": 16},
    }
    editor.change(TEXT, 3)
    assert editor.diagnostics() == []


def test_hovering_shows_types(editor: Editor) -> None:
    def shown(word: str, line: int) -> str:
        return str(editor.at("hover", line, spot(word, line))["contents"]["value"])

    assert shown("first", LINE + 1) == "```aqua\nfirst: string\n```"
    assert "func helper(s: string) -> ()" in shown("helper", LINE + 4)
    assert "data Pair:\n  left: string" in shown("Pair", LINE + 2)
    assert "echo(s: string) -> string" in shown("Op", LINE + 3)
    assert editor.at("hover", 0, 0) is None


def test_names_lead_to_their_definition(editor: Editor) -> None:
    found = editor.at("definition", LINE + 4, spot("helper", LINE + 4))
    assert found["uri"] == editor.uri
    assert found["range"]["start"] == {"line": HEAD_LINES, "character": 5}
    assert editor.at("definition", LINE + 1, spot("given", LINE + 1))["range"]["start"]["line"] == LINE


def test_columns_count_as_the_protocol_says(editor: Editor) -> None:
    text = TEXT.replace('word = "ü"))', 'word = "😀")) -- 😀').replace("right = 1, inner", "right = 1, inner")
    line = text.splitlines()[LINE + 2]
    editor.change(text.replace("Op.note(q.left)", 'Op.pair("😀😀", q)'), 4)
    (found,) = [one for one in editor.diagnostics() if one["severity"] == 1]
    assert line.endswith("-- 😀")
    # the two faces before it are four units of UTF-16
    assert found["range"]["start"] == {"line": LINE + 3, "character": 18}
    editor.change(TEXT, 5)


def test_completion_knows_members_and_names(editor: Editor) -> None:
    behind_dot = {one["label"] for one in editor.at("completion", LINE + 3, spot("Op.", LINE + 3) + 3)}
    assert {"echo", "pair", "note"} <= behind_dot
    fields = {one["label"] for one in editor.at("completion", LINE + 3, spot("q.", LINE + 3) + 2)}
    assert fields == {"left", "right", "inner"}
    names = {one["label"] for one in editor.at("completion", LINE + 4, 2)}
    assert {"first", "given", "q", "helper", "Pair", "Op", "on", "INIT_PEER_ID"} <= names
    assert "s" not in names


def test_renaming_changes_every_mention(editor: Editor) -> None:
    edit = editor.at("rename", LINE + 1, spot("first", LINE + 1), newName="answer")
    changes = edit["changes"][editor.uri]
    assert [(one["range"]["start"]["line"] - LINE, one["newText"]) for one in changes] == [
        (1, "answer"),
        (2, "answer"),
        (4, "answer"),
    ]
    everywhere = editor.at("rename", LINE + 4, spot("helper", LINE + 4), newName="assist")
    assert len(everywhere["changes"][editor.uri]) == 2


@pytest.mark.parametrize(("name", "why"), [("given", "already"), ("Answer", "small letter"), ("1x", "no name")])
def test_renaming_refuses_names_that_cannot_be(editor: Editor, name: str, why: str) -> None:
    place = {"line": LINE + 1, "character": spot("first", LINE + 1)}
    answer = editor.request(
        "textDocument/rename", {"textDocument": {"uri": editor.uri}, "position": place, "newName": name}
    )
    assert why in answer["error"]["message"]


def test_references_are_all_mentions(editor: Editor) -> None:
    found = editor.at("references", LINE, spot("given", LINE), context={"includeDeclaration": True})
    assert [one["range"]["start"]["line"] - LINE for one in found] == [0, 1]


def test_documents_are_formatted(editor: Editor) -> None:
    editor.change(TEXT.replace("first <- Op", "first<-  Op"), 6)
    options = {"tabSize": 2, "insertSpaces": True}
    answer = editor.request("textDocument/formatting", {"textDocument": {"uri": editor.uri}, "options": options})
    (edit,) = answer["result"]
    assert edit["newText"] == TEXT
    editor.change(TEXT, 7)
