"""Pools over the API and in the admin."""

import json
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from runs import pools, transitions
from runs.models import Pool
from tests.factories import accept_run, make_pipeline, register_worker, sql_node

pytestmark = pytest.mark.django_db


def put(api: Client, name: str, body: Any) -> Any:
    return api.put(f"/api/pools/{name}", json.dumps(body), content_type="application/json")


def use(pool: str, *node_ids: str) -> None:
    """A run whose nodes ask for a slot."""
    run = accept_run(make_pipeline([sql_node(node_id, "SELECT 1 AS x", pool=pool) for node_id in node_ids]))
    lease = transitions.start_run(run.id, register_worker().id)
    assert lease is not None
    with transitions.fenced(lease):
        pools.ask(run.id, dict.fromkeys(node_ids, pool))


def test_a_pool_is_made_changed_and_removed(api: Client) -> None:
    made = put(api, "warehouse", {"slots": 4, "description": "Bears four."})
    shown = {"name": "warehouse", "slots": 4, "executing": 0, "waiting": 0, "description": "Bears four.", "declared": True}
    assert (made.status_code, made.json(), made["Location"]) == (201, shown, "/api/pools/warehouse")

    changed = put(api, "warehouse", {"slots": 2})
    assert (changed.status_code, changed.json()) == (200, shown | {"slots": 2, "description": ""})
    assert api.get("/api/pools").json() == [changed.json()]

    assert api.delete("/api/pools/warehouse").status_code == 204
    assert api.delete("/api/pools/warehouse").status_code == 404
    assert api.get("/api/pools").json() == []


def test_what_executes_and_waits_is_counted_in_pools_that_nobody_made_too(api: Client, settings: Any) -> None:
    settings.POOL_SLOTS = 2
    Pool.objects.create(name="b", slots=1, description="")
    use("b", "first", "second")
    use("a/ä", "first", "second", "third")

    assert api.get("/api/pools").json() == [
        {"name": "a/ä", "slots": 2, "executing": 2, "waiting": 1, "description": "", "declared": False},
        {"name": "b", "slots": 1, "executing": 1, "waiting": 1, "description": "", "declared": True},
    ]
    assert put(api, "a/ä", {"slots": 3}).json() == {"name": "a/ä", "slots": 3, "executing": 2, "waiting": 1, "description": "", "declared": True}


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/slots"),
        ({"slots": 0}, "/slots"),
        ({"slots": 10_001}, "/slots"),
        ({"slots": "4"}, "/slots"),
        ({"slots": 4.0}, "/slots"),
        ({"slots": True}, "/slots"),
        ({"slots": None}, "/slots"),
        ({"slots": 4, "description": 5}, "/description"),
        ({"slots": 4, "description": "x" * 501}, "/description"),
        ({"slots": 4, "slot": 4}, "/slot"),
    ],
)
def test_bad_fields_are_named(api: Client, body: Any, pointer: str) -> None:
    response = put(api, "warehouse", body)
    assert (response.status_code, [error["pointer"] for error in response.json()["errors"]]) == (400, [pointer])
    assert not Pool.objects.exists()


@pytest.mark.parametrize("name", ["x" * 201, "%00", "a%0Ab", "%20a", "a%20"])
def test_a_name_that_cannot_be_one_is_not_found(api: Client, name: str) -> None:
    assert put(api, name, {"slots": 1}).status_code == 404
    assert api.delete(f"/api/pools/{name}").status_code == 404
    assert not Pool.objects.exists()


def test_who_may_only_see_may_not_change(client: Client) -> None:
    user = User.objects.create_user("viewer", password="a long enough one")
    user.user_permissions.add(Permission.objects.get(content_type__app_label="pipelines", codename="view"))
    client.force_login(user)
    assert client.get("/api/pools").status_code == 200
    assert put(client, "warehouse", {"slots": 1}).status_code == 403
    assert not Pool.objects.exists()


def test_the_admin_makes_changes_and_removes_them(api: Client) -> None:
    assert api.post("/admin/runs/pool/add/", {"name": "warehouse", "slots": 4, "description": ""}).status_code == 302
    assert api.post("/admin/runs/pool/warehouse/change/", {"slots": 2, "description": "Old."}).status_code == 302
    assert Pool.objects.get() == Pool(name="warehouse")
    assert (Pool.objects.get().slots, Pool.objects.get().description) == (2, "Old.")
    page = api.post("/admin/runs/pool/add/", {"name": "none", "slots": 0, "description": ""})
    assert (page.status_code, Pool.objects.count()) == (200, 1)
    assert api.post("/admin/runs/pool/warehouse/delete/", {"post": "yes"}).status_code == 302
    assert not Pool.objects.exists()


def test_the_admin_shows_who_holds_and_who_waits(api: Client) -> None:
    Pool.objects.create(name="warehouse", slots=1)
    use("warehouse", "first", "second")
    page = api.get("/admin/runs/poolticket/").content.decode()
    assert page.count("warehouse") >= 2
    assert "icon-yes" in page
    assert "icon-no" in page
