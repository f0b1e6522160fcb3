"""What the instructions do that give values names: ``ap`` to a scalar or stream, ``ap`` to a stream map."""

from __future__ import annotations

from fluvial.air.machine.activations import KEEP, SimpleActivation
from fluvial.air.machine.runtime import Runtime
from fluvial.air.syntax import tree


def perform_ap(runtime: Runtime, ap: SimpleActivation) -> None:
    """``(ap VALUE name)`` and ``(ap VALUE $stream)``; raises as :meth:`Operands.to_bind`."""
    node = ap.node
    assert isinstance(node, tree.Ap)
    value = runtime.operands.to_bind(node.argument, ap)
    if type(node.target) is tree.Stream:
        runtime.append(ap, node.target, value)
    else:
        runtime.set(ap, node.target.name, value)
    ap.status = KEEP


def perform_ap_map(runtime: Runtime, ap: SimpleActivation) -> None:
    """``(ap (KEY VALUE) %map)``; raises as :meth:`Operands.to_bind` and :meth:`Operands.map_key`."""
    node = ap.node
    assert isinstance(node, tree.ApMap)
    value = runtime.operands.to_bind(node.argument, ap)
    key = runtime.operands.map_key(node.key, ap, node.target.name)
    runtime.append(ap, node.target, value.as_pair(key))
    ap.status = KEEP
