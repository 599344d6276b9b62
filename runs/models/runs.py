"""Runs, the attempts of their nodes, their outputs, their log, and the workers that execute them."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from brokoli_site.common.fields import DocumentField
from brokoli_site.common.ids import new_id
from pipelines.models import Pipeline, PipelineVersion
from runs.querysets import NodeRunQuerySet, RunQuerySet, WorkerQuerySet
from runs.states import ACTIVE, TERMINAL, EntryKind, NodeStatus, RunStatus, Trigger


def _choices(enum: type[RunStatus] | type[NodeStatus] | type[Trigger] | type[EntryKind]) -> list[tuple[str, str]]:
    return [(item.value, item.value) for item in enum]


class Worker(models.Model):
    """A process that executes runs. Its `beat` counts up while it lives; who sees it stand still for a lease may take its runs.

    A counter, not a time: a clock that steps an hour neither kills a healthy worker nor hides a dead one.
    """

    id = models.CharField(primary_key=True, max_length=64)
    hostname = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    # Identity of the process on its machine (boot, PID namespace, start time): lets a neighbour see at once that it is gone.
    process = models.CharField(max_length=128, default="")
    concurrency = models.PositiveIntegerField(default=1)
    beat = models.PositiveBigIntegerField(default=0)
    beaten = models.FloatField(null=True, help_text="Seconds since its machine's boot at the last beat, for its neighbours there.")
    lease_seconds = models.PositiveIntegerField()
    draining = models.BooleanField(default=False)
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField(help_text="Time of the last heartbeat, for people; decisions use `beat`.")

    objects: ClassVar[WorkerQuerySet] = WorkerQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ("-started_at",)

    def __str__(self) -> str:
        return self.id


class Run(models.Model):
    """One execution of one pipeline version with one set of params."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    # No index of its own: several below begin with it.
    pipeline = models.ForeignKey(Pipeline, on_delete=models.PROTECT, related_name="runs", db_index=False)
    version = models.ForeignKey(PipelineVersion, on_delete=models.PROTECT, related_name="+")
    status = models.CharField(max_length=10, choices=_choices(RunStatus), default=RunStatus.PENDING)
    trigger = models.CharField(max_length=10, choices=_choices(Trigger), default=Trigger.API)
    params = models.JSONField(default=dict)
    priority = models.SmallIntegerField(default=0)
    # A run that waits for something outside, and keeps no worker meanwhile, is not claimed before; null: at once.
    not_before = models.DateTimeField(null=True, blank=True)
    logical_date = models.DateField(null=True, blank=True)
    # The stretch of time that the run is for: from one tick of the schedule to the next. It ends with the tick that makes the run.
    interval_start = models.DateTimeField(null=True, blank=True)
    interval_end = models.DateTimeField(null=True, blank=True)
    backfill = models.ForeignKey("runs.Backfill", null=True, blank=True, on_delete=models.SET_NULL, related_name="runs", db_index=False)
    # The run whose end made this one.
    upstream_run = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL, related_name="downstream_runs", db_index=False)
    # The hooks of its version, `{event: [hook]}`, so that ending a run needs no definition. Null: none.
    hooks = models.JSONField(null=True, blank=True)
    error = models.TextField(blank=True, default="")

    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    # The lease: who executes it, and which claim this is. Every write of a worker is guarded by both.
    owner = models.CharField(max_length=64, blank=True, default="")
    epoch = models.PositiveIntegerField(default=0)
    deaths = models.PositiveSmallIntegerField(default=0, help_text="Workers that died while executing it.")

    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    cancel_force = models.BooleanField(default=False)

    resumed_from = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL, related_name="resumes")
    resume_from_node = models.CharField(max_length=200, blank=True, default="")

    objects: ClassVar[RunQuerySet] = RunQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ("-id",)
        indexes = (
            # Each listing walks one of these from the newest id; the queue and the reaper read their own few rows. They are whole
            # indexes: SQLite uses a partial one only when its condition is a literal in the query, and Django binds parameters.
            models.Index(fields=["pipeline", "-id"], name="run_pipeline_newest"),
            models.Index(fields=["pipeline", "status", "-id"], name="run_pipeline_status"),
            models.Index(fields=["status", "-id"], name="run_status_newest"),
            models.Index(fields=["pipeline", "trigger", "-id"], name="run_pipeline_trigger"),
            models.Index(fields=["trigger", "-id"], name="run_trigger_newest"),
            # With what decides whether a run is behind a limit or waits for its time: a long queue of those is stepped over in the index.
            models.Index(fields=["status", "-priority", "id", "pipeline", "backfill", "not_before"], name="run_queue"),
            models.Index(fields=["owner", "status"], name="run_owner"),
            models.Index(fields=["finished_at"], condition=Q(finished_at__isnull=False), name="run_finished"),
            models.Index(fields=["pipeline", "logical_date", "-id"], condition=Q(logical_date__isnull=False), name="run_logical_date"),
            models.Index(fields=["pipeline", "interval_end", "-id"], condition=Q(interval_end__isnull=False), name="run_interval"),
            models.Index(fields=["backfill", "id"], condition=Q(backfill__isnull=False), name="run_backfill"),
            models.Index(fields=["upstream_run"], condition=Q(upstream_run__isnull=False), name="run_upstream"),
        )
        constraints = (
            models.CheckConstraint(condition=Q(status__in=[s.value for s in RunStatus]), name="run_status_known"),
            models.CheckConstraint(
                condition=Q(status=RunStatus.RUNNING, owner__gt="") | (~Q(status=RunStatus.RUNNING) & Q(owner="")), name="run_owned_while_running"
            ),
            models.CheckConstraint(
                condition=Q(status__in=sorted(TERMINAL), finished_at__isnull=False) | Q(status__in=sorted(ACTIVE), finished_at__isnull=True),
                name="run_finished_when_terminal",
            ),
            models.UniqueConstraint(fields=["resumed_from"], condition=Q(status__in=sorted(ACTIVE)), name="run_one_active_resume"),
            # However many schedulers look at the clock: one run a tick. However often an end is told: one run downstream of it.
            models.UniqueConstraint(fields=["pipeline", "interval_end"], condition=Q(trigger=Trigger.SCHEDULE), name="run_one_a_tick"),
            models.UniqueConstraint(fields=["pipeline", "upstream_run"], condition=Q(trigger=Trigger.UPSTREAM), name="run_one_an_upstream_end"),
        )
        permissions = (
            ("view", "Can see runs"),
            ("cancel", "Can cancel runs"),
            ("resume", "Can resume runs"),
            ("backfill", "Can backfill"),
        )

    def __str__(self) -> str:
        return str(self.id)

    @property
    def cancel_requested(self) -> bool:
        return self.cancel_requested_at is not None


