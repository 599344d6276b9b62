"""Strict JSON in, plain JSON out."""

import datetime as dt
import decimal
import enum
import io
import json
import math
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokoli_site.common.errors import TooLarge
from brokoli_site.common.json import InvalidJSON, StrictJSONParser, dumps, loads, read_limited

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=8), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_written_is_read_back(value: Any) -> None:
    assert loads(dumps({"value": value})) == {"value": value}


@given(st.binary(max_size=60))
def test_bytes_of_any_kind_are_read_or_refused(body: bytes) -> None:
    try:
        value = loads(body)
    except InvalidJSON as error:
        assert error.status == 400
        dumps(error.message).decode()
    else:
        assert value == (json.loads(body) if body.strip(b" \t\r\n") else {})


def test_an_empty_body_is_an_empty_object() -> None:
    assert loads(b"") == loads(b" \n") == {}


def deep(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


@pytest.mark.parametrize(
    ("body", "pointer", "words"),
    [
        (b'{"a": NaN}', "/a", "NaN is not JSON"),
        (b'{"a": [1, -Infinity]}', "/a/1", "-Infinity is not JSON"),
        (b'{"a": 1e999}', "/a", "out of range"),
        (b'{"a": {"b": 1, "c": 2, "b": 3}}', "/a", "The key 'b' occurs twice"),
        (b'{"a~/b": ["\\ud800"]}', "/a~0~1b/0", "surrogate"),
        (b'{"\\udc00": 1}', "/\ufffd", "surrogate"),
        (b'{"a": "x\\u0000"}', "/a", "NUL"),
        (b'{"a\\u0000": 1}', "/a\ufffd", "NUL"),
        (b'{"a": ' + b"1" * 5000 + b"}", "/a", "more than 4300 digits"),
        (b'{"a": -' + b"1" * 5000 + b"}", "/a", "more than 4300 digits"),
        (deep(65), "/0" * 64, "more than 64 levels"),
        (deep(100_000), "", "more than 64 levels"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "", "more than 64 levels"),
        (b'{"a": 1,}', "", "line 1, column"),
        (b"{'a': 1}", "", "line 1, column"),
        (b'{"a": "x\ny"}', "", "line 1, column"),
        (b'{"a": 1} {}', "", "line 1, column"),
        (b'{"a": "\xff"}', "", "byte 7"),
        (b"\xff\xfe{\x00}\x00", "", "byte 0"),
        ("\ufeff{}".encode(), "", "not JSON"),
        (b"nul", "", "line 1, column 1"),
        (b'{"a": 0x10}', "", "line 1"),
        (b'{"a": 01}', "", "line 1"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_refused_and_where(body: bytes, pointer: str, words: str) -> None:
    with pytest.raises(InvalidJSON) as caught:
        loads(body)
    assert words in caught.value.message
    assert caught.value.pointer == pointer
    assert len(caught.value.message) < 600


def test_64_levels_and_4300_digits_are_accepted() -> None:
    assert loads(deep(64))
    assert loads(b"1" * 4300) > 10**4298


class _Endless(io.RawIOBase):
    """A body without end; counts what was taken."""

    taken = 0

    def read(self, size: int = -1) -> bytes:
        assert size >= 0, "a body must never be read as a whole"
        self.taken += size
        return b" " * size


def test_the_limit_is_enforced_while_reading() -> None:
    body = _Endless()
    with pytest.raises(TooLarge, match="1024 KiB"):
        StrictJSONParser().parse(body)  # type: ignore[arg-type]
    assert body.taken <= 1024 * 1024 + 1
    assert read_limited(io.BytesIO(b"12345"), 5) == b"12345"
    with pytest.raises(TooLarge):
        read_limited(io.BytesIO(b"123456"), 5)


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (dt.datetime(2024, 1, 15, 6, 0, 0, 123456, tzinfo=dt.UTC), '"2024-01-15T06:00:00.123Z"'),
        (dt.datetime(2024, 1, 15, 6, tzinfo=dt.timezone(dt.timedelta(hours=2))), '"2024-01-15T04:00:00.000Z"'),
        (dt.datetime(2024, 1, 15, 6), '"2024-01-15T06:00:00.000Z"'),  # noqa: DTZ001
        (dt.date(2024, 1, 15), '"2024-01-15"'),
        (dt.timedelta(seconds=1.5), "1500"),
        (math.nan, "null"),
        ([math.inf, 2**80], "[null,1208925819614629174706176]"),
        (decimal.Decimal("1.10"), '"1.10"'),
        (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (b"\x00\xff", '"AP8="'),
        ({1: {"b", "a"}}, '{"1":["a","b"]}'),
        (Colour.RED, '"red"'),
        ((n for n in (1, 2)), "[1,2]"),
        ("é", '"é"'),
        ("\ud800", '"\\ud800"'),
    ],
)
def test_what_is_written(value: Any, text: str) -> None:
    assert dumps(value).decode() == text


def test_what_has_no_json_form_is_an_error() -> None:
    with pytest.raises(TypeError):
        dumps(object())
