"""Strict JSON: everything a lenient parser would silently change is refused, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage.errors import InvalidError
from serve.gateway.messages import RequestError
from serve.gateway.strict_json import are_exact, read_object, refuse_inexact

_SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
_VALUES = st.recursive(
    _SCALARS | st.text(), lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)


def _text(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


@given(st.dictionaries(st.text(), _VALUES))
def test_whatever_is_sound_is_read_as_it_is(content: dict[str, Any]) -> None:
    assert _text(read_object(_text(content))) == _text(content)
    assert read_object(json.dumps(content).encode()) == read_object(_text(content))  # with blanks and with escapes


@st.composite
def _doubled(draw: st.DrawFn) -> tuple[bytes, str]:
    """An object with one member twice, anywhere in it."""
    name, values = draw(st.text()), draw(st.lists(_VALUES, min_size=2, max_size=2))
    member = [f"{json.dumps(name)}:{orjson.dumps(value).decode()}" for value in values]
    inner = "{" + ",".join(member) + "}"
    around = draw(
        st.sampled_from(["%s", '{"a":%s}', '{"a":[%s]}', '{"a":{"b":%s},"c:d":":"}', '{"a":[1,{"parameters":%s}]}'])
    )
    return (around % inner).encode(), name


@given(_doubled())
def test_a_name_twice_is_found_wherever_it_is(case: tuple[bytes, str]) -> None:
    body, name = case
    with pytest.raises(RequestError, match="is there twice") as told:
        read_object(body)
    assert (told.value.status, told.value.field) == (400, name[:60])


@pytest.mark.parametrize(
    "body",
    [
        b'{"key":"a:b:c"}',
        b'{"key":"a\\u003ab"}',
        b'{"a:b":1,"c":[{"d:e":":"}]}',
        b'{"keys":["urn:1","urn:2"]}',
        b'{"a":[[{"b":{"c":1}}]]}',
        b'{"a":"\\":\\""}',
    ],
)
def test_colons_in_texts_are_no_members(body: bytes) -> None:
    assert read_object(body) == json.loads(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{}{}",
        b"{'a':1}",
        b'{"a":NaN}',
        b'{"a":01}',
        b"\xef\xbb\xbf{}",
        b'{"a":"\xff"}',
        b'"\\ud800"',
        b"[]",
        b"1",
    ],
)
def test_what_is_no_object_of_json_is_malformed(body: bytes) -> None:
    with pytest.raises(RequestError, match="expected, a JSON object: ") as told:
        read_object(body)
    assert told.value.status == 400


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        (b'{"a":1,"features":{"b":1e400}}', "b", r"^features\.b is 1e400; expected a number that 64-bit"),
        (b'{"a":-1e999}', "a", "^a is -1e999"),
        (b'{"a":[0,{"b":9007199254740993}]}', "a[1].b", r"^a\[1\]\.b is 9007199254740993; expected a whole number"),
        (b'{"a":18446744073709551617}', "a", "18446744073709551617"),
        (b'{"a":' + b"9" * 100_000 + b"}", "a", "9{40}…; expected a whole number"),
    ],
)
def test_a_number_that_would_be_changed_is_named_as_it_was_written(body: bytes, field: str, message: str) -> None:
    with pytest.raises(InvalidError, match=message) as told:
        refuse_inexact(body)
    assert (told.value.status, told.value.field) == (422, field)


def test_large_numbers_with_an_exponent_or_a_point_are_meant_so() -> None:
    refuse_inexact(b'{"a":1e300,"b":9007199254740993.0,"c":9007199254740992}')


def test_half_a_pair_of_surrogates_in_a_name_can_be_answered() -> None:
    with pytest.raises(RequestError) as told:
        read_object(b'{"a":1e400,"\\ud800":1,"\\ud800":2}')
    assert orjson.dumps(told.value.body())


@given(st.lists(_SCALARS | st.text()))
def test_numbers_up_to_2_to_the_53_are_exact(values: list[Any]) -> None:
    numbers = [value for value in values if isinstance(value, float | int) and not isinstance(value, bool)]
    assert are_exact(values) == all(abs(number) <= 2**53 for number in numbers)
