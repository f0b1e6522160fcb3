"""The white paper's older forms are forms of today's instructions."""

from __future__ import annotations

import pytest
from fluvial.air.syntax import AirSyntaxError, Script, format_text, parse, to_text
from fluvial.air.syntax.tree import (
    CallInstruction,
    Canon,
    CanonStream,
    Field,
    Fold,
    InitPeerId,
    Instruction,
    Literal,
    Match,
    New,
    Null,
    PairPeer,
    PairService,
    Path,
    Scalar,
    Stream,
    walk,
)

WHITE_PAPER = """\
(seq
  ; Load arguments (relay's peer ID, chat app ID, message data) from the client
  (seq
    (call %init_peer_id% ("load" "relay") [] relay)
    (seq
      (call %init_peer_id% ("load" "chat_id") [] chat_id)
      (call %init_peer_id% ("load" "message") [] message)
    )
  )
  (seq 
    (call relay ("app" "resolve_backend") [chat_id] backend)
    (seq
      (call backend.$.members "is_member" [] is_member)
      (xor
        (seq
          (mismatch is_member true)
          (call %init_peer_id ("chat" "error") ["Cannot send a message to the chat"])
        )
        (seq
          (call backend.$.members "list" [] peers)
          (seq
            (fold peers p
              (par
                (seq
                  (mismatch p %init_peer_id%)
                  (call p ("chat" "message") [message] acc[])
                )
                (next p)
              )
            )
            (seq
              (call backend.$.history ("op" identity) [])
              (seq
                (match acc.length 2)
                (call %init_peer_id ("chat" "delivered"))
              )
            )
          )
        )
      )
    )
  )
)
"""  # noqa: W291

TODAY = """\
(seq
  (call %init_peer_id% ("load" "relay") [] relay)
(seq
  (call %init_peer_id% ("load" "chat_id") [] chat_id)
(seq
  (call %init_peer_id% ("load" "message") [] message)
(seq
  (call relay ("app" "resolve_backend") [chat_id] backend)
(seq
  (call backend.$.members "is_member" [] is_member)
  (xor
    (seq
      (mismatch is_member true (null))
      (call %init_peer_id% ("chat" "error") ["Cannot send a message to the chat"])
    )
    (seq
      (call backend.$.members "list" [] peers)
    (seq
      (fold peers p
        (par
          (seq (mismatch p %init_peer_id% (null)) (call p ("chat" "message") [message] $acc))
          (next p)
        )
      )
    (seq
      (call backend.$.history ("op" "identity") [])
    (seq
      (new $acc_seen
        (fold $acc acc_it
          (seq
            (ap acc_it $acc_seen)
          (seq
            (canon backend.$.history $acc_seen #acc_now)
            (xor (match #acc_now.length 2 (null)) (next acc_it))
          ))
        )
      )
      (call %init_peer_id% ("chat" "delivered") [])
    ))))
  )
)))))"""

ACKS = '(call "p" ("s" "f") [] acc[])'


def instructions(script: Script) -> list[Instruction]:
    return list(walk(script.root))


def calls(text: str) -> list[CallInstruction]:
    return [one for one in instructions(parse(text)) if isinstance(one, CallInstruction)]


def test_the_chat_of_the_white_paper() -> None:
    script = parse(WHITE_PAPER)
    assert script.paper
    assert to_text(script.root) == TODAY
    found = instructions(script)
    assert [one.number for one in found] == list(range(script.size))
    backend = Scalar("backend", Path((Field("members"),)))
    pairs = [one for one in found if isinstance(one, CallInstruction) and isinstance(one.service, PairService)]
    assert [(one.peer, one.service) for one in pairs] == [(PairPeer(backend), PairService(backend))] * 2


def test_the_chat_printed_as_today_parses_to_the_same_tree() -> None:
    script = parse(WHITE_PAPER)
    assert parse(to_text(script.root)) == script


def test_the_chat_is_formatted_in_its_own_spelling() -> None:
    formatted = format_text(WHITE_PAPER)
    assert parse(formatted).root == parse(WHITE_PAPER).root
    for spelling in (
        "; Load arguments (relay's peer ID",
        "%init_peer_id (",
        "identity)",
        "acc[])",
        "(match acc.length 2)",
    ):
        assert spelling in formatted


@pytest.mark.parametrize(
    ("older", "today"),
    [
        ('(call %init_peer_id ("s" "f") [])', '(call %init_peer_id% ("s" "f") [])'),
        ('(call "p" ("s" "f"))', '(call "p" ("s" "f") [])'),
        ('(call "p" ("s" f) [])', '(call "p" ("s" "f") [])'),
        (ACKS, '(call "p" ("s" "f") [] $acc)'),
        ("(match 1 2)", "(match 1 2 (null))"),
        ("(mismatch 1 %init_peer_id)", "(mismatch 1 %init_peer_id% (null))"),
        ("(ap 1 acc[])", "(ap 1 $acc)"),
    ],
)
def test_each_form(older: str, today: str) -> None:
    assert parse(older).paper
    assert not parse(today).paper
    assert parse(older).root == parse(today).root


