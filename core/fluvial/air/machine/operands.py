"""Operands evaluated: what the arguments, targets' peers and iterables of instructions stand for.

Deviation: an instruction reads its operands once. The reference reads them in every run, and may find something else in ``%last_error%``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast, overload

from msgspec.structs import astuple, replace

from fluvial.air.data.content import JSON_DEPTH_MAX, Json
from fluvial.air.machine import errors
from fluvial.air.machine.canon_values import CanonMapValue, CanonStreamValue
from fluvial.air.machine.errors import NO_ERROR
from fluvial.air.machine.lambdas import behind, part_of, part_of_canon, part_of_canon_map, part_of_error
from fluvial.air.machine.last_error import LastErrorRegister
from fluvial.air.machine.provenance import Provenance, Source
from fluvial.air.machine.scopes import Scope, Viewpoint
from fluvial.air.machine.shown import json_text
from fluvial.air.machine.values import Value, elements_at, is_integer, is_map_key, length_of, literal
from fluvial.air.syntax import tree
from fluvial.air.syntax.lambdas import lambda_text
from fluvial.few import EMPTY

LINKS_PER_STEP: Final = 100
"""So many links of scopes are gone through in the time of a step."""
BYTES_PER_STEP: Final = 1_024
"""So many bytes of a value are compared, hashed or copied in the time of a step."""
LITERAL_BYTES: Final = 350
"""Memory of a literal that a machine has read, as a value; or of the peer, service and function of a call."""
SHALLOW: Final = 20
"""Around what stands in no more scopes than this nobody counts them."""

_FIXED: Final = frozenset((tree.Literal, tree.InitPeerId))


@dataclass(frozen=True, slots=True)
class Environment:
    """What a script may know besides the facts.

    Attributes:
        me: the peer that evaluates.
        initiator: the peer that began the particle.
        timestamp_ms, ttl_ms: of the particle.
    """

    me: str
    initiator: str
    timestamp_ms: int
    ttl_ms: int


class ArrayElements(Sequence[Value]):
    """The elements of an array, each made when it is asked for: arrays may be long, and folds over them may end early.

    Args:
        array: the array; that it is one is known.
    """

    __slots__ = ("_array", "_contents", "_origin")

    def __init__(self, array: Value) -> None:
        self._array = array
        self._contents = elements_at(array)
        self._origin = astuple(array.origins[0])

    def __len__(self) -> int:
        return len(self._contents)

    @overload
    def __getitem__(self, index: int) -> Value: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Value]: ...
    def __getitem__(self, index: int | slice) -> Value | Sequence[Value]:
        """The element at an index, with the array's tetraplet and its place in it; or those of a stretch."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        array = self._array
        peer, service, function, lens = self._origin
        return Value(
            self._contents[index],
            (Provenance(peer, service, function, f"{lens}.$.[{index}]"),),
            array.source,
            array.root,
            (*array.path, index),
            array.volatile,
        )


