"""Everything on one page: each pipeline with its last run, the latest runs, a week of days, and what fails most. A fixed number of queries."""

import datetime as dt
from typing import Any

import orjson
from django.db.models import Count, F, OuterRef, Subquery, TextField
from django.db.models.functions import Cast, Coalesce, JSONObject, Left
from django.utils import timezone

from pipelines.models import Pipeline
from runs.api.lookup import shown_runs
from runs.api.serializers import RunSerializer
from runs.day_counts import DAY, Counts, between, by_day, midnight
from runs.listing import first_id_at, in_order, newest_ids
from runs.models import Run
from runs.states import RunStatus
from system.calendar import entry, last_days
from system.columns import IdText, MomentText

MOST_PIPELINES = 2_000  # of the page, the newest; `GET /api/pipelines` goes on from there
RECENT_RUNS = 20
TREND_DAYS = 7
TOP_FAILING = 5
MOST_RUNNING = 100
_LONGEST_ERROR = 300  # characters of a run's error beside its pipeline; the run has all of it
_SHOWN = ("pipeline_id", "name", "description", "schedule", "schedule_timezone", "version", "node_count")


def dashboard(now: dt.datetime | None = None, *, with_pipelines: bool = True) -> dict[str, Any]:
    """All of it. The four lists, and counts of now, of today and yesterday (UTC), and of the 24 hours before now."""
    now = now or timezone.now()
    week = last_days(TREND_DAYS, now)
    trends = [entry(day, counts) for day, counts in zip(week, by_day(week, now=now), strict=True)]
    (last_24h,) = between([now - DAY], [now + DAY])
    running, pending = _active()
    return {
        "pipelines": pipelines() if with_pipelines else [],
        "recent_runs": recent_runs(),
        "trends": trends,
        "top_failing": top_failing(midnight(week[0])),
        "pipelines_total": Pipeline.objects.live().count(),
        "runs_running": running,
        "runs_pending": pending,
        "running_run_ids": list(Run.objects.filter(status=RunStatus.RUNNING).recent().values_list("id", flat=True)[:MOST_RUNNING]),
        "runs_today": trends[-1]["total"],
        "runs_yesterday": trends[-2]["total"],
        **_last_24h(last_24h),
    }


def pipelines() -> list[dict[str, Any]]:
    """Summaries as `GET /api/pipelines` gives them, newest first, with the newest run of each. One query."""
    last_run = JSONObject(
        last_run_id=IdText("id"),
        last_run_status="status",
        last_run_at=MomentText(Coalesce("started_at", "created_at")),
        last_run_finished_at=MomentText("finished_at"),
        last_run_error=Left("error", _LONGEST_ERROR),
    )
    newest = Run.objects.filter(pipeline=OuterRef("pk")).order_by("-id").values(shown=Cast(last_run, TextField()))[:1]
    texts = (IdText("id"), Cast("tags", TextField()), MomentText("created_at"), MomentText("updated_at"), Subquery(newest), F("enabled"))
    rows = Pipeline.objects.live().order_by("-id").values_list(*texts, *_SHOWN)[:MOST_PIPELINES]
    return [
        {
            "id": key,
            **dict(zip(_SHOWN, columns, strict=True)),
            "enabled": enabled,
            "tags": orjson.loads(tags),
            "created_at": created_at,
            "updated_at": updated_at,
            **(orjson.loads(last) if last else _NO_RUN),
        }
        for key, tags, created_at, updated_at, last, enabled, *columns in rows
    ]


_NO_RUN: dict[str, Any] = {"last_run_id": None, "last_run_status": None, "last_run_at": None, "last_run_finished_at": None, "last_run_error": ""}


def recent_runs() -> list[dict[str, Any]]:
    """The newest runs as listings show them; `run_id` is their `id` under another name. Two queries."""
    rows = in_order(shown_runs(), newest_ids(Run.objects.all(), 0, RECENT_RUNS))
    shown = RunSerializer()
    return [{"run_id": run.id, **shown.to_representation(run)} for run in rows]


def top_failing(since: dt.datetime) -> list[dict[str, Any]]:
    """The pipelines (those that exist) with the most failed runs that were made since then. One query."""
    failed = Run.objects.filter(status=RunStatus.FAILED, id__gte=first_id_at(since), pipeline__deleted_at__isnull=True).order_by()
    rows = failed.values("pipeline_id", name=F("pipeline__name")).annotate(fail_count=Count("id")).order_by("-fail_count", "name", "pipeline_id")
    return [dict(row) for row in rows[:TOP_FAILING]]


def _active() -> tuple[int, int]:
    """How many runs execute and how many wait. One query."""
    rows = dict(Run.objects.active().order_by().values_list("status").annotate(Count("id")))
    return rows.get(RunStatus.RUNNING, 0), rows.get(RunStatus.PENDING, 0)


def _last_24h(counts: Counts) -> dict[str, Any]:
    """The rate is of the runs that succeeded or failed, in whole percent; null where there are none."""
    success, failed = counts[RunStatus.SUCCESS], counts[RunStatus.FAILED]
    return {
        "runs_24h_total": sum(counts.values()),
        "runs_24h_success": success,
        "runs_24h_failed": failed,
        "runs_24h_cancelled": counts[RunStatus.CANCELLED],
        "success_rate_24h": round(100 * success / (success + failed)) if success + failed else None,
    }
