"""`/livez`, `/readyz` and `/health`: what they say, and to whom."""

import base64
import datetime as dt
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from django.utils import timezone

from brokoli_site.common.secrets import Keyring
from brokoli_site.common.version import VERSION
from runs import queue, scheduler_looks
from runs.models import SchedulerLook, Worker
from system import health
from tests.factories import accept_run, register_worker, save_pipeline

# Health is looked at over a connection of its own, which sees what is committed.
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _afresh() -> Iterator[None]:
    health.forget()
    yield
    health.forget()


def well(api: Client) -> None:
    """Somebody works and looks at the clock."""
    register_worker()
    scheduler_looks.note()


def details(api: Client, status: str, code: int = 200) -> dict[str, Any]:
    """The parts, of a health of that status."""
    health.forget()
    response = api.get("/health")
    body = response.json()
    assert (response.status_code, body["status"]) == (code, status), body
    checks: dict[str, Any] = body["checks"]
    return checks


def headers(*rights: str) -> dict[str, str]:
    user = User.objects.create_user("somebody", password="a long enough one")
    for right in rights:
        app, codename = right.split(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    return {"host": "localhost", "authorization": "Basic " + base64.b64encode(b"somebody:a long enough one").decode()}


def test_all_is_well(api: Client) -> None:
    well(api)
    accept_run()
    found = details(api, "ok")
    assert found.keys() == {"artifacts", "database", "migrations", "openlineage", "queue", "scheduler", "secrets", "workers"}
    assert {check["status"] for check in found.values()} <= {"ok", "warning"}
    assert found["workers"] == {"status": "ok", "message": "", "alive": 1, "draining": 0, "dead": 0, "slots": 1}
    assert (found["queue"]["waiting"], found["queue"]["running"], found["queue"]["parked"]) == (1, 0, 0)
    assert found["artifacts"]["free_bytes"] > 0
    assert found["database"]["vendor"] == connection.vendor
    assert api.get("/health").json()["version"] == VERSION
    assert api.get("/livez").json() == {"status": "ok"}
    assert api.get("/readyz").json() == {"status": "ready", "problems": []}


def test_an_old_sqlite_is_a_warning(api: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    well(api)
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 2))
    old = details(api, "ok")["database"]
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 3))
    new = details(api, "ok")["database"]
    expected = ("warning", True) if connection.vendor == "sqlite" else ("ok", False)
    assert (old["status"], "older than 3.51.3" in old["message"]) == expected
    assert (new["status"], new["message"]) == ("ok", "")


def test_missing_migrations(api: Client) -> None:
    well(api)
    record = MigrationRecorder.Migration.objects.filter(app="runs").latest("id")
    record.delete()
    try:
        response = api.get("/readyz")
        sentence = "The database is not up to date: run `manage.py migrate`."
        assert (response.status_code, response.json()) == (503, {"status": "not ready", "problems": [sentence]})
        health.forget()
        response = api.get("/health")
        assert (response.status_code, response.json()) == (503, {"status": "down"})
        assert api.get("/livez").status_code == 200
        found = health.health().as_json()
        assert found["migrations"]["missing"] == [f"runs.{record.name}"]
        assert (found["workers"]["status"], found["workers"]["alive"]) == ("unknown", None)
    finally:
        record.save(force_insert=True)


def test_nobody_looks_at_the_clock(api: Client) -> None:
    register_worker()
    assert details(api, "ok")["scheduler"]["message"] == "No pipeline has a schedule."
    save_pipeline("Daily", schedule="0 6 * * *")
    assert "ever looked" in details(api, "degraded")["scheduler"]["message"]
    SchedulerLook.objects.create(looked_at=timezone.now() - dt.timedelta(seconds=health.LATE_LOOK_SECONDS + 5))
    late = details(api, "degraded")["scheduler"]
    assert late["age_seconds"] > health.LATE_LOOK_SECONDS
    assert late["last_look"].endswith("Z")
    scheduler_looks.note()
    assert details(api, "ok")["scheduler"]["age_seconds"] < 60


def test_nobody_takes_runs(api: Client) -> None:
    assert "start one" in details(api, "degraded")["workers"]["message"]
    worker = register_worker()
    queue.heartbeat(worker.id, draining=True)
    assert (details(api, "degraded")["workers"]["draining"], details(api, "degraded")["workers"]["slots"]) == (1, 0)
    Worker.objects.update(draining=False, process=f"{worker.process}1")
    assert details(api, "degraded")["workers"]["dead"] == 1


def test_the_folder_of_the_artifacts(api: Client, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    well(api)
    monkeypatch.setattr(health, "LITTLE_SPACE", 2**62)
    assert "almost full" in details(api, "degraded")["artifacts"]["message"]
    monkeypatch.undo()
    settings.ARTIFACTS = tmp_path / "gone"
    found = details(api, "degraded")["artifacts"]
    assert "cannot be written to" in found["message"]
    assert (found["free_bytes"], str(tmp_path) in found["message"]) == (None, False)
    settings.ARTIFACTS = tmp_path
    details(api, "ok")
    assert list(tmp_path.iterdir()) == []


def test_secrets_that_no_key_opens(api: Client, settings: Any) -> None:
    well(api)
    api.post("/api/variables", {"key": "token", "value": "s3cret-value", "type": "secret"}, content_type="application/json")
    assert details(api, "ok")["secrets"]["message"] == ""
    settings.KEYRING = Keyring((Fernet.generate_key(),))
    assert "BROKOLI_ENCRYPTION_KEYS lacks" in details(api, "degraded")["secrets"]["message"]


class TestWhoSeesWhat:
    PATHS = ("/livez", "/readyz", "/health")
    STRANGERS = ({"host": "10.1.2.3:8080"}, {"host": "localhost", "x-forwarded-for": "1.2.3.4"}, {"host": "localhost", "origin": "null"})

    @pytest.mark.parametrize("path", PATHS)
    @pytest.mark.parametrize("given", STRANGERS)
    def test_a_stranger_hears_one_word(self, api: Client, path: str, given: dict[str, str]) -> None:
        well(api)
        response = Client(headers=given).get(path)
        assert response.status_code == 200
        assert response.json().keys() <= {"status", "problems"}
        assert VERSION not in response.content.decode()
        assert response.headers["Cache-Control"] == "no-store"

    def test_once_there_are_users_local_mode_is_over(self, api: Client) -> None:
        well(api)
        User.objects.create_user("somebody")
        assert api.get("/health").json() == {"status": "ok"}

    def test_details_need_the_right(self, api: Client) -> None:
        well(api)
        assert api.get("/health", headers=headers("pipelines.view")).json() == {"status": "ok"}
        User.objects.all().delete()
        assert "checks" in api.get("/health", headers=headers("runs.view")).json()

    def test_wrong_credentials_are_told_so(self, api: Client) -> None:
        wrong = {"host": "localhost", "authorization": "Basic " + base64.b64encode(b"somebody:wrong").decode()}
        headers("runs.view")
        assert api.get("/health", headers=wrong).status_code == 401

    @pytest.mark.parametrize("path", PATHS)
    def test_they_are_for_reading(self, api: Client, path: str) -> None:
        response = api.post(path)
        assert (response.status_code, response.headers["Allow"]) == (405, "GET, HEAD")
        assert api.head(path).status_code == 200
        assert api.get(f"{path}/").status_code == 404


def test_it_takes_no_parameters(api: Client) -> None:
    assert api.get("/health?verbose").status_code == 400
