"""Who may do what with runs: every call, without credentials, with each right, and from elsewhere."""

import base64
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from runs.models import Run
from runs.states import RunStatus
from tests.factories import accept_run, make_pipeline
from tests.history import lines, node_run, output

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]

# Each call, and the one right that opens it.
CALLS = [
    ("POST", "/api/pipelines/{pipeline}/dry-run", "pipelines.run"),
    ("POST", "/api/pipelines/{pipeline}/run", "pipelines.run"),
    ("GET", "/api/pipelines/{pipeline}/runs", "runs.view"),
    ("GET", "/api/pipelines/{pipeline}/deps", "pipelines.view"),
    ("GET", "/api/pipelines/{pipeline}/dependents", "pipelines.view"),
    ("GET", "/api/pipelines/{pipeline}/sla-misses", "pipelines.view"),
    ("GET", "/api/runs", "runs.view"),
    ("GET", "/api/ws", "runs.view"),
    ("GET", "/api/runs/{run}", "runs.view"),
    ("POST", "/api/runs/{run}/cancel", "runs.cancel"),
    ("POST", "/api/runs/{run}/resume", "runs.resume"),
    ("POST", "/api/pipelines/{pipeline}/backfill", "runs.backfill"),
    ("GET", "/api/pipelines/{pipeline}/backfills", "runs.view"),
    ("GET", "/api/backfills/{backfill}", "runs.view"),
    ("POST", "/api/backfills/{backfill}/cancel", "runs.cancel"),
    ("GET", "/api/pools", "pipelines.view"),
    ("DELETE", "/api/pools/warehouse", "pipelines.edit"),
    ("PUT", "/api/pools/warehouse", "pipelines.edit"),
    ("POST", "/api/system/purge", "settings.edit"),
    ("GET", "/api/workers", "runs.view"),
    ("GET", "/api/lineage", "pipelines.view"),
    ("GET", "/api/lineage/columns?pipeline_id={pipeline}", "runs.view"),
    ("GET", "/api/scheduler/status", "pipelines.view"),
    ("POST", "/api/schedules/preview", "pipelines.view"),
    ("GET", "/api/dashboard", "runs.view"),
    ("GET", "/api/audit", "audit.view"),
    ("GET", "/api/audit/export", "audit.export"),
    ("GET", "/api/runs/calendar", "runs.view"),
    ("GET", "/api/system/info", "runs.view"),
    ("GET", "/api/search", "pipelines.view"),
    ("GET", "/api/runs/{run}/logs", "runs.view"),
    ("GET", "/api/runs/{run}/logs/export", "runs.view"),
    ("GET", "/api/runs/{run}/notifications", "runs.view"),
    ("GET", "/api/runs/{run}/nodes/first/preview", "runs.view"),
    ("GET", "/api/runs/{run}/nodes/first/output", "runs.view"),
    ("GET", "/api/runs/{run}/nodes/first/profile", "runs.view"),
]
RIGHTS = sorted({right for _, _, right in CALLS} | {"pipelines.view", "pipelines.edit", "runs.backfill"})
IDS = [f"{method} {path}" for method, path, _ in CALLS]


@pytest.fixture
def run() -> Run:
    run = accept_run(make_pipeline())
    node_run(run, "third")
    output(run)
    lines(run, 2)
    return run


def call(client: Client, run: Run, method: str, path: str, **headers: str) -> Any:
    found = path.format(pipeline=run.pipeline_id, run=run.id, backfill=run.id)
    return client.generic(method, found, b"", content_type="application/json", headers={"host": "localhost", **headers})


def basic(*rights: str) -> dict[str, str]:
    """The header of a user who has these rights."""
    user = User.objects.create_user("somebody", password="a long enough one")
    for right in rights:
        app, codename = right.split(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    return {"authorization": "Basic " + base64.b64encode(b"somebody:a long enough one").decode()}


@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path, _ in CALLS], ids=IDS)
def test_a_stranger_is_told_to_log_in(run: Run, method: str, path: str) -> None:
    User.objects.create_user("somebody")  # ends local mode
    response = call(Client(), run, method, path)
    assert (response.status_code, response["Content-Type"]) == (401, "application/problem+json")
    assert response["WWW-Authenticate"].startswith("Basic")
    assert str(run.id) not in response.json()["detail"]


@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path, _ in CALLS], ids=IDS)
@pytest.mark.parametrize(
    "headers", [{"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}, {"x-forwarded-for": "1.2.3.4"}]
)
def test_local_mode_is_for_this_machine_alone(run: Run, method: str, path: str, headers: dict[str, str]) -> None:
    assert call(Client(), run, method, path, **headers).status_code == 401
    assert Run.objects.get().status == RunStatus.PENDING


@pytest.mark.parametrize(("method", "path", "right"), CALLS, ids=IDS)
def test_a_call_opens_with_its_right_and_with_no_other(run: Run, method: str, path: str, right: str) -> None:
    others = basic(*(name for name in RIGHTS if name != right))
    denied = call(Client(), run, method, path, **others)
    assert (denied.status_code, denied["Content-Type"]) == (403, "application/problem+json")
    assert Run.objects.get().status == RunStatus.PENDING
    User.objects.all().delete()
    assert call(Client(), run, method, path, **basic(right)).status_code in (200, 202, 400, 404, 409, 426)


def test_what_one_may_not_see_one_may_not_probe(run: Run) -> None:
    """Whether a run exists is not told to who may not see runs."""
    headers = basic("pipelines.view")
    known, unknown = (call(Client(), run, "GET", path, **headers) for path in ("/api/runs/{run}", "/api/runs/019a9f3c-5b1e-7c42-9d0e-2f6a4c1b8e70"))
    assert known.status_code == unknown.status_code == 403
    assert known.json() | {"instance": "", "request_id": ""} == unknown.json() | {"instance": "", "request_id": ""}


def test_a_session_needs_the_token_of_its_forms(run: Run) -> None:
    user = User.objects.create_superuser("root", password="a long enough one")
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    assert call(client, run, "POST", "/api/runs/{run}/cancel").status_code == 403
    assert Run.objects.get().status == RunStatus.PENDING
    assert call(client, run, "GET", "/api/runs/{run}").status_code == 200
