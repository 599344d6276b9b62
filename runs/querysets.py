"""The states of the queue as chainable verbs: `Run.objects.ready()`, `Worker.objects.besides(id)`."""

import datetime as dt
import uuid
from typing import TYPE_CHECKING

from django.db import models
from django.db.models import Count, F, Q
from django.utils import timezone

from runs.states import ACTIVE, RunStatus

if TYPE_CHECKING:
    from runs.models import NodeRun, Run, Worker
else:
    NodeRun = Run = Worker = models.Model


LONGEST_PARK = dt.timedelta(minutes=5)  # that a run stays away from its workers at a time


class RunQuerySet(models.QuerySet["Run"]):
    def ready(self, now: dt.datetime | None = None) -> "RunQuerySet":
        """Waiting for a worker, in the order of service: priority, then age. Those that wait for their time are not among them."""
        now = now or timezone.now()
        # Nobody parks for that long: then the clock was set back since.
        due = Q(not_before__isnull=True) | Q(not_before__lte=now) | Q(not_before__gt=now + 2 * LONGEST_PARK)
        return self.filter(due, status=RunStatus.PENDING).order_by("-priority", "id")

    def claimable(self, now: dt.datetime | None = None) -> "RunQuerySet":
        """Those that are ready and whose pipeline and backfill may have one more run executing, as far as a reader can tell.

        What is saturated is read once a query, of the few runs that execute: a long queue behind a limit is stepped over in the index.
        """
        running = self.model._default_manager.filter(status=RunStatus.RUNNING).order_by()
        full_pipelines = running.filter(pipeline__max_active_runs__isnull=False).values("pipeline_id")
        full_backfills = running.filter(backfill__max_active__isnull=False).values("backfill_id")
        return (
            self.ready(now)
            .exclude(pipeline_id__in=full_pipelines.annotate(runs=Count("id")).filter(runs__gte=F("pipeline__max_active_runs")).values("pipeline_id"))
            .exclude(backfill_id__in=full_backfills.annotate(runs=Count("id")).filter(runs__gte=F("backfill__max_active")).values("backfill_id"))
        )

    def active(self) -> "RunQuerySet":
        """Not yet ended."""
        return self.filter(status__in=sorted(ACTIVE))

    def leased(self, owner: str, epoch: int) -> "RunQuerySet":
        """Executed by exactly this claim; empty once the lease was lost."""
        return self.filter(status=RunStatus.RUNNING, owner=owner, epoch=epoch)

    def owned_by(self, owner: str) -> "RunQuerySet":
        """Executed by this worker."""
        return self.filter(status=RunStatus.RUNNING, owner=owner)

    def of_pipeline(self, pipeline_id: uuid.UUID) -> "RunQuerySet":
        return self.filter(pipeline_id=pipeline_id)

    def recent(self) -> "RunQuerySet":
        """Newest first."""
        return self.order_by("-id")


class NodeRunQuerySet(models.QuerySet["NodeRun"]):
    def last_attempts(self) -> "list[NodeRun]":
        """The last attempt of each node, in the order of the graph."""
        last = {node_run.node_id: node_run for node_run in self.order_by("position", "attempt")}
        return list(last.values())


class WorkerQuerySet(models.QuerySet["Worker"]):
    def besides(self, worker_id: str) -> "WorkerQuerySet":
        return self.exclude(id=worker_id)
