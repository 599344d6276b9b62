"""What people are told of runs: the outbox. A notification is written with the change that it tells of; `runs.delivery` sends it."""

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

import structlog
from django.db import DatabaseError, InterfaceError, OperationalError, transaction
from django.db.models import Count, Q
from django.utils import timezone

from brokoli_site.common.ids import new_id
from brokoli_site.common.time import iso, milliseconds
from pipelines.hooks import Hook, stored
from pipelines.models import Pipeline
from runs.models import NodeRun, Notification, Run

logger = structlog.get_logger(__name__)

# What a receiver that is down for a day, or a pipeline that fails every second, may pile up.
MOST_OF_A_PIPELINE = 1_000
MOST_IN_ALL = 10_000


def note(run: Run, event: str, **facts: Any) -> None:
    """Queue what the run's hooks want of `event`, in the caller's transaction and after the change. `facts` are added to what is told.

    Without a receiver this costs nothing. A full outbox takes no more: the run goes on, and the server's log says so.
    """
    receivers = (run.hooks or {}).get(event)
    if receivers:
        # Read anew: the caller's row was read before the change, with few of its columns.
        told = Run.objects.select_related("pipeline").get(id=run.id)
        _put(told.pipeline, told, event, receivers, {"run": _facts_of(told)} | facts)


def sla_missed(
    pipeline: Pipeline, hooks: Mapping[str, tuple[Hook, ...]], *, date: dt.date, deadline: dt.datetime, state: str, run: Run | None
) -> None:
    """Queue an alert, in the caller's transaction: by `deadline` of `date` no run had succeeded; `run` is the one that was there, if any.

    `state` says what there was by then, as `SlaMiss.state` does. Without hooks of its own the alert goes to those of a failure.
    """
    receivers = hooks.get("on_sla_miss") or hooks.get("on_failure")
    if receivers:
        missed = {"date": date.isoformat(), "deadline": iso(deadline), "state": state}
        _put(pipeline, run, "on_sla_miss", [stored(hook) for hook in receivers], {"run": _facts_of(run) if run else None, "sla": missed})


def _facts_of(run: Run) -> dict[str, Any]:
    return {
        "id": str(run.id),
        "status": run.status,
        "trigger": run.trigger,
        "params": run.params,
        "error": run.error,
        "logical_date": run.logical_date.isoformat() if run.logical_date else None,
        "created_at": iso(run.created_at),
        "started_at": iso(run.started_at),
        "finished_at": iso(run.finished_at),
        "duration_ms": milliseconds(run.started_at, run.finished_at),
        # Those of the last node that has any: what the run is there for stands at its end.
        "rows": NodeRun.objects.filter(run_id=run.id, row_count__isnull=False).order_by("-position").values_list("row_count", flat=True).first(),
    }


def _put(pipeline: Pipeline, run: Run | None, event: str, receivers: Iterable[Mapping[str, Any]], facts: Mapping[str, Any]) -> None:
    now = timezone.now()
    about = {"id": str(pipeline.id), "pipeline_id": pipeline.pipeline_id, "name": pipeline.name}
    rows = [
        Notification(
            pipeline=pipeline,
            run=run,
            event=event,
            kind=receiver["kind"],
            hook=dict(receiver),
            # The id is the delivery's: the same at each attempt, so that a receiver can tell a repeat.
            payload={"id": str(new_id()), "event": event, "pipeline": about, **facts, "timestamp": iso(now)},
            next_attempt_at=now,
            created_at=now,
        )
        for receiver in receivers
    ]
    kept = rows[: _room(pipeline)]
    if len(kept) < len(rows):
        logger.warning("outbox full", pipeline_id=str(pipeline.id), run_id=str(run.id) if run else None, told_of=event, dropped=len(rows) - len(kept))
    try:
        with transaction.atomic():
            Notification.objects.bulk_create(kept)
    except (OperationalError, InterfaceError):
        raise  # the database is away: the change itself is tried again
    except DatabaseError:
        # Refused, it would be refused each time: the run goes on, and nobody is told.
        logger.exception("outbox refused", pipeline_id=str(pipeline.id), run_id=str(run.id) if run else None, told_of=event)


def _room(pipeline: Pipeline) -> int:
    """How many more notifications may wait. The index holds what is counted, and both limits bound it."""
    waiting = Notification.objects.filter(status=Notification.Status.PENDING).order_by()
    counts: dict[str, int] = waiting.aggregate(in_all=Count("id"), of_pipeline=Count("id", filter=Q(pipeline=pipeline)))
    return max(0, min(MOST_IN_ALL - counts["in_all"], MOST_OF_A_PIPELINE - counts["of_pipeline"]))
