"""What is told of runs to who may not see them. Who may do what with each route is in `test_every_route.py`."""

import base64
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from runs.models import Run
from tests.factories import accept_run, make_pipeline
from tests.history import lines, node_run, output

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]


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


def test_what_one_may_not_see_one_may_not_probe(run: Run) -> None:
    """Whether a run exists is not told to who may not see runs."""
    headers = basic("pipelines.view")
    known, unknown = (call(Client(), run, "GET", path, **headers) for path in ("/api/runs/{run}", "/api/runs/019a9f3c-5b1e-7c42-9d0e-2f6a4c1b8e70"))
    assert known.status_code == unknown.status_code == 403
    assert known.json() | {"instance": "", "request_id": ""} == unknown.json() | {"instance": "", "request_id": ""}
