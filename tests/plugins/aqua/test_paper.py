"""The white paper's own script, and its dialect."""

from __future__ import annotations

from typing import Any

import pytest
from fluvial_aqua.simulation import Case, play

from tests.plugins.aqua.support import check, told

SCRIPT = """def chat_id, message, relay

{members, history} <- relay.resolve_backend(chat_id)

is_member <- members.is_member(sender)

if not is_member:
  sender.error("Cannot send a message to the chat")

par:
  history.message_sent(message)
|
  peers <- members.list()
  for par p <- peers if p != sender:
    acc[] <- p.chat.message(message)
  history.protocol.noop()
  if acc.length == 2:
    sender.chat.delivered()
"""


def chat(member: bool, places: dict[str, Any], **more: Any) -> dict[str, Any]:
    rows: list[dict[str, Any]] = [
        {"function": "resolve_backend", "returns": places},
        {"function": "is_member", "returns": member},
        {"function": "list", "returns": ["@client", "@alice", "@bob"]},
        {"returns": "ok"},
    ]
    case = Case(
        name="paper",
        aqua=SCRIPT,
        func="main",
        init_peer="client",
        peers=["client", "relay", "members", "history", "alice", "bob"],
        args={"chat_id": "c1", "message": "hi", "relay": "@relay"},
        services=rows,
        **more,
    )
    return play(case)


PLAIN = {"members": "@members", "history": "@history"}
PAIRS = {"members": {"peer": "@members", "service": "m"}, "history": {"peer": "@history", "service": "h"}}


@pytest.mark.parametrize("places", [PLAIN, PAIRS])
def test_a_member_s_message_is_delivered(places: dict[str, Any]) -> None:
    seen = chat(True, places)
    assert sorted(told(seen)) == [
        "@alice message(hi)",
        "@bob message(hi)",
        "@client delivered()",
        "@history message_sent(hi)",
        "@history noop()",
        "@members is_member(@client)",
        "@members list()",
        "@relay resolve_backend(c1)",
    ]


def test_services_are_those_of_the_values_or_the_option() -> None:
    def services(places: dict[str, Any]) -> dict[str, str]:
        return {call["function"]: call["service"] for call in chat(True, places)["calls"]}

    assert services(PLAIN)["list"] == "app"
    assert services(PAIRS)["list"] == "m"
    assert services(PAIRS)["message_sent"] == "h"
    assert services(PAIRS)["noop"] == "protocol"
    assert services(PAIRS)["delivered"] == "chat"


def test_a_stranger_is_told_so_and_nothing_else_happens() -> None:
    seen = chat(False, PLAIN)
    assert told(seen)[2:] == ["@client error(Cannot send a message to the chat)"]
    assert seen["calls"][-1]["service"] == "chat"


def test_delivered_is_said_once_two_have_it_and_not_before() -> None:
    assert "@client delivered()" not in told(chat(True, PLAIN, absent_peers=["bob"]))


def test_a_script_may_declare_its_services() -> None:
    text = SCRIPT + '\nservice Backend("backend"):\n  resolve_backend(chat_id: string) -> string\n'
    (found, *_) = [one for one in check(text).diagnostics if one.severity == "error"]
    assert "no field `members`" in found.message
    good = text.replace("-> string", "-> Places") + "\ndata Places:\n  members: string\n  history: string\n"
    compilation = check(good)
    assert compilation.ok, compilation.diagnostics
    assert '("backend" "resolve_backend")' in compilation.function("main").air
