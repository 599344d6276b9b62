"""Whom a pipeline waits for, as rows: written with each version, free of cycles whoever saves at the same moment."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import connection
from django.db.models import Q

from brokoli_site.common.errors import Conflict
from brokoli_site.common.ids import parse_id
from pipelines import dependencies
from pipelines.dependencies import DependencyRule
from pipelines.models import Pipeline, PipelineDependency, PipelineQuerySet
from pipelines.problems import Problem, shortened
from pipelines.spec import InvalidPipeline

_LOCK = 0x62726F6B_64657073  # "brokdeps", a key for PostgreSQL's advisory locks
_MOST_NAMED = 10


def lock(rules: Sequence[DependencyRule], own_id: uuid.UUID | None = None) -> None:
    """Saves that bring dependencies go one after the other, from here to their commit. Call before any row is touched.

    Two saves that close a cycle together would not see each other's rows. SQLite has one writer at a time anyhow.

    `own_id`: of the pipeline that is saved, where it is not new. Its row is taken together with those of its upstreams, in the order of
    their ids, which is everybody's who holds several: nobody waits in a circle.
    """
    if not rules or connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
    if own_id is not None:
        rows = Pipeline.objects.live().filter(Q(id=own_id) | _named_by(rules)).order_by("id")
        list(rows.select_for_update(no_key=True).values_list("id", flat=True))


def keep(pipeline: Pipeline, rules: Sequence[DependencyRule], *, earlier: Mapping[str, Any] | None = None) -> None:
    """Make the rows of a pipeline those of its new version. Call inside the transaction that saves it, under `lock`.

    `earlier`: the document of the version before, whose rows go.

    Errors: `InvalidPipeline` when an upstream does not exist, is the pipeline itself, is named twice, or would close a cycle.
    """
    if earlier and (earlier.get("depends_on") or earlier.get("dependency_rules")):
        PipelineDependency.objects.filter(pipeline=pipeline).delete()
    if not rules:
        return
    # The lock keeps the deletion of an upstream waiting until this commits.
    live = Pipeline.objects.live().select_for_update(no_key=True)
    upstreams, problems = _resolve(rules, pipeline.id, live)
    if problems:
        raise InvalidPipeline(problems)
    PipelineDependency.objects.bulk_create(
        PipelineDependency(pipeline=pipeline, upstream_id=key, state=rule.state, within_seconds=rule.within_seconds, mode=rule.mode)
        for key, rule in upstreams.items()
    )
    _refuse_cycle(pipeline, upstreams)


def problems_of(document: Mapping[str, Any], pipeline_id: uuid.UUID | None = None) -> list[Problem]:
    """What is wrong with the upstreams that a document names, as far as it can be read."""
    rules = dependencies.read(document, [])
    return _resolve(rules, pipeline_id, Pipeline.objects.live())[1] if rules else []


def let_go(pipeline: Pipeline) -> None:
    """The pipeline is being deleted: it waits for nobody any more. Errors: `Conflict` naming those that wait for it."""
    waiting = Pipeline.objects.live().filter(dependencies__upstream=pipeline).order_by("name").values_list("name", flat=True)
    names = [f"'{name}'" for name in waiting[: _MOST_NAMED + 1]]
    if names:
        more = " and others" if len(names) > _MOST_NAMED else ""
        raise Conflict(f"Pipelines depend on this one: {', '.join(names[:_MOST_NAMED])}{more}. Change those first.")
    PipelineDependency.objects.filter(pipeline=pipeline).delete()


def _resolve(
    rules: Sequence[DependencyRule], own_id: uuid.UUID | None, live: PipelineQuerySet
) -> tuple[dict[uuid.UUID, DependencyRule], list[Problem]]:
    """The rule of each upstream, by its id. A rule of `dependency_rules` takes the place of an entry in `depends_on`."""
    rows = list(live.filter(_named_by(rules)).order_by("id").only("id", "pipeline_id"))
    by_slug, known = {row.pipeline_id: row.id for row in rows}, {row.id for row in rows}
    found: dict[uuid.UUID, DependencyRule] = {}
    problems = []
    for rule in rules:
        key = parse_id(rule.pipeline_id)
        key = key if key in known else by_slug.get(rule.pipeline_id)
        if key is None:
            problems.append(dependencies.rule_problem(rule, f"There is no pipeline '{shortened(rule.pipeline_id)}' to depend on."))
        elif key == own_id:
            problems.append(dependencies.rule_problem(rule, "A pipeline cannot depend on itself."))
        elif key in found and not rule.is_short:
            problems.append(dependencies.named_twice(rule))
        else:
            found.setdefault(key, rule)
    return found, problems


def _named_by(rules: Sequence[DependencyRule]) -> Q:
    references = [rule.pipeline_id for rule in rules]
    ids = [key for reference in references if (key := parse_id(reference)) is not None]
    return Q(id__in=ids) | Q(pipeline_id__in=references)


def _refuse_cycle(pipeline: Pipeline, upstreams: Mapping[uuid.UUID, DependencyRule]) -> None:
    if not PipelineDependency.objects.filter(upstream=pipeline).exists():
        return  # nobody waits for it, so no way leads back
    edges: dict[uuid.UUID, list[uuid.UUID]] = {}
    for downstream, upstream in PipelineDependency.objects.order_by("id").values_list("pipeline_id", "upstream_id"):
        edges.setdefault(downstream, []).append(upstream)
    cycle = dependencies.find_cycle(pipeline.id, lambda key: edges.get(key, ()))
    if cycle:
        names = dict(Pipeline.objects.filter(id__in=cycle).values_list("id", "name"))
        path = " → ".join(names[key] for key in cycle)
        message = f"Pipelines would wait for each other in a circle: {path}. Remove one of these dependencies."
        raise InvalidPipeline([dependencies.rule_problem(upstreams[cycle[1]], message)])
