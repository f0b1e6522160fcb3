"""op, math, cmp, array, json and debug: examples through the dispatcher, properties against Python's own arithmetic."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import msgspec
import pytest
from fluvial.air.data.weight import CHUNK
from fluvial.errors import ServiceError
from fluvial.identity import base58_decode
from fluvial.services import Services
from fluvial.services.builtin import objects
from fluvial.services.builtin.arrays import Array
from fluvial.services.builtin.numbers import Cmp, Math
from fluvial.services.builtin.objects import Debug, JsonService
from fluvial.services.builtin.op import BASE58_BYTES_MAX, Op
from fluvial.services.values import RESULT_BYTES_MAX
from hypothesis import given, settings
from hypothesis import strategies as st

LEAST, MOST = -(2**63), 2**63 - 1
HELLO = hashlib.sha256(b"hello, world!").digest()

RESULTS: list[tuple[str, list[Any], Any]] = [
    ("json.parse", ['"' + '[\\"' * 700_000 + '"'], '["' * 700_000),
    ("json.parse", ['"' + ":" * 200_000 + '"'], ":" * 200_000),
    ("json.stringify", ["\n" * 200_000], '"' + "\\n" * 200_000 + '"'),
    ("array.dedup", [["a", "b"] * 10_000 + ["c"]], ["a", "b", "c"]),
    ("json.obj_pairs", [[["a", 1], ["b", 2]] * 10_000 + [["a", 3]]], {"a": 3, "b": 2}),
    ("op.noop", [], ""),
    ("op.noop", [1, 2], ""),
    ("op.identity", [], ""),
    ("op.identity", [{"a": None}], {"a": None}),
    ("op.identity", [None], None),
    ("op.array", [], []),
    ("op.array", [1, "a", []], [1, "a", []]),
    ("op.array_length", [[1, 2, 3]], 3),
    ("op.array_length", [[]], 0),
    ("op.concat", [], []),
    ("op.concat", [[1, 2]], [1, 2]),
    ("op.concat", [[1, 2], [], ["a", [3]]], [1, 2, "a", [3]]),
    ("op.concat_strings", [], ""),
    ("op.concat_strings", ["a", "b", "c"], "abc"),
    ("op.string_to_b58", ["test"], "3yZe7d"),
    ("op.string_from_b58", ["3yZe7d"], "test"),
    ("op.bytes_to_b58", [[116, 101, 115, 116]], "3yZe7d"),
    ("op.bytes_from_b58", ["3yZe7d"], [116, 101, 115, 116]),
    ("op.bytes_to_b58", [[0, 0, 1]], "112"),
    ("op.sha256_string", ["hello, world!"], "QmVQ8pg6L1tpoWYeq6dpoWqnzZoSLCh7E96fCFXKvfKD3u"),
    ("op.sha256_string", ["hello, world!", None, True], [0x12, 32, *HELLO]),
    ("op.sha256_string", ["hello, world!", True, True], list(HELLO)),
    ("op.sha256_string", ["hello, world!", [True], [True]], list(HELLO)),
    ("op.sha256_string", ["hello, world!", [], []], "QmVQ8pg6L1tpoWYeq6dpoWqnzZoSLCh7E96fCFXKvfKD3u"),
    ("math.add", [2, 2], 4),
    ("math.sub", [2, 3], -1),
    ("math.sub", [-1, LEAST], MOST),
    ("math.mul", [2, -1], -2),
    ("math.fmul", [10, 0.66], 6),
    ("math.fmul", [0.5, 0.5], 0),
    ("math.fmul", [-0.5, 0.5], -1),
    ("math.fmul", [100.5, 0.5], 50),
    ("math.div", [2, 3], 0),
    ("math.div", [-7, 2], -3),
    ("math.div", [7, -2], -3),
    ("math.rem", [10, 3], 1),
    ("math.rem", [-7, 2], -1),
    ("math.rem", [7, -2], 1),
    ("math.rem", [LEAST, -1], 0),
    ("math.pow", [2, 0], 1),
    ("math.pow", [0, 0], 1),
    ("math.pow", [2, 62], 2**62),
    ("math.pow", [-2, 63], LEAST),
    ("math.pow", [1, 2**32 - 1], 1),
    ("math.pow", [-1, 2**32 - 1], -1),
    ("math.pow", [-1, 2**32 - 2], 1),
    ("math.pow", [0, 2**32 - 1], 0),
    ("math.log", [2, 2], 1),
    ("math.log", [2, 4], 2),
    ("math.log", [10, 999], 2),
    ("math.log", [2, MOST], 62),
    ("math.log", [5, 1], 0),
    ("cmp.gt", [2, 4], False),
    ("cmp.gte", [2, 2], True),
    ("cmp.lt", [2, 4], True),
    ("cmp.lte", [4, 2], False),
    ("cmp.cmp", [2, 4], -1),
    ("cmp.cmp", [2, -4], 1),
    ("cmp.cmp", [2, 2], 0),
    ("array.sum", [[1, 2, 3]], 6),
    ("array.sum", [[]], 0),
    ("array.sum", [[MOST, 1, -1]], MOST),
    ("array.length", [["a"]], 1),
    ("array.dedup", [["a", "a", "b", "c", "a", "b", "c"]], ["a", "b", "c"]),
    ("array.intersect", [["a", "b", "c"], ["c", "b", "d"]], ["b", "c"]),
    ("array.diff", [["a", "b", "c", "a"], ["c", "b", "d"]], ["a"]),
    ("array.sdiff", [["a", "b", "c"], ["c", "b", "d"]], ["a", "d"]),
    ("array.slice", [[1, 2, 3, 4], 1, 3], [2, 3]),
    ("array.slice", [[1, 2], 2, 2], []),
    ("array.slice", [[], 3, 9], []),
    ("json.obj", [], {}),
    ("json.obj", ["a", 10, "b", "string", "c", None], {"a": 10, "b": "string", "c": None}),
    ("json.obj", ["a", 1, "a", 2], {"a": 2}),
    ("json.put", [{"b": 11}, "a", 10], {"a": 10, "b": 11}),
    ("json.put", [{"a": 11}, "a", 10], {"a": 10}),
    ("json.puts", [{"x": "text"}, "a", 10, "b", "string"], {"a": 10, "b": "string", "x": "text"}),
    ("json.puts", [{"x": 1}], {"x": 1}),
    ("json.obj_pairs", [[["a", 1], ["b", [2]]]], {"a": 1, "b": [2]}),
    ("json.puts_pairs", [{"x": 1}, [["a", 1]]], {"x": 1, "a": 1}),
    ("json.parse", ['{"a":10,"b":"string","c":null}'], {"a": 10, "b": "string", "c": None}),
    ("json.parse", ['"hellow"'], "hellow"),
    ("json.parse", ['{"a":1,"a":2}'], {"a": 2}),
    ("json.parse", ["[1e2,-0.5,1E-400,1e308]"], [100.0, -0.5, 0.0, 1e308]),
    ("json.stringify", [{"b": "string", "a": 10, "c": None}], '{"a":10,"b":"string","c":null}'),
    ("json.stringify", ["ä"], '"ä"'),
    ("debug.stringify", [], '"<empty argument list>"'),
    ("debug.stringify", [[]], "[]"),
    ("debug.stringify", [{"b": 20, "a": 10}], '{"a":10,"b":20}'),
    ("debug.stringify", [1, "a"], '[1,"a"]'),
]

FAILURES: list[tuple[str, list[Any], int, str]] = [
    ("json.parse", ["[" + "[]," * 100_000 + "0]"], 7, "more than 100,000 arrays"),
    ("json.parse", ["[" + "{}," * 700_000 + "0]"], 7, "more than 33,554,432 bytes of memory"),
    ("json.parse", ['{"": 0' + ',"":0' * 100_000 + "}"], 7, "more than 100,000 fields"),
    ("json.stringify", [["\x01" * 1_000_000] * 5], 7, "more than 4,194,304 characters"),
    ("op.identity", [1, 2], 4, "must be 0 to 1; 2 given"),
    ("op.array_length", [], 4, "must be 1; 0 given"),
    ("op.array_length", ["abc"], 4, "'array', must be"),
    ("op.concat", [1, [1, 2], 1], 4, "argument 1, 'arrays', must be"),
    ("op.concat_strings", ["a", 1], 4, "argument 2, 'strings', must be string"),
    ("op.string_to_b58", ["test", 1], 4, "must be 1; 2 given"),
    ("op.string_to_b58", ["x" * (BASE58_BYTES_MAX + 1)], 7, "too many for base58"),
    ("op.string_from_b58", ["x" * 10_000], 7, "characters of base58 are too many"),
    ("op.string_from_b58", ["0OIl"], 7, "is no base58 character"),
    ("op.string_from_b58", ["5Q"], 7, "no UTF-8 text"),
    ("op.bytes_to_b58", [[256]], 4, "'bytes', must be .*u8"),
    ("op.sha256_string", [], 4, "must be 1 to 3; 0 given"),
    ("math.add", [MOST, 1], 7, f"{MOST} . 1 does not fit"),
    ("math.add", [2], 4, "must be 2; 1 given"),
    ("math.add", [2, 1.5], 4, "'y', must be i64"),
    ("math.add", [2, MOST + 1], 4, "'y', must be i64"),
    ("math.sub", [LEAST, 1], 7, "does not fit"),
    ("math.mul", [2**62, 2], 7, "does not fit"),
    ("math.fmul", [1e200, 1e10], 7, "does not fit"),
    ("math.fmul", [1e300, 1e300], 7, "no finite number"),
    ("math.div", [1, 0], 7, "division by zero"),
    ("math.div", [LEAST, -1], 7, "does not fit"),
    ("math.rem", [1, 0], 7, "division by zero"),
    ("math.pow", [2, 63], 7, "does not fit"),
    ("math.pow", [2, 2**32 - 1], 7, "does not fit"),
    ("math.pow", [3, 41], 7, "does not fit"),
    ("math.pow", [2, -1], 4, "'y', must be u32"),
    ("math.log", [1, 5], 7, "no logarithm"),
    ("math.log", [2, 0], 7, "no logarithm"),
    ("cmp.gt", [1, "2"], 4, "'y', must be i64"),
    ("array.sum", [[MOST, 1]], 7, "the sum does not fit"),
    ("array.sum", [["a"]], 4, "'xs', must be"),
    ("array.sum", [[1] * 50_000 + ["a"]], 4, r"at `\$\[50000\]`"),
    ("array.dedup", [[1]], 4, "'xs', must be .*string"),
    ("array.slice", [[1, 2], 1, 3], 7, "no elements 1 to 3 in an array of 2"),
    ("array.slice", [[1, 2], 2, 1], 7, "no elements 2 to 1"),
    ("array.slice", [[1, 2], -1, 1], 4, "'from', must be u64"),
    ("json.obj", ["a", 10, "b"], 4, "the last key, 'b', has no value"),
    ("json.obj", ["a", 10, 5, 1], 4, "key 2 is 5"),
    ("json.put", ["a", "a", 11], 4, "'object', must be"),
    ("json.put", [{}, "a", 10, "b", 20], 4, "must be 3; 5 given"),
    ("json.puts", [], 4, "must be at least 1; 0 given"),
    ("json.puts", [{}, "a"], 4, "has no value"),
    ("json.obj_pairs", [[["a"]]], 4, "'pairs', must be"),
    ("json.obj_pairs", [[[1, 2]]], 4, "'pairs', must be"),
    ("json.puts_pairs", [5, []], 4, "'object', must be"),
    ("json.parse", ["incorrect"], 7, "'incorrect' is no JSON"),
    ("json.parse", [10], 4, "'json', must be string"),
    ("json.parse", ["18446744073709551616"], 7, "does not fit in 64 bits"),
    ("json.parse", ["1e999"], 7, "is no JSON"),
    ("json.parse", ["NaN"], 7, "is no JSON"),
    ("json.parse", ['"\\ud800"'], 7, "is no JSON"),
    ("json.parse", ["[" * 500 + "]" * 500], 7, "nested"),
    ("json.parse", ["[" * 100_000], 7, "nested"),
    ("json.parse", ['"' + '\\":' * 1_300_000], 7, "is no JSON"),  # the text is never closed
    ("json.parse", ['["a\\"", "' + "[" * 700_000], 7, "is no JSON"),
]


@pytest.fixture
async def values(services: Services) -> None:
    for effector in (Op(), Math(), Cmp(), Array(), JsonService(), Debug()):
        await services.serve(effector, kind="builtin")


@pytest.mark.usefixtures("values")
@pytest.mark.parametrize(("name", "arguments", "result"), RESULTS)
async def test_results(name: str, arguments: list[Any], result: Any, ask: Any) -> None:
    answer = await ask(name, *arguments)
    assert answer == result
    assert type(answer) is type(result)


@pytest.mark.usefixtures("values")
@pytest.mark.parametrize(("name", "arguments", "status", "complaint"), FAILURES)
async def test_failures(name: str, arguments: list[Any], status: int, complaint: str, ask: Any) -> None:
    with pytest.raises(ServiceError, match=complaint) as failure:
        await ask(name, *arguments)
    assert failure.value.status == status


@pytest.mark.usefixtures("values")
async def test_a_long_array_is_never_read_at_once(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []
    convert = msgspec.convert

    def noted(value: Any, *more: Any, **options: Any) -> Any:
        lengths.append(len(value) if isinstance(value, list) else 0)
        return convert(value, *more, **options)

    monkeypatch.setattr(msgspec, "convert", noted)
    assert await ask("array.sum", [1] * 50_000) == 50_000
    with pytest.raises(ServiceError):
        await ask("array.sum", [1] * 50_000 + ["a"])
    assert 0 < max(lengths) <= CHUNK


@pytest.mark.parametrize(
    "number", ["1e-320", "1.7976931348623157E308", "0." + "0" * 310 + "1", "17976931348623157" + "0" * 292 + ".0"]
)
def test_other_threads_go_on_between_numbers_that_take_long_to_read(number: str) -> None:
    count, steps = 200, 0

    def noted(frame: FrameType, event: str, argument: object) -> None:
        nonlocal steps
        steps += event == "call"

    text = f"[{','.join([number] * count)}]"
    before = sys.getprofile()
    sys.setprofile(noted)
    try:
        found = JsonService().parse(text)
    finally:
        sys.setprofile(before)
    assert found == json.loads(text)
    assert steps >= count


@pytest.mark.usefixtures("values")
@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [("json.parse", 5_000, True), ("json.parse", 20_000, False), ("op.identity", 200_000, True)],
)
async def test_a_text_that_may_stand_for_much_is_not_read_on_the_loop(
    services: Services, call: Any, name: str, size: int, *, expected: bool
) -> None:
    """JSON of 256 KiB took up to 60 ms in one go."""
    seen = []

    async def in_turn(work: Callable[[], Any], /, *, light: bool = False, pure: bool = False) -> Any:
        seen.append((light, pure))
        return work()

    text = f"[{'[],' * (size // 3)}0]"
    await services.result(call(name, text), in_turn)
    assert seen[0] == (expected, True)


@pytest.mark.usefixtures("values")
async def test_every_function_has_an_example(services: Services) -> None:
    shown = {row[0] for row in RESULTS}
    assert shown == {f"{service}.{name}" for service, names in services.functions().items() for name in names}


# --- texts inside of JSON texts


def outside(text: str) -> str:
    """What of the beginning of a JSON text is outside of texts, a character after the other."""
    found, inside, escaped = "", False, False
    for character in text:
        if escaped or (inside and character == "\\"):
            escaped = not escaped
        elif character == '"':
            inside = not inside
        elif not inside:
            found += character
    return found


@given(st.lists(st.text('"\\[:\n', max_size=5), max_size=4), st.integers(0, 40), st.integers(2, 5))
def test_what_is_outside_of_texts_is_found_in_parts_of_any_length(texts: list[str], end: int, length: int) -> None:
    text = json.dumps(texts)[:end]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objects, "TEXT_PART", length)
        assert "".join(objects._outside_of_texts(text)) == outside(text)


def test_a_text_that_is_never_closed_is_gone_through_once() -> None:
    text = '"' + '\\":' * objects.TEXT_PART
    assert len(list(objects._outside_of_texts(text))) <= len(text) // (objects.TEXT_PART - 1) + 1


@given(st.lists(st.text('"\\\n\x01\x7fä\ud800😀a', max_size=20), max_size=4))
def test_no_text_is_estimated_longer_than_it_becomes(texts: list[str]) -> None:
    try:
        length = len(objects.text_of(texts))
    except UnicodeEncodeError:
        return  # half a character has no JSON
    assert objects._least_length(texts) <= length <= objects._least_length(texts) + 3 * len(texts) + 1


@pytest.mark.parametrize("control", ["\x01", "\n"])
def test_what_escapes_make_too_long_is_refused_before_any_of_it_is_made(control: str) -> None:
    text = control * (RESULT_BYTES_MAX // 2 + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(objects, "msgspec")
        for value in (text, [text], {"a": [text]}):
            assert status_of(lambda value=value: objects.text_of(value)) == 7


# --- properties -------------------------------------------------------------------------------------------------------

i64 = st.integers(LEAST, MOST) | st.sampled_from([LEAST, LEAST + 1, -1, 0, 1, 2, MOST])
words = st.lists(st.text("abc", max_size=2), max_size=8)


def status_of(compute: Any) -> int:
    try:
        compute()
    except ServiceError as error:
        return error.status
    return 0


def expect(exact: int | None, compute: Any) -> None:
    """The exact result, or status 7 where there is none that fits."""
    if exact is None or not LEAST <= exact <= MOST:
        assert status_of(compute) == 7
    else:
        assert compute() == exact


@given(i64, i64)
def test_arithmetic_is_exact_or_fails(x: int, y: int) -> None:
    numbers = Math()
    expect(x + y, lambda: numbers.add(x, y))
    expect(x - y, lambda: numbers.sub(x, y))
    expect(x * y, lambda: numbers.mul(x, y))
    expect(None if y == 0 else int(abs(x) // abs(y)) * (1 if (x < 0) == (y < 0) else -1), lambda: numbers.div(x, y))
    expect(None if y == 0 else int(math.copysign(1, x)) * (abs(x) % abs(y)), lambda: numbers.rem(x, y))


@given(st.integers(-70, 70) | i64, st.integers(0, 70))
def test_powers_are_exact_or_fail(x: int, y: int) -> None:
    expect(x**y, lambda: Math().pow(x, y))


@given(st.integers(2, MOST), st.integers(1, MOST))
def test_a_logarithm_is_the_greatest_exponent_that_fits(base: int, x: int) -> None:
    exponent = Math().log(base, x)
    assert base**exponent <= x < base ** (exponent + 1)


@given(st.floats(-1e12, 1e12), st.floats(-1e6, 1e6))
def test_fmul_is_the_floor_of_the_product(x: float, y: float) -> None:
    assert Math().fmul(x, y) == math.floor(x * y)


@given(i64, i64)
def test_comparisons_agree(x: int, y: int) -> None:
    cmp = Cmp()
    sign = cmp.cmp(x, y)
    assert (cmp.lt(x, y), sign == 0, cmp.gt(x, y)) == (sign == -1, x == y, sign == 1)
    assert cmp.lte(x, y) is not cmp.gt(x, y)
    assert cmp.gte(x, y) is not cmp.lt(x, y)


@given(st.lists(i64, max_size=6))
def test_sums_are_exact_or_fail(xs: list[int]) -> None:
    expect(sum(xs), lambda: Array().sum(xs))


@settings(max_examples=60)
@given(words, words)
def test_set_operations_are_those_of_sets_in_order_of_appearance(xs: list[str], ys: list[str]) -> None:
    arrays = Array()
    for result, expected, order in (
        (arrays.dedup(xs), set(xs), xs),
        (arrays.intersect(xs, ys), set(xs) & set(ys), xs),
        (arrays.diff(xs, ys), set(xs) - set(ys), xs),
        (arrays.sdiff(xs, ys), set(xs) ^ set(ys), xs + ys),
    ):
        assert set(result) == expected
        assert result == sorted(result, key=order.index)
        assert len(result) == len(expected)


@given(st.lists(st.integers(), max_size=6), st.integers(0, 8), st.integers(0, 8))
def test_slices_are_those_of_python_or_fail(array: list[int], first: int, last: int) -> None:
    try:
        assert Array().slice(array, first, last) == array[first:last]
    except ServiceError:
        assert array
        assert not first <= last <= len(array)


@given(st.binary(max_size=80))
def test_base58_goes_there_and_back(data: bytes) -> None:
    op = Op()
    assert op.bytes_from_b58(op.bytes_to_b58(list(data))) == list(data)


@given(st.text(max_size=80))
def test_strings_go_through_base58_and_hashes(text: str) -> None:
    op = Op()
    assert op.string_from_b58(op.string_to_b58(text)) == text
    multihash = op.sha256_string(text)
    assert isinstance(multihash, str)
    assert base58_decode(multihash) == b"\x12\x20" + hashlib.sha256(text.encode()).digest()


@given(st.text(max_size=40))
def test_decoding_any_text_fails_cleanly_or_works(text: str) -> None:
    for decode in (Op().string_from_b58, Op().bytes_from_b58, JsonService().parse):
        assert status_of(lambda decode=decode: decode(text)) in (0, 7)


JSON = st.recursive(
    st.none() | st.booleans() | i64 | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=40)
@given(JSON)
def test_values_go_through_their_text(value: Any) -> None:
    text = JsonService().stringify(value)
    assert JsonService().parse(text) == value
    assert json.loads(text) == value
    assert Debug().stringify(value) == text


@settings(max_examples=40)
@given(st.dictionaries(st.text(), st.integers()), st.lists(st.tuples(st.text("ab", max_size=1), st.integers())))
def test_objects_grow_like_dictionaries(start: dict[str, int], pairs: list[tuple[str, int]]) -> None:
    before, service = dict(start), JsonService()
    flat = list(itertools.chain.from_iterable(pairs))
    assert service.obj(*flat) == service.obj_pairs(pairs) == dict(pairs)
    assert service.puts(start, *flat) == service.puts_pairs(start, pairs) == {**start, **dict(pairs)}
    step = start
    for key, value in pairs:
        step = service.put(step, key, value)
    assert step == {**start, **dict(pairs)}
    assert start == before


@settings(max_examples=40)
@given(st.lists(st.lists(st.integers()), max_size=4))
def test_arrays_join(arrays: list[list[int]]) -> None:
    op = Op()
    joined = op.concat(*arrays)
    assert joined == list(itertools.chain(*arrays))
    assert op.array_length(joined) == sum(map(len, arrays)) == Array().length(joined)
    assert op.array(*joined) == joined
