"""Values of any type: what fits comes back as it was, what does not is named with its path."""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from ctypes import string_at
from typing import Any

import pytest
from fluvial.services import Status
from fluvial_fce_wasm.failures import MEANINGS, STATUSES, FailureKind
from fluvial_fce_wasm.guest.arena import Arena, Budget, BudgetExceeded, Misfit
from fluvial_fce_wasm.guest.codec import VALUE_BYTES, FunctionPlan, plan_of
from fluvial_fce_wasm.shapes import completed
from fluvial_fce_wasm.wit.types import (
    INTEGERS,
    WitEnum,
    WitFlags,
    WitFunction,
    WitList,
    WitOpaque,
    WitOption,
    WitPrimitive,
    WitRecord,
    WitResult,
    WitTuple,
    WitType,
    WitVariant,
    is_transferable,
)
from hypothesis import given
from hypothesis import strategies as st

NAMES = st.sampled_from(["a", "b-c", "d1", "long-name", "x"])
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


def single(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def primitives() -> st.SearchStrategy[WitType]:
    return st.sampled_from([*INTEGERS, "bool", "f32", "f64", "char", "string"]).map(WitPrimitive)  # type: ignore[arg-type]


def compounds(inner: st.SearchStrategy[WitType]) -> st.SearchStrategy[WitType]:
    named = st.lists(NAMES, min_size=1, max_size=4, unique=True)
    optional = st.none() | inner
    return st.one_of(
        inner.map(WitList),
        inner.map(WitOption),
        st.builds(WitResult, optional, optional),
        st.lists(inner, min_size=1, max_size=4).map(lambda kinds: WitTuple(tuple(kinds))),
        named.flatmap(lambda names: st.tuples(*[st.tuples(st.just(n), inner) for n in names])).map(WitRecord),
        named.flatmap(lambda names: st.tuples(*[st.tuples(st.just(n), optional) for n in names])).map(WitVariant),
        named.map(lambda names: WitEnum(tuple(names))),
        named.map(lambda names: WitFlags(tuple(names))),
    )


TYPES = st.recursive(primitives(), compounds, max_leaves=8)


def values(kind: WitType | None) -> st.SearchStrategy[Any]:
    match kind:
        case None:
            return st.none()
        case WitPrimitive(name) if name in INTEGERS:
            return st.integers(*INTEGERS[name])
        case WitPrimitive("bool"):
            return st.booleans()
        case WitPrimitive("f32"):
            return st.floats(-1e30, 1e30).map(single)
        case WitPrimitive("f64"):
            return st.floats(allow_nan=False, allow_infinity=False)
        case WitPrimitive("char"):
            return st.characters(exclude_categories=["Cs"])
        case WitPrimitive():
            return TEXTS
        case WitList(element):
            return st.lists(values(element), max_size=4)
        case WitOption(payload):
            return st.none() | (values(payload).map(lambda v: {"some": v}) if _nullable(payload) else values(payload))
        case WitResult(ok, error):
            return values(ok).map(lambda v: {"ok": v}) | values(error).map(lambda v: {"err": v})
        case WitTuple(elements):
            return st.tuples(*map(values, elements)).map(list)
        case WitRecord(fields):
            return st.fixed_dictionaries({name: values(part) for name, part in fields})
        case WitVariant(cases):
            return st.one_of(
                [values(part).map(lambda value, name=name: {name: value}) for name, part in cases]  # type: ignore[misc]
            )
        case WitEnum(names):
            return st.sampled_from(names)
        case WitFlags(names):
            return st.lists(st.sampled_from(names), unique=True)
    raise AssertionError(kind)


def _nullable(kind: WitType) -> bool:
    return isinstance(kind, WitOption)


def through(kind: WitType, value: Any, budget: int = 10**9) -> Any:
    arena = Arena()
    address = FunctionPlan(WitFunction((("value", kind),))).encode([value], arena)
    return plan_of(kind).decode(string_at(address, VALUE_BYTES), 0, Budget(budget))


@given(st.data())
def test_a_value_that_fits_comes_back(data: st.DataObject) -> None:
    kind = data.draw(TYPES)
    value = data.draw(values(kind))
    assert is_transferable(kind)
    assert through(kind, value) == value


@given(kind=TYPES, data=st.data())
def test_any_json_is_taken_or_refused(kind: WitType, data: st.DataObject) -> None:
    """No value of any kind raises anything but a Misfit; what is taken comes back as JSON."""
    any_json = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=3), inner, max_size=3),
        max_leaves=6,
    )
    with suppress(Misfit):
        json.dumps(through(kind, data.draw(any_json)))


