"""Aqua declarations of services, from what is known of their interfaces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fluvial.errors import ConfigError
from fluvial_aqua.exporting import declarations
from fluvial_aqua.files import compile_file
from fluvial_fce_wasm.cli.inspection import inspected, inspection_lines
from fluvial_fce_wasm.limits import GuestLimits

from tests.plugins.fce_wasm.deploying import WAT

HEADER = "aqua ServiceDeclarations declares *\n\n"
HEADER_S = "aqua SDeclarations declares *\n\n"
NUMBER = {"type": "primitive", "name": "u32"}


def described(*functions: Any, **types: Any) -> bytes:
    return json.dumps({"functions": functions, "types": types}).encode()


def function(name: str, *parameters: Any, result: Any = None) -> dict[str, Any]:
    named = [[f"p-{place}", kind] for place, kind in enumerate(parameters)]
    return {"name": name, "signature": {"parameters": named, "result": result}}


@pytest.mark.parametrize("name", ["kit", "arguments", "front", "kv_user", "mutual_recursion", "through"])
def test_the_declarations_of_every_component_compile(tmp_path: Path, name: str) -> None:
    text = declarations(json.dumps(inspected(WAT / f"{name}.wat")).encode(), service="Service", service_id="x")
    path = tmp_path / "x.aqua"
    path.write_text(text)
    compilation = compile_file(path)
    assert compilation.ok, (text, compilation.diagnostics)


def test_types_are_those_of_the_interface() -> None:
    text = declarations(json.dumps(inspected(WAT / "arguments.wat")).encode(), service="Arguments", service_id="a")
    assert 'service Arguments("a"):' in text
    for line in (
        "count() -> u32",
        "paint(c: string) -> string",
        "allow(p: []string) -> []string",
        "s64(v: i64) -> i64",
        "opt(v: ⊤) -> u32",
    ):
        assert f"  {line}\n" in text
    assert "  many_label(n: u32, s: string) -> u32\n" in declarations(
        json.dumps(inspected(WAT / "front.wat")).encode(), service="Front"
    )


def test_records_come_before_those_that_use_them_and_have_names_of_their_own() -> None:
    inner = {"type": "record", "fields": [["x", NUMBER]]}
    outer = {"type": "record", "fields": [["inner", inner], ["many", {"type": "list", "element": inner}]]}
    other = {"type": "record", "fields": [["x", {"type": "primitive", "name": "string"}]]}
    dashed = {"type": "record", "fields": [["a-b", NUMBER]]}
    text = declarations(
        described(
            {**function("f", outer), "interface": "one"},
            {**function("g", other, dashed), "interface": "two"},
            one={"my-point": inner, "service": outer},
            two={"my-point": other},
        ),
        service="Service",
    )
    assert text == (
        HEADER
        + "data MyPoint:\n  x: u32\n\ndata Service2:\n  inner: MyPoint\n  many: []MyPoint\n\ndata MyPoint2:\n  x: string\n\n"
        "service Service:\n  f(p_0: Service2)\n  g(p_0: MyPoint2, p_1: ⊤)\n"
    )


def test_a_stranger_cannot_write_into_a_program() -> None:
    text = declarations(described(function("ok"), function("x()\nfunc evil"), function("n:s/i#f")), service="S")
    assert text == HEADER_S + "service S:\n  ok()\n-- left out: 2 that can be called by their full names only\n"
    evil = {"type": "record", "fields": [["a:\n", NUMBER]]}
    assert declarations(described(function("f", evil)), service="S") == HEADER_S + "service S:\n  f(p_0: ⊤)\n"
    deep: Any = NUMBER
    for _ in range(100):
        deep = {"type": "list", "element": deep}
    for bad in (
        b"",
        b"[]",
        b'{"functions": [{"name": "f"}]}',
        described(),
        described(function("f", {"type": "primitive", "name": "evil"})),
        described(function("f", deep)),
    ):
        with pytest.raises(ConfigError, match="describes no service"):
            declarations(bad, service="S")
    for name, id_ in (("small", ""), ("S\n", ""), ("S", 'x")\n'), ("", "")):
        with pytest.raises(ConfigError):
            declarations(described(function("f")), service=name, service_id=id_)


KEYWORDS = (
    "alias ability and aqua as catch co const copy data declares else except export false for from func if import in module nil not on or otherwise par"
    " parsec parseq rec service stream true try use via"
)


def test_names_that_are_words_of_the_language_compile_or_are_left_out(tmp_path: Path) -> None:
    words = KEYWORDS.split()
    record = {"type": "record", "fields": [[word, NUMBER] for word in words]}
    functions = [{"name": one, "signature": {"parameters": [[one, record]], "result": NUMBER}} for one in words]
    path = tmp_path / "x.aqua"
    path.write_text(declarations(described(*functions), service="S", service_id="s"))
    compilation = compile_file(path)
    assert compilation.ok, compilation.diagnostics


def test_the_command_reads_stdin() -> None:
    from fluvial_aqua.cli import aqua

    done = CliRunner().invoke(aqua, ["export", "-", "--name", "S", "--id", "s"], input=described(function("f")))
    assert (done.exit_code, done.output) == (0, HEADER_S + 'service S("s"):\n  f()\n')


def test_an_inspection_says_which_effectors_a_peer_can_grant_and_its_limits() -> None:
    kv = {"fluvial:kv/store@0.1.0": "kv"}
    about = inspected(WAT / "kv_user.wat", effectors=kv, limits=GuestLimits(call_s=3))
    text = "\n".join(inspection_lines(about))
    assert "store@0.1.0  (from another module of the service, or the effector 'kv', which this peer can grant)" in text
    assert "context@0.1.0  (from the peer, always)" in text
    assert "call_s 3" in text
