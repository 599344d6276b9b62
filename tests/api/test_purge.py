"""`POST /api/system/purge`."""

import base64
import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from runs.models import Run
from runs.states import RunStatus
from tests.history import past_pipeline, saved_run

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _old_runs(settings: Any, tmp_path: Path) -> None:
    settings.ARTIFACTS = tmp_path
    pipeline = past_pipeline()
    for days in (8, 31, 32):
        saved_run(pipeline, RunStatus.SUCCESS, at=timezone.now() - dt.timedelta(days=days))


def purge(api: Client, body: Any = None, **headers: str) -> Any:
    return api.post("/api/system/purge", b"" if body is None else body, content_type="application/json", headers={"host": "localhost", **headers})


def test_it_says_how_many_it_deleted(api: Client) -> None:
    response = purge(api, {"days": 30})
    assert (response.status_code, response.json()) == (200, {"deleted": 2, "days": 30})
    assert purge(api).json() == {"deleted": 0, "days": 30}
    assert purge(api, {"days": 7}).json() == {"deleted": 1, "days": 7}
    assert not Run.objects.exists()


@pytest.mark.parametrize("days", [0, -1, 1.5, "30", True, None, [30], 10**30])
def test_days_are_a_whole_number_from_one(api: Client, days: Any) -> None:
    response = purge(api, {"days": days})
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (400, "/days")
    assert Run.objects.count() == 3


def test_unknown_fields_are_named(api: Client) -> None:
    assert purge(api, {"dayz": 30}).json()["errors"][0]["pointer"] == "/dayz"
    assert api.get("/api/system/purge").status_code == 405


def user(*rights: str, **fields: Any) -> dict[str, str]:
    made = User.objects.create_user("somebody", password="a long enough one", **fields)
    for right in rights:
        app, codename = right.split(".")
        made.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    return {"authorization": "Basic " + base64.b64encode(b"somebody:a long enough one").decode()}


def test_it_needs_the_right_to_change_settings() -> None:
    others = user("pipelines.edit", "pipelines.delete", "runs.view", "runs.cancel", is_staff=True)
    assert purge(Client()).status_code == 401
    assert purge(Client(), **others).status_code == 403
    assert Run.objects.count() == 3
    User.objects.all().delete()
    assert purge(Client(), **user("settings.edit")).status_code == 200
    assert Run.objects.count() == 1


def test_a_superuser_may() -> None:
    assert purge(Client(), **user(is_superuser=True)).json()["deleted"] == 2


def test_the_right_can_be_given_in_the_admin() -> None:
    User.objects.create_superuser("root", password="a long enough one")
    client = Client(headers={"host": "localhost"})
    client.login(username="root", password="a long enough one")
    page = client.get("/admin/auth/user/add/")
    assert page.status_code == 200
    page = client.get(f"/admin/auth/user/{User.objects.get().pk}/change/")
    assert "Can change settings and delete old runs" in page.content.decode()


def test_the_right_outlives_a_flush_and_is_one(django_db_blocker: Any) -> None:
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    assert Permission.objects.filter(content_type__app_label="settings", codename="edit").count() == 1
