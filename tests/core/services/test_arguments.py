"""The check of arguments against hints: what is accepted, what it becomes, and how a refusal reads."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal, NewType, NotRequired, TypedDict

import msgspec
import pytest
from fluvial.effectors import I64, U8, U32, U64, Call, Effector, NoConfig, function
from fluvial.errors import ServiceError
from fluvial.identity import KeyPair, PeerId
from fluvial.services import Services, describe
from fluvial.services.hints import Texts
from fluvial.services.signature import Signature
from hypothesis import given
from hypothesis import strategies as st

Celsius = NewType("Celsius", float)


class Point(msgspec.Struct):
    x: int
    y: int


@dataclass
class Named:
    name: str
    point: Point | None = None


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Tree(msgspec.Struct):
    value: int
    children: list[Tree] = []


PEER = KeyPair.from_secret(b"\x03" * 32).peer_id

ACCEPTED: list[tuple[Any, str, Any, Any]] = [
    (str, "string", "a", "a"),
    (bool, "bool", True, True),
    (int, "i64", -5, -5),
    (int, "i64", 2**64 - 1, 2**64 - 1),
    (I64, "i64", -(2**63), -(2**63)),
    (U64, "u64", 2**64 - 1, 2**64 - 1),
    (U32, "u32", 2**32 - 1, 2**32 - 1),
    (U8, "u8", 255, 255),
    (float, "f64", 1.5, 1.5),
    (float, "f64", 3, 3.0),
    (Celsius, "f64", -3, -3.0),
    (None, "null", None, None),
    (Any, "⊤", {"a": [1]}, {"a": [1]}),
    (str | None, "?string", None, None),
    (str | None, "?string", "a", "a"),
    (str | None, "?string", ["a"], "a"),
    (str | None, "?string", [], None),
    (list[str] | None, "?[]string", [], []),
    (list[str] | None, "?[]string", ["a"], ["a"]),
    (list[str] | None, "?[]string", [["a"]], ["a"]),
    (int | str, "i64 | string", "a", "a"),
    (str | int, "string | i64", "a", "a"),
    (Annotated[int, {"what": "it is for"}], "i64", 1, 1),
    (int | str | None, "?(i64 | string)", 1, 1),
    (list[int], "[]i64", [1, 2], [1, 2]),
    (list[Any], "[]⊤", [1, "a"], [1, "a"]),
    (tuple[str, int], "[string, i64]", ["a", 1], ("a", 1)),
    (tuple[int, ...], "[]i64", [1, 2], (1, 2)),
    (dict[str, int], "{i64}", {"a": 1}, {"a": 1}),
    (Literal["a", 1], '1 | "a"', 1, 1),
    (Colour, '"red" | "blue"', "red", Colour.RED),
    (Point, "Point", {"x": 1, "y": 2}, Point(1, 2)),
    (Named, "Named", {"name": "a", "point": {"x": 1, "y": 2}}, Named("a", Point(1, 2))),
    (Movie, "Movie", {"title": "Alien"}, {"title": "Alien"}),
    (Tree, "Tree", {"value": 1, "children": [{"value": 2}]}, Tree(1, [Tree(2)])),
    (PeerId, "string", str(PEER), PEER),
]

REFUSED: list[tuple[Any, Any, str]] = [
    (str, 5, "must be string; 5 was given"),
    (str, None, "must be string; null was given"),
    (str, ["a"], "must be string"),
    (bool, 1, "must be bool; 1 was given"),
    (bool, "true", 'must be bool; "true" was given'),
    (int, True, "must be i64; true was given"),
    (int, 1.0, "must be i64; 1.0 was given"),
    (int, "1", "must be i64"),
    (I64, 2**63, "must be i64"),
    (U64, -1, "must be u64; -1 was given"),
    (U32, 2**32, "must be u32"),
    (U8, 256, "must be u8"),
    (float, True, "must be f64; true was given"),
    (float, "1.5", "must be f64"),
    (str | None, 5, r"must be \?string; 5 was given"),
    (str | None, [5], r"must be \?string; \[5\] was given"),
    (str | None, ["a", "b"], r"must be \?string"),
    (str | None, [["a"]], r"must be \?string"),
    (list[int], [1, "b"], r"must be \[\]i64.*at `\$\[1\]`"),
    (tuple[str, int], ["a"], "must be .string, i64"),
    (dict[str, int], {"a": "b"}, r"must be \{i64\}"),
    (Literal["a"], "b", 'must be "a"; "b" was given'),
    (Point, {"x": 1}, "must be Point.*missing required field `y`"),
    (Point, {"x": 1, "y": "b"}, r"must be Point.*at `\$\.y`"),
    (Named, {"name": "a", "point": 1}, r"must be Named.*at `\$\.point`"),
    (Movie, {"year": 1979}, "must be Movie.*`title`"),
    (PeerId, "12D3KooW", "is no peer id"),
    (PeerId, 5, "must be string; 5 was given"),
]


def make_effector(hint: Any) -> Effector[NoConfig]:
    async def take(self: Any, value: Any) -> Any:
        return None

    take.__annotations__ = {"value": hint, "return": None}
    made: Effector[NoConfig] = type("One", (Effector,), {"service_id": "one", "take": function(take)})()
    return made


def signature_of(hint: Any) -> Signature:
    return Signature.of(type(make_effector(hint)).take, Texts())  # type: ignore[attr-defined]


@pytest.mark.parametrize(("hint", "text", "given_", "received"), ACCEPTED)
def test_a_fitting_argument_arrives_as_the_hint_says(
    hint: Any, text: str, given_: Any, received: Any, call: Any
) -> None:
    signature = signature_of(hint)

    (value,) = signature.read(call("one.take", given_))

    assert str(signature.parameters[0]) == f"value: {text}"
    assert value == received
    assert type(value) is type(received)


@pytest.mark.parametrize(("hint", "given_", "complaint"), REFUSED)
async def test_a_mismatch_names_parameter_type_and_what_was_given(
    hint: Any, given_: Any, complaint: str, services: Services, ask: Any
) -> None:
    await services.serve(make_effector(hint))

    with pytest.raises(ServiceError, match=complaint) as failure:
        await ask("one.take", given_)

    assert failure.value.status == 4
    assert failure.value.message.startswith("one.take: argument 1, 'value', must be ")


class Shapes(Effector[NoConfig]):
    """All shapes of parameter lists."""

    service_id = "shapes"

    @function(inline=True)
    def none(self) -> int:
        return 0

    @function(inline=True)
    def two(self, call: Call, a: str, b: int = 7) -> list[Any]:
        return [a, b]

    @function(inline=True)
    def many(self, *numbers: int) -> list[int]:
        return list(numbers)

    @function(inline=True)
    def first_and_more(self, first: str, *more: int | None) -> list[Any]:
        return [first, *more]

    @function(inline=True)
    def default_and_more(self, first: str = "a", *more: int) -> list[Any]:
        return [first, *more]


@pytest.mark.parametrize(
    ("name", "arguments", "result"),
    [
        ("none", [], 0),
        ("two", ["a"], ["a", 7]),
        ("two", ["a", 8], ["a", 8]),
        ("many", [], []),
        ("many", [1, 2, 3], [1, 2, 3]),
        ("first_and_more", ["a"], ["a"]),
        ("first_and_more", ["a", 1, None], ["a", 1, None]),
        ("first_and_more", ["a", [], [2]], ["a", None, 2]),
        ("default_and_more", [], ["a"]),
        ("default_and_more", ["b", 1], ["b", 1]),
    ],
)
async def test_defaults_and_variadic_parameters(
    name: str, arguments: list[Any], result: Any, services: Services, ask: Any
) -> None:
    await services.serve(Shapes())

    assert await ask(f"shapes.{name}", *arguments) == result


@pytest.mark.parametrize(
    ("name", "arguments", "complaint"),
    [
        ("none", [1], r"shapes.none\(\): number of arguments must be 0; 1 given"),
        ("two", [], r"shapes.two\(a: string, b: i64=…\): number of arguments must be 1 to 2; 0 given"),
        ("two", ["a", 1, 2], "must be 1 to 2; 3 given"),
        ("two", ["a", "b"], "argument 2, 'b', must be i64"),
        ("many", [1, 2, "c"], "argument 3, 'numbers', must be i64"),
        ("first_and_more", [], "must be at least 1; 0 given"),
        ("first_and_more", ["a", 1, 2, "d"], r"argument 4, 'more', must be \?i64"),
        ("default_and_more", [1], "argument 1, 'first', must be string"),
    ],
)
async def test_wrong_numbers_and_late_mismatches(
    name: str, arguments: list[Any], complaint: str, services: Services, ask: Any
) -> None:
    await services.serve(Shapes())

    with pytest.raises(ServiceError, match=complaint) as failure:
        await ask(f"shapes.{name}", *arguments)
    assert failure.value.status == 4


def test_an_error_shows_only_the_beginning_of_a_long_argument(call: Any) -> None:
    with pytest.raises(ServiceError) as failure:
        signature_of(int).read(call("one.take", "x" * 100_000))
    assert len(failure.value.message) < 300


def test_an_interface_tells_parameters_and_records() -> None:
    interface = describe(Shapes)
    assert [str(each) for each in interface.functions.values()] == [
        "none() -> i64",
        "two(a: string, b: i64=…) -> []⊤",
        "many(*numbers: i64) -> []i64",
        "first_and_more(first: string, *more: ?i64) -> []⊤",
        "default_and_more(first: string=…, *more: i64) -> []⊤",
    ]

    records = {record.name: record.fields for record in describe(type(make_effector(Named))).records}
    assert records == {"Named": (("name", "string"), ("point", "?Point")), "Point": (("x", "i64"), ("y", "i64"))}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
SIGNATURES = [signature_of(hint) for hint in {repr(row[0]): row[0] for row in ACCEPTED}.values()]


@given(argument=JSON, which=st.sampled_from(SIGNATURES))
def test_any_json_value_is_either_taken_or_refused_with_status_4(argument: Any, which: Signature) -> None:
    call = Call(particle_id="p", initiator=PEER, service="one", function="take", arguments=[argument])
    try:
        outcome = (0, len(which.read(call)))
    except ServiceError as error:
        outcome = (error.status, error.message.count("'value', must be"))
    assert outcome in ((0, 1), (4, 1))
