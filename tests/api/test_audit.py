"""`/api/audit`: who did what to which object, as the calls of the API leave it, and how it is asked for."""

import base64
import csv
import datetime as dt
import io
import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from brokoli_site.common.ids import made_at, new_id
from brokoli_site.common.time import iso
from system import audit_listing
from system.models import AuditEntry
from tests.factories import sql_node
from tests.people import signed_in
from tests.plans import analyse, only_indexed, plan

pytestmark = pytest.mark.django_db

CANARY = "canary-9f8e7d"
ENTRIES = 100_000


def entries(api: Client, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get("/api/audit", query).json()["items"]
    return found


def actions(api: Client, **query: Any) -> list[str]:
    """Oldest first."""
    return [entry["action"] for entry in entries(api, **query)][::-1]


def body(response: Any) -> str:
    return b"".join(response.streaming_content).decode()


def send(api: Client, method: str, url: str, data: Any = None) -> Any:
    return getattr(api, method)(url, json.dumps(data or {}), content_type="application/json")


def document(**keys: Any) -> dict[str, Any]:
    return {"name": "Orders", "nodes": [sql_node("a", "select 1 as x")], "edges": [], **keys}


def made(**columns: Any) -> AuditEntry:
    key = columns.pop("id", None) or new_id()
    given = {"actor": "ada", "via": "session", "action": "pool.updated", "area": "pool", "kind": "pool", "object_id": "warehouse"} | columns
    return AuditEntry.objects.create(id=key, at=made_at(key), diff={"changes": [], "left_out": 0}, **given)


# --- what the calls leave ------------------------------------------------------------------------------------------


def test_an_entry_says_who_what_where_and_how_it_was(api: Client) -> None:
    send(api, "post", "/api/connections", {"conn_id": "db", "type": "postgres", "host": "a", "password": CANARY, "extra": {"token": CANARY}})
    changed = api.patch(
        "/api/connections/db", json.dumps({"host": "b", "password": CANARY + "2", "extra": {"token": None}}), content_type="application/json"
    )
    entry = entries(api)[0]
    assert (entry["actor"], entry["via"], entry["user_id"], entry["address"]) == ("local", "local", "", "127.0.0.1")
    assert (entry["action"], entry["kind"], entry["object_id"], entry["name"]) == ("connection.updated", "connection", "db", "db")
    assert entry["request_id"] == changed["X-Request-ID"]
    assert {change["field"]: (change["before"], change.get("after")) for change in entry["changes"]} == {
        "host": ("a", "b"),
        "password": ("(set)", "(changed)"),
        "secret_extra.token": ("(set)", None),
    }
    assert CANARY not in api.get("/api/audit").content.decode()
    assert CANARY not in body(api.get("/api/audit/export"))


def test_who_is_signed_in_is_named_with_their_id() -> None:
    client = signed_in("connections.create", "audit.view")
    send(client, "post", "/api/connections", {"conn_id": "db", "type": "postgres", "host": "a"})
    (entry,) = entries(client)
    assert entry["actor"].startswith("person")
    assert (entry["via"], entry["user_id"]) == ("session", client.session["_auth_user_id"])


def test_how_somebody_got_in_is_told() -> None:
    User.objects.create_superuser("ada", password="correct horse 7")
    fresh = Client(headers={"host": "localhost"})
    answer = send(fresh, "post", "/api/auth/login", {"username": "ada", "password": "correct horse 7"}).json()
    with_token = Client(headers={"host": "localhost", "authorization": f"Bearer {answer['token']}"})
    with_password = Client(headers={"host": "localhost", "authorization": "Basic " + base64.b64encode(b"ada:correct horse 7").decode()})
    for number, client in enumerate((with_token, with_password)):
        assert send(client, "put", f"/api/pools/{number}", {"slots": 4}).status_code == 201
    by_password, by_token = entries(with_token, action="pool.created")
    assert [(entry["actor"], entry["via"]) for entry in (by_token, by_password)] == [("ada", "token"), ("ada", "basic")]
    assert (bool(by_token["token"]), by_password["token"]) == (True, "")
    assert answer["token"] not in with_token.get("/api/audit").content.decode()


def test_what_is_done_to_pipelines(api: Client) -> None:
    created = send(api, "post", "/api/pipelines", document(pipeline_id="p", enabled=True)).json()
    url = f"/api/pipelines/{created['id']}"
    send(api, "patch", url, {"enabled": False})
    send(api, "patch", url, {"enabled": True})
    send(api, "patch", url, {"nodes": [sql_node("a", "select 2 as x")], "webhook_token": CANARY + "-and-more"})
    assert entries(api, action="pipeline.updated")[0]["changes"] == [
        {"field": "version", "before": 3, "after": 4},
        {"field": "nodes[a].config.query", "before": "select 1 as x", "after": "select 2 as x"},
    ]
    send(api, "post", f"{url}/rollback", {"version": 1})
    clone = send(api, "post", f"{url}/clone").json()
    api.post("/api/pipelines/import?on_taken=replace", api.get(f"{url}/export").content, content_type="application/yaml")
    send(api, "post", f"{url}/webhook-token")
    api.delete(f"{url}/webhook-token")
    api.delete(f"{url}/webhook-token")  # there is none any more, so nothing is done
    api.delete(f"/api/pipelines/{clone['id']}")
    changes = ["created", "disabled", "enabled", "updated", "rolled_back", "cloned", "imported", "deleted"]
    assert actions(api, action="pipeline.*") == [f"pipeline.{change}" for change in changes]
    assert actions(api, object_id=created["id"], action="webhook_token.*") == [
        f"webhook_token.{change}" for change in ("created", "replaced", "deleted")
    ]
    assert CANARY not in api.get("/api/audit").content.decode()


def test_what_is_refused_leaves_no_entry(api: Client) -> None:
    send(api, "post", "/api/pipelines", document(pipeline_id="p"))
    assert send(api, "post", "/api/pipelines", document(pipeline_id="p")).status_code == 409
    assert send(api, "post", "/api/variables", {"key": "x", "type": "number", "value": "no"}).status_code == 400
    assert api.delete("/api/pools/nothing").status_code == 404
    assert actions(api) == ["pipeline.created"]


def test_what_is_done_to_variables_and_pools(api: Client) -> None:
    send(api, "post", "/api/variables", {"key": "region", "type": "string", "value": "EU"})
    send(api, "put", "/api/variables/region", {"type": "secret", "value": CANARY})
    send(api, "put", "/api/variables/region", {"type": "secret", "value": CANARY + "2"})
    api.delete("/api/variables/region")
    send(api, "put", "/api/pools/w", {"slots": 4})
    send(api, "put", "/api/pools/w", {"slots": 5})
    api.delete("/api/pools/w")
    assert actions(api, action="variable.*") == ["variable.created", "variable.updated", "variable.updated", "variable.deleted"]
    values = [change for entry in entries(api, kind="variable") for change in entry["changes"] if change["field"] == "value"]
    assert [(value.get("before"), value.get("after")) for value in values] == [("(set)", None), ("(set)", "(changed)"), ("EU", "(set)"), (None, "EU")]
    assert actions(api, kind="pool") == ["pool.created", "pool.updated", "pool.deleted"]
    assert entries(api, action="pool.updated")[0]["changes"] == [{"field": "slots", "before": 4, "after": 5}]


def test_what_is_done_to_runs_and_backfills(api: Client) -> None:
    pipeline = send(api, "post", "/api/pipelines", document(pipeline_id="p")).json()["id"]
    run = send(api, "post", f"/api/pipelines/{pipeline}/run", {"params": {"region": "EU", "api_key": CANARY}}).json()["id"]
    send(api, "post", f"/api/runs/{run}/cancel")
    assert send(api, "post", f"/api/runs/{run}/cancel").status_code == 409
    send(api, "post", f"/api/pipelines/{pipeline}/backfill", {"start_date": "2026-01-01", "end_date": "2026-01-03"})
    backfill = entries(api, action="backfill.created")[0]["object_id"]
    send(api, "post", f"/api/backfills/{backfill}/cancel")
    send(api, "post", f"/api/backfills/{backfill}/cancel")
    assert actions(api, object_id=run) == ["run.created", "run.cancelled"]
    # One entry for all its runs, and none for what changed nothing.
    assert actions(api) == ["pipeline.created", "run.created", "run.cancelled", "backfill.created", "backfill.cancelled"]
    assert CANARY not in api.get("/api/audit").content.decode()


def test_a_webhook_is_named_as_what_it_is(api: Client) -> None:
    url = f"/api/pipelines/{send(api, 'post', '/api/pipelines', document(pipeline_id='p')).json()['id']}"
    token = send(api, "post", f"{url}/webhook-token").json()["webhook_token"]
    api.post(f"{url}/webhook", b"{}", content_type="application/json", headers={"x-webhook-token": token})
    entry = entries(api, action="run.created")[0]
    assert (entry["actor"], entry["via"], entry["address"]) == ("webhook", "webhook", "127.0.0.1")


def test_an_attempt_of_a_connection_is_noted(api: Client) -> None:
    send(api, "post", "/api/connections/test", {"type": "sqlite", "host": "nowhere.db"})
    (entry,) = entries(api, action="connection.tested")
    assert {change["field"]: change["after"] for change in entry["changes"]}["host"] == "nowhere.db"


def test_an_audited_save_costs_one_insert_more(api: Client) -> None:
    for method, url, data in (
        ("post", "/api/pipelines", document(pipeline_id="p")),
        ("post", "/api/variables", {"key": "x", "value": "1"}),
        ("put", "/api/variables/x", {"value": "2"}),
        ("put", "/api/pools/w", {"slots": 4}),
    ):
        with CaptureQueriesContext(connection) as captured:
            assert send(api, method, url, data).status_code in (200, 201)
        asked = [query["sql"] for query in captured if "system_auditentry" in query["sql"]]
        assert len(asked) == 1
        assert asked[0].startswith("INSERT")


# --- how it is asked for ------------------------------------------------------------------------------------------


def test_filters() -> None:
    client = signed_in("audit.view")
    made(actor="ada", user_id="1", action="pool.updated", area="pool", kind="pool", object_id="warehouse", request_id="r1")
    made(actor="grace", user_id="2", action="pool.deleted", area="pool", kind="pool", object_id="lake", request_id="r2")
    made(actor="ada", user_id="1", action="run.created", area="run", kind="run", object_id="x", name="Users 50%", request_id="r3")
    for query, expected in (
        ({"actor": "ada"}, ["pool.updated", "run.created"]),
        ({"user_id": "2"}, ["pool.deleted"]),
        ({"action": "pool.*"}, ["pool.updated", "pool.deleted"]),
        ({"action": "pool.deleted"}, ["pool.deleted"]),
        ({"kind": "run"}, ["run.created"]),
        ({"object_id": "lake"}, ["pool.deleted"]),
        ({"request_id": "r3"}, ["run.created"]),
        ({"actor": "ada", "action": "pool.*"}, ["pool.updated"]),
        ({"actor": "ada", "action": "pool.*", "kind": "run"}, []),
        ({"q": "50%"}, ["run.created"]),
        ({"q": "GRACE"}, ["pool.deleted"]),
        ({"q": "%"}, ["run.created"]),
        ({"q": "ware", "actor": "grace"}, []),
    ):
        assert actions(client, **query) == expected, query


def test_times_are_included_to_the_millisecond() -> None:
    client = signed_in("audit.view")
    moment = iso(made().at)
    assert [len(entries(client, **{bound: moment})) for bound in ("since", "until")] == [1, 1]
    ahead = iso(timezone.now() + dt.timedelta(minutes=1))
    assert entries(client, since=ahead) == []
    assert entries(client, until="1960-01-01T00:00:00Z") == []
    assert len(entries(client, since="1960-01-01T00:00:00Z", until="9999-12-31T23:59:59Z")) == AuditEntry.objects.count()


def test_pages_follow_each_other_without_gaps() -> None:
    client = signed_in("audit.view")
    keys = [str(made().id) for _ in range(7)]
    found: list[str] = []
    query: dict[str, Any] = {"limit": 3}
    for size in (3, 3, 1):
        page = client.get("/api/audit", query).json()
        assert (len(page["items"]), page["has_next"]) == (size, size == 3)
        found += [entry["id"] for entry in page["items"]]
        query["after"] = page["cursor"]
    assert found == keys[::-1]


def test_a_search_looks_at_so_many_entries_and_goes_on_where_it_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_listing, "LOOKED_AT", 4)
    monkeypatch.setattr(audit_listing, "_STEP", 2)
    client = signed_in("audit.view", "audit.export")
    keys = [str(made(name=name).id) for name in ("needle", *["hay"] * 5, "needle", "hay")]
    page = client.get("/api/audit", {"q": "needle"}).json()
    assert ([entry["id"] for entry in page["items"]], page["has_next"]) == ([keys[6]], True)
    page = client.get("/api/audit", {"q": "needle", "after": page["cursor"]}).json()
    assert ([entry["id"] for entry in page["items"]], page["has_next"]) == ([keys[0]], True)
    assert client.get("/api/audit", {"q": "needle", "after": page["cursor"]}).json() == {"items": [], "has_next": False, "cursor": None}
    exported = [json.loads(line)["id"] for line in body(client.get("/api/audit/export", {"q": "needle"})).splitlines()]
    assert exported == [keys[6], keys[0]]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("who=ada", "who"),
        ("limit=0", "1 to 100"),
        ("limit=101", "1 to 100"),
        ("after=x", "after"),
        ("action=pipeline", "action"),
        ("action=*", "action"),
        ("since=yesterday", "since"),
        ("actor=a%00b", "actor"),
        ("actor=ada&actor=grace", "actor"),
    ],
)
def test_queries_that_make_no_sense_are_refused(query: str, names: str) -> None:
    refused = signed_in("audit.view").get(f"/api/audit?{query}")
    assert refused.status_code == 400
    assert names in refused.content.decode()


