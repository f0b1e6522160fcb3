"""What the instructions do that steer the flow: ``seq``, ``par``, ``xor``, ``match``, ``mismatch``, ``new``, ``null``, ``never``.

All of them begin their parts with :meth:`Runtime.start`. When that gives None, the part has to wait for something that stands before it; the
instruction then ends its turn, and has another one later.
"""

from __future__ import annotations

from fluvial.air.data.facts import Instance
from fluvial.air.data.pace import Found
from fluvial.air.data.weight import is_light
from fluvial.air.machine import errors
from fluvial.air.machine.activations import (
    FAILED,
    KEEP,
    OPEN,
    TRUE,
    Activation,
    BodyActivation,
    ParActivation,
    SeqActivation,
    SimpleActivation,
    XorActivation,
)
from fluvial.air.machine.equality import comparing, same_json
from fluvial.air.machine.runtime import PAUSE_BYTES, Runtime
from fluvial.air.syntax import tree
from fluvial.encoding import encode
from fluvial.few import EMPTY


def perform_seq(runtime: Runtime, seq: SeqActivation) -> None:
    """``seq``: one part after the other, each when the one before is complete."""
    children = seq.node.children
    while seq.status is OPEN:
        if seq.child is None:
            seq.child = runtime.start(seq, children[seq.index])
            if seq.child is None:
                return
        status = seq.child.status
        if status is OPEN:
            return
        if status is FAILED:
            seq.fail(seq.child.error, TRUE if seq.child.flag is KEEP else seq.child.flag)
            return
        seq.child = None
        seq.index += 1
        if seq.index == len(children):
            seq.status = TRUE


def perform_par(runtime: Runtime, par: ParActivation) -> None:
    """``par``: both branches; complete when one of them is, failed when both are."""
    if par.left is None:
        par.left = runtime.start(par, par.node.left)
        if par.left is None:
            return
    if par.right is None:
        par.right = runtime.start(par, par.node.right)
        if par.right is None:
            return
        if runtime.plan.reads_last_error:
            runtime.last_error.unlock(runtime.end_of(par))
    left, right = par.left, par.right
    if left.status is FAILED and right.status is FAILED:
        if runtime.plan.reads_last_error:
            runtime.last_error.keep_locked(runtime.end_of(par))
        par.fail(right.error, OPEN)
    elif _completes(left) or _completes(right):
        par.status = TRUE
    elif left.status is FAILED or right.status is FAILED:
        if runtime.half_failed is EMPTY:
            runtime.half_failed = {}
        runtime.half_failed[par] = None


def _completes(branch: Activation) -> bool:
    """Whether a branch makes its ``par`` complete.

    A branch that is itself a ``next`` does not where the fold ends. Otherwise every ``fold … (par … (next x))`` would be complete at once.
    """
    return branch.status is TRUE or (branch.status is KEEP and type(branch.node) is not tree.Next)


def perform_xor(runtime: Runtime, xor: XorActivation) -> None:
    """``xor``: the left part; the right one if that fails."""
    if xor.left is None:
        xor.left = runtime.start(xor, xor.node.left)
        if xor.left is None:
            return
    left = xor.left
    if left.status is not FAILED:
        xor.status = OPEN if left.status is OPEN else TRUE
        return
    if not xor.caught:
        xor.caught = True
        runtime.last_error.unlock(xor.place.key(xor.node.right.number - 0.5))
    if xor.right is None:
        assert left.error is not None, "it has failed"
        # Deviation: `:error:` belongs to its handler and is not lost when another xor inside it succeeds.
        xor.right = runtime.start(xor, xor.node.right, scope=xor.scope.handle(left.error))
        if xor.right is None:
            return
    right = xor.right
    if right.status is FAILED:
        xor.fail(right.error, TRUE if right.flag is KEEP else right.flag)
    elif right.status is not OPEN:
        xor.status = TRUE


def perform_test(runtime: Runtime, test: BodyActivation) -> None:
    """``match`` and ``mismatch``: the body if the test passes.

    Raises:
        NameNotSet: an operand has no value yet. Catchable: 10001 or 10002, the test has failed; or as the operand does.
    """
    node = test.node
    assert isinstance(node, tree.Match | tree.Mismatch)
    if test.child is None:
        if not test.passed:
            if (equal := _are_equal(runtime, node, test)) is None:
                return
            if equal is not (type(node) is tree.Match):
                raise errors.no_mismatch() if equal else errors.no_match()
            test.passed = True
        test.child = runtime.start(test, node.body)
        if test.child is None:
            return
    test.follow(test.child)


def _are_equal(runtime: Runtime, node: tree.Match | tree.Mismatch, test: BodyActivation) -> bool | None:
    """None if the slice is over before that is known: the test has another turn."""
    if test.work is not None:
        return _compared(runtime, test, test.work)
    left = runtime.operands.value(node.left, test)
    one = left.read()
    right = runtime.operands.value(node.right, test)
    other = right.read()
    if isinstance(one, list | dict) and type(one) is type(other):
        # Thousands may compare the same two results of services.
        if left.path == right.path and left.root.is_known_as(right.root):
            return True
        if not is_light((one, other)):
            return _compared(runtime, test, comparing(one, other))
        runtime.take_time(len(encode(one)))
    return same_json(one, other)


def _compared(runtime: Runtime, test: BodyActivation, work: Found[bool]) -> bool | None:
    test.work = None
    while True:
        try:
            next(work)
        except StopIteration as end:
            equal: bool = end.value
            return equal
        runtime.take_time(PAUSE_BYTES)
        if runtime.paused:
            test.work = work
            runtime.agenda.push(test)  # what stands after it waits, by its position
            return None


def perform_new(runtime: Runtime, new: BodyActivation) -> None:
    """``new``: the body, in a scope of its own for one name."""
    if new.child is None:
        node = new.node
        assert isinstance(node, tree.New)
        instance = Instance(*new.id)
        if type(node.target) in tree.STREAMS:
            runtime.stream(instance, node.target.name)
        new.child = runtime.start(new, node.body, scope=new.scope.renew(node.target.name, instance))
        if new.child is None:
            return
    new.follow(new.child)


def perform_null(_runtime: Runtime, null: SimpleActivation) -> None:
    """``null``: complete at once."""
    null.status = KEEP


def perform_never(_runtime: Runtime, _never: SimpleActivation) -> None:
    """``never``: open for ever."""
