"""Missed deadlines over the API."""

import pytest
from django.test import Client

from pipelines.models import Pipeline
from runs import sla
from tests.db.test_scheduler import at
from tests.db.test_sla import SOON_AFTER, due

pytestmark = pytest.mark.django_db


def test_the_days_are_listed(api: Client) -> None:
    pipeline: Pipeline = due("Orders")
    sla.look(at(SOON_AFTER))
    (miss,) = api.get(f"/api/pipelines/{pipeline.id}/sla-misses").json()
    assert miss == {
        "date": "2024-01-15",
        "deadline": "2024-01-15T12:00:00.000Z",
        "state": "not_started",
        "noted_at": "2024-01-15T12:00:03.000Z",
    }
    assert api.get("/api/pipelines/nobody/sla-misses").status_code == 404
