"""What the audit log says of a change: which fields, bounded, and no secret."""

import datetime as dt
import json
from typing import Any

import pytest

from brokoli_site.common import differences
from brokoli_site.common.differences import CHANGED, HIDDEN, LONGEST_IN_ALL, LONGEST_TEXT, MOST_CHANGES, SET, difference, told_of_secret

CANARY = "canary-1a2b3c"


def changes(before: Any, after: Any) -> dict[str, tuple[Any, ...]]:
    """`{field: (before, after)}`; `...` for a side that was not there."""
    found = difference(before, after)["changes"]
    return {change["field"]: (change.get("before", ...), change.get("after", ...)) for change in found}


def test_only_what_changed_is_told() -> None:
    assert changes({"a": 1, "b": {"c": 1, "d": 2}}, {"a": 1, "b": {"c": 3, "d": 2}}) == {"b.c": (1, 3)}
    assert changes({"a": 1}, {"a": 1}) == {}
    assert changes(None, {"a": 1, "b": None}) == {"a": (..., 1), "b": (..., None)}
    assert changes({"a": 1}, None) == {"a": (1, ...)}


def test_types_differ_though_values_are_equal() -> None:
    assert changes({"a": 1, "b": {"c": [1]}}, {"a": True, "b": {"c": [True]}}) == {"a": (1, True), "b.c": ([1], [True])}


def test_lists_of_things_with_ids_are_compared_by_id() -> None:
    before = {"nodes": [{"id": "a", "config": {"x": 1}}, {"id": "b", "config": {}}]}
    after = {"nodes": [{"id": "b", "config": {"y": 2}}, {"id": "a", "config": {"x": 1}}, {"id": "c"}]}
    assert changes(before, after) == {"nodes[b].config.y": (..., 2), "nodes[c]": (..., {"id": "c"})}


def test_edges_are_compared_by_their_ends() -> None:
    before, after = [{"from": "a", "to": "b"}], [{"from": "a", "to": "b"}, {"from": "a", "to": "c", "condition": True}]
    assert changes({"edges": before}, {"edges": after}) == {"edges[a to c if true]": (..., after[1])}


def test_other_lists_are_compared_as_wholes() -> None:
    assert changes({"tags": ["a"]}, {"tags": ["a", "b"]}) == {"tags": (["a"], ["a", "b"])}
    twice = [{"id": "a"}, {"id": "a"}]
    assert changes({"nodes": []}, {"nodes": twice}) == {"nodes": ([], twice)}


@pytest.mark.parametrize(
    "name",
    [
        *("password", "Password", "db_password", "passwd", "pwd", "secret", "clientSecret", "client_secret", "api_key", "apikey", "X-API-Key"),
        *("token", "access_token", "Authorization", "private_key", "aws_secret_access_key", "credentials", "Cookie", "signature"),
    ],
)
def test_what_is_named_like_a_secret_is_hidden(name: str) -> None:
    assert changes({name: CANARY}, {name: CANARY + "2"}) == {name: (HIDDEN, HIDDEN)}
    shown = json.dumps([difference(None, made) for made in ({"a": {name: {"deep": [CANARY]}}}, {"a": [{"name": name, "value": CANARY}]})])
    assert CANARY not in shown


@pytest.mark.parametrize("name", ["tokenizer", "secretary", "keyboard", "cookie_count", "password_ref_count"])
def test_what_only_resembles_one_is_not(name: str) -> None:
    assert not differences.is_secret_name(name)


def test_numbers_and_switches_are_no_secrets() -> None:
    assert changes(None, {"has_password": True, "max_tokens": 5}) == {"has_password": (..., True), "max_tokens": (..., 5)}


@pytest.mark.parametrize(
    "text",
    [
        f"postgres://ada:{CANARY}@db.example.org/sales",
        f"Authorization: Bearer {CANARY}",
        f"curl -H 'Authorization: Basic {CANARY}'",
        f'api_key = "{CANARY}"',
        f"password: {CANARY}",
        f"host=db password={CANARY} dbname=x",
        f'{{"token": "{CANARY}"}}',
        f"https://example.org/?access_token={CANARY}&x=1",
        "x" * (LONGEST_TEXT - 20) + f" password={CANARY}",
    ],
)
def test_secrets_in_texts_are_hidden_before_anything_is_cut(text: str) -> None:
    shown = json.dumps([difference({"script": before}, {"script": text}) for before in ("", "y" + text, text + "y")])
    assert CANARY[:8] not in shown


def test_where_a_secret_is_kept_may_be_told() -> None:
    for text in ("${secret.db}", "env://BROKOLI_CREDENTIAL_DB", "file://db", "Bearer ${var.token}"):
        assert changes({}, {"token": text}) == {"token": (..., text)}
    assert changes({}, {"password": SET}) == {"password": (..., SET)}


def test_what_is_told_of_a_secret() -> None:
    assert [told_of_secret(CANARY), told_of_secret(CANARY, CANARY), told_of_secret(CANARY, "other")] == [SET, SET, CHANGED]
    assert [told_of_secret(""), told_of_secret("", "other"), told_of_secret("env://X", "other")] == [None, None, "env://X"]


def test_of_long_texts_the_part_is_shown_that_differs() -> None:
    before, after = "same\n" * 2000 + "old end", "same\n" * 2000 + "new end"
    ((was, now),) = changes({"script": before}, {"script": after}).values()
    assert was.endswith("old end")
    assert now.endswith("new end")
    assert was.startswith("…")
    assert max(len(was), len(now)) <= LONGEST_TEXT + 2


def test_everything_is_bounded() -> None:
    many = difference(None, {f"k{number}": number for number in range(MOST_CHANGES + 50)})
    assert (len(many["changes"]), many["left_out"]) == (MOST_CHANGES, 50)
    wide = difference({}, {f"k{number}": ["y" * 2000] * 1000 for number in range(100)})
    assert len(json.dumps(wide)) < LONGEST_IN_ALL + 10_000
    assert len(wide["changes"]) + wide["left_out"] == 100
    deep: Any = "end"
    for _ in range(500):
        deep = {"d": deep}
    assert len(json.dumps(difference({"a": 1}, {"a": deep, "b": {"a": deep}}))) < 5000


def test_values_that_json_lacks_are_texts() -> None:
    moment = dt.datetime(2026, 1, 15, 6, tzinfo=dt.UTC)
    assert changes(None, {"at": moment, "nan": float("nan")}) == {"at": (..., "2026-01-15T06:00:00+00:00"), "nan": (..., "nan")}
