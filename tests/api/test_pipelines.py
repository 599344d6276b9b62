"""The pipeline calls: shapes, statuses, versions, both listings, and what malformed input is answered."""

import json
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoAssertNumQueries

from brokoli_site.common import yaml
from brokoli_site.common.time import iso
from pipelines import definitions
from pipelines.models import Pipeline
from runs import triggers

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("stub_types")]

UNKNOWN = "01890000-0000-7000-8000-000000000000"
KEYS = [
    "id",
    "pipeline_id",
    "name",
    "description",
    "enabled",
    "schedule",
    "schedule_timezone",
    "tags",
    "params",
    "nodes",
    "edges",
    "version",
    "created_at",
    "updated_at",
]


def document(**keys: Any) -> dict[str, Any]:
    nodes = [
        {"id": "rows", "type": "stub_rows", "name": "Rows", "config": {"columns": ["id"]}, "position": {"x": 0, "y": 0}},
        {"id": "pick", "type": "stub_pick", "name": "Pick", "config": {"rules": [{"type": "keep", "column": "id"}]}, "position": {"x": 1, "y": 0}},
    ]
    return {"name": "Daily orders", "nodes": nodes, "edges": [{"from": "rows", "to": "pick"}], **keys}


def send(api: Client, method: str, url: str, body: Any = None, **headers: str) -> Any:
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    return api.generic(method, url, data, content_type="application/json", headers={key.replace("_", "-"): value for key, value in headers.items()})


def make(api: Client, **keys: Any) -> dict[str, Any]:
    response = send(api, "POST", "/api/pipelines", document(**keys))
    assert response.status_code == 201, response.content
    body: dict[str, Any] = response.json()
    return body


def test_create_and_get(api: Client) -> None:
    response = send(api, "POST", "/api/pipelines", document(interface={"x": [1.5, None]}, webhook_token=""))
    body = response.json()
    assert response.status_code == 201
    assert (response.headers["Location"], response.headers["ETag"]) == (f"/api/pipelines/{body['id']}", '"1"')
    assert list(body) == [*KEYS, "interface", "webhook_token"]
    assert body == {
        **document(),
        "id": body["id"],
        "pipeline_id": "daily-orders",
        "description": "",
        "enabled": True,
        "schedule": "",
        "schedule_timezone": "UTC",
        "tags": [],
        "params": {},
        "version": 1,
        "created_at": iso(Pipeline.objects.get().created_at),
        "updated_at": iso(Pipeline.objects.get().updated_at),
        "interface": {"x": [1.5, None]},
        "webhook_token": "",
    }
    got = api.get(response.headers["Location"])
    assert (got.status_code, got.json(), got.headers["ETag"]) == (200, body, '"1"')


def test_what_was_read_can_be_sent_back(api: Client) -> None:
    body = make(api, interface={})
    again = send(api, "PUT", f"/api/pipelines/{body['id']}", body)
    assert again.status_code == 200
    assert {**again.json(), "version": 1, "updated_at": body["updated_at"]} == body


def test_an_invalid_structure_is_422_with_every_problem(api: Client) -> None:
    body = document(schedule="x", edges=[{"from": "rows", "to": "nowhere"}, {"from": "pick", "to": "pick"}])
    response = send(api, "POST", "/api/pipelines", body)
    problem = response.json()
    assert (response.status_code, response.headers["Content-Type"], problem["code"]) == (422, "application/problem+json", "invalid_pipeline")
    assert [(error["pointer"], error.get("node_id")) for error in problem["errors"]] == [
        ("/schedule", None),
        ("/edges/0/to", None),
        ("/edges/1", "pick"),
    ]
    assert not Pipeline.objects.exists()


