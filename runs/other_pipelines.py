"""What nodes that wait for other pipelines get to know of their runs. Nodes have no database: the executor asks before each look."""

from django.db.models import Q

from brokoli_site.common.ids import parse_id
from pipelines.models import Pipeline
from pipelines.nodes.base import OtherPipeline, RunFacts
from pipelines.spec import NodeSpec
from pipelines.uses import pipelines_of
from runs.models import Run


def seen_by(node: NodeSpec, facts: RunFacts) -> dict[str, OtherPipeline]:
    """The pipelines that the node's config names, by the name that it uses; those that do not exist (any more) are not there."""
    return {name: found for name in pipelines_of(node, facts) if (found := _seen(name, facts)) is not None}


def _seen(name: str, facts: RunFacts) -> OtherPipeline | None:
    if "\0" in name:  # of a secret's file, say; PostgreSQL refuses the question
        return None
    key = parse_id(name)
    pipelines = Pipeline.objects.live().filter(Q(id=key) | Q(pipeline_id=name) if key else Q(pipeline_id=name))
    pipeline = pipelines.only("id", "name").first()
    if pipeline is None:
        return None
    return OtherPipeline(
        pipeline.name,
        latest=_status(pipeline),
        of_date=_status(pipeline, logical_date=facts.logical_date) if facts.logical_date else "",
        of_interval=_status(pipeline, interval_end=facts.interval_end) if facts.interval_end else "",
    )


def _status(pipeline: Pipeline, **made_for: object) -> str:
    return Run.objects.of_pipeline(pipeline.id).filter(**made_for).recent().values_list("status", flat=True).first() or ""
