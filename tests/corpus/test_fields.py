"""What no text, number or document may hold, in every field of every body of the API: 400 wherever it stands, the same on both databases.

The fields are those of the OpenAPI document, so a new call is asked without anybody thinking of it.
"""

import functools
import itertools
import json
import random
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from drf_spectacular.generators import SchemaGenerator

from tests.fuzz.world import World

pytestmark = pytest.mark.django_db


@pytest.fixture
def world() -> World:
    """Rows for the addresses: what is wrong with a body is looked at where there is something to change."""
    found = World(random.Random(0))
    found.furnish()
    return found


@pytest.fixture
def root(world: World) -> Client:
    """Who may do everything: nothing is refused for any other reason."""
    client = Client(headers={"host": "localhost"})
    client.force_login(User.objects.create_superuser("root"))
    return client


_DEEP = "100,000 levels"
# What stands in the place of a field's value, as JSON text.
VALUES = {
    "NUL": rb'"a\u0000b"',
    "half of a surrogate pair": rb'"\ud800"',
    "a number of 5,000 digits": b"9" * 5000,
    "NaN": b"NaN",
    "infinity": b"-Infinity",
    "a number out of range": b"1e999",
    _DEEP: b"[" * 100_000 + b"]" * 100_000,
    "the same key twice": b'{"a": 1, "a": 2}',
}


@functools.cache
def document() -> Mapping[str, Any]:
    found: Mapping[str, Any] = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return found


def fields(schema: Mapping[str, Any], whole: Mapping[str, Any], depth: int = 3) -> Iterator[tuple[str, ...]]:
    """The paths to the fields of a body, those within lists and objects too."""
    if "$ref" in schema:
        schema = whole["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    for ways in ("oneOf", "allOf", "anyOf"):
        for way in schema.get(ways, ()):
            yield from fields(way, whole, depth)
    if "items" in schema and depth:
        yield from (("0", *rest) for rest in fields(schema["items"], whole, depth - 1))
    for name, inner in schema.get("properties", {}).items():
        yield (name,)
        if depth:
            yield from ((name, *rest) for rest in fields(inner, whole, depth - 1))


def calls() -> Iterator[tuple[str, str, str, list[tuple[str, ...]]]]:
    """Method, address, media type, and the fields of the body."""
    whole = document()
    for path, methods in whole["paths"].items():
        for method, call in methods.items():
            for media_type, body in call.get("requestBody", {}).get("content", {}).items():
                if method in ("post", "put", "patch") and media_type == "application/json":
                    yield method, path, media_type, [(), *dict.fromkeys(fields(body["schema"], whole))]


def body_with(path: tuple[str, ...], value: bytes) -> bytes:
    """`{"nodes": [{"id": VALUE}]}` of `("nodes", "0", "id")`."""
    for key in reversed(path):
        value = b"[" + value + b"]" if key == "0" else json.dumps({key: 0}).encode().replace(b"0", value)
    return value


def test_there_are_fields() -> None:
    found = list(calls())
    assert len(found) > 20
    assert sum(len(paths) for *_, paths in found) > 150
    assert ("nodes", "0", "position", "x") in next(paths for method, path, _, paths in found if (method, path) == ("post", "/api/pipelines"))


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_no_field_of_any_call_takes_what_no_database_keeps(root: Client, world: World, every: bool) -> None:
    """`every`: each value in each field; otherwise each in one field of each call, and the fields in turn."""
    wrong, asked = [], 0
    turns = itertools.cycle(set(VALUES) - {_DEEP})
    for method, path, media_type, paths in calls():
        for field in paths:
            last = field == paths[-1]
            # Depth is found before any field is looked at: once a call is enough.
            names = [name for name in VALUES if last or (every and name != _DEEP)] if last or every else [next(turns)]
            for name in names:
                asked += 1
                answer = root.generic(method.upper(), address(world, method, path), body_with(field, VALUES[name]), content_type=media_type)
                if answer.status_code not in _refused(path) or json.loads(answer.content)["status"] != answer.status_code:
                    wrong.append((method, path, field, name, answer.status_code))
    assert not wrong, wrong[:10]
    assert asked > 300


@pytest.mark.slow
def test_no_body_of_ten_megabytes_is_taken(root: Client, world: World) -> None:
    long = b'"' + b"x" * 10_000_000 + b'"'
    for method, path, media_type, paths in calls():
        answer = root.generic(method.upper(), address(world, method, path), body_with(paths[-1], long), content_type=media_type)
        assert answer.status_code in {413, *_refused(path)} - {400}, (method, path, answer.status_code)


@pytest.mark.slow
def test_no_address_holds_what_no_database_keeps(root: Client) -> None:
    hostiles = ("a%00b", "%ED%A0%80", "%FF", "9" * 5000, "%2e%2e%2f", "a" * 3000)
    for method, path in ((method, path) for path, methods in document()["paths"].items() for method in methods if "{" in path):
        for hostile in hostiles:
            answer = root.generic(method.upper(), re.sub("{[^}]*}", hostile, path), b"{}", content_type="application/json")
            assert answer.status_code in (400, 404, 405), (method, path, hostile[:10], answer.status_code)


@pytest.mark.slow
def test_no_query_holds_what_no_database_keeps(root: Client, world: World) -> None:
    for path, methods in document()["paths"].items():
        for parameter in (found for found in methods.get("get", {}).get("parameters", ()) if found["in"] == "query" and path != "/api/ws"):
            for hostile in ("a%00b", "%ED%A0%80", "9" * 5000, "NaN"):
                answer = root.get(f"{address(world, 'get', path)}?{parameter['name']}={hostile}")
                assert answer.status_code < 500, (path, parameter["name"], hostile[:10])
                assert hostile != "a%00b" or answer.status_code in (400, 404), (path, parameter["name"])


def address(world: World, method: str, path: str) -> str:
    """Of a row that there is."""
    return path.format(**world.parameters(path, method.upper()))


def _refused(path: str) -> set[int]:
    """A webhook tells nothing of its body to those who do not show its token."""
    return {400, 404} if path.endswith("/webhook") else {400}
