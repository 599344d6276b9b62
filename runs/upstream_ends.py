"""Runs that are made because another pipeline's run ended.

The end leaves a row in its own transaction (`dependencies.note_end`). Whoever takes the row makes the runs and removes it in one
transaction, so that an end counts exactly once, whatever dies and however many workers look.
"""

import datetime as dt
import uuid
from typing import Any

import structlog
from django.db import DatabaseError, IntegrityError, InterfaceError, OperationalError, transaction
from django.utils import timezone

from brokoli_site.common.errors import BrokoliError
from brokoli_site.common.time import human_duration
from pipelines.models import Pipeline, PipelineDependency
from runs import log, triggers
from runs.dependencies import STATUSES, DependencyUnmet, ended_at, states_met
from runs.models import LogEntry, Run, UpstreamEnd
from runs.states import EntryKind, RunStatus, Trigger

logger = structlog.get_logger(__name__)

_AT_ONCE = 100
_LOOK_BACK = 20  # ended runs of another upstream among which one may be new enough


def settle() -> int:
    """Make the runs that ended ones call for. Returns how many ends were dealt with here."""
    waiting = list(UpstreamEnd.objects.order_by("created_at", "run_id").values_list("run_id", flat=True)[:_AT_ONCE])
    return sum(_try_to_settle(run_id) for run_id in waiting)


def _try_to_settle(run_id: uuid.UUID) -> bool:
    try:
        return _settle(run_id)
    except (OperationalError, InterfaceError):
        raise
    except Exception:
        # It stays, to be tried again behind all others: one that is refused each time must not stand in their way.
        logger.exception("end not settled", run_id=str(run_id))
        UpstreamEnd.objects.filter(run_id=run_id).update(created_at=timezone.now())
        return False


def _settle(run_id: uuid.UUID) -> bool:
    """False when another worker had it."""
    ended = Run.objects.select_related("pipeline").filter(id=run_id).first()
    if ended is None:
        return False
    for pipeline in Pipeline.objects.live().filter(id__in=[rule.pipeline_id for rule in _rules_met(ended)]):
        _warm(pipeline)
    with transaction.atomic():
        if UpstreamEnd.objects.select_for_update(no_key=True, skip_locked=True).filter(run_id=run_id).first() is None:
            return False
        rules = {rule.pipeline_id: rule for rule in _rules_met(ended)}
        # The lock makes ends that meet at one pipeline go one after the other; always in this order, so that none waits for the other.
        downstreams = Pipeline.objects.live().select_for_update(no_key=True).filter(id__in=rules).order_by("id")
        log.append([_start(ended, downstream, rules[downstream.id]) for downstream in downstreams])
        UpstreamEnd.objects.filter(run_id=run_id).delete()
        log.notify()
    return True


def _warm(pipeline: Pipeline) -> None:
    """Checking a definition takes a while: outside the transaction."""
    try:
        triggers.warm(pipeline)
    except DatabaseError:
        raise
    except Exception:
        logger.exception("definition not checked", pipeline_id=str(pipeline.id))  # met again, and told of, where its run is made


def _rules_met(ended: Run) -> list[PipelineDependency]:
    met = states_met(RunStatus(ended.status))
    return list(PipelineDependency.objects.filter(upstream_id=ended.pipeline_id, mode="trigger", state__in=met))


def _start(ended: Run, downstream: Pipeline, rule: PipelineDependency) -> LogEntry:
    """Make the run of a pipeline that waits for this end; the entry that tells of it."""
    now = timezone.now()
    try:
        _check(ended, downstream, rule, now)
        with transaction.atomic():
            params: dict[str, Any] = {"date": ended.params["date"]} if "date" in ended.params else {}
            started = triggers.run(
                downstream,
                params=params,
                trigger=Trigger.UPSTREAM,
                upstream_run=ended,
                logical_date=ended.logical_date,
                interval_start=ended.interval_start,
                interval_end=ended.interval_end,
            )
    except IntegrityError:
        if not Run.objects.filter(pipeline=downstream, upstream_run=ended).exists():
            raise
        return log.entry(ended.id, EntryKind.LOG, f"'{downstream.name}' was already started by this end")
    except BrokoliError as error:
        level, reason = ("info" if isinstance(error, DependencyUnmet) else "warning"), error.message
    except DatabaseError:
        raise  # all is rolled back, and tried again
    except Exception as error:
        # A bug in one pipeline's definition must not keep the end, and all that wait for it, from being settled.
        logger.exception("downstream not started", run_id=str(ended.id), pipeline_id=str(downstream.id))
        level, reason = "error", f"the server has a bug ({type(error).__name__}); its log says where"
    else:
        return log.entry(ended.id, EntryKind.LOG, f"Started '{downstream.name}' (run {started.id})")
    return log.entry(ended.id, EntryKind.LOG, f"Did not start '{downstream.name}': {reason}", level=level)


def _check(ended: Run, downstream: Pipeline, rule: PipelineDependency, now: dt.datetime) -> None:
    """Errors: `DependencyUnmet`. (The gates are looked at by `triggers.run`.)"""
    if not downstream.enabled:
        raise DependencyUnmet("it is disabled")
    late = (now - ended_at(ended)).total_seconds()
    if rule.within_seconds and late > rule.within_seconds:
        allowed = human_duration(rule.within_seconds * 1000)
        raise DependencyUnmet(f"the end is {human_duration(round(late) * 1000)} ago, and the rule allows {allowed}")
    others = PipelineDependency.objects.filter(pipeline=downstream, mode="trigger").exclude(id=rule.id).select_related("upstream")
    unmet = [other for other in others if not _has_ended_since(other, downstream, now)]
    if unmet:
        names = ", ".join(f"'{other.upstream.name}' to have {other.state}" for other in unmet)
        raise DependencyUnmet(f"it waits for {names} too, since it was started last")


def _has_ended_since(rule: PipelineDependency, downstream: Pipeline, now: dt.datetime) -> bool:
    """Whether the upstream of another trigger rule has an end that no run of the pipeline was made of yet."""
    started = Run.objects.filter(pipeline=downstream, trigger=Trigger.UPSTREAM).order_by("-id").values_list("created_at", flat=True).first()
    ends = Run.objects.filter(pipeline_id=rule.upstream_id, status__in=STATUSES[rule.state]).order_by("-id").values_list("finished_at", flat=True)
    earliest = now - dt.timedelta(seconds=rule.within_seconds) if rule.within_seconds else None
    return any(end is not None and (started is None or end > started) and (earliest is None or end >= earliest) for end in ends[:_LOOK_BACK])
