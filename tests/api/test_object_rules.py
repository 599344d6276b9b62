"""Naming a connection or a secret in a pipeline, and a secret outside in a connection or variable, takes a right on what is named."""

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from pipelines import connections, definitions, variables
from pipelines.models import Connection, Pipeline, Variable
from runs.models import Run
from runs.states import RunStatus
from tests.factories import accept_run, end_run
from tests.people import signed_in

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]

AUTHOR = ("pipelines.view", "pipelines.create", "pipelines.edit", "pipelines.run", "runs.backfill")
OUTSIDE = "env://BROKOLI_CREDENTIAL_WAREHOUSE"


def send(client: Client, method: str, address: str, body: Any) -> Any:
    return client.generic(method, f"/api/{address}", json.dumps(body), content_type="application/json")


def places(response: Any) -> list[str]:
    """Where a refusal says that something is named."""
    assert response.status_code == 403, response.content
    assert response.headers["Content-Type"] == "application/problem+json" and response.json()["code"] == "permission_denied"
    return [error["pointer"] for error in response.json()["errors"]]


def node(node_id: str = "a", kind: str = "source_db", **config: Any) -> dict[str, Any]:
    return {"id": node_id, "type": kind, "name": node_id, "config": config}


def using(**config: Any) -> dict[str, Any]:
    return {"name": "Uses", "pipeline_id": "uses", "nodes": [node(**{"conn_id": "warehouse", "query": "SELECT 1 AS x"} | config)]}


PLAIN = {"name": "Plain", "pipeline_id": "plain", "nodes": [node(kind="sql", query="SELECT 1 AS x")]}


def test_whatever_saves_or_tries_a_pipeline_asks_for_the_right_on_the_connections_that_it_names() -> None:
    author, named = signed_in(*AUTHOR), ["/nodes/0/config/conn_id"]
    plain, uses = (str(definitions.create(document).pipeline.id) for document in (PLAIN, using()))
    fresh = using() | {"pipeline_id": "fresh"}
    calls = [
        ("POST", "pipelines", fresh, named),
        ("POST", "pipelines/import", fresh, named),
        ("POST", "pipelines/import?on_taken=rename", using(), named),
        ("POST", "pipelines/import?on_taken=replace", using() | {"pipeline_id": "plain"}, named),
        ("POST", f"pipelines/{uses}/clone", {}, named),
        ("PUT", f"pipelines/{plain}", using() | {"pipeline_id": "plain"}, named),
        ("PATCH", f"pipelines/{plain}", {"nodes": [*PLAIN["nodes"], node("b", conn_id="warehouse", query="SELECT 1")]}, ["/nodes/1/config/conn_id"]),
        ("PATCH", f"pipelines/{uses}", {"nodes": [node(conn_id="other", query="SELECT 1 AS x")]}, named),
        ("PATCH", f"pipelines/{uses}", {"nodes": [node(conn_id="warehouse", query="SELECT 2 AS x")]}, named),
        ("POST", "pipelines/dry-run", fresh, named),
        ("POST", "pipelines/dry-run", using(query="SELECT 2 AS x"), named),
        ("POST", "pipelines", fresh | {"nodes": [node(kind="migrate", source_conn_id="x", dest_conn_id="y")]},
         ["/nodes/0/config/dest_conn_id", "/nodes/0/config/source_conn_id"]),
        ("POST", "pipelines", fresh | {"nodes": [node(kind="code", script="output_data = 1", connections=["x", "y"])]},
         ["/nodes/0/config/connections/0", "/nodes/0/config/connections/1"]),
        ("POST", "pipelines", fresh | {"nodes": [node(conn_id="${param.c}", query="SELECT 1")], "params": {"c": "warehouse"}}, named),
        ("POST", "pipelines", fresh | {"nodes": [node(conn_id="{{ params.c }}", query="SELECT 1")]}, named),
    ]  # fmt: skip
    for method, address, body, pointers in calls:
        refused = send(author, method, address, body)
        assert places(refused) == pointers, (method, address)
        assert "connections.view" in refused.json()["detail"]
    assert sorted(Pipeline.objects.values_list("pipeline_id", "version")) == [("plain", 1), ("uses", 1)]
    # With the right each is taken: it is no fault of theirs.
    allowed = signed_in(*AUTHOR, "connections.view")
    for method, address, body, _ in calls[:3]:
        assert send(allowed, method, address, body).status_code in (201, 409), address
    send(signed_in(*AUTHOR, "connections.view"), "PUT", f"pipelines/{plain}", using() | {"pipeline_id": "plain"})
    assert places(send(author, "POST", f"pipelines/{uses}/clone", {})) == named


