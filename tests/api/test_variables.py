"""Variables over the API: values as their types say, and secrets that never come out."""

import json
from typing import Any

import pytest
from django.conf import settings
from django.test import Client

from pipelines import definitions
from pipelines.models import Variable
from tests.factories import sql_node

pytestmark = pytest.mark.django_db


def send(api: Client, method: str, path: str, body: Any = None, **headers: str) -> Any:
    text = b"" if body is None else json.dumps(body).encode()
    return api.generic(method, f"/api/variables{path}", text, content_type="application/json", headers=headers)


def stored() -> Any:
    row = Variable.objects.get()
    return settings.KEYRING.open(row.value, row.identity) if row.type == "secret" else json.loads(row.value)


def pointers(response: Any) -> list[str]:
    return [error["pointer"] for error in response.json()["errors"]]


def test_one_is_made_shown_listed_changed_and_removed(api: Client) -> None:
    response = send(api, "POST", "", {"key": "region", "value": "eu"})
    assert (response.status_code, response["Location"], response["ETag"]) == (201, "/api/variables/region", '"1"')
    made = response.json()
    assert {key: made[key] for key in ("key", "type", "value", "has_value", "value_ref", "description")} == {
        "key": "region",
        "type": "string",
        "value": "eu",
        "has_value": True,
        "value_ref": None,
        "description": "",
    }
    assert send(api, "GET", "/region").json() == made
    assert send(api, "GET", "").json() == [made]
    assert send(api, "PATCH", "/region", {"description": "where"}).json()["value"] == "eu"
    assert send(api, "PUT", "/region", {"type": "number", "value": 5}).json()["description"] == ""
    assert send(api, "DELETE", "/region").status_code == 204
    assert send(api, "GET", "/region").status_code == send(api, "DELETE", "/region").status_code == 404


@pytest.mark.parametrize(
    ("kind", "given", "value"),
    [
        ("string", "", ""),
        ("string", " a\n", " a\n"),
        ("number", 5, 5),
        ("number", "5.5", 5.5),
        ("number", -(10**30), -(10**30)),
        ("boolean", True, True),
        ("boolean", "false", False),
        ("json", {"a": [1, None]}, {"a": [1, None]}),
        ("json", '{"a": [1]}', {"a": [1]}),
        ("json", "plain", "plain"),
        ("json", None, None),
        ("json", 5, 5),
    ],
)
def test_values_are_what_their_types_say_and_can_be_written_back(api: Client, kind: str, given: Any, value: Any) -> None:
    made = send(api, "POST", "", {"key": "v", "type": kind, "value": given})
    assert (made.status_code, made.json()["value"], stored()) == (201, value, value)
    assert send(api, "PUT", "/v", made.json()).json()["value"] == value


WRONG: dict[str, list[Any]] = {
    "string": [5, True, None, [], {}, "x" * 64_000],
    "number": ["five", "", True, "true", None, [], "1e999", "NaN", "0x5"],
    "boolean": ["yes", 1, None, "True"],
    "json": ['{"a": NaN}', "[1", '["\\u0000"]'],
    "secret": [5, None, [], {"a": 1}, "env://HOME", "x" * 64_001],
}


@pytest.mark.parametrize(("kind", "index"), [(kind, index) for kind, values in WRONG.items() for index in range(len(values))])
def test_values_that_are_not_are_refused(api: Client, kind: str, index: int) -> None:
    refused = send(api, "POST", "", {"key": "v", "type": kind, "value": WRONG[kind][index]})
    assert (refused.status_code, pointers(refused)) == (400, ["/value"])
    assert not Variable.objects.exists()


@pytest.mark.parametrize(
    "fields", [{"type": "date"}, {"type": None}, {"key": ""}, {"key": "1a"}, {"key": "a b"}, {"key": "x" * 101}, {"key": "a\n"}, {"vlaue": 1}]
)
def test_what_cannot_be_is_named(api: Client, fields: dict[str, Any]) -> None:
    refused = send(api, "POST", "", {"key": "v", "value": "x", **fields})
    assert (refused.status_code, pointers(refused)) == (400, [f"/{next(iter(fields))}"])
    assert pointers(send(api, "POST", "", {"key": "v"})) == ["/value"]


