"""What programs do when they run: inlining, streams, errors, closures, the extensions."""

from __future__ import annotations

import pytest
from fluvial_aqua.model import emitter

from tests.plugins.aqua.support import check, program, run, told


def test_if_and_else_raise_their_own_errors() -> None:
    for condition in ("true == Op.yes()", "false == Op.yes()"):
        seen = run(f"if {condition}:\n  Op.boom()\nelse:\n  Op.boom()")
        assert seen["error"]["code"] == 10000
        assert "boom" in seen["error"]["message"]
        assert len(seen["calls"]) == 2


def test_an_else_runs_although_there_is_nothing_to_do_otherwise() -> None:
    seen = run('if false == Op.yes():\n  x = "a"\nelse:\n  Op.note("b")')
    assert told(seen) == ["@client yes()", "@client note(b)"]


def test_a_caught_error_can_still_be_read_after_another_one() -> None:
    lines = 'try:\n  Op.boom()\ncatch e:\n  try:\n    Op.note(Op.list()[7])\n  catch f:\n    Op.note("inner")\n  Op.note(e.message)'
    assert "boom" in run(lines)["calls"][-1]["args"][0]


def test_the_last_error_can_be_read_where_it_is_handled() -> None:
    lines = "try:\n  Op.boom()\notherwise:\n  Op.note(LAST_ERROR.message)"
    assert "boom" in run(lines)["calls"][-1]["args"][0]


def test_taking_a_part_fails_where_it_is_written() -> None:
    lines = 'try:\n  x = Op.list()[7]\ncatch e:\n  Op.note("caught")'
    assert told(run(lines)) == ["@client list()", "@client note(caught)"]


def test_join_waits_for_all_its_arguments() -> None:
    lines = """one: *string
two: *string
co on "@alice":
  one <- Op.echo("1")
co on "@bob":
  two <- Op.echo("2")
join one[0], two[0]
Op.pair(one[0], two[0])"""
    seen = run(lines, relay="relay")
    assert told(seen)[-1] == "@client pair(1, 2)"


def test_a_stream_of_a_loop_is_fresh_in_every_turn() -> None:
    lines = "for x <- Op.list():\n  s: *string\n  s <<- x\n  for y <- s:\n    Op.note(y)"
    assert told(run(lines))[1:] == ["@client note(x)", "@client note(y)"]


def test_streams_are_handed_on_filled_and_returned() -> None:
    more = (
        'func fill(s: *string, v: string):\n  s <<- v\n\nfunc made() -> *string:\n  s: *string\n  s <<- "a"\n  <- s\n'
    )
    lines = 's <- made()\nfill(s, "b")\nt = s\nt <<- "c"\n<- s'
    assert run(lines, signature="() -> []string", more=more)["result"] == [["a", "b", "c"]]


def test_closures_keep_their_place_and_func_closures_do_not() -> None:
    for word, peer in (("", "@client"), ("func ", "@alice")):
        lines = f'c = {word}(s: string) -> string:\n  r <- Op.echo(s)\n  <- r\non "@alice":\n  x <- c("a")\nOp.note(x)'
        assert told(run(lines, relay="relay")) == [f"{peer} echo(a)", "@client note(a)"]


def test_closures_keep_the_id_that_a_service_had() -> None:
    lines = 'Free "one"\nc = (s: string) -> string:\n  <- Free.go(s)\nFree "two"\nx <- c("a")\ny <- Free.go("b")\nOp.pair(x, y)'
    assert [call["service"] for call in run(lines)["calls"]] == ["one", "two", "op"]


def test_the_id_of_a_service_ends_with_its_block() -> None:
    lines = 'Free "outer"\non "@alice":\n  Free "inner"\n  x <- Free.go("a")\ny <- Free.go("b")\nOp.pair(x, y)'
    assert [call["service"] for call in run(lines)["calls"]] == ["inner", "outer", "op"]


