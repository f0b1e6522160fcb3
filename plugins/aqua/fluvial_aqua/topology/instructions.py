"""Single instructions of the tree as AIR."""

from __future__ import annotations

from collections.abc import Sequence

from fluvial_aqua.air import NEVER, NULL, AirNode, in_order
from fluvial_aqua.model.operands import Operand
from fluvial_aqua.model.tree import Assign, Decide, Freeze, ModelOp, PutPair, ServiceCall, StreamGate
from fluvial_aqua.topology.paths import Hop


def node(op: ModelOp, head: str, *inner: AirNode) -> AirNode:
    """An AIR instruction that an instruction of the tree becomes."""
    return AirNode(head, inner, op.place, op.function)


def call(op: ServiceCall, peer: Operand) -> AirNode:
    """``(call …)``."""
    arguments = " ".join(one.text for one in op.arguments)
    output = f" {op.output}" if op.output else ""
    return node(op, f"call {peer.text} ({op.service.text} {op.name.text}) [{arguments}]{output}")


def assign(op: Assign) -> AirNode:
    """``(ap …)``."""
    return node(op, f"ap {op.value.text} {op.target}")


def put_pair(op: PutPair) -> AirNode:
    """``(ap (key value) %map)``."""
    return node(op, f"ap ({op.key.text} {op.value.text}) {op.target}")


def freeze(op: Freeze, peer: Operand) -> AirNode:
    """``(canon …)``."""
    return node(op, f"canon {peer.text} {op.stream} {op.target}")


def decide(op: Decide) -> AirNode:
    """One of two values."""
    test = node(op, f"match {op.left.text} {op.right.text}", AirNode(f"ap {op.equal.text} {op.target}"))
    return node(op, "xor", test, AirNode(f"ap {op.unequal.text} {op.target}"))


def wait(op: StreamGate, peer: Operand) -> AirNode:
    """Goes through the stream, element by element as they come, until the one of the index is there."""
    gate, item, seen, there = op.names
    canon = AirNode(f"canon {peer.text} ${gate} #{seen}")
    found = AirNode(f"ap #{seen}.$.[{op.index.text}] {there}")
    if op.counts:
        found = AirNode(f"match #{seen}.length {op.index.text}", (NULL,))
    test = AirNode("xor", (found, AirNode(f"next {item}")))
    body = in_order([AirNode(f"ap {item} ${gate}"), canon, test])
    walk = node(op, f"fold {op.stream} {item}", body, NEVER)
    return node(op, f"new ${gate}", in_order([walk, node(op, f"canon {peer.text} ${gate} {op.target}")]))


def hop(one: Hop, number: int, why: str, op: ModelOp) -> AirNode:
    """Passes a peer without calling anything there."""
    note = f"{one.peer.text}: {why}"
    if not one.many:
        return AirNode("new $-hop-", (_pass(one.peer.text),), op.place, op.function, note)
    relay = f"-via-{number}-"
    canon = AirNode("new $-hop-", (_pass(relay),))
    following = AirNode(f"next {relay}")
    steps: Sequence[AirNode] = (following, canon) if one.backwards else (canon, following)
    return AirNode(f"fold {one.peer.text} {relay}", (in_order(steps), NULL), op.place, op.function, note)


def _pass(peer: str) -> AirNode:
    return AirNode("new #-hop-", (AirNode(f"canon {peer} $-hop- #-hop-"),))
