"""When a flow has no hope left: only then it ends before its time."""

from __future__ import annotations

import msgspec
import pytest
from fluvial.air.machine.findings import Wait
from fluvial.air.syntax import parse, tree
from fluvial.particle import ParticleKey
from fluvial.particles.notice import Kind, Notice, refusal_text
from fluvial.prospects import hopeless

from tests.support.nodes import id_of

ME, P, Q = id_of("me"), id_of("p"), id_of("q")
KEY = ParticleKey(bytes(32))


def judged(script: str, *, waits: str, failed: str, signer: str = Q, kind: Kind = "failed") -> bool:
    """Whether it is hopeless when calls wait and one has failed, both named by their functions."""
    parsed = parse(script.replace("@p", f'"{P}"').replace("@q", f'"{Q}"'))
    calls = {
        one.function.value: one
        for one in tree.walk(parsed.root)
        if isinstance(one, tree.CallInstruction) and isinstance(one.function, tree.Literal)
    }
    waiting = [Wait(one, (b"", one.number), "", peer_of(one)) for name in waits.split() if (one := calls[name])]
    at = calls[failed].at
    key = id_of(signer).public_key if signer in ("stranger",) else (P if signer == P else Q).public_key
    notice = Notice(KEY, key, kind, 10000, "no tea", "call …", at.line, at.column)
    return hopeless(parsed, waiting, [notice], ME, peer_of) is not None


def peer_of(instruction: tree.CallInstruction | tree.Canon) -> str | None:
    return str(instruction.peer.value) if isinstance(instruction.peer, tree.Literal) else None


A, B, R = '(call @p ("s" "a") [] x)', '(call @q ("s" "b") [] y)', '(call %init_peer_id% ("s" "r") [])'


@pytest.mark.parametrize(
    ("script", "waits", "failed", "expected"),
    [
        (f"(seq {B} {R})", "b", "b", True),
        (f"(seq (seq {A} {B}) {R})", "a", "b", True),  # A's peer has done its part, and went on to B
        (f"(new $s (seq {A} (seq {B} {R})))", "a", "b", True),
        (f"(match 1 1 (seq {A} (seq {B} {R})))", "a", "b", True),
        (f"(par (seq {A} {R}) {B})", "a", "b", False),  # the other branch goes on
        (f"(par (seq {A} {R}) {B})", "a b", "b", False),
        (f"(par {B} (null))", "b", "b", True),  # nobody works on the other branch
        (f"(seq {A} (par {B} {R}))", "a", "b", False),  # from A on R may come
        (f"(seq (par (seq {A} {R}) (null)) {B})", "a", "b", False),  # A is still at work beside
        (f"(xor {B} {R})", "b", "b", False),  # it may be caught
        (f"(seq {A} (xor {B} {R}))", "a", "b", False),
        (f"(fold [] i (seq {B} (next i)))", "b", "b", True),
        (f"(fold [] i (par {B} (next i)))", "b", "b", False),  # which iteration?
    ],
)
def test_a_failure_ends_what_could_only_go_on_after_it(script: str, waits: str, failed: str, *, expected: bool) -> None:
    assert judged(script, waits=waits, failed=failed) is expected


def test_what_undoes_a_run_is_not_caught() -> None:
    assert judged(f"(xor {B} {R})", waits="b", failed="b", kind="undone")


@pytest.mark.parametrize("signer", [P, "stranger"])
def test_nobody_but_the_peer_of_a_call_can_say_that_it_failed(signer: str) -> None:
    assert not judged(f"(seq {A} (seq {B} {R}))", waits="a", failed="b", signer=signer)


@pytest.mark.parametrize(
    ("before", "reads", "signer", "ends"),
    [
        (A, "x.$.part", P, True),
        (A, "x", P, False),  # the whole of it is there
        (A, "x.$.part", Q, False),
        (f"(xor {A} {A.replace('@p', '@q')})", "x.$.part", P, False),  # whose result was it?
        (f"(seq {A} (ap 1 z))", "z.$.part", P, False),
    ],
)
def test_whose_result_lacks_a_part_that_is_read_can_say_so(before: str, reads: str, signer: str, *, ends: bool) -> None:
    script = f'(seq {before} (call %init_peer_id% ("s" "r") [{reads}]))'
    assert judged(script, waits="a", failed="r", signer=signer) is ends


def test_a_call_whose_peer_the_flow_finds_out_is_not_judged() -> None:
    script = f'(seq {A} (call x ("s" "b") []))'
    assert not judged(script, waits="a", failed="b")


@pytest.mark.parametrize(
    ("signer", "refuses", "ends"),
    [("me", "p", True), ("me", "q", False), ("q", "p", False)],
)
def test_a_peer_that_refuses_for_good_ends_what_waits_for_it(signer: str, refuses: str, *, ends: bool) -> None:
    """If this peer was refused itself; what others say of others is their word."""
    parsed = parse(A.replace("@p", f'"{P}"'))
    assert isinstance(parsed.root, tree.CallInstruction)
    text = refusal_text(id_of(refuses), id_of(refuses), "ttl: it is too long")
    notice = Notice(KEY, id_of(signer).public_key, "refused", 0, text)
    waits = [Wait(parsed.root, (b"", 0), "", P)]
    assert (hopeless(parsed, waits, [notice], ME, peer_of) is not None) is ends
    relayed = msgspec.structs.replace(notice, message=refusal_text(id_of(refuses), id_of("relay"), "ttl: too long"))
    assert (hopeless(parsed, waits, [relayed], ME, peer_of) is not None) is ends, "also if a relay refuses"


def test_without_waits_or_notices_there_is_nothing_to_judge() -> None:
    parsed = parse("(null)")
    assert hopeless(parsed, [], [], ME, peer_of) is None
    notice = Notice(KEY, P.public_key, "broken", 0, "x")
    assert hopeless(parsed, [], [notice], ME, peer_of) is None


def test_a_place_that_is_none_ends_nothing() -> None:
    parsed = parse(A.replace("@p", f'"{P}"'))
    notice = Notice(KEY, P.public_key, "failed", 10000, "x", "call", 70, 70)
    assert hopeless(parsed, [Wait(parsed.root, (b"", 0), "", P)], [notice], ME, peer_of) is None


def test_deep_scripts_are_judged_without_pythons_stack() -> None:
    parsed = parse("(xor " * 1900 + A.replace("@p", f'"{P}"') + " (null))" * 1900)
    call = next(one for one in tree.walk(parsed.root) if isinstance(one, tree.CallInstruction))
    notice = Notice(KEY, P.public_key, "undone", 20000, "x", "call", call.at.line, call.at.column)
    assert hopeless(parsed, [Wait(call, (b"", 0), "", P)], [notice], ME, peer_of) is notice


def test_a_notice_is_judged_once_and_not_for_each_wait() -> None:
    """A stranger's list of thousands of elements, and a notice about what is done with each, held up a client for seconds with each delivery."""
    looked = 0

    def known_peer(instruction: tree.CallInstruction | tree.Canon) -> str | None:
        nonlocal looked
        looked += 1
        return peer_of(instruction)

    script = parse(f"(seq {A} {B})".replace("@p", f'"{P}"').replace("@q", f'"{Q}"'))
    first, second = (one for one in tree.walk(script.root) if isinstance(one, tree.CallInstruction))
    notice = Notice(KEY, Q.public_key, "failed", 10000, "no tea", "call …", second.at.line, second.at.column)
    waits = [Wait(first, (bytes([number]), first.number), "", P) for number in range(200)]
    assert hopeless(script, waits, [notice], ME, known_peer) is notice
    assert looked < 10
