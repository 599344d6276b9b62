"""Who may do what with connections and variables: nobody without credentials, no page of another origin, and each only what their rights say."""

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from pipelines import connections, variables

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]


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


@pytest.mark.parametrize(("rights", "status"), [(["test"], 403), (["create"], 403), (["test", "create"], 200), (["test", "edit"], 200)])
def test_a_draft_is_tested_by_who_may_test_and_make_or_change(rights: list[str], status: int) -> None:
    client = user_with(*(f"connections.{right}" for right in rights))
    assert call(client, "POST /api/connections/test", b'{"type": "sqlite", "host": "nothing.db"}').status_code == status


def test_whether_there_is_one_is_not_told_to_who_may_not_see() -> None:
    client = user_with("pipelines.view")
    found = [client.get(f"/api/connections/{name}", headers={"host": "localhost"}) for name in ("one", "two")]
    assert [response.status_code for response in found] == [403, 403]
    assert found[0].json() | {"instance": "", "request_id": ""} == found[1].json() | {"instance": "", "request_id": ""}
