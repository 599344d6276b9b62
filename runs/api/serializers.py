"""What the API shows of runs. Field names and shapes are the published contract; the docs are generated from them."""

import datetime as dt
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from brokoli_site.common.time import iso, milliseconds
from runs.models import LogEntry, NodeOutput, NodeRun, Run
from runs.states import EntryKind, NodeStatus, RunStatus, Trigger

RUN_STATUSES = [s.value for s in RunStatus]
NODE_STATUSES = [s.value for s in NodeStatus]
BACKFILL_STATUSES = ["running", "completed", "failed", "cancelled"]
TRIGGERS = [t.value for t in Trigger]
LEVELS = ["debug", "info", "warning", "error"]


class Moment(serializers.DateTimeField):
    """A time as the API writes it: UTC, ISO 8601, ending in `Z`."""

    def to_representation(self, value: dt.datetime) -> str:
        return str(iso(value))


class RunSerializer(serializers.Serializer[Run]):
    """One run, as listings show it. Reads rows of `lookup.shown_runs`."""

    id = serializers.UUIDField()
    pipeline_id = serializers.UUIDField(help_text="Id of the pipeline.")
    pipeline_name = serializers.CharField()
    pipeline_version = serializers.IntegerField(help_text="Number of the version that the run executes.")
    status = serializers.ChoiceField(choices=RUN_STATUSES)
    trigger = serializers.ChoiceField(choices=TRIGGERS, help_text="What made the run.")
    params = serializers.DictField(help_text="Parameters by name; values are scalars.")
    priority = serializers.IntegerField()
    logical_date = serializers.DateField(allow_null=True, help_text="The date that the run is for, when it was made for one.")
    interval_start = Moment(allow_null=True, help_text="Where the interval begins that the run is for: a schedule's, or a backfill's.")
    interval_end = Moment(allow_null=True, help_text="Where it ends; not included.")
    backfill_id = serializers.UUIDField(allow_null=True, help_text="The backfill that it belongs to.")
    error = serializers.CharField(allow_blank=True, help_text="Why it failed, or empty.")
    created_at = Moment()
    started_at = Moment(allow_null=True)
    finished_at = Moment(allow_null=True)
    queued_ms = serializers.SerializerMethodField(help_text="Milliseconds from its creation to its start; null until it started.")
    duration_ms = serializers.SerializerMethodField(help_text="Milliseconds from its start to its end; null until it ended.")
    resumed_from = serializers.UUIDField(source="resumed_from_id", allow_null=True, help_text="The failed run that it continues.")
    upstream_run = serializers.UUIDField(source="upstream_run_id", allow_null=True, help_text="The run of another pipeline whose end made it.")
    cancel_requested = serializers.BooleanField()
    waiting_until = serializers.SerializerMethodField(help_text="A pending run that waits, without a worker: when it looks again. Else null.")

    @extend_schema_field(Moment(allow_null=True))
    def get_waiting_until(self, run: Run) -> str | None:
        return iso(run.not_before) if run.not_before is not None and run.status == RunStatus.PENDING else None

    def get_queued_ms(self, run: Run) -> int | None:
        return milliseconds(run.created_at, run.started_at)

    def get_duration_ms(self, run: Run) -> int | None:
        return milliseconds(run.started_at, run.finished_at)


class NodeRunSerializer(serializers.Serializer[NodeRun]):
    """The latest attempt of one node."""

    id = serializers.UUIDField()
    node_id = serializers.CharField()
    name = serializers.CharField()
    type = serializers.CharField(help_text="Node type.")
    status = serializers.ChoiceField(choices=NODE_STATUSES)
    row_count = serializers.IntegerField(allow_null=True, help_text="Rows of its output; for a sink, rows written.")
    duration_ms = serializers.SerializerMethodField(help_text="Milliseconds from its start to its end; null until it ended.")
    queue_ms = serializers.SerializerMethodField(help_text="Milliseconds from its inputs being there to its start.")
    rows_per_sec = serializers.SerializerMethodField(help_text="Rows a second, or null where there is nothing to divide.")
    attempt = serializers.IntegerField(help_text="1 for the first attempt.")
    error = serializers.CharField(allow_blank=True)
    started_at = Moment(allow_null=True)
    finished_at = Moment(allow_null=True)

    def get_duration_ms(self, node_run: NodeRun) -> int | None:
        return milliseconds(node_run.started_at, node_run.finished_at)

    def get_queue_ms(self, node_run: NodeRun) -> int | None:
        return milliseconds(node_run.ready_at, node_run.started_at)

    def get_rows_per_sec(self, node_run: NodeRun) -> float | None:
        if node_run.row_count is None or node_run.started_at is None or node_run.finished_at is None:
            return None
        seconds = (node_run.finished_at - node_run.started_at).total_seconds()
        return round(node_run.row_count / seconds, 1) if seconds > 0 else None


