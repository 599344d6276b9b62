"""`Idempotency-Key`: the same request is done once, for a day, and answered the same."""

import datetime as dt
import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from pipelines.models import Pipeline
from runs import idempotency
from runs.models import IdempotencyKey, Run
from runs.states import RunStatus
from tests.factories import accept_run, end_run, make_pipeline

pytestmark = pytest.mark.django_db


@pytest.fixture
def pipeline() -> Pipeline:
    return make_pipeline()


def post(api: Client, path: str, body: Any = None, key: str | None = "k-1", **headers: str) -> Any:
    sent = headers if key is None else {"idempotency-key": key, **headers}
    return api.post(path, data=json.dumps({} if body is None else body), content_type="application/json", headers=sent)


def run(api: Client, pipeline: Pipeline, body: Any = None, key: str | None = "k-1", **headers: str) -> Any:
    return post(api, f"/api/pipelines/{pipeline.id}/run", body, key, **headers)


def age(**by: int) -> None:
    row = IdempotencyKey.objects.get()
    IdempotencyKey.objects.update(created_at=row.created_at - dt.timedelta(**by))


def test_the_second_request_is_answered_like_the_first(api: Client, pipeline: Pipeline) -> None:
    first, second = (
        run(api, pipeline, body) for body in ({"params": {"a": 1, "b": "x"}, "priority": 5}, {"priority": 5, "params": {"b": "x", "a": 1}})
    )
    assert Run.objects.count() == 1
    assert (first.status_code, first.json(), first["Location"]) == (second.status_code, second.json(), second["Location"])
    assert (first.get("Idempotency-Replayed"), second["Idempotency-Replayed"], second["Content-Type"]) == (None, "true", first["Content-Type"])


def test_without_a_key_each_request_is_done(api: Client, pipeline: Pipeline) -> None:
    run(api, pipeline, key=None)
    run(api, pipeline, key=None)
    run(api, pipeline, key="other")
    assert (Run.objects.count(), IdempotencyKey.objects.count()) == (3, 1)


@pytest.mark.parametrize("body", [{"params": {"a": 1.0}}, {"params": {"a": True}}, {"params": {"a": "1"}}, {}])
def test_a_key_is_for_one_body(api: Client, pipeline: Pipeline, body: Any) -> None:
    run(api, pipeline, {"params": {"a": 1}})
    refused = run(api, pipeline, body)
    assert (refused.status_code, refused.json()["code"], Run.objects.count()) == (422, "idempotency_key_reused", 1)


def test_a_key_is_for_one_path(api: Client, pipeline: Pipeline) -> None:
    run(api, pipeline)
    assert run(api, make_pipeline()).status_code == 422


def test_a_resume_is_done_once_too(api: Client, pipeline: Pipeline) -> None:
    failed = end_run(accept_run(pipeline), RunStatus.FAILED)
    first, second = (post(api, f"/api/runs/{failed.id}/resume") for _ in range(2))
    assert (first.status_code, second.status_code, first.json()) == (202, 202, second.json())
    assert post(api, f"/api/runs/{failed.id}/resume", key="k-2").status_code == 409


def test_a_refusal_is_not_kept(api: Client, pipeline: Pipeline) -> None:
    running = accept_run(pipeline)
    assert post(api, f"/api/runs/{running.id}/resume").status_code == 409
    end_run(running, RunStatus.FAILED)
    assert post(api, f"/api/runs/{running.id}/resume").status_code == 202


def test_two_users_may_choose_the_same_key(pipeline: Pipeline) -> None:
    for name in ("ada", "bob"):
        client = Client(headers={"host": "localhost"})
        client.force_login(User.objects.create_superuser(name))
        assert run(client, pipeline).get("Idempotency-Replayed") is None
    assert Run.objects.count() == 2


def test_after_a_day_a_key_is_new(api: Client, pipeline: Pipeline) -> None:
    run(api, pipeline)
    age(hours=23)
    assert run(api, pipeline)["Idempotency-Replayed"] == "true"
    age(hours=1)
    assert run(api, pipeline, {"priority": 1}).status_code == 202
    assert (Run.objects.count(), IdempotencyKey.objects.count()) == (2, 1)


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\tin", "schlüssel"])
def test_a_key_that_cannot_be_one(api: Client, pipeline: Pipeline, key: str) -> None:
    assert run(api, pipeline, key=key).status_code == 400
    assert not Run.objects.exists()


@pytest.mark.parametrize("key", ["x" * 255, 'a key, with "signs" ~!'])
def test_a_key_may_be_any_printable_text(api: Client, pipeline: Pipeline, key: str) -> None:
    assert [run(api, pipeline, key=key).status_code for _ in range(2)] == [202, 202]
    assert Run.objects.count() == 1


def test_what_is_replayed_is_shown_only_to_who_may_do_it(pipeline: Pipeline) -> None:
    client, user = Client(headers={"host": "localhost"}), User.objects.create_superuser("ada")
    client.force_login(user)
    run(client, pipeline)
    User.objects.update(is_superuser=False)
    assert run(client, pipeline).status_code == 403


def test_the_key_and_the_run_are_stored_together_or_not_at_all(api: Client, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the server were killed between the two."""

    def killed(*_: object) -> None:
        raise SystemExit

    monkeypatch.setattr(idempotency, "_keep", killed)
    with pytest.raises(SystemExit):
        run(api, pipeline)
    assert (Run.objects.count(), IdempotencyKey.objects.count()) == (0, 0)


def test_old_keys_are_forgotten_step_by_step(api: Client, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "_STEP", 2)
    for number in range(5):
        run(api, pipeline, key=str(number))
    IdempotencyKey.objects.update(created_at=IdempotencyKey.objects.first().created_at - dt.timedelta(hours=24))  # type: ignore[union-attr]
    run(api, pipeline, key="fresh")
    assert idempotency.forget() == 5
    assert list(IdempotencyKey.objects.values_list("key", flat=True)) == ["fresh"]