def test_there_is_no_way_to_change_or_delete() -> None:
    client = signed_in("audit.view", "audit.export", "settings.edit")
    entry = made()
    for method in ("post", "put", "patch", "delete"):
        assert getattr(client, method)("/api/audit").status_code == 405
        assert getattr(client, method)(f"/api/audit/{entry.id}").status_code == 404


# --- export -------------------------------------------------------------------------------------------------------


def test_csv_is_harmless_in_a_spreadsheet() -> None:
    client = signed_in("audit.export")
    made(actor="=cmd|' /C calc'!A0", name="+1+1", object_id='a,"b"\nc')
    answer = client.get("/api/audit/export?format=csv&kind=pool")
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert answer["Content-Disposition"] == 'attachment; filename="audit.csv"'
    (row,) = csv.DictReader(io.StringIO(body(answer), newline=""))
    assert (row["actor"], row["name"], row["object_id"], row["changes"]) == ("'=cmd|' /C calc'!A0", "'+1+1", 'a,"b"\nc', "[]")


def test_an_export_is_itself_recorded() -> None:
    client = signed_in("audit.export", "audit.view")
    made()
    assert len(body(client.get("/api/audit/export?kind=pool")).splitlines()) == 1
    (entry,) = entries(client, action="audit.exported")
    assert {change["field"]: change["after"] for change in entry["changes"]} == {"format": "jsonl", "kind": "pool"}


