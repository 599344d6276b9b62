"""Who may do what with connections and variables: nobody without credentials, no page of another origin, and each only what their rights say."""

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from pipelines import connections, variables
from pipelines.models import Connection, Variable

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]

# Each call and the right that it needs.
CALLS = {
    "GET /api/connection-types": "connections.view",
    "GET /api/connections": "connections.view",
    "POST /api/connections": "connections.create",
    "GET /api/connections/ID": "connections.view",
    "PUT /api/connections/ID": "connections.edit",
    "PATCH /api/connections/ID": "connections.edit",
    "DELETE /api/connections/ID": "connections.delete",
    "POST /api/connections/ID/test": "connections.test",
    "GET /api/connections/ID/used-by": "connections.view",
    "GET /api/variables": "variables.view",
    "POST /api/variables": "variables.create",
    "GET /api/variables/ID": "variables.view",
    "PUT /api/variables/ID": "variables.edit",
    "PATCH /api/variables/ID": "variables.edit",
    "DELETE /api/variables/ID": "variables.delete",
    "GET /api/variables/ID/used-by": "variables.view",
}
RIGHTS = {f"connections.{right}" for right in ("view", "create", "edit", "delete", "test")} | set(CALLS.values())


@pytest.fixture(autouse=True)
def rows() -> None:
    connections.create("one", {"type": "sqlite", "host": "nothing.db"})
    variables.create("one", {"value": "x"})


def call(client: Client, name: str, body: bytes = b"{}", headers: dict[str, str] | None = None) -> Any:
    method, address = name.split()
    return client.generic(
        method, address.replace("ID", "one"), body, content_type="application/json", headers={"host": "localhost", **(headers or {})}
    )


def user_with(*rights: str) -> Client:
    user = User.objects.create_user("someone")
    for right in rights:
        app, codename = right.split(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    client = Client()
    client.force_login(user)
    return client


@pytest.mark.parametrize("name", CALLS)
def test_without_credentials_everything_is_401(name: str) -> None:
    User.objects.create_user("someone")
    assert call(Client(), name).status_code == 401


@pytest.mark.parametrize("headers", [{"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}], ids=str)
@pytest.mark.parametrize("name", CALLS)
def test_in_local_mode_no_page_of_another_origin_may_do_anything(name: str, headers: dict[str, str]) -> None:
    assert call(Client(), name, headers=headers).status_code == 401
    assert (Connection.objects.get().version, Variable.objects.get().version) == (1, 1)


@pytest.mark.parametrize("name", CALLS)
def test_each_call_needs_its_right_and_no_other(name: str) -> None:
    assert call(user_with(*(RIGHTS - {CALLS[name]})), name).status_code == 403
    User.objects.all().delete()
    assert call(user_with(CALLS[name]), name).status_code in (200, 201, 204, 400)


@pytest.mark.parametrize(("rights", "status"), [(["test"], 403), (["create"], 403), (["test", "create"], 200), (["test", "edit"], 200)])
def test_a_draft_is_tested_by_who_may_test_and_make_or_change(rights: list[str], status: int) -> None:
    client = user_with(*(f"connections.{right}" for right in rights))
    assert call(client, "POST /api/connections/test", b'{"type": "sqlite", "host": "nothing.db"}').status_code == status


def test_whether_there_is_one_is_not_told_to_who_may_not_see() -> None:
    client = user_with("pipelines.view")
    found = [client.get(f"/api/connections/{name}", headers={"host": "localhost"}) for name in ("one", "two")]
    assert [response.status_code for response in found] == [403, 403]
    assert found[0].json() | {"instance": "", "request_id": ""} == found[1].json() | {"instance": "", "request_id": ""}
