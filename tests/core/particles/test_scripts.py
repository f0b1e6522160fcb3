"""What a parsed script takes in memory is estimated from its text, whatever that looks like."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from fluvial.air.data.batch import Known
from fluvial.air.machine.closing import members_of
from fluvial.air.machine.machine import Machine
from fluvial.air.machine.meetings import meetings_of
from fluvial.air.machine.outcomes import Answered
from fluvial.air.machine.plan import plan_of
from fluvial.air.machine.reads import reads_of, region
from fluvial.air.machine.writers import writers_of
from fluvial.air.syntax import Script, parse
from fluvial.identity import KeyPair
from fluvial.particle import Particle
from fluvial.particles.scripts import analysed_script, is_parsed_at_once, script_weight

from tests.support.tracing import taken

WORDS = range(1_000, 1_400)
REGIONS = 100
"""Stretches that are asked for: as many as fit are kept."""


def call(arguments: str) -> str:
    return f'(call "p" ("s" "f") [{arguments}])'


def one_after_another(instructions: Iterable[str], *, blank: str = " ") -> str:
    parts = list(instructions)
    return "".join(f"(seq{blank}{part}{blank}" for part in parts) + "(null)" + ")" * len(parts)


def listed(separator: str, write: Callable[[int], str] = str) -> str:
    return call(separator.join(map(write, WORDS)))


def of_x(separator: str, write: Callable[[int], str]) -> str:
    return f"(seq (ap 1 x) {listed(separator, write)})"


WHITE_SPACE = {
    "blanks": " ",
    "newlines": "\n",
    "tabs": "\t",
    "carriage returns": "\r",
    "no-break spaces": "\xa0",
    "wide blanks": "\u3000",
}

SHAPES = {
    **{f"numbers between {name}": listed(blank) for name, blank in WHITE_SPACE.items()},
    "large numbers": listed("\n", lambda i: str(2**62 + i)),
    "floats": listed("\n", lambda i: f"1.{i}"),
    "strings": listed(" ", lambda i: f'"{i}"'),
    "strings side by side": listed("", lambda i: f'"{i}"'),
    "strings of wide characters": listed("", lambda i: f'"\U0001f600{i}"'),
    "peer ids": listed("\n", lambda i: f'"12D3KooWHcJFFFGpVDPXLVpPn8RRhLWYxdjHF5A3GbMYkKHm{i}"'),
    "one long string": call('"' + "a" * 50_000 + '"'),
    "one wide character in a long string": call('"' + "a" * 50_000 + '\U0001f600"'),
    "one wide character before many numbers": call('"\U0001f600"\n' + "\n".join(map(str, WORDS))),
    "comments": "; a word\n" * 1_000 + "(null)",
    "nothing": "(null)",
    "one name again and again": of_x("\n", lambda _: "x"),
    "lambdas": of_x("\n", lambda i: f"x.$.a{i}"),
    "lambdas of wide characters": of_x("\n", lambda i: f"x.$.\U0001d400{i}"),
    "one long lambda": of_x("", lambda i: f".a{i}" if i != WORDS[0] else "x.$.a"),
    "one lambda of indices": of_x("", lambda i: f".[{i}]" if i != WORDS[0] else "x.$.a"),
    "indices by name": of_x("\n", lambda i: f"x.$.[x].[x].a{i}"),
    "lambdas of errors": listed("\n", lambda i: f":error:.$.a{i}"),
    "many names": f"(seq {one_after_another(f'(ap 1 x{i})' for i in WORDS)} {listed(' ', 'x{}'.format)})",
    "nothing, often": one_after_another(["(null)"] * 400, blank="\t"),
    "calls": one_after_another(f'(call\n"a"("b{i}""c{i}")[{i}]x{i})' for i in WORDS),
    "streams": one_after_another(f"(ap\n{i}\n$s)" for i in WORDS),
    "maps": one_after_another(f"(ap\n({i}\n{2 * i})%m)" for i in WORDS),
    "canons": one_after_another(["(ap 1 $s)", *(f'(canon\n"a"\n$s\n#c{i})' for i in WORDS)]),
    "tests": one_after_another(f"(match\n{i}\n{2 * i}\n(null))" for i in WORDS),
    "failures": one_after_another(f'(xor (fail\n{i}\n"a{i}") (ap 1 $s))' for i in WORDS),
    "folds": one_after_another(f"(fold\n[]\ni{i}\n(par (null) (next\ni{i})))" for i in WORDS),
    "folds over one another's elements": f"(seq (ap 1 x) {one_after_another(['(fold x i (seq (ap i $s) (next i)))'] * 400)})",
    "deep branches": "(par (null) " * 400 + "(null)" + ")" * 400,
    "deep folds": "".join(f"(fold [] i{i} " for i in WORDS)
    + one_after_another(["(fold [] j (null))"] * 400)
    + ")" * len(WORDS),
    "deep news": "".join(f"(new $s{i} " for i in WORDS) + "(null)" + ")" * len(WORDS),
    "the white paper's streams": one_after_another(f'(call "a"("b" "c")[]a{i}[])' for i in WORDS),
}


def analysed(text: str) -> Script:
    """A script with all that is worked out of it."""
    script = parse(text)
    for analyse in (plan_of, reads_of, writers_of, meetings_of, members_of):
        analyse(script)
    reads = reads_of(script)
    last = len(reads.end_of) - 1
    for first in range(min(REGIONS, last + 1)):
        region(reads, first, last)
    script.analyses["text"] = text + " "
    return script


@pytest.mark.parametrize("name", SHAPES)
def test_a_script_never_takes_much_more_than_is_counted(name: str) -> None:
    text = SHAPES[name]
    analysed("(null)")
    _, truth = taken(lambda: analysed(text))
    assert truth <= 1.3 * script_weight(text)


@pytest.mark.parametrize("step", ['(call "p" ("s" "f") [a b c d e f g h])', "(match a 1)"])
def test_what_older_forms_grow_to_counts(step: str) -> None:
    """A word stands for an instruction there."""
    text = one_after_another([*[f'(call "p" ("s" "f") [] {name}[])' for name in "abcdefgh"], *[step] * 150])
    analysed("(null)")
    script, truth = taken(lambda: analysed(text))
    assert truth <= 1.3 * script_weight(text, script)
    assert not is_parsed_at_once(text)
    assert is_parsed_at_once(one_after_another(["(null)"] * 500))


def test_an_ordinary_script_is_counted_for_what_it_takes() -> None:
    steps = [
        f'(call\n    "12D3KooWHcJFFFGpVDPXLVpPn8RRhL{i}"\n    ("shop" "order")\n    [x.$.a{i}]\n    y{i})'
        for i in WORDS
    ]
    text = one_after_another(["(ap 1 x)", *steps])
    _, truth = taken(lambda: analysed(text))
    assert truth <= script_weight(text) <= 3 * truth


def test_all_that_is_asked_of_a_long_script_is_worked_out_where_it_is_parsed() -> None:
    keys = KeyPair.generate()
    me = str(keys.peer_id)
    text = one_after_another(f'(xor (call "{me}" ("s" "f") [] a{i}) (canon "{me}" $s #c{i}))' for i in WORDS)
    particle = Particle.create(keys, text, particle_id="long", timestamp_ms=0, ttl_ms=1_000, max_hops=9, network="test")
    script = analysed_script(particle)
    known = set(script.analyses)
    machine = Machine(script, particle.key, keys.peer_id, initiator=me, timestamp_ms=0, ttl_ms=1_000)
    (request,) = machine.merge(Known((), {})).requests
    assert machine.resolve({request.instance: Answered("x" * 1_000)}).requests
    machine.needs(me)
    assert machine.seal(keys.sign) is not None
    assert set(script.analyses) == known
    for analyse in (plan_of, reads_of, writers_of, meetings_of, members_of):
        analyse(script)
    assert set(script.analyses) == known