def test_what_stays_as_it_is_stored_needs_no_right_and_going_back_is_naming_anew() -> None:
    author = signed_in(*AUTHOR)
    uses = str(definitions.create(using()).pipeline.id)
    more = [*using()["nodes"], node("b", kind="sql", query="SELECT 1 AS x")]
    moved = [using()["nodes"][0] | {"name": "Renamed", "position": {"x": 1, "y": 2}}]
    for body in ({"name": "Other"}, {"nodes": more}, {"nodes": moved}, {"nodes": PLAIN["nodes"]}):
        assert send(author, "PATCH", f"pipelines/{uses}", body).status_code == 200, body
    assert places(send(author, "POST", f"pipelines/{uses}/rollback", {"version": 1})) == ["/nodes/0/config/conn_id"]
    assert places(send(author, "PATCH", f"pipelines/{uses}", {"nodes": using()["nodes"]})) == ["/nodes/0/config/conn_id"]
    assert send(author, "POST", f"pipelines/{uses}/rollback", {"version": 5}).status_code == 200


def test_a_reference_stays_while_what_it_stands_for_stays() -> None:
    author = signed_in(*AUTHOR)
    by_param = using(conn_id="${param.c}") | {"params": {"c": "warehouse", "d": "x"}}
    uses = str(definitions.create(by_param).pipeline.id)
    assert send(author, "PATCH", f"pipelines/{uses}", {"name": "Other"}).status_code == 200
    assert places(send(author, "PATCH", f"pipelines/{uses}", {"params": {"c": "payroll"}})) == ["/nodes/0/config/conn_id"]
    # Nor may who starts a run choose it.
    for address, body in ((f"pipelines/{uses}/run", {}), (f"pipelines/{uses}/backfill", {"start_date": "2024-01-01", "end_date": "2024-01-02"})):
        assert places(send(author, "POST", address, body | {"params": {"c": "payroll"}})) == ["/params/c"]
        assert Run.objects.count() == 0
    assert places(send(author, "POST", f"pipelines/{uses}/dry-run", {"params": {"c": "payroll"}})) == ["/params/c"]
    assert send(author, "POST", f"pipelines/{uses}/run", {"params": {"d": "y"}}).status_code == 202
    chooser = signed_in(*AUTHOR, "connections.view")
    assert send(chooser, "POST", f"pipelines/{uses}/run", {"params": {"c": "payroll"}}).status_code == 202


def test_secrets_are_named_by_who_may_see_variables() -> None:
    author = signed_in(*AUTHOR, "connections.view")
    variables.create("region", {"value": "eu"})
    variables.create("token", {"type": "secret", "value": "hush"})

    def draft(text: str) -> dict[str, Any]:
        return {"name": "Names", "nodes": [node(kind="sql", query="SELECT 1 AS x", note={"deep": ["", text]})]}

    for text in ("${secret.token}", "${secret.missing}", "${var.token}", "a ${var.later} b"):
        refused = send(author, "POST", "pipelines", draft(text))
        assert places(refused) == ["/nodes/0/config/note/deep/1"] and "variables.view" in refused.json()["detail"], text
    for text in ("${var.region}", "$${secret.token}", "secret.token"):
        assert send(author, "POST", "pipelines", draft(text)).status_code == 201, text
    assert send(signed_in(*AUTHOR, "variables.view"), "POST", "pipelines", draft("${secret.token}")).status_code == 201


def test_a_param_of_an_old_run_chooses_no_connection_in_a_new_version() -> None:
    definition = {"name": "Changes", "nodes": [node(kind="sql", query="SELECT 1 AS x")], "params": {"c": "warehouse"}}
    pipeline = definitions.create(definition).pipeline
    failed = end_run(accept_run(pipeline, params={"c": "payroll"}), RunStatus.FAILED)
    definitions.replace(pipeline.id, definition | {"nodes": [node(conn_id="${param.c}", query="SELECT 1")]})
    body = {"version": "latest"}

    assert places(send(signed_in("runs.resume"), "POST", f"runs/{failed.id}/resume", body)) == ["/params/c"]
    assert send(signed_in("runs.resume", "connections.view"), "POST", f"runs/{failed.id}/resume", body).status_code == 202


