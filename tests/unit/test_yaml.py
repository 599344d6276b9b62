"""The part of YAML that is JSON: written so that it is read back the same, and nothing else accepted."""

from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from brokoli_site.common.errors import BadRequest
from brokoli_site.common.yaml import dumps, loads

TEXT = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]))
AMBIGUOUS = st.sampled_from(
    [
        "0o17",
        "0x1F",
        "017",
        "1_000",
        "1:30",
        "yes",
        "NO",
        "on",
        "~",
        "null",
        "2024-01-15",
        "2024-01-15 06:00:00Z",
        "=",
        "<<",
        ".inf",
        ".NaN",
        "1e3",
        "1.",
        ".5",
        "+1",
        "",
        " ",
        "\n",
        "a\n",
        "a\n\n",
        "\na",
        " a\nb",
        "a \nb",
        "a\tb\nc",
        "#",
        "- a",
        "a: b",
        "a #b",
        "'",
        '"',
        "\u2028",
        "\x85",
        "\ufeff",
        "é\n✓",
        "%a",
        "---",
        "...",
        "? a",
        "{a}",
        "&a",
        "*a",
        "!a",
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**25), 10**25) | st.floats(allow_nan=False, allow_infinity=False) | TEXT | AMBIGUOUS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT | AMBIGUOUS, inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
@settings(max_examples=300, deadline=None)
@example("a\n b\n")
@example(["x\n"])
@example("\t\n")
def test_what_is_written_is_read_back(value: Any) -> None:
    text = dumps({"value": value})
    assert loads(text.encode()) == {"value": value}


@given(st.dictionaries(TEXT, AMBIGUOUS | TEXT, max_size=3))
def test_other_readers_understand_what_is_written(value: dict[str, str]) -> None:
    assert yaml.safe_load(dumps(value)) == value


def test_a_script_is_written_as_a_block() -> None:
    assert dumps({"query": "SELECT 1\nFROM input\n"}) == "query: |\n  SELECT 1\n  FROM input\n"


def test_yaml_1_2_not_1_1() -> None:
    text = b"country: NO\nday: 2024-01-15\nmapping: {1: one, true: yes}\nempty:\nsum: 1e3\noctal: 0o17\nbig: -12345678901234567890"
    assert loads(text) == {
        "country": "NO",
        "day": "2024-01-15",
        "mapping": {"1": "one", "true": "yes"},
        "empty": None,
        "sum": 1000.0,
        "octal": "0o17",
        "big": -12345678901234567890,
    }


def test_json_is_yaml() -> None:
    assert loads(b'{"a": [1, 2.5, "x", null, true, {"b": "\\u00e9"}]}') == {"a": [1, 2.5, "x", None, True, {"b": "é"}]}
    assert loads(b"") == loads(b"# nothing\n") == {}


BOMB = b"a: &a [x, x]\n" + b"".join(b"%c: &%c [*%c, *%c]\n" % (c + 1, c + 1, c, c) for c in range(97, 121))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "Anchors and aliases"),
        (b"a: &x 1", "Anchors and aliases (& and *) are not accepted; write the value out (line 1, column 4)"),
        (b"a: *x", "Anchors and aliases"),
        (b"&x a: 1", "A key must be"),
        (b"a: !!python/object/apply:os.system [ls]", "Tags"),
        (b"a: !env X", "Tags"),
        (b"a: 1\na: 2", "occurs twice (line 2, column 1)"),
        (b"? [a]\n: 1", "A key must be"),
        (b"a: 1\n---\nb: 2", "Only one document"),
        (b"a: .nan", "no JSON form"),
        (b"a: -.inf", "no JSON form"),
        (b"a: 1e999", "out of range"),
        (b"a: " + b"9" * 5000, "more than 4300 digits"),
        (b'a: "\\0"', "NUL"),
        (b'a: "\\ud800"', ""),
        (b"a: \xff", "not UTF-8: byte 3"),
        (b"a: \x01", "not YAML"),
        (b"a: [1", "not YAML"),
        (b"a: b: c", "line 1, column 5"),
        (b"[" * 65 + b"]" * 65, "64 levels"),
        (b"[" * 100_000, ""),
        (b"- " * 100_000, ""),
        (b"{a: " * 100_000, ""),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_refused(text: bytes, words: str) -> None:
    with pytest.raises(BadRequest) as caught:
        loads(text)
    assert words in caught.value.message
    assert len(caught.value.message) < 500
