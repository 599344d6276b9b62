"""Webhooks that arrive at the same moment, and tokens that change meanwhile."""

from functools import partial
from typing import Any

import pytest
from django.test import Client

from pipelines import definitions, webhooks
from pipelines.models import WebhookToken
from runs.models import Run
from tests.factories import save_pipeline
from tests.races.test_races import at_once

pytestmark = pytest.mark.django_db(transaction=True)

TOKEN = "a-token-of-somebody-s-own"


def deliver(key: object, delivery: str) -> Any:
    client = Client(headers={"host": "localhost"})
    headers = {"x-webhook-token": TOKEN, "x-github-delivery": delivery}
    return client.post(f"/api/pipelines/{key}/webhook", content_type="application/json", headers=headers)


def test_eight_copies_of_a_delivery_make_one_run() -> None:
    pipeline = save_pipeline("Orders", webhook_token=TOKEN)
    for number in range(3):
        before = Run.objects.count()
        found = at_once(*[partial(deliver, pipeline.id, f"d-{number}")] * 8)
        assert {answer.status_code for answer in found} <= {202, 409}, found
        assert Run.objects.count() == before + 1
        assert len({answer.json()["id"] for answer in found if answer.status_code == 202}) == 1


def test_of_tokens_made_at_once_one_is_left_and_it_works() -> None:
    pipeline = save_pipeline("Orders")
    made = at_once(*[partial(webhooks.rotate, pipeline.id)] * 6)
    assert not [result for result in made if isinstance(result, Exception)], made
    left = webhooks.opened(WebhookToken.objects.get())
    assert left in {token for _, token in made}


def test_a_token_is_not_made_for_what_is_deleted_meanwhile() -> None:
    for number in range(5):
        pipeline = save_pipeline(f"Orders{number}")
        at_once(partial(webhooks.rotate, pipeline.id), partial(definitions.delete, pipeline.id))
        assert not WebhookToken.objects.filter(pipeline=pipeline).exists()
