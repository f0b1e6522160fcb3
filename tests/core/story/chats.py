"""The flow that most of these tests tell of: a chat message over six peers, after the white paper's example."""

from __future__ import annotations

from typing import Any

from tests.core.story.flows import Flow

PEERS = ("alice", "relay", "members", "history", "bob", "carol")

SCRIPT = """\
; A chat message
(seq
  (call %init_peer_id% ("load" "message") [] message)
  (seq
    (call "@relay" ("app" "resolve") [7] chat)
    (seq
      (call chat.$.members ("members" "list") [] people)
      (seq
        (fold people p
          (par
            (call p ("chat" "message") [message] $got)
            (next p)
          )
        )
        (seq
          (canon chat.$.history $got #got)
          (xor
            (call chat.$.history ("archive" "store") [#got] stored)
            (call %init_peer_id% ("chat" "error") [:error:.$.message])
          )
        )
      )
    )
  )
)
"""

SERVICES: dict[str, Any] = {
    "load.message": "hi",
    "app.resolve": {"members": "@members", "history": "@history"},
    "members.list": ["@bob", "@carol"],
    "chat.message": lambda peer, arguments: f"{peer} got {arguments[0]}",
    "archive.store": lambda peer, arguments: len(arguments[0]),
    "chat.error": None,
}


def chat(**changes: Any) -> Flow:
    """The chat; ``services`` are added to the usual ones."""
    services = {**SERVICES, **changes.pop("services", {})}
    return Flow(SCRIPT, peers=PEERS, services=services, particle_id="chat-8f1c2d3e", **changes)
