"""How the admin lists, filters and searches a long history: by index, and never counting all of it."""

import datetime as dt
import re
import uuid
from typing import Any, cast

from django.contrib import admin
from django.core.paginator import Page, Paginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.functional import cached_property

from brokoli_site.common.ids import parse_id
from pipelines.models import Pipeline
from runs.listing import COUNTED, RunFilter, newest_ids
from runs.models import Run
from runs.querysets import RunQuerySet

_FILTER_PIPELINES = 50
_SEARCHED_PIPELINES = 10
_SEARCHED_RUNS = 500
_ID_START = re.compile(r"[0-9a-f]{8,32}")


class RecentPaginator(Paginator):  # type: ignore[type-arg]  # Django's is not generic at runtime
    """Counts up to a limit, and steps over earlier pages in the index, without reading their rows."""

    object_list: QuerySet[Any]

    def __init__(self, found: QuerySet[Any], per_page: int, *arguments: Any, rows: QuerySet[Any]) -> None:
        """`found` is what the filters and the search leave; `rows` is all, with what a list shows of each."""
        super().__init__(found, per_page, *arguments)
        self._rows = rows

    @cached_property
    def count(self) -> int:
        return self.object_list.order_by()[:COUNTED].count()

    def page(self, number: int | str) -> Page[Any]:
        number = self.validate_number(number)
        start = (number - 1) * self.per_page
        keys = list(self.object_list.values_list("pk", flat=True)[start : start + self.per_page])
        rows = {row.pk: row for row in self._rows.filter(pk__in=keys).order_by()}
        return Page([rows[key] for key in keys if key in rows], number, self)


class PipelineFilter(admin.SimpleListFilter):
    """The pipelines that were made last; any other by its id in the address, or by searching for its name."""

    title = parameter_name = "pipeline"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        pipelines = Pipeline.objects.live().order_by("-created_at", "-id").only("id", "name")[:_FILTER_PIPELINES]
        return [(str(pipeline.id), pipeline.name) for pipeline in sorted(pipelines, key=lambda pipeline: pipeline.name.lower())]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Run]) -> QuerySet[Run]:
        if self.value() is None:
            return queryset
        return queryset.filter(pipeline_id=parse_id(self.value()) or uuid.UUID(int=0))


class CreatedFilter(admin.SimpleListFilter):
    """How long ago a run was made."""

    title = parameter_name = "created"
    _AGES = (
        ("hour", "In the last hour", 1),
        ("day", "In the last 24 hours", 24),
        ("week", "In the last 7 days", 7 * 24),
        ("month", "In the last 30 days", 30 * 24),
    )

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, label) for name, label, _ in self._AGES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Run]) -> QuerySet[Run]:
        hours = {name: hours for name, _, hours in self._AGES}.get(self.value() or "")
        return RunFilter(since=timezone.now() - dt.timedelta(hours=hours)).apply(cast("RunQuerySet", queryset)) if hours else queryset


def matching_runs(queryset: QuerySet[Run], term: str) -> QuerySet[Run]:
    """Runs that a search means: one by its id, those whose id begins so, or those of the pipelines whose name or slug contains it.

    Where several pipelines match, the newest runs of the newest of them.
    """
    term = term.strip().replace("\0", "")
    if not term:
        return queryset
    key = parse_id(term)
    if key is not None and Run.objects.filter(id=key).exists():
        return queryset.filter(id=key)
    start = term.lower().replace("-", "")
    if key is None and _ID_START.fullmatch(start):
        return queryset.filter(id__gte=uuid.UUID(start.ljust(32, "0")), id__lte=uuid.UUID(start.ljust(32, "f")))
    named = Q(id=key) if key else Q(name__icontains=term) | Q(pipeline_id__icontains=term)
    pipelines = list(Pipeline.objects.filter(named).order_by("-id").values_list("id", flat=True)[:_SEARCHED_PIPELINES])
    if len(pipelines) < 2:
        return queryset.filter(pipeline_id=pipelines[0]) if pipelines else queryset.none()
    found = [run_id for pipeline_id in pipelines for run_id in newest_ids(Run.objects.of_pipeline(pipeline_id), 0, _SEARCHED_RUNS)]
    return queryset.filter(id__in=found)