def test_an_unfinished_config_is_saved_and_reported(api: Client) -> None:
    nodes = [{"id": "rows", "type": "stub_rows", "config": {"count": 0, "zzz": 1}}, {"id": "pick", "type": "stub_pick"}]
    body = make(api, nodes=nodes, edges=[], interface={})
    expected = {
        "valid": False,
        "errors": [
            {"node_id": "rows", "field": "columns", "message": "Field 'columns' is missing.", "line": None, "column": None},
            {"node_id": "rows", "field": "count", "message": "Field 'count' must be 1 or more.", "line": None, "column": None},
            {
                "node_id": "pick",
                "field": "edges",
                "message": "Node 'pick' needs 1 input and has none; draw an edge to it.",
                "line": None,
                "column": None,
            },
        ],
        "warnings": [
            {
                "node_id": "",
                "field": "interface",
                "message": "'interface' is kept, but this server does nothing with it.",
                "line": None,
                "column": None,
            }
        ],
    }
    assert api.get(f"/api/pipelines/{body['id']}/validate").json() == expected
    draft = send(api, "POST", "/api/pipelines/validate", document(nodes=nodes, edges=[], interface={}))
    assert (draft.status_code, draft.json()) == (200, expected)


def test_a_draft_is_judged_however_broken_it_is(api: Client) -> None:
    broken: list[dict[str, Any]] = [{}, {"nodes": 5}, {"name": None, "edges": [[]]}]
    for body in broken:
        response = send(api, "POST", "/api/pipelines/validate", body)
        assert (response.status_code, response.json()["valid"]) == (200, False)
    assert not Pipeline.objects.exists()


def test_changes_are_guarded_by_the_etag(api: Client) -> None:
    body = make(api)
    url = f"/api/pipelines/{body['id']}"
    first = send(api, "PUT", url, document(name="Second"), if_match='"1"')
    assert (first.status_code, first.json()["version"], first.headers["ETag"]) == (200, 2, '"2"')
    for method, payload in (("PUT", document()), ("PATCH", {"enabled": False}), ("DELETE", None)):
        for stale in ('"1"', 'W/"2"', '"x"', '"1", W/"2"', '""'):
            lost = send(api, method, url, payload, if_match=stale)
            assert (lost.status_code, lost.json()["code"]) == (412, "precondition_failed")
        for malformed in ("2", "", '"1', "*, *", '"1" "2"'):
            assert send(api, method, url, payload, if_match=malformed).status_code == 400
    assert send(api, "PUT", url, document(schedule="x"), if_match='"1"').status_code == 422
    assert send(api, "POST", f"{url}/rollback", {"version": 1}, if_match='"1"').status_code == 412
    assert send(api, "PATCH", url, {"enabled": False}, if_match='"1", "2"').json()["enabled"] is False
    assert send(api, "PATCH", url, {"enabled": True}, if_match="*").status_code == 200
    assert send(api, "PATCH", url, {"tags": ["x"]}).json()["version"] == 5


def test_patch_is_a_merge_patch(api: Client) -> None:
    body = make(api, params={"a": 1, "b": 2}, interface={})
    patched = send(api, "PATCH", f"/api/pipelines/{body['id']}", {"params": {"a": None, "c": 3}, "interface": None, "description": "x"}).json()
    assert (patched["params"], patched["description"], patched["nodes"], "interface" in patched) == ({"b": 2, "c": 3}, "x", body["nodes"], False)
    refused = send(api, "PATCH", f"/api/pipelines/{body['id']}", {"name": None})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/name")