def test_a_defined_word_as_function_is_that_name() -> None:
    script = parse('(seq (ap "g" f) (call "p" ("s" f) []))')
    assert not script.paper
    assert [one.function for one in instructions(script) if isinstance(one, CallInstruction)] == [Scalar("f")]


def test_any_older_form_lets_every_call_take_a_pair() -> None:
    text = '(seq (ap "p" x) (seq (call x ("s" "f") []) (seq (call x.$.a ("s" "f") []) {})))'
    assert [one.peer for one in calls(text.format("(null)"))] == [Scalar("x"), Scalar("x", Path((Field("a"),)))]
    paper = [PairPeer(Scalar("x")), PairPeer(Scalar("x", Path((Field("a"),))))]
    assert [one.peer for one in calls(text.format("(match 1 1)"))] == paper
    assert [one.peer for one in calls(text.format('(call "p" ("s" "f"))'))] == [*paper, Literal("p")]


def test_a_test_without_body_waits_for_the_stream() -> None:
    found = instructions(parse(f"(seq {ACKS} (seq (match acc.length 2) (null)))"))
    assert [type(one).__name__ for one in found] == [
        *("Seq", "CallInstruction", "New", "Fold", "Seq", "Ap", "Canon", "Xor", "Match", "Null", "Next", "Null"),
    ]
    new, fold, canon, match = found[2], found[3], found[6], found[8]
    assert isinstance(new, New)
    assert isinstance(fold, Fold)
    assert isinstance(canon, Canon)
    assert isinstance(match, Match)
    assert (fold.iterable, fold.last) == (Stream("$acc"), None)
    assert canon.peer == Literal("p")
    assert canon.source == new.target
    assert isinstance(match.left, CanonStream)
    assert match.left.name == canon.target.name
    assert match.body == Null(number=9)


def test_elsewhere_a_stream_is_fixed_before_it_is_read() -> None:
    script = parse(f'(seq {ACKS} (seq (call "q" ("s" "f") [acc acc.length acc.$.[0]]) (match acc.length 1 (null))))')
    assert to_text(script.root) == "\n".join(
        [
            "(seq",
            '  (call "p" ("s" "f") [] $acc)',
            "(seq",
            '  (canon "p" $acc #acc_now)',
            "(seq",
            '  (call "q" ("s" "f") [#acc_now #acc_now.length #acc_now.$.[0]])',
            "(seq",
            '  (canon "q" $acc #acc_now2)',
            "  (match #acc_now2.length 1 (null))",
            "))))",
        ]
    )


def test_outside_of_a_seq_the_canon_gets_one() -> None:
    script = parse(f'(par {ACKS} (call "q" ("s" "f") [acc]))')
    assert to_text(script.root) == to_text(
        parse('(par (call "p" ("s" "f") [] $acc) (seq (canon "p" $acc #acc_now) (call "q" ("s" "f") [#acc_now])))').root
    )


def test_a_peer_known_in_a_finished_fold_only_is_not_where_a_stream_is_fixed() -> None:
    fold = '(fold [] p (seq (call p ("s" "f") [] acc[]) (next p)))'
    inside = f'(seq (call "q" ("s" "f") []) (seq {fold} (call "r" ("s" "f") [acc])))'
    canons = [one for one in instructions(parse(inside)) if isinstance(one, Canon)]
    assert [one.peer for one in canons] == [Literal("q")]
    alone = f'(seq {fold} (call "r" ("s" "f") [acc]))'
    canons = [one for one in instructions(parse(alone)) if isinstance(one, Canon)]
    assert [one.peer for one in canons] == [InitPeerId()]


def test_a_test_of_two_streams_waits_for_both() -> None:
    text = "(seq (par (ap 1 a[]) (ap 2 b[])) (match a.length b.length))"
    printed = to_text(parse(text).root)
    assert parse(printed).size == parse(text).size
    assert printed.count("(fold") == 2
    assert "(par\n" in printed.partition("(canon")[2]


def test_fresh_names_avoid_those_of_the_script() -> None:
    script = parse(f"(seq (ap 1 acc_it) (seq (ap 1 $acc_seen2) (seq {ACKS} (match acc.length 2))))")
    folds = [one for one in instructions(script) if isinstance(one, Fold)]
    assert [one.iterator for one in folds] == ["acc_it3"]


@pytest.mark.parametrize(
    "text",
    [
        f"(seq {ACKS} (ap acc x))",
        f"(seq {ACKS} (fold acc x (null)))",
        "(match acc.length 2)",
        f'(seq {ACKS} (call acc ("s" "f") []))',
        "(ap acc[] x)",
        '(call "p" "f" [])',
        "(match 1)",
        "(seq (ap 1 acc[]) (seq (ap 1 x) (ap x.$.[acc] y)))",
    ],
)
def test_what_is_no_older_form(text: str) -> None:
    with pytest.raises(AirSyntaxError):
        parse(text)


def test_a_name_that_is_a_scalar_too_is_read_as_the_scalar() -> None:
    script = parse(f"(seq {ACKS} (seq (ap 1 acc) (match acc 1)))")
    (match,) = [one for one in instructions(script) if isinstance(one, Match)]
    assert match.left == Scalar("acc")
