"""Files that import each other."""

from __future__ import annotations

from fluvial_aqua.checking.modules import ImportTable
from fluvial_aqua.compiler import CompilerOptions

from tests.plugins.aqua.support import check, errors, warnings

LIB = """aqua Lib declares *

const LIMIT = 5

data Thing:
  size: u32

service Voice("voice"):
  up(s: string) -> string

func shout(s: string) -> string:
  <- Voice.up(s)
"""


def test_everything_that_a_module_declares_can_be_imported() -> None:
    text = 'aqua T\n\nimport "lib"\nexport f\n\nfunc f() -> string, u32:\n  t = Thing(size = LIMIT)\n  <- shout("a"), t.size\n'
    assert errors(text, modules={"lib.aqua": LIB}) == []


def test_names_are_picked_and_renamed() -> None:
    text = 'aqua T\n\nimport shout as loud, Thing from "lib.aqua"\nexport f\n\nfunc f(t: Thing) -> string:\n  <- loud("a")\n'
    assert errors(text, modules={"lib.aqua": LIB}) == []
    wrong = text.replace("Thing from", "Think from")
    (found, *_) = errors(wrong, modules={"lib.aqua": LIB})
    assert (found.code, found.hint) == ("Q203", "did you mean `Thing`?")


def test_used_modules_keep_their_name() -> None:
    text = 'aqua T\n\nuse "lib.aqua" as L\nexport f\n\nfunc f(t: L.Thing) -> string, u32:\n  x <- L.shout("a")\n  y <- L.Voice.up(x)\n  <- y, L.LIMIT\n'
    assert errors(text, modules={"lib.aqua": LIB}) == []
    assert "Q302" in [one.code for one in errors(text.replace(" as L", ""), modules={"lib.aqua": LIB})]


def test_a_module_gives_what_it_declares_and_nothing_else() -> None:
    closed = LIB.replace("declares *", "declares Thing")
    text = 'aqua T\n\nimport "lib.aqua"\nexport f\n\nfunc f() -> string:\n  <- shout("a")\n'
    assert [one.code for one in errors(text, modules={"lib.aqua": closed})] == ["Q308"]
    silent = check(text, modules={"lib.aqua": LIB.replace(" declares *", "")})
    assert "Q909" in [one.code for one in silent.diagnostics]


def test_circles_of_imports_name_the_files() -> None:
    text = 'aqua T declares *\n\nimport "a.aqua"\n'
    (found,) = errors(text, modules={"a.aqua": 'aqua A declares *\n\nimport "main.aqua"\n'})
    assert (found.code, found.file) == ("Q202", "a.aqua")
    assert found.hint == "main.aqua → a.aqua → main.aqua"


def test_mistakes_in_imported_files_are_told_there() -> None:
    text = 'aqua T\n\nimport "a.aqua"\n'
    (found,) = errors(text, modules={"a.aqua": "aqua A declares *\n\nfunc f():\n  g()\n"})
    assert (found.file, found.line, found.code) == ("a.aqua", 4, "Q308")


def test_a_files_own_definition_wins_over_an_imported_one() -> None:
    text = 'aqua T declares *\n\nimport "lib.aqua"\nexport shout\n\nfunc shout(s: string) -> string:\n  <- s\n'
    found = check(text, modules={"lib.aqua": LIB})
    assert found.ok
    assert [one.code for one in found.diagnostics] == ["Q908"]
    assert "voice" not in found.function("shout").air
    same = LIB.replace("aqua Lib", "aqua T").replace("const", 'import "lib.aqua"\n\nconst')
    assert check(same, modules={"lib.aqua": LIB}).diagnostics == []


def test_imports_are_looked_for_beside_the_file_then_where_the_table_says() -> None:
    table = ImportTable(("vendor",), {"app/": {"@org/lib": ["first", "second"]}, "": {"@org": ["third"]}})
    assert list(table.candidates("app/main.aqua", "@org/lib/x.aqua")) == [
        "app/@org/lib/x.aqua",
        "first/x.aqua",
        "second/x.aqua",
        "vendor/@org/lib/x.aqua",
    ]
    text = 'aqua T\n\nimport "lib.aqua"\nexport shout\n'
    options = CompilerOptions(imports=table)
    assert check(text, modules={"vendor/lib.aqua": LIB}, options=options).ok


def test_imports_that_are_not_used_are_an_oddity() -> None:
    text = 'aqua T\n\nimport "lib.aqua"\n\nfunc f() -> u32:\n  <- 1\n'
    found = check(text, modules={"lib.aqua": LIB}).diagnostics
    assert [one.code for one in found] == ["Q907"]


def test_what_is_exported_can_be_called_by_a_host() -> None:
    text = "aqua T declares *\n\nexport f\n\nability A:\n  x: u32\n\nfunc f(a: A) -> u32:\n  <- a.x\n"
    assert [one.code for one in errors(text)] == ["Q207"]
    assert warnings("aqua T declares *\n\nexport f as g\n\nfunc f() -> u32:\n  <- 1\n") == []
