"""``fail``: errors that the script itself makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluvial.air.data.content import Json
from fluvial.air.data.facts import Provenance
from fluvial.air.machine import errors
from fluvial.air.machine.errors import NameNotSet
from fluvial.air.machine.instances import Completeness, Inst
from fluvial.air.syntax import tree
from fluvial.air.syntax.printer import head

if TYPE_CHECKING:
    from fluvial.air.machine.evaluator import Evaluator


def advance_fail_literal(machine: Evaluator, inst: Inst) -> None:
    """``(fail CODE "TEXT")``."""
    node: tree.FailLiteral = inst.node
    error = {
        "error_code": node.error_code,
        "message": node.message,
        "instruction": head(node),
        "peer_id": machine.initiator,
    }
    _throw(machine, inst, error, Provenance(machine.initiator))


def advance_fail_value(machine: Evaluator, inst: Inst) -> None:
    """``(fail VALUE)``: a caught error is thrown on as it is.

    Raises:
        Catchable: the value is not there, for which it does not wait: it fails either way; or it is no error object.
    """
    operand: tree.Value = inst.node.value
    try:
        value = machine.operands.value(operand, inst)
    except NameNotSet as waiting:
        raise errors.not_set(waiting.name) from None
    machine.operands.check_error_object(value.read())
    if isinstance(operand, tree.Error) and operand.path is None and (caught := inst.scope.caught) is not None:
        machine.last_error.set(inst.key, value.json, value.origins[0], always=True)
        inst.fail(caught, Completeness.OPEN)
    else:
        _throw(machine, inst, value.json, value.origins[0])


def _throw(machine: Evaluator, inst: Inst, error: Json, origin: Provenance) -> None:
    machine.last_error.set(inst.key, error, origin, always=True)
    machine.fail(inst, errors.failed_by_script(error), Completeness.OPEN)
