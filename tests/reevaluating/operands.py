"""Operands evaluated: what the arguments, targets' peers and iterables of instructions stand for.

Also keeps ``%last_error%``: the innermost failing instruction sets it, unless the error is a failed test or it is locked. Setting locks
it; the start of a handler and the end of a ``par`` with a branch that did not fail unlock it. Source: AquaVM 0.62, last error descriptor.
"""

from __future__ import annotations

from collections.abc import Sequence

from fluvial.air.data.content import Json
from fluvial.air.machine import errors
from fluvial.air.machine.canon_values import CanonMapValue, CanonStreamValue
from fluvial.air.machine.errors import NO_ERROR
from fluvial.air.machine.lambdas import part_of, part_of_canon, part_of_canon_map, part_of_error
from fluvial.air.machine.operands import Environment
from fluvial.air.machine.provenance import Provenance, Source
from fluvial.air.machine.scopes import Scope
from fluvial.air.machine.shown import json_text
from fluvial.air.machine.values import Value, elements_at, is_integer, is_map_key, length_of, literal
from fluvial.air.syntax import tree
from fluvial.air.syntax.lambdas import lambda_text
from msgspec.structs import replace


class Operands:
    """Turns operands into values; the error register lives as long as one evaluation."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._last_error = self._error_value(NO_ERROR, None)
        self._locked = False

    # --- %last_error%

    def set_last_error(self, error: Json, origin: Provenance | None, *, always: bool = False) -> None:
        """Remember an error object, unless the register is locked (``always``: also then)."""
        if always or not self._locked:
            self._last_error = self._error_value(error, origin)
            self._locked = True

    def unlock_last_error(self) -> None:
        """The next error may be remembered again."""
        self._locked = False

    def _error_value(self, error: Json, origin: Provenance | None) -> Value:
        value = literal(error, self._environment.initiator, volatile=True)
        return value if origin is None else replace(value, origins=(origin,))

    # --- values

    def value(self, operand: tree.Value, scope: Scope) -> Value:
        """An operand as an argument.

        Raises:
            Waiting: a name has no value yet. Catchable: a lambda does not fit, or a name was cleared by ``new``.
        """
        environment = self._environment
        match operand:
            case tree.Scalar(name, path):
                value = scope.scalar(name)
                return value if path is None else part_of(value, path, scope)
            case tree.Literal(json):
                return literal([] if json == () else json, environment.initiator)
            case tree.InitPeerId():
                return literal(environment.initiator, environment.initiator)
            case tree.CanonStream(name, path):
                canon = self._canon_stream(name, scope)
                return canon.whole if path is None else part_of_canon(canon, path, scope, environment.me)
            case tree.CanonMap(name, path):
                pairs = self._canon_map(name, scope)
                return pairs.whole if path is None else part_of_canon_map(pairs, path, scope, environment.me)
            case tree.Error(path):
                caught = scope.caught
                value = (
                    self._error_value(NO_ERROR, None)
                    if caught is None
                    else self._error_value(caught.report(with_peer=False), caught.origin)
                )
                return value if path is None else part_of_error(value, path, scope)
            case tree.LastError(path):
                return self._last_error if path is None else part_of_error(self._last_error, path, scope)
            case tree.Timestamp():
                return literal(environment.timestamp_ms, environment.initiator)
            case tree.Ttl():
                return literal(environment.ttl_ms, environment.initiator)

    def to_bind(self, operand: tree.Value, scope: Scope) -> Value:
        """An operand as ``ap`` binds it; raises as :meth:`value`."""
        match operand:
            case tree.CanonStream(name, None):
                return self._canon_stream(name, scope).bound()
            case tree.CanonMap(name, None):
                pairs = self._canon_map(name, scope)
                return replace(pairs.whole, origins=(Provenance(pairs.peer),))
            case tree.Scalar(name, None) if not scope.is_iterator(name):
                return scope.scalar(name)
            case _:
                return self.value(operand, scope).settled()

    def text(self, operand: tree.Triplet, scope: Scope) -> str:
        """Peer, service or function of a call.

        Raises:
            Waiting: as for :meth:`value`. Catchable: as there, or 10011, it is no string.
        """
        if isinstance(operand, tree.Literal) and isinstance(operand.value, str):
            return operand.value
        if isinstance(operand, tree.PairPeer | tree.PairService):
            return self._of_pair(operand, scope)
        value = self.value(operand, scope)
        json = value.read()
        if not isinstance(json, str):
            assert isinstance(operand, tree.Scalar | tree.CanonStream | tree.CanonMap)
            raise errors.not_a_string(operand.name, json)
        return json

    def _of_pair(self, operand: tree.PairPeer | tree.PairService, scope: Scope) -> str:
        """White paper form: the peer or the service of a value that names both; a string is its own peer."""
        json = self.value(operand.value, scope).read()
        wanted: Json = None
        names = ("peer", "peer_id", "peer_pk") if isinstance(operand, tree.PairPeer) else ("service", "service_id")
        if isinstance(json, str) and isinstance(operand, tree.PairPeer):
            wanted = json
        elif isinstance(json, dict):
            wanted = next((json[name] for name in names if name in json), None)
        elif isinstance(json, list) and len(json) == 2:
            wanted = json[0 if isinstance(operand, tree.PairPeer) else 1]
        if not isinstance(wanted, str):
            raise errors.not_a_string(operand.value.name, json)
        return wanted

    def map_key(self, operand: tree.Key, scope: Scope, map_name: str) -> Value:
        """The key of a pair; raises as :meth:`value`, or Catchable 10012."""
        key = self.value(operand, scope)
        if not is_map_key(key.read()):
            raise errors.bad_map_key(map_name)
        return key

    def iterable(self, operand: tree.Iterable, scope: Scope) -> Sequence[Value]:
        """What a fold over something fixed runs over; raises as :meth:`value`, or Catchable 10005."""
        match operand:
            case tree.CanonStream(name, None):
                return self._canon_stream(name, scope).elements
            case tree.CanonMap(name, None):
                return self._canon_map(name, scope).pairs
            case tree.Literal() | tree.Scalar() | tree.CanonStream() | tree.CanonMap():
                return self._elements(operand, scope)
            case tree.Stream() | tree.StreamMap():
                raise AssertionError("a fold over a stream asks the stream")

    def _elements(
        self, operand: tree.Literal | tree.Scalar | tree.CanonStream | tree.CanonMap, scope: Scope
    ) -> Sequence[Value]:
        value = self.value(operand, scope)
        path = None if isinstance(operand, tree.Literal) else operand.path
        if isinstance(operand, tree.CanonMap) and path is not None:
            pairs = self._canon_map(operand.name, scope)
            if not pairs.pairs:
                return ()
            value = replace(value, origins=(Provenance(pairs.peer, lens=lambda_text(path)),), source=Source.CANON)
        if path is None and not isinstance(operand, tree.Literal) and scope.is_iterator(operand.name):
            value = value.settled()
        if length_of(value) is None:
            expression = lambda_text(path) if path is not None else getattr(operand, "name", "")
            raise errors.not_an_array(value.read(), expression)
        origin = value.origins[0]
        return [
            replace(
                value,
                content=content,
                path=(*value.path, index),
                origins=(replace(origin, lens=f"{origin.lens}.$.[{index}]"),),
            )
            for index, content in enumerate(elements_at(value))
        ]

    def _canon_stream(self, name: str, scope: Scope) -> CanonStreamValue:
        bound = scope.lookup(name)
        assert isinstance(bound, CanonStreamValue), "sigils keep the kinds of names apart"
        return bound

    def _canon_map(self, name: str, scope: Scope) -> CanonMapValue:
        bound = scope.lookup(name)
        assert isinstance(bound, CanonMapValue), "sigils keep the kinds of names apart"
        return bound

    @staticmethod
    def check_error_object(json: Json) -> None:
        """Raise Catchable 10008 unless a value can be thrown by ``fail``."""
        text = json_text(json)
        if not isinstance(json, dict):
            raise errors.bad_error_object(
                f"scalar should have an object type to be converted into error object, but '{text}' doesn't have"
            )
        if "error_code" not in json:
            raise errors.bad_error_object(f"scalar '{text}' must have field with name 'error_code'")
        if not is_integer(json["error_code"]):
            raise errors.bad_error_object(f"error_code of scalar '{text}' must have integer type")
        if json["error_code"] == 0:
            raise errors.bad_error_object("error code must be non-zero, but it is zero")
        if "message" not in json:
            raise errors.bad_error_object(f"scalar '{text}' must have field with name 'message'")
        if not isinstance(json["message"], str):
            raise errors.bad_error_object(f"message of scalar '{text}' must have string type")