S32, STRING = WitPrimitive("s32"), WitPrimitive("string")
POINT = WitRecord((("x", S32), ("label", STRING)))


@pytest.mark.parametrize(
    ("kind", "value", "path"),
    [
        (S32, 2**31, "value: "),
        (S32, True, "value: "),
        (S32, 1.0, "value: "),
        (WitList(POINT), [{"x": 1, "label": ""}, {"x": "1", "label": ""}], "value[1].x: "),
        (WitList(POINT), [{"x": 1}], "value[0]: the field 'label' is missing"),
        (POINT, {"x": 1, "label": "", "y": 2}, "value: there is no field 'y'"),
        (WitTuple((S32, STRING)), [1, 2], "value[1]: "),
        (WitTuple((S32, STRING)), [1], "value: an array of 1 is no tuple of 2"),
        (WitOption(WitOption(S32)), 5, "value: "),
        (WitOption(S32), "x", "value: "),
        (WitResult(S32, None), {"ok": "x"}, "value.ok: "),
        (WitResult(S32, None), {"err": 1}, "value.err: "),
        (WitResult(S32, None), 5, "value: "),
        (WitVariant((("a", S32), ("b", None))), {"c": 1}, "value: "),
        (WitVariant((("a", S32), ("b", None))), {"a": None}, "value.a: null is no s32"),
        (WitEnum(("a", "b")), "c", "value: 'c' is none of a, b"),
        (WitFlags(("a", "b")), ["a", "c"], "value[1]: 'c' is none of a, b"),
        (WitList(WitPrimitive("u8")), [1, 256], "value[1]: 256 is no u8"),
        (WitList(WitPrimitive("u8")), [1, 2, -1], "value[2]: -1 is no u8"),
        (WitList(WitPrimitive("u8")), [1, True], "value[1]: true is no u8"),
        (WitList(WitPrimitive("u8")), "text", "value: 'text' is no list"),
        (STRING, "\ud800", "value: a string with a lone surrogate"),
        (WitPrimitive("char"), "ab", "value: "),
        (WitPrimitive("f32"), 1e40, "value: "),
        (WitPrimitive("f64"), 10**400, "value: "),
    ],
)
def test_what_does_not_fit_is_named_with_its_path(kind: WitType, value: Any, path: str) -> None:
    with pytest.raises(Misfit) as error:
        through(kind, value)
    assert str(error.value).startswith(path)


@pytest.mark.parametrize("size", [0, 1, 2_047, 2_048, 5_000])
def test_bytes_are_laid_out_like_a_list_of_numbers(size: int) -> None:
    data = bytes(place % 256 for place in range(size))
    kind = WitList(WitPrimitive("u8"))
    assert through(kind, data) == through(kind, list(data)) == through(kind, tuple(data)) == list(data)


@pytest.mark.parametrize("count", [0, 2])
def test_the_number_of_arguments_must_be_right(count: int) -> None:
    with pytest.raises(Misfit, match=r"arguments: there must be 1 \(a\)"):
        FunctionPlan(WitFunction((("a", S32),))).encode([1] * count, Arena())


def test_scripts_may_leave_out_options_at_the_end() -> None:
    number, option = WitPrimitive("u8"), WitOption(WitPrimitive("u8"))
    function = WitFunction((("a", option), ("b", number), ("c", option), ("d", option)), None)
    for arguments, complete in (([1, 2], [1, 2, None, None]), ([None, 2, 3], [None, 2, 3, None]), ([1, 2, 3, 4],) * 2):
        assert completed(function, arguments) == complete
    for arguments in ([], [1], [1, 2, 3, 4, 5]):
        assert completed(function, arguments) == arguments


def test_a_result_is_counted_before_it_is_copied() -> None:
    assert through(WitList(STRING), ["x" * 100] * 5, budget=1_000) == ["x" * 100] * 5
    with pytest.raises(BudgetExceeded):
        through(WitList(STRING), ["x" * 100] * 5, budget=500)


def test_handles_have_no_plan() -> None:
    assert not is_transferable(WitList(WitOpaque("own<resource>")))
    with pytest.raises(TypeError):
        plan_of(WitList(WitOpaque("own<resource>")))


def test_every_kind_of_failure_has_a_meaning_and_a_status_of_its_own() -> None:
    assert set(MEANINGS) == set(STATUSES) == set(FailureKind)
    assert len(set(STATUSES.values())) == len(STATUSES)
    assert STATUSES[FailureKind.TIMEOUT] == Status.TIMED_OUT
    assert STATUSES[FailureKind.ARGUMENT] == Status.BAD_ARGUMENTS
