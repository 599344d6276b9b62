"""Which pipelines have a webhook, and its token: sealed for the pipeline, shown once, never carried into a version, a clone or an export."""

import uuid

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from brokoli_site.common.errors import NotFound
from brokoli_site.common.ids import parse_id
from pipelines import audited, webhook_tokens
from pipelines.models import Pipeline, WebhookToken


def keep(pipeline: Pipeline, token: str) -> WebhookToken:
    """From now on this token is the pipeline's; one of before is no more. Call in the transaction that holds the pipeline's row."""
    found = WebhookToken.objects.filter(pipeline=pipeline).first()
    row = found or WebhookToken(pipeline=pipeline)
    row.sealed, row.created_at = settings.KEYRING.seal(token, row.identity), timezone.now()
    row.save()
    audited.webhook_token_changed("replaced" if found else "created", pipeline)
    return row


def rotate(pipeline_id: uuid.UUID | None) -> tuple[WebhookToken, str]:
    """A new token, in the place of what there was; this is the only time that it is told. Errors: `NotFound`."""
    token = webhook_tokens.make()
    with transaction.atomic():
        return keep(_locked(pipeline_id), token), token


def remove(pipeline_id: uuid.UUID | None) -> None:
    """The pipeline has no webhook any more; it need not have had one. Errors: `NotFound`."""
    with transaction.atomic():
        remove_of(_locked(pipeline_id))


def remove_of(pipeline: Pipeline) -> None:
    """The same in a transaction that holds the pipeline's row."""
    if WebhookToken.objects.filter(pipeline=pipeline).delete()[0]:
        audited.webhook_token_changed("deleted", pipeline)


def find(key: str) -> WebhookToken | None:
    """The webhook of the enabled pipeline that an id or a slug names, with its pipeline: one query, whatever there is."""
    live = WebhookToken.objects.select_related("pipeline").filter(pipeline__deleted_at__isnull=True, pipeline__enabled=True)
    pipeline_id = parse_id(key)
    return live.filter(Q(pipeline_id=pipeline_id) if pipeline_id else Q(pipeline__pipeline_id=key)).first()


def opened(row: WebhookToken) -> str:
    """Its token. Errors: `SecretUnreadable`."""
    return settings.KEYRING.open(row.sealed, row.identity)


def _locked(pipeline_id: uuid.UUID | None) -> Pipeline:
    found = Pipeline.objects.live().select_for_update(no_key=True).filter(id=pipeline_id).first() if pipeline_id else None
    if found is None:
        raise NotFound("There is no such pipeline.")
    return found
