"""What ``fail`` does: errors that the script itself makes."""

from __future__ import annotations

from fluvial.air.data.content import Json
from fluvial.air.machine import errors
from fluvial.air.machine.activations import OPEN, SimpleActivation
from fluvial.air.machine.errors import NameNotSet
from fluvial.air.machine.provenance import Provenance
from fluvial.air.machine.runtime import Runtime
from fluvial.air.syntax import tree


def perform_fail_literal(runtime: Runtime, fail: SimpleActivation) -> None:
    """``(fail CODE "TEXT")``."""
    node = fail.node
    assert isinstance(node, tree.FailLiteral)
    error = {
        "error_code": node.error_code,
        "message": node.message,
        "instruction": runtime.head(node),
        "peer_id": runtime.initiator,
    }
    _throw(runtime, fail, error, Provenance(runtime.initiator))


def perform_fail_value(runtime: Runtime, fail: SimpleActivation) -> None:
    """``(fail VALUE)``; a caught error is thrown on as it is.

    Raises:
        Catchable: the value is no error object, or its name has no value yet: ``fail`` does not wait, it fails either way.
    """
    node = fail.node
    assert isinstance(node, tree.FailValue)
    try:
        value = runtime.operands.value(node.value, fail)
    except NameNotSet as missing:
        raise errors.not_set(missing.name) from None
    runtime.operands.check_error_object(value.read())
    throws_on = isinstance(node.value, tree.Error) and node.value.path is None
    if throws_on and (caught := fail.scope.caught) is not None:
        runtime.last_error.set(fail.key, value.json, value.origins[0], always=True)
        fail.fail(caught, OPEN)
    else:
        _throw(runtime, fail, value.json, value.origins[0])


def _throw(runtime: Runtime, fail: SimpleActivation, error: Json, origin: Provenance) -> None:
    runtime.last_error.set(fail.key, error, origin, always=True)
    runtime.fail(fail, errors.failed_by_script(error), OPEN)
