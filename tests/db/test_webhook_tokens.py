"""Tokens of webhooks at rest: sealed for their pipeline, rotated with the other secrets, and out of documents of before."""

import importlib
import io
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.apps import apps
from django.core.management import call_command
from django.db import IntegrityError, transaction

from brokoli_site.common.secrets import Keyring, SecretUnreadable
from pipelines import sealing, webhooks
from pipelines.models import Pipeline, PipelineVersion, WebhookToken
from tests.factories import make_pipeline, save_pipeline

pytestmark = pytest.mark.django_db

TOKEN = "a-token-of-somebody-s-own"
OLD, NEW = Fernet.generate_key(), Fernet.generate_key()


def test_keys_rotate(settings: Any) -> None:
    settings.KEYRING = Keyring((OLD,))
    pipeline = save_pipeline("Orders", webhook_token=TOKEN)
    settings.KEYRING = Keyring((NEW,))
    assert "webhook tokens were sealed with the key" in sealing.fault()
    settings.KEYRING = Keyring((NEW, OLD))
    out = io.StringIO()
    call_command("rotate_secrets", stdout=out)
    assert "Sealed 1 secret" in out.getvalue()
    settings.KEYRING = Keyring((NEW,))
    assert (sealing.fault(), webhooks.opened(WebhookToken.objects.get(pipeline=pipeline))) == ("", TOKEN)


def test_a_token_that_is_moved_to_another_pipeline_does_not_open() -> None:
    save_pipeline("Mine", webhook_token=TOKEN)
    other = save_pipeline("Theirs", webhook_token="the-token-of-another-one")
    WebhookToken.objects.filter(pipeline=other).update(sealed=WebhookToken.objects.exclude(pipeline=other).get().sealed)
    with pytest.raises(SecretUnreadable):
        webhooks.opened(WebhookToken.objects.get(pipeline=other))


def test_none_is_stored_in_the_open() -> None:
    row = webhooks.rotate(save_pipeline("Orders").id)[0]
    with pytest.raises(IntegrityError), transaction.atomic():
        WebhookToken.objects.filter(id=row.id).update(sealed=TOKEN)


def test_documents_of_before_give_their_tokens_up() -> None:
    def with_token(name: str, *tokens: Any) -> Pipeline:
        pipeline = make_pipeline(name=name)
        PipelineVersion.objects.filter(pipeline=pipeline).delete()
        for number, token in enumerate(tokens, 1):
            document = {"name": name, "nodes": [], "edges": [], "webhook_token": token}
            PipelineVersion.objects.create(pipeline=pipeline, number=number, document=document, created_at=pipeline.created_at)
        Pipeline.objects.filter(id=pipeline.id).update(version=len(tokens))
        return pipeline

    current = with_token("Current", "an-older-token-of-it", TOKEN)
    with_token("Weak", "weak")
    with_token("Empty", "")
    gone = with_token("Gone", TOKEN)
    Pipeline.objects.filter(id=gone.id).update(deleted_at=gone.created_at)

    importlib.import_module("pipelines.migrations.0006_webhook_tokens").move(apps, None)

    row = WebhookToken.objects.get()
    assert (row.pipeline_id, webhooks.opened(row)) == (current.id, TOKEN)
    assert {version.document.get("webhook_token") for version in PipelineVersion.objects.all()} == {None, ""}
    assert PipelineVersion.objects.get(pipeline=current, number=2).document["name"] == "Current"