class NodeRun(models.Model):
    """One attempt of one node in one run."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="node_runs", db_index=False)
    node_id = models.CharField(max_length=200)
    name = models.CharField(max_length=200)
    type = models.CharField(max_length=100)
    position = models.PositiveIntegerField(help_text="Place in the topological order, for showing.")
    attempt = models.PositiveIntegerField(default=1)
    status = models.CharField(max_length=10, choices=_choices(NodeStatus), default=NodeStatus.PENDING)
    error = models.TextField(blank=True, default="")
    row_count = models.BigIntegerField(null=True, blank=True)
    lost = models.BooleanField(default=False, help_text="Ended with its worker, not by its own fault: does not count as a retry.")
    ready_at = models.DateTimeField(null=True, blank=True, help_text="When its inputs were there, or its retry was due.")
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    # Of an attempt that looked for what it waits for and did not find it: when it looks again, and what that is.
    parked_until = models.DateTimeField(null=True, blank=True)
    waiting_for = models.TextField(blank=True, default="")

    objects: ClassVar[NodeRunQuerySet] = NodeRunQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ("position", "attempt")
        constraints = (
            models.UniqueConstraint(fields=["run", "node_id", "attempt"], name="node_run_attempt_unique"),
            models.CheckConstraint(condition=Q(status__in=[s.value for s in NodeStatus]), name="node_run_status_known"),
        )

    def __str__(self) -> str:
        return f"{self.node_id} #{self.attempt}"


class NodeOutput(models.Model):
    """The data set that a node produced in a run: where its Parquet artifact is, and what was measured when it was written."""

    id = models.BigAutoField(primary_key=True)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="outputs", db_index=False)
    node_id = models.CharField(max_length=200)
    # Key in the artifact store. Several outputs may name one artifact: a node that passes its input through, a resumed run.
    artifact = models.CharField(max_length=300)
    row_count = models.BigIntegerField()
    byte_count = models.BigIntegerField()
    schema = DocumentField(help_text="[{name, type}], in column order; types as DuckDB names them.")
    preview = DocumentField(help_text="The first 50 rows, as lists in column order, safe for JSON.")
    profile = DocumentField(help_text="As the API answers it.")
    # What a condition decided, for those who follow, in this run and in one that resumes it.
    branch = models.BooleanField(null=True, blank=True)
    lineage = DocumentField(null=True, blank=True, help_text="Which columns of which inputs each column comes from; null where that is not known.")
    created_at = models.DateTimeField()

    class Meta:
        constraints = (models.UniqueConstraint(fields=["run", "node_id"], name="node_output_unique"),)
        indexes = (models.Index(fields=["artifact"], name="node_output_artifact"),)

    def __str__(self) -> str:
        return self.artifact


class LogEntry(models.Model):
    """One row of a run's append-only history: a line that a node wrote, or a change of status. `seq` orders them all."""

    seq = models.BigAutoField(primary_key=True)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="log", db_index=False)
    node_id = models.CharField(max_length=200, blank=True, default="")
    attempt = models.PositiveIntegerField(null=True, blank=True)
    kind = models.CharField(max_length=24, choices=_choices(EntryKind), default=EntryKind.LOG)
    level = models.CharField(max_length=8, default="info")
    message = models.TextField()
    data = models.JSONField(null=True, blank=True, help_text="What the event tells besides its message.")
    timestamp = models.DateTimeField()

    class Meta:
        ordering = ("seq",)
        verbose_name_plural = "log entries"
        indexes = (models.Index(fields=["run", "seq"], name="log_run_seq"),)

    def __str__(self) -> str:
        return self.message
