"""Connections and variables in the admin: made and changed like over the API, with secrets that are typed in and never shown."""

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from pipelines import connections, definitions, variables
from pipelines.models import Connection, Variable
from tests.factories import sql_node

pytestmark = pytest.mark.django_db

CANARY = "canary-1a2b"
FIELDS = {"type": "postgres", "description": "", "host": "db", "port": "", "schema": "", "login": "ada", "password": "", "options": "{}"}


def change(api: Client, row: Any, **fields: str) -> Any:
    kind = row._meta.model_name
    return api.post(f"/admin/pipelines/{kind}/{row.pk}/change/", fields)


def test_a_connection_is_made_changed_and_removed(api: Client) -> None:
    made = api.post("/admin/pipelines/connection/add/", {**FIELDS, "conn_id": "db", "password": CANARY, "options": '{"token": "' + CANARY + '"}'})
    row = Connection.objects.get()
    assert (made.status_code, connections.opened(row).names) == (302, ("password", "token"))
    pages = [api.get(f"/admin/pipelines/connection/{path}").content.decode() for path in ("", "add/", f"{row.pk}/change/")]
    assert not any(CANARY in page for page in pages)
    assert "password, token" in pages[2]

    assert change(api, row, **FIELDS | {"description": "x"}, clear="").status_code == 302
    assert connections.opened(connections.find("db")).password == CANARY
    refused = change(api, row, **FIELDS | {"host": "evil", "password": CANARY + "2"}, clear="")
    assert (refused.status_code, "may be another server" in refused.content.decode(), CANARY in refused.content.decode()) == (200, True, False)
    assert change(api, row, **FIELDS | {"host": "other"}, clear="password, token").status_code == 302
    assert (connections.find("db").host, connections.find("db").secrets) == ("other", "")
    assert api.post(f"/admin/pipelines/connection/{row.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not Connection.objects.exists()


@pytest.mark.parametrize(
    ("fields", "sentence"), [({"host": "a b"}, "name or the address"), ({"options": "["}, "not JSON"), ({"conn_id": "a b"}, "A name has")]
)
def test_what_cannot_be_is_told_beside_its_field(api: Client, fields: dict[str, str], sentence: str) -> None:
    page = api.post("/admin/pipelines/connection/add/", {**FIELDS, "conn_id": "db", "password": CANARY, **fields})
    assert (page.status_code, sentence in page.content.decode(), CANARY in page.content.decode()) == (200, True, False)
    assert not Connection.objects.exists()


def test_a_variable_is_made_and_changed(api: Client) -> None:
    base = {"key": "token", "type": "secret", "new_value": "", "new_secret": CANARY, "description": ""}
    assert api.post("/admin/pipelines/variable/add/", base).status_code == 302
    row = Variable.objects.get()
    page = api.get(f"/admin/pipelines/variable/{row.pk}/change/").content.decode()
    assert CANARY not in page and row.value not in page
    assert change(api, row, **base | {"new_secret": "", "description": "x"}).status_code == 302
    assert variables.find("token").version == 2
    assert change(api, row, **base | {"type": "number", "new_value": "five"}).status_code == 200
    assert change(api, row, **base | {"type": "number", "new_value": "5"}).status_code == 302
    assert variables.find("token").value == "5"
    assert 'name="new_value"' in api.get(f"/admin/pipelines/variable/{row.pk}/change/").content.decode()


def test_a_name_that_is_taken_is_told(api: Client) -> None:
    connections.create("db", {"type": "sqlite", "host": "x"})
    page = api.post("/admin/pipelines/connection/add/", {**FIELDS, "conn_id": "db"})
    assert (page.status_code, "is a connection" in page.content.decode()) == (200, True)


def test_one_in_use_names_its_users_and_is_not_removed(api: Client) -> None:
    row = connections.create("db", {"type": "sqlite", "host": "x"})
    definitions.create({"name": "Nightly", "nodes": [sql_node("a", "SELECT 1", conn_id="db")]})
    assert "Nightly" in api.get(f"/admin/pipelines/connection/{row.pk}/change/").content.decode()
    assert api.post(f"/admin/pipelines/connection/{row.pk}/delete/", {"post": "yes"}).status_code == 403
    api.post("/admin/pipelines/connection/", {"action": "delete_selected", "_selected_action": [str(row.pk)], "post": "yes"})
    assert Connection.objects.exists()


def test_rights_are_those_of_the_api(client: Client) -> None:
    row = connections.create("db", {"type": "sqlite", "host": "x"})
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.add(Permission.objects.get(content_type__app_label="connections", codename="view"))
    client.force_login(user)
    assert client.get(f"/admin/pipelines/connection/{row.pk}/change/").status_code == 200
    assert client.post(f"/admin/pipelines/connection/{row.pk}/change/", FIELDS).status_code == 403
    assert client.get("/admin/pipelines/connection/add/").status_code == client.get("/admin/pipelines/variable/").status_code == 403