@pytest.mark.parametrize("value", ['"\\u0000"', '"\\ud800"', "NaN", "9" * 5000, "[" * 100 + "]" * 100])
def test_what_no_database_takes_is_refused(api: Client, value: str) -> None:
    text = f'{{"key": "v", "type": "json", "value": {value}}}'
    assert api.generic("POST", "/api/variables", text.encode(), content_type="application/json").status_code == 400


def test_a_secret_goes_in_and_never_comes_out(api: Client) -> None:
    canary = "canary-77aa"
    made = send(api, "POST", "", {"key": "token", "type": "secret", "value": canary})
    assert "value" not in made.json() and made.json()["has_value"] is True
    assert stored() == canary
    assert canary not in str(Variable.objects.values_list().get())
    answers = [
        send(api, "GET", ""),
        send(api, "GET", "/token"),
        send(api, "PATCH", "/token", {"description": "x"}),
        send(api, "PUT", "/token", made.json()),
    ]
    assert all(response.status_code == 200 and canary not in response.content.decode() for response in answers)
    assert stored() == canary
    send(api, "PATCH", "/token", {"value": ""})
    assert stored() == canary
    send(api, "PATCH", "/token", {"value": "another"})
    assert stored() == "another"


def test_another_type_needs_another_value(api: Client) -> None:
    send(api, "POST", "", {"key": "token", "type": "secret", "value": "canary-77aa"})
    refused = send(api, "PATCH", "/token", {"type": "string"})
    assert (refused.status_code, pointers(refused), "canary" in refused.content.decode()) == (400, ["/value"], False)
    assert send(api, "PATCH", "/token", {"type": "string", "value": "open"}).json()["value"] == "open"
    assert send(api, "PATCH", "/token", {"type": "secret"}).status_code == 400


def test_where_a_secret_is_kept_is_shown(api: Client) -> None:
    made = send(api, "POST", "", {"key": "token", "type": "secret", "value_ref": "env://BROKOLI_CREDENTIAL_T"}).json()
    assert (made["value_ref"], "value" in made) == ("env://BROKOLI_CREDENTIAL_T", False)
    assert pointers(send(api, "PATCH", "/token", {"value_ref": "hunter2"})) == ["/value_ref"]


def test_a_key_is_taken_once_and_kept(api: Client) -> None:
    send(api, "POST", "", {"key": "a", "value": "x"})
    assert send(api, "POST", "", {"key": "a", "value": "x"}).status_code == 409
    assert pointers(send(api, "PATCH", "/a", {"key": "b"})) == ["/key"]


def test_a_change_that_saw_another_version_is_refused(api: Client) -> None:
    send(api, "POST", "", {"key": "a", "value": "x"})
    assert send(api, "PATCH", "/a", {"value": "y"}, **{"If-Match": '"1"'}).status_code == 200
    for method in ("PATCH", "PUT", "DELETE"):
        assert send(api, method, "/a", None if method == "DELETE" else {"value": "z"}, **{"If-Match": '"1"'}).status_code == 412
    assert send(api, "DELETE", "/a", **{"If-Match": '"2"'}).status_code == 204


def test_the_listing_is_filtered(api: Client) -> None:
    for key, kind in (("a_x", "string"), ("b_y", "secret"), ("c_x", "string")):
        send(api, "POST", "", {"key": key, "type": kind, "value": "v"})

    def keys(query: str) -> list[str]:
        return [found["key"] for found in send(api, "GET", query).json()]

    assert keys("?type=string") == keys("?q=_X") == ["a_x", "c_x"]
    assert keys("?after=a_x&limit=1") == ["b_y"]
    assert send(api, "GET", "?type=date").status_code == send(api, "GET", "?nope=1").status_code == 400


def test_one_in_use_is_not_removed_unasked(api: Client) -> None:
    send(api, "POST", "", {"key": "region", "value": "eu"})
    definitions.create({"name": "First", "nodes": [sql_node("a", "SELECT ${var.region} AS x")]})
    assert [user["name"] for user in send(api, "GET", "/region/used-by").json()] == ["First"]
    refused = send(api, "DELETE", "/region")
    assert (refused.status_code, "'First'" in refused.json()["detail"]) == (409, True)
    assert send(api, "DELETE", "/region?force=true").status_code == 204
