"""The listing of pipelines: filters and summaries."""

from typing import Any

from django.db.models import BooleanField, Func, Q, Value

from pipelines.models import Pipeline, PipelineDependency, PipelineQuerySet

MOST_LISTED = 1000  # of the bare array; the cursor goes on from there


class HasTag(Func):
    """Whether a JSON list holds a text: `HasTag("tags", Value("daily"))`."""

    output_field = BooleanField()
    arity = 2

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        # `expressions` puts the list first and the text second.
        template = "EXISTS (SELECT 1 FROM json_each(%(expressions)s)"
        return self.as_sql(compiler, connection, template=template + ")", arg_joiner=") WHERE value = (", **context)

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="(%(expressions)s::text))", arg_joiner=" @> to_jsonb(", **context)


def pipelines(*, q: str = "", tag: str = "", enabled: bool | None = None) -> PipelineQuerySet:
    """Pipelines that exist, newest first: those whose name, slug or description contain `q`, that have the tag, that are (not) enabled."""
    rows = Pipeline.objects.live()
    if q:
        rows = rows.filter(Q(name__icontains=q) | Q(pipeline_id__icontains=q) | Q(description__icontains=q))
    if tag:
        rows = rows.filter(HasTag("tags", Value(tag)))
    if enabled is not None:
        rows = rows.filter(enabled=enabled)
    return rows.order_by("-id")


def summary(pipeline: Pipeline) -> dict[str, Any]:
    """A pipeline as listings show it: without its nodes."""
    return {
        "id": pipeline.id,
        "pipeline_id": pipeline.pipeline_id,
        "name": pipeline.name,
        "description": pipeline.description,
        "enabled": pipeline.enabled,
        "schedule": pipeline.schedule,
        "schedule_timezone": pipeline.schedule_timezone,
        "tags": pipeline.tags,
        "version": pipeline.version,
        "node_count": pipeline.node_count,
        "created_at": pipeline.created_at,
        "updated_at": pipeline.updated_at,
    }


def dependency_graph() -> dict[str, Any]:
    """Who waits for whom: the pipelines that take part, and an edge a rule, from the upstream to who waits for it. Two queries."""
    rules = PipelineDependency.objects.order_by("id")
    ends = Q(id__in=rules.values("pipeline")) | Q(id__in=rules.values("upstream"))
    nodes = Pipeline.objects.live().filter(ends).order_by("name", "id").values("id", "pipeline_id", "name", "enabled")
    edges = [
        {"from": rule.upstream_id, "to": rule.pipeline_id, "state": rule.state, "mode": rule.mode, "within_seconds": rule.within_seconds}
        for rule in rules
    ]
    return {"nodes": list(nodes), "edges": edges}
