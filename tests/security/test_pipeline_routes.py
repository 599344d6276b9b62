"""Calls about pipelines that ask for more than their route does. Who may do what with each route is in `test_every_route.py`."""

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from pipelines import definitions

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]


@pytest.fixture
def pipeline_id() -> str:
    return str(definitions.create({"name": "p"}).pipeline.id)


def call(client: Client, name: str, pipeline_id: str, **headers: str) -> int:
    method, address = name.split()
    response = client.generic(
        method, address.replace("ID", pipeline_id), b"{}", content_type="application/json", headers={"host": "localhost", **headers}
    )
    return response.status_code


def user_with(*rights: str) -> Client:
    user = User.objects.create_user("someone")
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="pipelines", codename__in=rights))
    client = Client()
    client.force_login(user)
    return client


def test_importing_over_a_pipeline_needs_the_right_to_edit(pipeline_id: str) -> None:
    name = "POST /api/pipelines/import?on_taken=replace"
    assert call(user_with("create"), name, pipeline_id) == 403


def test_an_export_is_named_by_a_slug_that_cannot_break_its_header(pipeline_id: str) -> None:
    response = Client(headers={"host": "localhost"}).get(f"/api/pipelines/{pipeline_id}/export")
    assert response.headers["Content-Disposition"] == 'attachment; filename="p.yaml"'
