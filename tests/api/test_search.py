"""`GET /api/search`."""

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from pipelines import connections, definitions, variables
from pipelines.models import Pipeline, SearchTerm
from tests.factories import save_pipeline, sql_node
from tests.history import past_pipeline, saved_run
from tests.people import signed_in

pytestmark = pytest.mark.django_db


def search(api: Client, q: str, **parameters: str | int) -> list[dict[str, Any]]:
    response = api.get("/api/search", {"q": q, **parameters})
    assert response.status_code == 200, response.content
    return list(response.json())


def names(found: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(one["type"], one["name"]) for one in found]


@pytest.fixture
def stored() -> dict[str, Any]:
    """One of each kind that has to do with users."""
    pipeline = save_pipeline("Users", description="From the shop", schedule="0 6 * * *", nodes=[sql_node("fetch-users", "SELECT 1 AS x")])
    connections.create("users_db", {"type": "postgres", "host": "db.example.org", "login": "hidden-login", "password": "hunter2hunter2"})
    variables.create("users_token", {"type": "secret", "value": "hunter2hunter2", "description": "For the users API"})
    variables.create("batch", {"type": "string", "value": "users-in-the-value"})
    return {"pipeline": pipeline, "run": saved_run(pipeline)}


def test_each_kind_is_found(api: Client, stored: dict[str, Any]) -> None:
    found = search(api, "users")
    assert names(found) == [
        ("pipeline", "Users"),  # called exactly so
        ("connection", "users_db"),  # begin so
        ("variable", "users_token"),
        ("node", "Fetch-Users"),  # contains it
    ]
    assert all(one.keys() == {"type", "id", "name", "description", "meta", "pipeline_id", "pipeline"} for one in found)
    key = str(stored["pipeline"].id)
    assert found[0] == {
        "type": "pipeline",
        "id": key,
        "name": "Users",
        "description": "From the shop",
        "meta": "0 6 * * *",
        "pipeline_id": key,
        "pipeline": "Users",
    }
    assert found[2] | {"id": "users_token", "meta": "secret", "description": "For the users API", "pipeline": None} == found[2]
    assert found[3] | {"id": "fetch-users", "meta": "sql", "pipeline_id": key, "pipeline": "Users"} == found[3]


def test_runs_are_found_by_id_and_by_its_beginning(api: Client, stored: dict[str, Any]) -> None:
    run = str(stored["run"].id)
    for text in (run, run.upper(), run.replace("-", ""), run[:8], run[:14], f" {run[:4]} "):
        (found,) = search(api, text)
        assert (found["type"], found["id"], found["name"], found["meta"], found["pipeline"]) == ("run", run, "Users", "success", "Users"), text
    for text in (run[:3], run[:7] + "-" + run[7], run + "0", run[9:]):
        assert search(api, text) == [], text


def test_what_is_secret_is_neither_searched_nor_shown(api: Client, stored: dict[str, Any]) -> None:
    for text in ("hunter2", "hidden-login", "in-the-value", "db.example.org"):
        assert search(api, text) == []
    assert b"hunter2" not in api.get("/api/search?q=users").content


@pytest.mark.parametrize("q", ["ÜBERBLICK", "überblick", "  Überblick  ", "U\u0308berblick", "BLICK STRASSE", "straße", "ΣΊΣΥΦΟΣ", "σίσυφοσ"])
def test_case_is_no_matter_in_any_script(api: Client, q: str) -> None:
    save_pipeline("Überblick  Straße Σίσυφος", pipeline_id="overview")
    assert names(search(api, q)) == [("pipeline", "Überblick  Straße Σίσυφος")]


@pytest.mark.parametrize(
    ("q", "found"), [("100%", ["100% sure"]), ("%", ["100% sure"]), ("a_b", ["a_b"]), ("_", ["a_b"]), ("\\", ["c\\d"]), ("*", []), ("'", [])]
)
def test_no_character_is_a_wildcard(api: Client, q: str, found: list[str]) -> None:
    for number, name in enumerate(("100% sure", "1000 sure", "a_b", "axb", "c\\d")):
        save_pipeline(name, pipeline_id=f"p{number}", nodes=[sql_node("only", "SELECT 1 AS x")])
    assert [one["name"] for one in search(api, q)] == found