class WaitingSerializer(serializers.Serializer[NodeRun]):
    """A node that looked for something that is not there yet."""

    node_id = serializers.CharField()
    name = serializers.CharField()
    reason = serializers.CharField(source="waiting_for", help_text="What it waits for.")
    until = Moment(source="parked_until", help_text="When it looks again.")


class RunPageSerializer(serializers.Serializer[Any]):
    """One page of runs, newest first."""

    items = RunSerializer(many=True)
    total = serializers.IntegerField(help_text="Counted up to 100,000.")
    page = serializers.IntegerField()
    per_page = serializers.IntegerField()
    pages = serializers.IntegerField()


class RunDetailSerializer(RunSerializer):
    """One run with one entry a node, in the order of the graph."""

    node_runs = serializers.SerializerMethodField()
    waiting = serializers.SerializerMethodField(help_text="What the run waits for outside; empty when for nothing.")

    def to_representation(self, instance: Run) -> dict[str, Any]:
        self._node_runs = NodeRun.objects.filter(run=instance).last_attempts()
        return super().to_representation(instance)

    @extend_schema_field(NodeRunSerializer(many=True))
    def get_node_runs(self, run: Run) -> list[dict[str, Any]]:
        return [dict(NodeRunSerializer(node_run).data) for node_run in self._node_runs]

    @extend_schema_field(WaitingSerializer(many=True))
    def get_waiting(self, run: Run) -> list[dict[str, Any]]:
        parked = [one for one in self._node_runs if one.parked_until is not None and one.status == NodeStatus.PENDING]
        return [dict(WaitingSerializer(node_run).data) for node_run in parked]


class AcceptedRunSerializer(serializers.Serializer[Run]):
    """A run that was stored and waits for a worker."""

    id = serializers.UUIDField()
    pipeline_id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=RUN_STATUSES)


class ResumedRunSerializer(AcceptedRunSerializer):
    resumed_from = serializers.UUIDField(source="resumed_from_id")


class RunCountsSerializer(serializers.Serializer[Any]):
    """How many runs have each status."""

    pending = serializers.IntegerField()
    running = serializers.IntegerField()
    success = serializers.IntegerField()
    failed = serializers.IntegerField()
    cancelled = serializers.IntegerField()


class BackfillSerializer(serializers.Serializer[Any]):
    """One backfill. Reads `{row, progress}`."""

    id = serializers.UUIDField(source="row.id")
    pipeline_id = serializers.UUIDField(source="row.pipeline_id")
    pipeline_name = serializers.CharField(source="row.pipeline.name")
    start = serializers.CharField(source="row.start", help_text="As it was asked for: a date, or a moment.")
    end = serializers.CharField(source="row.end", help_text="A date, included; or a moment.")
    only = serializers.ChoiceField(choices=["all", "missing", "failed", "unfinished"], source="row.only")
    max_active = serializers.IntegerField(allow_null=True, source="row.max_active")
    created_at = Moment(source="row.created_at")
    cancelled_at = Moment(allow_null=True, source="row.cancelled_at")
    status = serializers.ChoiceField(
        choices=BACKFILL_STATUSES,
        source="progress.status",
        help_text="`running` while a run waits or executes. Then `cancelled` if somebody cancelled the backfill, `failed` if a run failed and "
        "was not resumed with success, else `completed`.",
    )
    counts = RunCountsSerializer(source="progress.counts", help_text="Of the runs that stand for a date: of one that was resumed, the last.")
    total = serializers.IntegerField(source="progress.total", help_text="Runs that it made, those that were purged since, too.")
    finished = serializers.IntegerField(source="progress.finished", help_text="Of these, how many have ended.")


class BackfillRunSerializer(serializers.Serializer[Run]):
    id = serializers.UUIDField()
    date = serializers.DateField(source="logical_date", allow_null=True)
    interval_start = Moment(allow_null=True)
    status = serializers.ChoiceField(choices=RUN_STATUSES)


