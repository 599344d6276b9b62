"""What the pipelines that exist already name of variables and connections."""

from typing import Any

from django.db import migrations

from brokoli_site.common.errors import BrokoliError
from pipelines import spec, uses

_LONGEST = 100
_MOST = 2000


def fill(apps: Any, schema_editor: Any) -> None:
    pipelines, rows = apps.get_model("pipelines", "Pipeline"), apps.get_model("pipelines", "PipelineUse")
    versions = apps.get_model("pipelines", "PipelineVersion")
    for pipeline_id, number in pipelines.objects.filter(deleted_at__isnull=True).values_list("id", "version").iterator(500):
        document = versions.objects.filter(pipeline_id=pipeline_id, number=number).values_list("document", flat=True).first()
        names = sorted(_names(document))[:_MOST]
        rows.objects.bulk_create((rows(pipeline_id=pipeline_id, kind=kind, name=name) for kind, name in names), ignore_conflicts=True)


def _names(document: Any) -> set[tuple[str, str]]:
    try:
        definition, _ = spec.read(document)
        return {(one.kind, one.name) for node in definition.nodes for one in uses.named_in(node) if len(one.name) <= _LONGEST}
    except (BrokoliError, AttributeError, TypeError, ValueError):
        return set()  # a document of long ago that nobody can read is no reason to stop


class Migration(migrations.Migration):
    dependencies = [("pipelines", "0004_connection_versions")]

    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