def test_services_go_where_abilities_are_wanted() -> None:
    more = "ability Echo:\n  echo(s: string) -> string\n\nfunc twice{Echo}(s: string) -> string:\n  x <- Echo.echo(s)\n  <- Echo.echo(x)\n"
    seen = run('x <- twice{Op}("a")\nOp.note(x)', more=more)
    assert told(seen) == ["@client echo(a)", "@client echo(a)", "@client note(a)"]


def test_options_take_the_first_that_can_be_had() -> None:
    lines = "o = ?[Op.list()[7], Op.list()[1]]\n<- o, o!"
    assert run(lines, signature="() -> ?string, string")["result"] == [["y"], "y"]
    assert run("<- ?[Op.list()[7]]", signature="() -> ?string")["result"] == [[]]


def test_stream_maps_are_filled_read_and_walked() -> None:
    lines = """m: %string
m <<- "a", "1"
m <<- "a", "2"
m <<- "b", "3"
for k, v <- m:
  Op.pair(k, v)
<- m.get("a"), m.keys(), m.contains("b"), m.contains("c")"""
    seen = run(lines, signature="() -> []string, []string, bool, bool")
    assert told(seen) == ["@client pair(a, 1)", "@client pair(a, 2)", "@client pair(b, 3)"]
    assert seen["result"] == [["1", "2"], ["a", "a", "b"], True, False]


def test_elements_of_streams_are_waited_for_by_variable_index_without_any_arithmetic() -> None:
    lines = 's: *string\ni = Op.count(1)\ns <<- "a"\ns <<- "b"\n<- s[i]'
    seen = run(lines, signature="() -> string")
    assert (seen["result"], told(seen)) == (["b"], ["@client count(1)"])


def test_known_arithmetic_needs_no_calls_even_across_functions() -> None:
    seen = run(
        "<- next(5), 7 / 2, 2 ** 3 % 5", signature="() -> u32, u32, u32", more="func next(n: u32) -> u32:\n  <- n + 1\n"
    )
    assert (seen["result"], seen["calls"]) == ([6, 3, 3], [])


def test_variables_may_have_the_names_of_instructions() -> None:
    assert run('call <- Op.echo("a")\nseq = call\nnull <- Op.echo(seq)\n<- null', signature="() -> string")[
        "result"
    ] == ["a"]


def test_functions_without_results_answer_if_asked() -> None:
    assert run('Op.note("a")')["result"] is None
    assert run('Op.note("a")', empty_response=True)["result"] == []


def test_a_stream_argument_is_filled_from_an_array() -> None:
    seen = run("for x <- s:\n  Op.note(x)\n<- s", signature="(s: *string) -> []string", args={"s": ["a", "b"]})
    assert (seen["result"], told(seen)) == ([["a", "b"]], ["@client note(a)", "@client note(b)"])


@pytest.mark.parametrize("mode", ["", " par"])
def test_loops_may_have_their_mode_and_a_condition_in_front(mode: str) -> None:
    lines = f'for{mode} x <- Op.list() if x != "x":\n  Op.note(x)'
    assert told(run(lines)) == ["@client list()", "@client note(y)"]


def test_size_is_bounded_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emitter, "INSTRUCTIONS_MAX", emitter.INSTRUCTIONS_MAX // 20)
    functions = 'func f0():\n  Op.note("x")\n' + "".join(
        f"\nfunc f{number}():\n  f{number - 1}()\n  f{number - 1}()\n" for number in range(1, 40)
    )
    compilation = check(program("f39()", more=functions))
    assert compilation.ok
    with pytest.raises(Exception, match="Q501"):
        compilation.function("main")


def test_scripts_grow_with_programs_and_not_faster() -> None:
    def size(count: int) -> int:
        lines = 'x0 <- Op.echo("a")\n' + "\n".join(
            f'on "@alice":\n  x{one} <- Op.echo(x{one - 1})' for one in range(1, count)
        )
        return len(check(program(lines)).function("main").air)

    assert size(800) < 9 * size(100)