class Operands:
    """Turns operands into values, at the position of the instruction that has them.

    Attributes:
        links: the links of scopes that were gone through since this was last set to 0, where they were many, and what takes as long.
    """

    __slots__ = ("_alive", "_calls", "_environment", "_last_error", "_literals", "links")

    def __init__(self, environment: Environment, last_error: LastErrorRegister) -> None:
        self._environment = environment
        self._last_error = last_error
        self._literals: dict[int, Value] = {}
        self._alive: list[object] = []
        self._calls: dict[int, Provenance] = EMPTY
        self.links = 0

    @property
    def held(self) -> int:
        """How many bytes of memory it takes, about."""
        return LITERAL_BYTES * (len(self._literals) + len(self._calls))

    # --- values

    def value(self, operand: tree.Value, reader: Viewpoint) -> Value:
        """An operand as an argument.

        Raises:
            Waiting: a name has no value yet. Catchable: a lambda does not fit, or a name was cleared by ``new``.
        """
        scope, key = reader.scope, reader.key
        if scope.depth > SHALLOW:
            self.links += scope.depth
        if type(operand) is tree.Scalar:
            value = cast(Value, scope.lookup(operand.name, key))  # sigils keep the kinds of names apart
            if operand.path is None:
                return value
            self._count(operand.path, scope)
            return part_of(value, operand.path, scope, key)
        if (known := self._literals.get(id(operand))) is not None:
            return known
        environment = self._environment
        match operand:
            case tree.Literal() | tree.InitPeerId() | tree.Timestamp() | tree.Ttl():
                return self._literal(operand)
            case tree.CanonStream(name, path):
                self._count(path, scope)
                canon = self._canon_stream(name, reader)
                return canon.whole if path is None else part_of_canon(canon, path, scope, environment.me, key)
            case tree.CanonMap(name, path):
                self._count(path, scope)
                pairs = self._canon_map(name, reader)
                return pairs.whole if path is None else part_of_canon_map(pairs, path, scope, environment.me, key)
            case tree.Error(path):
                self._count(path, scope)
                caught = scope.caught
                value = (
                    self._error_value(NO_ERROR, None)
                    if caught is None
                    else self._error_value(caught.report(with_peer=False), caught.origin)
                )
                return value if path is None else part_of_error(value, path, scope, key)
            case tree.LastError(path):
                self._count(path, scope)
                value = self._error_value(*self._last_error.at(key))
                return value if path is None else part_of_error(value, path, scope, key)

    def _count(self, path: tree.Lambda | None, scope: Scope) -> None:
        """Count the links that are gone through for the names in a path."""
        if type(path) is tree.Path:
            self.links += min(len(path.accessors), JSON_DEPTH_MAX) * (1 + scope.links)

    def _literal(self, operand: tree.Literal | tree.InitPeerId | tree.Timestamp | tree.Ttl) -> Value:
        """What is the same wherever it is read; made once, but for arrays, which services might change."""
        environment = self._environment
        json: Json
        match operand:
            case tree.Literal(()):
                return literal([], environment.initiator)
            case tree.Literal(value):
                json = value
            case tree.InitPeerId():
                json = environment.initiator
            case tree.Timestamp():
                json = environment.timestamp_ms
            case tree.Ttl():
                json = environment.ttl_ms
        found = self._literals[id(operand)] = literal(json, environment.initiator)
        self._alive.append(operand)  # an id names an operand as long as that lives
        return found

    def _error_value(self, error: Json, origin: Provenance | None) -> Value:
        if isinstance(error, dict):
            size = len(str(error["message"])) + len(str(error.get("instruction", "")))
            self.links += size * LINKS_PER_STEP // BYTES_PER_STEP
        value = literal(error, self._environment.initiator, volatile=True)
        return value if origin is None else replace(value, origins=(origin,))

    def to_bind(self, operand: tree.Value, reader: Viewpoint) -> Value:
        """An operand as ``ap`` binds it; raises as :meth:`value`."""
        if type(operand) is tree.CanonStream and operand.path is None:
            return self._canon_stream(operand.name, reader).bound()
        if type(operand) is tree.CanonMap and operand.path is None:
            pairs = self._canon_map(operand.name, reader)
            return replace(pairs.whole, origins=(Provenance(pairs.peer),))
        value = self.value(operand, reader)
        if type(operand) is tree.Scalar and operand.path is None:
            return value.settled() if reader.scope.is_iterator(operand.name, reader.key) else value
        return value.settled()

    def call(self, node: tree.CallInstruction, reader: Viewpoint) -> Provenance:
        """Peer, service and function of a call; raises as :meth:`text`."""
        text = self.text
        if not reader.scope.in_fold:
            return Provenance(text(node.peer, reader), text(node.service, reader), text(node.function, reader))
        if (known := self._calls.get(node.number)) is not None:
            return known
        call = Provenance(text(node.peer, reader), text(node.service, reader), text(node.function, reader))
        if type(node.peer) in _FIXED and type(node.service) in _FIXED and type(node.function) in _FIXED:
            if self._calls is EMPTY:
                self._calls = {}
            self._calls[node.number] = call
        return call

    def text(self, operand: tree.Triplet, reader: Viewpoint) -> str:
        """Peer, service or function of a call.

        Raises:
            Waiting: as for :meth:`value`. Catchable: as there, or 10011, it is no string.
        """
        if type(operand) is tree.Literal and type(operand.value) is str:
            return operand.value
        if type(operand) is tree.InitPeerId:
            return self._environment.initiator
        if type(operand) is tree.PairPeer or type(operand) is tree.PairService:
            return self._of_pair(operand, reader)
        value = cast(tree.Scalar | tree.CanonStream | tree.CanonMap, operand)
        json = self.value(value, reader).read()
        if not isinstance(json, str):
            raise errors.not_a_string(value.name, json)
        return json

    def _of_pair(self, operand: tree.PairPeer | tree.PairService, reader: Viewpoint) -> str:
        """White paper form: the peer or the service of a value that names both; a string is its own peer."""
        json = self.value(operand.value, reader).read()
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

    def map_key(self, operand: tree.Key, reader: Viewpoint, map_name: str) -> Value:
        """The key of a pair; raises as :meth:`value`, or Catchable 10012."""
        key = self.value(operand, reader)
        if not is_map_key(key.read()):
            raise errors.bad_map_key(map_name)
        return key

    def iterable(self, operand: tree.Iterable, reader: Viewpoint) -> Sequence[Value]:
        """What a fold over something fixed runs over; raises as :meth:`value`, or Catchable 10005."""
        match operand:
            case tree.CanonStream(name, None):
                return self._canon_stream(name, reader).elements
            case tree.CanonMap(name, None):
                return self._canon_map(name, reader).pairs
            case tree.Literal() | tree.Scalar() | tree.CanonStream() | tree.CanonMap():
                return self._elements(operand, reader)
            case tree.Stream() | tree.StreamMap():
                raise AssertionError("a fold over a stream asks the stream")

    def _elements(
        self, operand: tree.Literal | tree.Scalar | tree.CanonStream | tree.CanonMap, reader: Viewpoint
    ) -> Sequence[Value]:
        value = self.value(operand, reader)
        path = None if isinstance(operand, tree.Literal) else operand.path
        if isinstance(operand, tree.CanonMap) and path is not None:
            pairs = self._canon_map(operand.name, reader)
            if not pairs.pairs:
                return ()
            value = replace(value, origins=(behind(Provenance(pairs.peer), lambda_text(path)),), source=Source.CANON)
        if (
            path is None
            and not isinstance(operand, tree.Literal)
            and reader.scope.is_iterator(operand.name, reader.key)
        ):
            value = value.settled()
        if length_of(value) is None:
            expression = lambda_text(path) if path is not None else getattr(operand, "name", "")
            raise errors.not_an_array(value.read(), expression)
        return ArrayElements(value)

    def _canon_stream(self, name: str, reader: Viewpoint) -> CanonStreamValue:
        bound = reader.scope.lookup(name, reader.key)
        assert isinstance(bound, CanonStreamValue), "sigils keep the kinds of names apart"
        return bound

    def _canon_map(self, name: str, reader: Viewpoint) -> CanonMapValue:
        bound = reader.scope.lookup(name, reader.key)
        assert isinstance(bound, CanonMapValue), "sigils keep the kinds of names apart"
        return bound

    @staticmethod
    def check_error_object(json: Json) -> None:
        """Raise Catchable 10008 unless a value can be thrown by ``fail``."""
        if not isinstance(json, dict):
            text = json_text(json)
            raise errors.bad_error_object(
                f"scalar should have an object type to be converted into error object, but '{text}' doesn't have"
            )
        if "error_code" not in json:
            raise errors.bad_error_object(f"scalar '{json_text(json)}' must have field with name 'error_code'")
        if not is_integer(json["error_code"]):
            raise errors.bad_error_object(f"error_code of scalar '{json_text(json)}' must have integer type")
        if json["error_code"] == 0:
            raise errors.bad_error_object("error code must be non-zero, but it is zero")
        if "message" not in json:
            raise errors.bad_error_object(f"scalar '{json_text(json)}' must have field with name 'message'")
        if not isinstance(json["message"], str):
            raise errors.bad_error_object(f"message of scalar '{json_text(json)}' must have string type")