def test_versions_rollback_and_clone(api: Client) -> None:
    body = make(api)
    url = f"/api/pipelines/{body['id']}"
    send(api, "PATCH", url, {"name": "Second"})
    back = send(api, "POST", f"{url}/rollback", {"version": 1})
    assert (back.status_code, back.json()["version"], back.json()["name"], back.headers["ETag"]) == (200, 3, "Daily orders", '"3"')
    versions = api.get(f"{url}/versions").json()
    assert [(version["version"], version["comment"], version["created_by"]) for version in versions] == [
        (3, "Back to version 1", None),
        (2, "", None),
        (1, "", None),
    ]
    assert [version["version"] for version in api.get(f"{url}/versions?before=3&limit=1").json()] == [2]
    old = api.get(f"{url}/versions/2").json()
    assert (old["name"], old["version"], old["id"]) == ("Second", 2, body["id"])
    clone = send(api, "POST", f"{url}/clone", {"name": "Mine"})
    assert (clone.status_code, clone.json()["name"], clone.json()["pipeline_id"], clone.json()["version"]) == (201, "Mine", "mine", 1)
    assert clone.json()["nodes"] == body["nodes"]
    assert clone.headers["Location"] == f"/api/pipelines/{clone.json()['id']}"
    assert send(api, "POST", f"{url}/clone").json()["name"] == "Daily orders (copy)"
    assert send(api, "POST", f"{url}/rollback", {"version": 9}).status_code == 404
    for wrong in ({}, {"version": "1"}, {"version": 0}, {"version": 1, "x": 1}, {"version": 10**30}):
        assert send(api, "POST", f"{url}/rollback", wrong).status_code == 400


def test_delete(api: Client) -> None:
    body = make(api)
    url = f"/api/pipelines/{body['id']}"
    assert (send(api, "DELETE", url).status_code, send(api, "DELETE", url).status_code, api.get(url).status_code) == (204, 404, 404)
    assert api.get("/api/pipelines").json() == []


def test_a_pipeline_with_active_runs_is_not_deleted(api: Client) -> None:
    body = make(api)
    run = triggers.run(Pipeline.objects.get())
    refused = send(api, "DELETE", f"/api/pipelines/{body['id']}")
    assert (refused.status_code, "1 run of it is active" in refused.json()["detail"]) == (409, True)
    triggers.cancel(run.id)
    assert send(api, "DELETE", f"/api/pipelines/{body['id']}").status_code == 204


def test_export_and_import(api: Client) -> None:
    body = make(api, interface={"script": "a\nb\n", "when": "2024-01-15", "no": "NO"}, description="Zeile 1\nZeile 2: ✓")
    exported = api.get(f"/api/pipelines/{body['id']}/export")
    assert (exported.status_code, exported.headers["Content-Type"]) == (200, "application/yaml")
    assert exported.headers["Content-Disposition"] == 'attachment; filename="daily-orders.yaml"'
    text = exported.content
    assert b"script: |" in text
    taken = api.post("/api/pipelines/import", text, content_type="application/yaml")
    assert (taken.status_code, taken.json()["code"]) == (409, "conflict")
    replaced = api.post("/api/pipelines/import?on_taken=replace", text, content_type="text/yaml")
    assert (replaced.status_code, replaced.json()["id"], replaced.json()["version"]) == (200, body["id"], 2)
    renamed = api.post("/api/pipelines/import?on_taken=rename", text, content_type="application/x-yaml")
    assert (renamed.status_code, renamed.json()["pipeline_id"]) == (201, "daily-orders-2")
    send(api, "DELETE", f"/api/pipelines/{body['id']}")
    again = api.post("/api/pipelines/import", text, content_type="application/yaml; charset=utf-8")
    changing = ("id", "created_at", "updated_at")
    assert again.status_code == 201
    assert {**again.json(), **dict.fromkeys(changing)} == {**body, **dict.fromkeys(changing)}
    as_json = api.post("/api/pipelines/import", json.dumps(document(pipeline_id="j")), content_type="application/json")
    assert (as_json.status_code, as_json.json()["pipeline_id"]) == (201, "j")