class BackfillDetailSerializer(BackfillSerializer):
    """One backfill with its runs, oldest date first, 1,000 at most."""

    runs = BackfillRunSerializer(many=True)


class PlannedRunSerializer(serializers.Serializer[Any]):
    """One date or interval."""

    date = serializers.DateField()
    interval_start = Moment(allow_null=True)
    interval_end = Moment(allow_null=True)
    run = serializers.SerializerMethodField(help_text="Whether it gets a run.")
    reason = serializers.CharField(source="skipped", allow_blank=True, help_text="Why not.")

    def get_run(self, slot: Any) -> bool:
        return not slot.skipped


class BackfillPlanSerializer(serializers.Serializer[Any]):
    """What a backfill does, or would do."""

    intervals = serializers.IntegerField(help_text="Intervals (or dates) in the range, those that are left out, too.")
    first_interval_start = Moment(allow_null=True)
    last_interval_end = Moment(allow_null=True)
    concurrency = serializers.IntegerField(allow_null=True, help_text="Runs that execute at the same time at most; null: as many as workers take.")
    runs = serializers.ListField(child=serializers.UUIDField(), help_text="Ids of the runs that were queued, oldest interval first.")
    note = serializers.CharField(allow_blank=True)
    backfill_id = serializers.UUIDField(allow_null=True, help_text="Null: nothing was made.")
    plan = PlannedRunSerializer(many=True)


class LogEntrySerializer(serializers.Serializer[LogEntry]):
    """A line that a node wrote, or a change of status (`kind`)."""

    seq = serializers.IntegerField(help_text="Orders all entries; pass the last one seen as `since`.")
    run_id = serializers.UUIDField()
    node_id = serializers.CharField(allow_blank=True, help_text="Empty for entries about the run itself.")
    attempt = serializers.IntegerField(allow_null=True)
    kind = serializers.ChoiceField(choices=[k.value for k in EntryKind])
    level = serializers.ChoiceField(choices=LEVELS)
    message = serializers.CharField()
    timestamp = Moment()


class SchemaColumnSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    type = serializers.CharField(help_text="As DuckDB names it.")


class PreviewSerializer(serializers.Serializer[NodeOutput]):
    """The first rows of an output."""

    columns = serializers.ListField(child=serializers.CharField())
    schema = SchemaColumnSerializer(many=True)
    rows = serializers.ListField(child=serializers.DictField(), help_text="Objects by column name.")
    row_count = serializers.IntegerField(help_text="Rows of the whole output.")
    truncated = serializers.BooleanField(help_text="Whether there are more rows than these.")


class RetypedColumnSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        return super().get_fields() | {"from": serializers.CharField(), "to": serializers.CharField()}


class DifferencesSerializer(serializers.Serializer[Any]):
    """How the columns to write differ from those that the target has. Text files have no types, so they differ in none."""

    added = serializers.ListField(child=serializers.CharField())
    removed = serializers.ListField(child=serializers.CharField())
    retyped = RetypedColumnSerializer(many=True)


class WouldWriteSerializer(serializers.Serializer[Any]):
    """What a sink would have written."""

    rows = serializers.IntegerField(help_text="Of those that were computed from the first rows of the sources.")
    columns = SchemaColumnSerializer(many=True)
    target = serializers.CharField(help_text="As the config names it.")
    mode = serializers.CharField()
    exists = serializers.BooleanField(help_text="Whether the target exists already.")
    differences = DifferencesSerializer(allow_null=True, help_text="null when there is nothing to compare with.")


class DryLogLineSerializer(serializers.Serializer[Any]):
    level = serializers.ChoiceField(choices=LEVELS)
    message = serializers.CharField()


class DryNodeSerializer(serializers.Serializer[Any]):
    """What became of a node in a dry run."""

    node_id = serializers.CharField()
    name = serializers.CharField()
    type = serializers.CharField()
    status = serializers.ChoiceField(choices=["success", "failed", "skipped"])
    error = serializers.CharField(required=False, help_text="Why it failed, or was skipped.")
    columns = serializers.ListField(child=serializers.CharField())
    schema = SchemaColumnSerializer(many=True)
    rows = serializers.ListField(child=serializers.DictField(), help_text="The first 10, as objects by column name.")
    row_count = serializers.IntegerField(allow_null=True, help_text="Rows that were computed; null when there are none to speak of.")
    truncated = serializers.BooleanField(help_text="Whether the node would have given more rows than were computed.")
    log = DryLogLineSerializer(many=True, help_text="The first lines that the node logged.")
    would_write = WouldWriteSerializer(required=False, help_text="Sinks only.")
    checks = serializers.ListField(child=serializers.DictField(), required=False, help_text="Quality checks only: the verdict on each rule.")


