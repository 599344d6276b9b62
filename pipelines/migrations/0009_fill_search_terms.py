"""What the pipelines that exist already are found by."""

from typing import Any

from django.db import migrations

from brokoli_site.common.errors import BrokoliError
from pipelines import search_terms, spec
from pipelines.spec import PipelineSpec

_NOTHING = PipelineSpec(name="", nodes=(), edges=())


def fill(apps: Any, schema_editor: Any) -> None:
    pipelines, rows = apps.get_model("pipelines", "Pipeline"), apps.get_model("pipelines", "SearchTerm")
    versions = apps.get_model("pipelines", "PipelineVersion")
    for pipeline in pipelines.objects.filter(deleted_at__isnull=True).iterator(500):
        document = versions.objects.filter(pipeline_id=pipeline.pk, number=pipeline.version).values_list("document", flat=True).first()
        keys = search_terms.keys(pipeline.pipeline_id, pipeline.name, pipeline.description, _read(document))
        rows.objects.bulk_create((search_terms.row(pipeline.pk, key, rows) for key in keys), batch_size=500, ignore_conflicts=True)


def _read(document: Any) -> PipelineSpec:
    try:
        return spec.read(document)[0]
    except (BrokoliError, AttributeError, TypeError, ValueError):
        return _NOTHING  # a document of long ago that nobody can read is no reason to stop


class Migration(migrations.Migration):
    dependencies = [("pipelines", "0008_search_terms")]

    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