@pytest.mark.parametrize(
    ("text", "status", "words"),
    [
        (b"a: &x [1]\nb: *x", 400, "Anchors and aliases"),
        (b"name: x\nname: y", 400, "occurs twice (line 2"),
        (b"a: !!python/object/apply:os.system ['id']", 400, "Tags"),
        (b"a: [", 400, "not YAML"),
        (b"- 1", 400, "must be a JSON object"),
        (b"name: x\nnodes: [{id: a, type: teleport}]", 422, "teleport"),
        (b"x: " + b"a" * (5 * 1024 * 1024), 413, "5120 KiB"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_import_refuses(api: Client, text: bytes, status: int, words: str) -> None:
    response = api.post("/api/pipelines/import", text, content_type="application/yaml")
    assert (response.status_code, words in response.json()["detail"]) == (status, True)


def test_both_listings(api: Client) -> None:
    made = [make(api, name=f"P{number}")["id"] for number in range(5)][::-1]
    bare = api.get("/api/pipelines").json()
    assert [item["id"] for item in bare] == made
    assert list(bare[0]) == [
        "id",
        "pipeline_id",
        "name",
        "description",
        "enabled",
        "schedule",
        "schedule_timezone",
        "tags",
        "version",
        "node_count",
        "created_at",
        "updated_at",
    ]
    assert (bare[0]["name"], bare[0]["node_count"], bare[0]["created_at"][-1]) == ("P4", 2, "Z")
    seen, cursor = [], ""
    for _ in range(3):
        page = api.get(f"/api/pipelines?limit=2{cursor}").json()
        seen += [item["id"] for item in page["items"]]
        assert page["has_next"] == (page["cursor"] is not None) == (len(seen) < 5)
        cursor = f"&after={page['cursor']}"
    assert seen == made
    assert [item["id"] for item in api.get(f"/api/pipelines?after={made[3]}").json()["items"]] == made[4:]


def test_filters(api: Client) -> None:
    make(api, name="Orders", tags=["daily", "50%"], description="Ätzend")
    make(api, name="Customers", tags=["DAILY"], enabled=False, pipeline_id="crm_import")

    def names(query: str) -> list[str]:
        return sorted(item["name"] for item in api.get(f"/api/pipelines?{query}").json())

    assert names("q=&tag=") == ["Customers", "Orders"]
    assert names("q=order") == ["Orders"]
    assert names("q=CRM_") == ["Customers"]
    assert names("q=%25") == names("q=nothing") == []
    assert names("tag=daily") == names("tag=50%25") == ["Orders"]
    assert names("tag=dail") == names("tag=%22") == []
    assert names("enabled=true") == ["Orders"]
    assert names("enabled=false") == ["Customers"]
    assert names("q=o&enabled=true&tag=daily") == ["Orders"]
    assert len(api.get("/api/pipelines?limit=1&enabled=false").json()["items"]) == 1


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("after=x", "after"),
        ("after=%00", "after"),
        ("enabled=maybe", "enabled"),
        ("enabled=", "enabled"),
        ("page=1", "page"),
        ("q=%00", "q"),
        ("tag=" + "x" * 101, "tag"),
    ],
)
def test_queries_that_are_refused(api: Client, query: str, name: str) -> None:
    response = api.get(f"/api/pipelines?{query}")
    assert (response.status_code, response.json()["errors"][0]["parameter"]) == (400, name)


@pytest.mark.parametrize("pipeline_id", ["x", "1", UNKNOWN, UNKNOWN[:-1], "%00", "..%2f", "daily-order", "null"])
def test_ids_that_are_no_pipeline_are_404(api: Client, pipeline_id: str) -> None:
    make(api)
    calls = [
        ("GET", "", None),
        ("PUT", "", document()),
        ("PATCH", "", {}),
        ("DELETE", "", None),
        ("GET", "/validate", None),
        ("GET", "/versions", None),
        ("GET", "/versions/1", None),
        ("POST", "/rollback", {"version": 1}),
        ("POST", "/clone", {}),
        ("GET", "/export", None),
    ]
    for method, tail, body in calls:
        response = send(api, method, f"/api/pipelines/{pipeline_id}{tail}", body)
        assert (response.status_code, response.headers["Content-Type"]) == (404, "application/problem+json"), (method, tail)


def test_a_slug_names_a_pipeline_wherever_its_id_does(api: Client) -> None:
    made = make(api)
    url = f"/api/pipelines/{made['pipeline_id']}"
    assert api.get(url).json()["id"] == made["id"]
    for tail in ("/validate", "/versions", "/versions/1", "/export"):
        assert api.get(url + tail).status_code == 200, tail
    changed = send(api, "PATCH", url, {"description": "By its slug"}).json()
    assert (changed["id"], changed["version"]) == (made["id"], 2)
    assert send(api, "POST", f"{url}/rollback", {"version": 1}).json()["version"] == 3
    assert send(api, "POST", f"{url}/clone", {}).status_code == 201
    assert send(api, "PUT", url, document()).json()["version"] == 4
    assert send(api, "DELETE", url).status_code == 204
    assert api.get(url).status_code == 404


def test_methods_and_media_types_that_are_refused(api: Client) -> None:
    url = f"/api/pipelines/{make(api)['id']}"
    for method, address in (
        ("PUT", "/api/pipelines"),
        ("POST", url),
        ("GET", "/api/pipelines/import"),
        ("DELETE", f"{url}/versions"),
        ("POST", "/api/node-types"),
    ):
        assert send(api, method, address, {}).status_code == 405, (method, address)
    for address in ("/api/pipelines", "/api/pipelines/validate", f"{url}/clone", f"{url}/rollback"):
        assert api.post(address, "name: x", content_type="application/yaml").status_code == 415
    assert api.get("/api/pipelines/").status_code == 404


STRINGS = {
    "NUL": (b'"a\\u0000b"', 400),
    "raw NUL": (b'"a\x00b"', 400),
    "lone surrogate": (b'"\\ud800"', 400),
    "bad UTF-8": (b'"\xff"', 400),
    "NaN": (b"NaN", 400),
    "-Infinity": (b"-Infinity", 400),
    "5,000 digits": (b"1" * 5000, 400),
    "1e999": (b"1e999", 400),
    "100,000 deep": (b"[" * 100_000 + b"]" * 100_000, 400),
    "65 deep": (b"[" * 65 + b"]" * 65, 400),
    "10 MB": (b'"' + b"x" * 10_000_000 + b'"', 413),
    "duplicate keys": (b'{"a": 1, "a": 2}', 400),
}
FIELDS = {
    "name": b'{"name": %s}',
    "node id": b'{"name": "x", "nodes": [{"id": %s, "type": "stub_rows"}]}',
    "config": b'{"name": "x", "nodes": [{"id": "a", "type": "stub_rows", "config": {"columns": [%s]}}]}',
    "edge": b'{"name": "x", "edges": [{"from": %s, "to": "a"}]}',
    "unknown key": b'{"name": "x", "interface": {"x": [%s]}}',
    "slug": b'{"name": "x", "pipeline_id": %s}',
}


@pytest.mark.parametrize("fault", STRINGS)
def test_values_that_are_refused_in_any_field(api: Client, fault: str) -> None:
    value, status = STRINGS[fault]
    url = f"/api/pipelines/{make(api)['id']}"
    for field, template in FIELDS.items():
        for method, address in (
            ("POST", "/api/pipelines"),
            ("PUT", url),
            ("PATCH", url),
            ("POST", "/api/pipelines/validate"),
            ("POST", "/api/pipelines/import"),
        ):
            response = send(api, method, address, template % value)
            assert (response.status_code, response.headers["Content-Type"]) == (status, "application/problem+json"), (field, method, address)
    assert Pipeline.objects.count() == 1
    for tail, key in (("rollback", b"version"), ("clone", b"name")):
        assert send(api, "POST", f"{url}/{tail}", b'{"%s": %s}' % (key, value)).status_code == status


def test_large_integers_and_odd_texts_come_back(api: Client) -> None:
    odd = {"big": 2**80, "negative": -(2**70), "tiny": 1e-300, "text": "\u2028\x85\ufeff\U0001f600'\"\\\x7f", "": {"": []}, "a/b~c": 1}
    body = make(api, odd=odd)
    assert api.get(f"/api/pipelines/{body['id']}").json()["odd"] == odd
    text = api.get(f"/api/pipelines/{body['id']}/export").content
    assert yaml.loads(text)["odd"] == odd


def test_500_nodes_of_any_shape_are_answered_and_one_more_is_refused(api: Client) -> None:
    nodes = [{"id": "n0", "type": "stub_rows", "config": {"columns": ["id"]}}, *({"id": f"n{i}", "type": "stub_many"} for i in range(1, 500))]
    shapes = {
        "wide": [{"from": "n0", "to": f"n{i}"} for i in range(1, 500)],
        "deep": [{"from": f"n{i}", "to": f"n{i + 1}"} for i in range(499)],
        "diamonds": [{"from": f"n{i}", "to": f"n{i + step}"} for i in range(498) for step in (1, 2)],
    }
    for edges in shapes.values():
        body = make(api, nodes=nodes, edges=edges)
        assert api.get(f"/api/pipelines/{body['id']}/validate").json()["valid"]
    ring = [*shapes["deep"], {"from": "n499", "to": "n1"}]
    refused = send(api, "POST", "/api/pipelines", document(nodes=nodes, edges=ring))
    assert (refused.status_code, "in a circle: n1 → n2" in refused.json()["detail"]) == (422, True)
    many = send(api, "POST", "/api/pipelines", document(nodes=[*nodes, {"id": "n500", "type": "stub_many"}]))
    assert (many.status_code, "at most 500 nodes" in many.json()["detail"]) == (422, True)


def test_node_types(api: Client) -> None:
    found = {item["type"]: item for item in api.get("/api/node-types").json()}
    rows = found["stub_rows"]
    assert rows.keys() == {"type", "label", "category", "help", "ports", "enabled", "schema"}
    assert (rows["ports"], rows["category"], rows["enabled"]) == ({"least": 0, "most": 0}, "transform", True)
    assert rows["schema"]["properties"]["count"]["description"] == "How many rows."
    assert found["stub_many"]["ports"] == {"least": 1, "most": None}


def test_costs_do_not_grow(api: Client, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    """Each call asks once whether local mode lasts, and then a fixed number of times whatever there is."""
    for number in range(30):
        made = definitions.create(document(name=f"P{number}"))
    for number in range(30):
        definitions.patch(made.pipeline.id, {"tags": [f"{number}"]})
    url = f"/api/pipelines/{made.pipeline.id}"
    for address, queries in (
        ("/api/pipelines", 2),
        ("/api/pipelines?limit=20", 2),
        ("/api/pipelines?q=p&tag=x&enabled=true", 2),
        (url, 2),
        (f"{url}/validate", 2),
        (f"{url}/versions", 3),
        (f"{url}/versions/3", 2),
        (f"{url}/export", 2),
        ("/api/node-types", 1),
    ):
        with django_assert_num_queries(queries):
            assert api.get(address).status_code == 200
    for method, address, body, queries in (
        ("POST", "/api/pipelines", document(pipeline_id="explicit"), 8),  # one of them into the audit log, as of all these
        ("POST", "/api/pipelines", document(name="P1"), 9),
        ("PUT", url, document(), 13),  # it is called differently: what it is found by, too
        ("PATCH", url, {"enabled": False}, 10),
    ):
        with CaptureQueriesContext(connection) as captured:
            assert send(api, method, address, body).status_code in (200, 201)
        assert len(captured) <= queries, [query["sql"] for query in captured]


def test_listings_do_not_load_documents(api: Client) -> None:
    make(api)
    with CaptureQueriesContext(connection) as captured:
        api.get("/api/pipelines")
        api.get("/api/pipelines?limit=5")
    assert not [query["sql"] for query in captured if "document" in query["sql"]]
