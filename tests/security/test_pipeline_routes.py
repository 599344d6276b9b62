"""Who may do what with pipelines: nobody without credentials, no page of another origin, and each only what their rights say."""

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from pipelines import definitions
from pipelines.api.urls import urlpatterns
from pipelines.models import Pipeline

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]

# Each call and the right that it needs.
CALLS = {
    "GET /api/node-types": "view",
    "GET /api/pipelines": "view",
    "POST /api/pipelines": "create",
    "POST /api/pipelines/validate": "view",
    "POST /api/pipelines/import": "create",
    "GET /api/pipelines/dependency-graph": "view",
    "GET /api/pipelines/ID": "view",
    "PUT /api/pipelines/ID": "edit",
    "PATCH /api/pipelines/ID": "edit",
    "DELETE /api/pipelines/ID": "delete",
    "GET /api/pipelines/ID/validate": "view",
    "GET /api/pipelines/ID/versions": "view",
    "GET /api/pipelines/ID/versions/1": "view",
    "POST /api/pipelines/ID/rollback": "edit",
    "POST /api/pipelines/ID/clone": "create",
    "GET /api/pipelines/ID/export": "export",
    "GET /api/pipelines/ID/webhook-token": "view",
    "POST /api/pipelines/ID/webhook-token": "edit",
    "DELETE /api/pipelines/ID/webhook-token": "edit",
}


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


def test_every_route_is_listed_here() -> None:
    # Those of connections and variables stand in `test_connection_routes.py`.
    ours = [pattern for pattern in urlpatterns if not str(pattern.pattern).startswith(("connection", "variable"))]
    assert len(ours) == len({name.split()[1] for name in CALLS})


@pytest.mark.parametrize("name", [*CALLS, "GET /api/schema", "GET /api/docs"])
def test_without_credentials_everything_is_401(name: str, pipeline_id: str) -> None:
    User.objects.create_user("someone")
    assert call(Client(), name, pipeline_id) == 401


@pytest.mark.parametrize("headers", [{"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}], ids=str)
@pytest.mark.parametrize("name", CALLS)
def test_in_local_mode_no_page_of_another_origin_may_do_anything(name: str, headers: dict[str, str], pipeline_id: str) -> None:
    assert call(Client(), name, pipeline_id, **headers) == 401
    assert definitions.find(Pipeline.objects.get().id).version.number == 1


@pytest.mark.parametrize("name", CALLS)
def test_each_call_needs_its_right_and_no_other(name: str, pipeline_id: str) -> None:
    others = {"view", "create", "edit", "delete", "run"} - {CALLS[name]}
    assert call(user_with(*others), name, pipeline_id) == 403
    User.objects.all().delete()
    assert call(user_with(CALLS[name]), name, pipeline_id) in (200, 201, 204, 400, 422)


def test_importing_over_a_pipeline_needs_the_right_to_edit(pipeline_id: str) -> None:
    name = "POST /api/pipelines/import?on_taken=replace"
    assert call(user_with("create"), name, pipeline_id) == 403


def test_an_export_is_named_by_a_slug_that_cannot_break_its_header(pipeline_id: str) -> None:
    response = Client(headers={"host": "localhost"}).get(f"/api/pipelines/{pipeline_id}/export")
    assert response.headers["Content-Disposition"] == 'attachment; filename="p.yaml"'