def test_the_best_come_first_and_limit_cuts_the_rest(api: Client) -> None:
    for number, name in enumerate(("my orders", "orders again", "orders", "re-orders", "x")):
        save_pipeline(name, pipeline_id=f"p{number}", description="about orders" if name == "x" else "")
    assert [one["name"] for one in search(api, "Orders")] == ["orders", "orders again", "x", "re-orders", "my orders"]
    assert [one["name"] for one in search(api, "Orders", limit=2)] == ["orders", "orders again"]
    assert [one["name"] for one in search(api, "p1")] == ["orders again"]


def test_a_result_is_of_the_current_version_and_of_what_exists(api: Client) -> None:
    pipeline = save_pipeline("Old name", pipeline_id="one", nodes=[sql_node("old-node", "SELECT 1 AS x"), sql_node("same", "SELECT 1 AS x")])
    kept = SearchTerm.objects.get(node_id="same").id
    definitions.patch(pipeline.id, {"name": "New name", "nodes": [sql_node("new-node", "SELECT 1 AS x"), sql_node("same", "SELECT 1 AS x")]})
    assert search(api, "old-node") == []
    assert names(search(api, "new")) == [("pipeline", "New name"), ("node", "New-Node")]
    assert SearchTerm.objects.get(node_id="same").id == kept
    definitions.delete(pipeline.id)
    assert search(api, "new") == []
    assert not SearchTerm.objects.exists()


def test_limit(api: Client) -> None:
    for number in range(105):
        save_pipeline(f"many{number}", nodes=[])
    assert len(search(api, "many")) == 30
    assert len(search(api, "many", limit=100)) == len(search(api, "many", limit=5000)) == 100
    for limit in ("0", "-1", "x", "1.5", "", "9" * 2000):
        response = api.get("/api/search", {"q": "many", "limit": limit})
        assert (response.status_code, response.json()["errors"][0]["parameter"]) == (400, "limit")
        assert "from 1 to 100" in response.json()["errors"][0]["detail"]


@pytest.mark.parametrize("query", ["", "q=", "q=%20%20", "q=%00", "q=" + "x" * 201, "q=a&q=b", "q=a&nope=1", "query=a"])
def test_bad_input(api: Client, query: str) -> None:
    assert api.get(f"/api/search?{query}").status_code == 400


def test_strange_texts_find_nothing(api: Client, stored: dict[str, Any]) -> None:
    for text in ("\u200b", "\n", "\ufffd", "' OR 1=1 --", "\N{COMBINING DIAERESIS}", "😀" * 199, "users\nusers"):
        assert search(api, f"{text}x") == []
    assert api.get("/api/search?q=%ED%A0%80").status_code in (200, 400)


def test_only_what_the_user_may_see(api: Client, stored: dict[str, Any]) -> None:
    run = str(stored["run"].id)
    own = {"connections.view": {"connection"}, "variables.view": {"variable"}, "runs.view": set(), "settings.edit": set()}
    for right, seen in own.items():
        client = signed_in("pipelines.view", right)
        assert {one["type"] for one in search(client, "users")} == {"pipeline", "node"} | seen
        assert len(search(client, run)) == (right == "runs.view")
    assert signed_in(*own).get("/api/search?q=users").status_code == 403
    assert Client(headers={"host": "localhost"}).get("/api/search?q=users").status_code == 401


def test_as_many_queries_however_much_there_is(api: Client) -> None:
    counts = set()
    for size in (1, 10, 30):
        for number in range(size):
            save_pipeline(f"common {size} {number}", pipeline_id=f"common-{size}-{number}")
            variables.create(f"common_{size}_{number}", {"value": "x"})
        saved_run(past_pipeline(f"run{size}"))
        with CaptureQueriesContext(connection) as captured:
            assert search(api, "common", limit=100)
        counts.add(len(captured))
    assert len(counts) == 1
    assert counts.pop() <= 6


def test_a_pipeline_of_before_there_was_a_search_is_found(api: Client) -> None:
    """What the migration fills."""
    from importlib import import_module

    from django.apps import apps

    save_pipeline("Before", nodes=[sql_node("some-node", "SELECT 1 AS x")])
    broken = Pipeline.objects.create(pipeline_id="broken", name="Broken", created_at="2024-01-15T06:00:00Z", updated_at="2024-01-15T06:00:00Z")
    before = sorted(SearchTerm.objects.values_list("kind", "node_id", "name", "type", "folded"))
    SearchTerm.objects.all().delete()
    import_module("pipelines.migrations.0009_fill_search_terms").fill(apps, None)
    broken_term = SearchTerm.objects.filter(pipeline=broken)
    assert [term.name for term in broken_term] == ["Broken"]
    broken_term.delete()
    assert sorted(SearchTerm.objects.values_list("kind", "node_id", "name", "type", "folded")) == before