class DryRunSerializer(serializers.Serializer[Any]):
    """What became of each node in a dry run, by the node's id, in the order of the document."""


class HistogramBinSerializer(serializers.Serializer[Any]):
    low = serializers.FloatField()
    high = serializers.FloatField()
    count = serializers.IntegerField()


class ColumnProfileSerializer(serializers.Serializer[Any]):
    """What was measured of one column. Null where it was not, or makes no sense for the type."""

    name = serializers.CharField()
    type = serializers.CharField()
    null_count = serializers.IntegerField(allow_null=True)
    null_pct = serializers.FloatField(allow_null=True)
    unique_count = serializers.IntegerField(allow_null=True)
    unique_pct = serializers.FloatField(allow_null=True)
    min_val = serializers.CharField(allow_null=True)
    max_val = serializers.CharField(allow_null=True)
    mean_val = serializers.FloatField(allow_null=True)
    is_numeric = serializers.BooleanField()
    sample_values = serializers.ListField(child=serializers.CharField())
    histogram = HistogramBinSerializer(many=True, allow_null=True)


class ProfileSerializer(serializers.Serializer[Any]):
    row_count = serializers.IntegerField()
    column_count = serializers.IntegerField()
    profiling_ms = serializers.IntegerField(help_text="Milliseconds that measuring took.")
    unique_approximate = serializers.BooleanField(help_text="Whether the counts of unique values are estimates.")
    histogram_sampled = serializers.BooleanField(help_text="Whether histograms count a sample of the rows.")
    scanned_columns = serializers.IntegerField(help_text="Columns that were measured in full, from the first.")
    columns = ColumnProfileSerializer(many=True)


class NullRateSerializer(serializers.Serializer[Any]):
    """Percent."""

    name = serializers.CharField()
    change = serializers.FloatField()

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        return super().get_fields() | {"from": serializers.FloatField(), "to": serializers.FloatField()}


class RowCountChangeSerializer(serializers.Serializer[Any]):
    change = serializers.IntegerField()
    change_pct = serializers.FloatField(allow_null=True)

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        return super().get_fields() | {"from": serializers.IntegerField(), "to": serializers.IntegerField()}


class DriftSerializer(serializers.Serializer[Any]):
    """What changed since the last successful run before this one."""

    added = serializers.ListField(child=serializers.CharField())
    removed = serializers.ListField(child=serializers.CharField())
    retyped = RetypedColumnSerializer(many=True)
    null_rates = NullRateSerializer(many=True)
    row_count = RowCountChangeSerializer()
    has_changes = serializers.BooleanField()


class LineageSourceSerializer(serializers.Serializer[Any]):
    """A column of an input: the node whose output it is, and its name there."""

    node_id = serializers.CharField()
    column = serializers.CharField()


class LineageInfluenceSerializer(LineageSourceSerializer):
    """A column of an input that decides about rows or values, and in which ways."""

    by = serializers.ListField(
        child=serializers.ChoiceField(choices=["condition", "distinct", "filter", "group_by", "join", "limit", "sort", "unnest", "window"])
    )


class ColumnLineageSerializer(serializers.Serializer[Any]):
    column = serializers.CharField()
    transformation = serializers.ChoiceField(choices=["identity", "expression", "aggregate"])
    indirect = LineageInfluenceSerializer(many=True, required=False, help_text="What decides about this column alone.")

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        return super().get_fields() | {"from": LineageSourceSerializer(many=True, help_text="The columns that its values are computed of.")}


class LineageSerializer(serializers.Serializer[Any]):
    """Which columns of the inputs the output's columns come from."""

    columns = ColumnLineageSerializer(many=True)
    indirect = LineageInfluenceSerializer(many=True, help_text="What decides which rows there are, and in which order.")


class ProfileAnswerSerializer(serializers.Serializer[Any]):
    profile = ProfileSerializer()
    schema = SchemaColumnSerializer(many=True)
    drift = DriftSerializer(allow_null=True, help_text="Null when there is no earlier successful run to compare with.")
    lineage = LineageSerializer(allow_null=True, help_text="Null where it is not known: sources, scripts, and queries that cannot be traced.")
