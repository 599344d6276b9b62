"""`GET /api/runs/{id}/notifications`, and the outbox in the admin."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from runs import delivery
from runs.messages import Verdict
from runs.models import Notification, Run
from runs.states import RunStatus
from tests.factories import accept_run, end_run, make_pipeline

pytestmark = pytest.mark.django_db
HOOKS = {
    "on_start": {"type": "email", "url": "ops@example.org"},
    "on_failure": [{"url": "https://hooks.example.org/services/canary?token=canary", "extra": {"headers": {"X-Key": "canary"}}}],
}


@pytest.fixture
def run() -> Run:
    pipeline = make_pipeline()
    pipeline.versions.update(document=pipeline.versions.get().document | {"hooks": HOOKS})
    return end_run(accept_run(pipeline), RunStatus.FAILED, "no such table")


def test_who_was_told_and_who_will_be(api: Client, run: Run, django_assert_max_num_queries: Any) -> None:
    failed = Notification.objects.get(event="on_failure")
    delivery.claim(failed)
    delivery.settle(failed, Verdict(sent=True))
    with django_assert_max_num_queries(4):
        response = api.get(f"/api/runs/{run.id}/notifications")
    first, second = response.json()
    assert (first["receiver"], first["status"], first["sent_at"], first["attempts"]) == ("ops@example.org", "pending", None, 0)
    assert first["next_attempt_at"]
    assert (second["event"], second["kind"], second["receiver"]) == ("on_failure", "webhook", "hooks.example.org")
    assert (second["status"], second["next_attempt_at"], second["attempts"]) == ("sent", None, 1)
    assert "canary" not in response.content.decode()
    assert "canary" not in api.get(f"/api/runs/{run.id}/logs").content.decode()
    assert "canary" not in api.get(f"/api/runs/{run.id}").content.decode()


def test_a_run_without_any(api: Client) -> None:
    assert api.get(f"/api/runs/{accept_run().id}/notifications").json() == []
    assert api.get("/api/runs/nonsense/notifications").status_code == 404
    assert api.get(f"/api/runs/{accept_run().id}/notifications?x=1").status_code == 400


def test_the_admin_shows_them_without_addresses(run: Run) -> None:
    User.objects.create_superuser("root", password="a long enough one")
    client = Client(headers={"host": "localhost"})
    client.login(username="root", password="a long enough one")
    Notification.objects.filter(event="on_start").update(run=None)
    listed = client.get("/admin/runs/notification/").content.decode()
    assert "hooks.example.org" in listed
    assert str(run.id) in listed
    shown = client.get(f"/admin/runs/notification/{Notification.objects.get(event='on_failure').id}/change/")
    assert shown.status_code == 200
    assert "no such table" in shown.content.decode()
    assert "canary" not in listed + shown.content.decode()
