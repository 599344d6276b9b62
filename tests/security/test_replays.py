"""`Idempotency-Key`: an answer is for who asked, while they may ask."""

import json
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from pipelines.models import Pipeline
from runs.models import IdempotencyKey, Run
from tests.factories import make_pipeline

pytestmark = pytest.mark.django_db


def user(name: str, *rights: str) -> User:
    made = User.objects.create_user(name)
    grant(made, *rights)
    return made


def grant(made: User, *rights: str) -> None:
    made.user_permissions.set(Permission.objects.get(content_type__app_label=right.split(".")[0], codename=right.split(".")[1]) for right in rights)


def post(who: User, path: str, body: Any = None, key: str = "k-1") -> Any:
    client = Client(headers={"host": "localhost"})
    client.force_login(who)
    return client.post(path, json.dumps(body or {}), content_type="application/json", headers={"idempotency-key": key})


@pytest.fixture
def run_path() -> str:
    return f"/api/pipelines/{make_pipeline().id}/run"


def test_the_key_of_another_is_no_key_of_mine(run_path: str) -> None:
    ann, bob = user("ann", "pipelines.run"), user("bob", "pipelines.run")
    first, second = post(ann, run_path, {"params": {"of": "ann"}}), post(bob, run_path, {"params": {"of": "bob"}})
    assert (first.status_code, second.status_code, second.get("Idempotency-Replayed")) == (202, 202, None)
    assert first.json()["id"] != second.json()["id"]


def test_who_lost_the_right_gets_no_old_answer(run_path: str) -> None:
    ann = user("ann", "pipelines.run")
    assert post(ann, run_path).status_code == 202
    grant(ann, "pipelines.view")
    refused = post(User.objects.get(), run_path)
    assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")
    ann.is_active = False
    ann.save()
    assert post(ann, run_path).status_code == 401


def test_an_account_gets_no_answer_of_a_deleted_one_or_of_local_mode(run_path: str) -> None:
    local = Client(headers={"host": "localhost", "idempotency-key": "k-1"}).post(run_path, "{}", content_type="application/json")
    ann = user("ann", "pipelines.run")
    first = post(ann, run_path)
    ann.delete()
    second = post(user("bob", "pipelines.run"), run_path)
    assert len({response.json()["id"] for response in (local, first, second)}) == 3


@pytest.mark.parametrize("key", ["", "k\t", "ключ", "k" * 256, "k\x7f", "a\x00b"])
def test_what_no_key_can_be(run_path: str, key: str) -> None:
    assert post(user("ann", "pipelines.run"), run_path, key=key).status_code == 400


def test_a_rehearsal_writes_nothing_with_a_key_either() -> None:
    """However often it is asked: an answer may have a thousand dates."""
    pipeline: Pipeline = make_pipeline()
    body = {"start_date": "2021-01-01", "end_date": "2023-09-01", "dry_run": True}
    assert post(user("ann", "runs.backfill"), f"/api/pipelines/{pipeline.id}/backfill", body).status_code == 200
    assert not Run.objects.exists()
    assert not IdempotencyKey.objects.exists()