# --- cost ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_log(django_db_setup: None, django_db_blocker: Any) -> Any:
    with django_db_blocker.unblock():
        columns = "id, at, actor, user_id, via, token, address, request_id, action, area, kind, object_id, name, diff"
        key, now = ("lpad(to_hex(n), 32, '0')::uuid", "now()") if connection.vendor == "postgresql" else ("printf('%032x', n)", "datetime('now')")
        action = "'run.' || substr('abcde', 1 + n % 5, 1)"
        values = f"{key}, {now}, 'user' || (n % 7), n % 7, 'token', '', '', n, {action}, 'run', 'run', n % 1000, 'n', '{{}}'"
        numbers = f"WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {ENTRIES})"
        with connection.cursor() as cursor:
            cursor.execute(f"{numbers} INSERT INTO system_auditentry ({columns}) SELECT {values} FROM numbers")
        analyse()
        yield
        AuditEntry.objects.all().delete_expired()


@pytest.mark.slow
@pytest.mark.usefixtures("long_log")
@pytest.mark.parametrize(
    "query",
    [
        {},
        {"actor": "user3"},
        {"actor": "nobody"},
        {"user_id": "3"},
        {"action": "run.c"},
        {"action": "run.*"},
        {"kind": "run"},
        {"object_id": "77"},
        {"request_id": "500"},
        {"since": "2020-01-01T00:00:00Z", "until": "2021-01-01T00:00:00Z"},
        {"actor": "user3", "action": "run.c", "kind": "none"},
        {"q": "nothing has this"},
        {"q": "n", "action": "run.*"},
    ],
    ids=str,
)
def test_no_question_reads_the_whole_log(query: dict[str, str]) -> None:
    client = signed_in("audit.view")
    with only_indexed("system_auditentry", may_sort=100) as captured:  # those of a page
        assert client.get("/api/audit", query).status_code == 200
    assert sum("system_auditentry" in asked["sql"] for asked in captured.captured_queries) <= 11


@pytest.mark.slow
@pytest.mark.usefixtures("long_log")
@pytest.mark.parametrize(
    ("query", "index"),
    [
        ({"actor": "nobody"}, "audit_actor"),
        ({"user_id": "none"}, "audit_user"),
        ({"action": "no.such"}, "audit_action"),
        ({"action": "no.*"}, "audit_area"),
        ({"kind": "none"}, "audit_kind"),
        ({"object_id": "none"}, "audit_object"),
        ({"request_id": "none"}, "audit_request"),
    ],
    ids=str,
)
def test_each_filter_has_an_index_of_its_own(query: dict[str, str], index: str) -> None:
    """Without it the database would walk the keys, newest first: also an index, but from one end to the other where little is found."""
    client = signed_in("audit.view")
    with CaptureQueriesContext(connection) as captured:
        assert client.get("/api/audit", query).json()["items"] == []
    (asked,) = [found["sql"] for found in captured.captured_queries if 'FROM "system_auditentry"' in found["sql"]]
    assert index in plan(asked)
