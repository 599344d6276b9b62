"""Tokens of webhooks get a place of their own, and leave the documents that they were kept in."""

from typing import Any

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models
from django.db.models import Value
from django.db.models.functions import StrIndex

import brokoli_site.common.ids
from pipelines import webhook_tokens


def move(apps: Any, schema_editor: Any) -> None:
    """The token of a pipeline's current version goes on to work; those of older versions are forgotten."""
    versions, tokens = apps.get_model("pipelines", "PipelineVersion"), apps.get_model("pipelines", "WebhookToken")
    named = versions.objects.annotate(place=StrIndex("document", Value(f'"{webhook_tokens.KEY}"'))).filter(place__gt=0)
    for version in named.select_related("pipeline").iterator(100):
        document, pipeline = version.document, version.pipeline
        if not isinstance(document, dict) or not document.get(webhook_tokens.KEY):
            continue
        token = webhook_tokens.given(document)
        if token is not None and pipeline.version == version.number and pipeline.deleted_at is None:
            sealed = settings.KEYRING.seal(token, f"webhook of pipeline {pipeline.id}")
            tokens.objects.create(pipeline=pipeline, sealed=sealed, created_at=version.created_at)
        versions.objects.filter(id=version.id).update(document=webhook_tokens.without(document))


class Migration(migrations.Migration):
    dependencies = [("pipelines", "0005_fill_uses")]

    operations = [
        migrations.CreateModel(
            name="WebhookToken",
            fields=[
                ("id", models.UUIDField(default=brokoli_site.common.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ("sealed", models.TextField(help_text="The token, sealed.")),
                ("created_at", models.DateTimeField()),
                (
                    "pipeline",
                    models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name="webhook", to="pipelines.pipeline"),
                ),
            ],
            options={"constraints": [models.CheckConstraint(condition=models.Q(("sealed__startswith", "k1:")), name="webhook_token_sealed")]},
        ),
        migrations.RunPython(move, migrations.RunPython.noop),
    ]
