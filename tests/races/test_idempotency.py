"""The same request many times at the same moment: one run."""

import threading
from functools import partial
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from brokoli_site.common.errors import BadRequest
from runs import idempotency
from runs.idempotency import Answer, StillInProgress
from runs.models import IdempotencyKey, Run
from tests.factories import make_pipeline
from tests.races.test_races import at_once

pytestmark = pytest.mark.django_db(transaction=True)


def ask(path: str, key: str) -> Any:
    return Client(headers={"host": "localhost"}).post(path, content_type="application/json", headers={"idempotency-key": key})


def test_eight_identical_requests_make_one_run() -> None:
    for number in range(5):
        pipeline = make_pipeline()

        answers = at_once(*[partial(ask, f"/api/pipelines/{pipeline.id}/run", f"k-{number}")] * 8)

        assert {answer.status_code for answer in answers} <= {202, 409}, answers
        accepted = [answer for answer in answers if answer.status_code == 202]
        (run,) = Run.objects.filter(pipeline=pipeline)
        assert {answer.json()["id"] for answer in accepted} == {str(run.id)}
        assert sum("Idempotency-Replayed" not in answer for answer in accepted) == 1
        if connection.vendor == "sqlite":
            assert len(accepted) == 8


@pytest.mark.skipif("connection.vendor == 'sqlite'", reason="SQLite has one writer: the second request waits instead")
def test_a_request_that_is_still_in_progress_is_not_waited_for() -> None:
    asked = idempotency.request(user_id=1, key="k", method="POST", path="/", body={})
    begun, goes_on = threading.Event(), threading.Event()

    def slowly() -> Answer:
        begun.set()
        assert goes_on.wait(10)
        return Answer(202, {}, "first")

    def meanwhile() -> Any:
        assert begun.wait(10)
        try:
            return idempotency.once(asked, lambda: Answer(202, {}, "second"))
        finally:
            goes_on.set()

    first, second = at_once(lambda: idempotency.once(asked, slowly), meanwhile)
    assert first == (Answer(202, {}, "first"), False)
    assert isinstance(second, StillInProgress)
    assert idempotency.once(asked, slowly) == (Answer(202, {}, "first"), True)


def test_what_failed_may_be_done_anew_at_once() -> None:
    asked = idempotency.request(user_id=1, key="k", method="POST", path="/", body={})

    def refuse() -> Answer:
        raise BadRequest("no")

    with pytest.raises(BadRequest):
        idempotency.once(asked, refuse)
    assert idempotency.once(asked, lambda: Answer(202, {}, "yes")) == (Answer(202, {}, "yes"), False)
    assert IdempotencyKey.objects.count() == 1