def test_secrets_outside_are_named_by_who_may_change_settings() -> None:
    keeper = signed_in(*(f"{kind}.{right}" for kind in ("connections", "variables") for right in ("view", "create", "edit")), "connections.test")
    web = {"conn_id": "web", "type": "http", "host": "https://api.example.org"}
    for body, pointer in (
        ({"password": OUTSIDE}, "/password"),
        ({"password_ref": "file://web"}, "/password_ref"),
        ({"extra": {"token": OUTSIDE}}, "/extra/token"),
        ({"extra": {"headers": {"X-Key": "file://a"}}}, "/extra/headers/X-Key"),
        ({"extra": json.dumps({"a/b": ["", OUTSIDE]})}, "/extra/a~1b/1"),
    ):
        for address in ("connections", "connections/test"):
            refused = send(keeper, "POST", address, web | body)
            assert places(refused) == [pointer] and "settings.edit" in refused.json()["detail"], (address, body)
    for body, pointer in (({"value": OUTSIDE}, "/value"), ({"value_ref": OUTSIDE}, "/value_ref")):
        assert places(send(keeper, "POST", "variables", {"key": "token", "type": "secret", **body})) == [pointer]
    assert (Connection.objects.count(), Variable.objects.count()) == (0, 0)
    # A text that is no secret is never looked up, whatever it looks like.
    assert send(keeper, "POST", "variables", {"key": "plain", "value": OUTSIDE}).status_code == 201


def test_a_secret_outside_stays_where_it_was_named_and_goes_nowhere_else() -> None:
    keeper = signed_in("connections.view", "connections.edit", "variables.edit")
    connections.create("web", {"type": "http", "host": "https://api.example.org", "password": OUTSIDE, "extra": {"token": "hush"}})
    variables.create("token", {"type": "secret", "value": OUTSIDE})
    shown = keeper.get("/api/connections/web").json()
    assert send(keeper, "PUT", "connections/web", shown | {"description": "Ours"}).status_code == 200
    assert send(keeper, "PATCH", "connections/web", {"password_ref": OUTSIDE, "extra": {"token": "other"}}).status_code == 200
    assert send(keeper, "PATCH", "variables/token", {"value_ref": OUTSIDE, "description": "Ours"}).status_code == 200
    assert places(send(keeper, "PATCH", "connections/web", {"password_ref": "env://BROKOLI_CREDENTIAL_OTHER"})) == ["/password_ref"]
    assert places(send(keeper, "PATCH", "connections/web", {"extra": {"token": OUTSIDE}})) == ["/extra/token"]
    assert places(send(keeper, "PATCH", "variables/token", {"value": "file://other"})) == ["/value"]
    # Its name given again for another server would hand it to that one.
    away = {"host": "https://evil.example", "password_ref": OUTSIDE, "extra": {"token": "mine"}}
    assert places(send(keeper, "PATCH", "connections/web", away)) == ["/password_ref"]
    assert connections.find("web").host == "https://api.example.org"
    assert send(signed_in("connections.edit", "settings.edit"), "PATCH", "connections/web", away).status_code == 200
    assert send(keeper, "PATCH", "variables/token", {"value": "a secret of mine"}).status_code == 200


def test_the_admin_asks_for_the_same() -> None:
    keeper = signed_in(*(f"{kind}.{right}" for kind in ("connections", "variables") for right in ("view", "create", "edit")))
    User.objects.update(is_staff=True)
    fields = {"conn_id": "web", "type": "http", "description": "", "host": "https://api.example.org", "port": "", "schema": "", "login": ""}
    for page, form in (
        ("connection", fields | {"password": OUTSIDE, "options": "{}"}),
        ("connection", fields | {"options": json.dumps({"token": OUTSIDE})}),
        ("variable", {"key": "token", "type": "secret", "new_secret": OUTSIDE, "new_value": "", "description": ""}),
    ):
        shown = keeper.post(f"/admin/pipelines/{page}/add/", form)
        assert shown.status_code == 200 and "needs the right settings.edit" in shown.content.decode()
    assert (Connection.objects.count(), Variable.objects.count()) == (0, 0)
    assert keeper.post("/admin/pipelines/connection/add/", fields | {"password": "hush", "options": "{}"}).status_code == 302


def test_commands_and_local_mode_may_name_anything() -> None:
    local = Client(headers={"host": "localhost"})
    assert send(local, "POST", "pipelines", using()).status_code == 201
    assert send(local, "POST", "variables", {"key": "token", "type": "secret", "value": OUTSIDE}).status_code == 201
    assert definitions.create(using() | {"pipeline_id": "by-command"}).version.number == 1
