"""The admin of backfills: how far they are, their runs, and cancelling."""

import datetime as dt

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from runs import backfills
from runs.models import Backfill, Run
from runs.states import RunStatus
from tests.factories import accept_run, end_run, make_pipeline

pytestmark = pytest.mark.django_db

LIST = "/admin/runs/backfill/"


@pytest.fixture
def client() -> Client:
    return Client(headers={"host": "localhost"})


@pytest.fixture
def backfill() -> Backfill:
    return backfills.start(backfills.over_dates(make_pipeline(), dt.date(2024, 1, 1), dt.date(2024, 1, 3)))[1]


def test_a_backfill_shows_how_far_it_is_and_leads_to_its_runs(client: Client, backfill: Backfill) -> None:
    other = accept_run()
    end_run(Run.objects.earliest("id"), RunStatus.FAILED)
    assert "2024-01-03" in client.get(LIST).content.decode()
    page = client.get(f"{LIST}{backfill.id}/change/").content.decode()
    assert "1 of 3 ended, 1 failed" in page
    path = f"/admin/runs/run/?backfill_id__exact={backfill.id}"
    assert f'href="{path}"' in page
    shown = {run.id for run in client.get(path).context["cl"].result_list}
    assert (len(shown), other.id in shown) == (3, False)


def test_search_finds_by_id_and_by_pipeline(client: Client, backfill: Backfill) -> None:
    backfills.start(backfills.over_dates(make_pipeline(), dt.date(2024, 1, 1), dt.date(2024, 1, 1)))
    for term, count in ((backfill.id, 1), (backfill.pipeline_id, 1), ("x", 0), ("", 2)):
        assert len(client.get(f"{LIST}?q={term}").context["cl"].result_list) == count


def test_selected_backfills_are_cancelled(client: Client, backfill: Backfill) -> None:
    for level in ("success", "success"):  # asking again changes nothing
        said = client.post(LIST, {"action": "cancel_selected", "_selected_action": [str(backfill.id)]}, follow=True).context["messages"]
        assert [message.level_tag for message in said] == [level]
    assert set(Run.objects.values_list("status", flat=True)) == {"cancelled"}


def test_only_who_may_cancel_is_offered_it(backfill: Backfill) -> None:
    user = User.objects.create_user("somebody", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="runs", codename="view"))
    client = Client(headers={"host": "localhost"})
    client.force_login(user)
    assert "cancel_selected" not in client.get(LIST).content.decode()
    client.post(LIST, {"action": "cancel_selected", "_selected_action": [str(backfill.id)]})
    assert set(Run.objects.values_list("status", flat=True)) == {"pending"}
