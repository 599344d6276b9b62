"""What the OpenAPI document says of the operations on runs: summaries, examples, and every status."""

import inspect
from typing import Any

from drf_spectacular.extensions import OpenApiSerializerExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, PolymorphicProxySerializer

from brokoli_site.common.openapi import problems
from pipelines.api.serializers import PipelineDocumentSerializer
from runs.api.requests import (
    BackfillCancelRequest,
    BackfillRequest,
    CancelRequest,
    DryRunRequest,
    EventsQuery,
    LogExportQuery,
    LogQuery,
    OutputQuery,
    ResumeRequest,
    RunListQuery,
    RunRequest,
)
from runs.api.serializers import (
    AcceptedRunSerializer,
    BackfillDetailSerializer,
    BackfillPlanSerializer,
    BackfillSerializer,
    DryNodeSerializer,
    DryRunSerializer,
    LogEntrySerializer,
    PreviewSerializer,
    ProfileAnswerSerializer,
    ResumedRunSerializer,
    RunDetailSerializer,
    RunPageSerializer,
    RunSerializer,
)


class DryRunSerializerExtension(OpenApiSerializerExtension):
    """Serializers have fields of known names; this answer has a node for each id."""

    target_class = "runs.api.serializers.DryRunSerializer"

    def map_serializer(self, auto_schema: AutoSchema, direction: Any) -> Any:
        node = auto_schema.resolve_serializer(DryNodeSerializer, direction)  # type: ignore[no-untyped-call]
        return {"type": "object", "description": inspect.getdoc(DryRunSerializer), "additionalProperties": node.ref}


_RUN_ID = "019a9f3c-5b1e-7c42-9d0e-2f6a4c1b8e70"
_PIPELINE_ID = "019a9f2b-1c77-7e10-8a55-0d9b6f3e2a41"
_JSON = "application/json"
_NODE_RUN = {
    "id": "019a9f3c-5b20-7a11-bb0c-64f1c7d0a9e2",
    "node_id": "source1",
    "name": "Fetch Users",
    "type": "source_file",
    "status": "success",
    "row_count": 1500,
    "duration_ms": 2340,
    "queue_ms": 4,
    "rows_per_sec": 641.0,
    "attempt": 1,
    "error": "",
    "started_at": "2024-01-15T06:00:00.120Z",
    "finished_at": "2024-01-15T06:00:02.460Z",
}
_RUN = {
    "id": _RUN_ID,
    "pipeline_id": _PIPELINE_ID,
    "pipeline_name": "Users",
    "pipeline_version": 3,
    "status": "success",
    "trigger": "api",
    "params": {"date": "2024-01-15"},
    "priority": 0,
    "logical_date": None,
    "interval_start": None,
    "interval_end": None,
    "backfill_id": None,
    "upstream_run": None,
    "error": "",
    "created_at": "2024-01-15T06:00:00.000Z",
    "started_at": "2024-01-15T06:00:00.100Z",
    "finished_at": "2024-01-15T06:01:23.000Z",
    "queued_ms": 100,
    "duration_ms": 82900,
    "resumed_from": None,
    "cancel_requested": False,
    "waiting_until": None,
}
_RUN_DETAIL = _RUN | {"waiting": [], "node_runs": [_NODE_RUN]}
_CANCELLED = _RUN_DETAIL | {"status": "cancelled", "started_at": None, "queued_ms": None, "duration_ms": None, "node_runs": []}
_CANCELLING = _RUN_DETAIL | {"status": "running", "finished_at": None, "duration_ms": None, "cancel_requested": True}
_ACCEPTED = {"id": _RUN_ID, "pipeline_id": _PIPELINE_ID, "status": "pending"}
_BACKFILL_ID = "019a9f4d-0c11-7d5e-8a3b-5d2e7f9c6b10"
_BACKFILL = {
    "id": _BACKFILL_ID,
    "pipeline_id": _PIPELINE_ID,
    "pipeline_name": "Users",
    "start": "2024-01-01",
    "end": "2024-01-31",
    "only": "all",
    "max_active": 2,
    "created_at": "2024-02-01T09:00:00.000Z",
    "cancelled_at": None,
    "status": "running",
    "counts": {"pending": 28, "running": 2, "success": 1, "failed": 0, "cancelled": 0},
    "total": 31,
    "finished": 1,
}
_BACKFILL_DETAIL = _BACKFILL | {"runs": [{"id": _RUN_ID, "date": "2024-01-01", "interval_start": None, "status": "success"}]}
_PLAN = {
    "intervals": 1,
    "first_interval_start": "2024-01-01T00:00:00.000Z",
    "last_interval_end": "2024-01-02T00:00:00.000Z",
    "concurrency": 2,
    "runs": [_RUN_ID],
    "note": "",
    "backfill_id": _BACKFILL_ID,
    "plan": [
        {
            "date": "2024-01-01",
            "interval_start": "2024-01-01T00:00:00.000Z",
            "interval_end": "2024-01-02T00:00:00.000Z",
            "run": True,
            "reason": "",
        }
    ],
}
_LOG_ENTRY = {
    "seq": 4711,
    "run_id": _RUN_ID,
    "node_id": "source1",
    "attempt": 1,
    "kind": "node.started",
    "level": "info",
    "message": "Starting node: Fetch Users (source_file)",
    "timestamp": "2024-01-15T06:00:00.120Z",
}
_PREVIEW = {
    "columns": ["id", "name"],
    "schema": [{"name": "id", "type": "BIGINT"}, {"name": "name", "type": "VARCHAR"}],
    "rows": [{"id": 1, "name": "Alice"}],
    "row_count": 1500,
    "truncated": True,
}
_PROFILE = {
    "profile": {
        "row_count": 1500,
        "column_count": 1,
        "profiling_ms": 3,
        "unique_approximate": False,
        "histogram_sampled": False,
        "scanned_columns": 1,
        "columns": [
            {
                "name": "id",
                "type": "BIGINT",
                "null_count": 0,
                "null_pct": 0.0,
                "unique_count": 1500,
                "unique_pct": 100.0,
                "min_val": "1",
                "max_val": "1500",
                "mean_val": 750.5,
                "is_numeric": True,
                "sample_values": ["1", "2", "3"],
                "histogram": [{"low": 1.0, "high": 1500.0, "count": 1500}],
            }
        ],
    },
    "schema": [{"name": "id", "type": "BIGINT"}],
    "drift": {
        "added": [],
        "removed": ["email"],
        "retyped": [{"name": "id", "from": "VARCHAR", "to": "BIGINT"}],
        "null_rates": [{"name": "id", "from": 2.5, "to": 0.0, "change": -2.5}],
        "row_count": {"from": 1000, "to": 1500, "change": 500, "change_pct": 50.0},
        "has_changes": True,
    },
    "lineage": {
        "columns": [{"column": "id", "transformation": "identity", "from": [{"node_id": "source1", "column": "id"}]}],
        "indirect": [{"node_id": "source1", "column": "status", "by": ["filter"]}],
    },
}


def _example(name: str, value: Any) -> OpenApiExample:
    return OpenApiExample(name, value=value, response_only=True)


def _sent(name: str, value: Any) -> OpenApiExample:
    return OpenApiExample(name, value=value, request_only=True)


def _header(name: str, status: int, description: str) -> OpenApiParameter:
    return OpenApiParameter(name, str, OpenApiParameter.HEADER, description=description, response=[status])


# For every operation that makes runs.
_ONCE = [
    OpenApiParameter(
        "Idempotency-Key",
        {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
        OpenApiParameter.HEADER,
        description="1 to 255 printable ASCII characters of your choice. The same request with the same key within 24 hours makes nothing "
        "new and is answered the same; another request with it is a 422, one that is still in progress a 409. Failures are not kept.",
    ),
    OpenApiParameter(
        "Idempotency-Replayed", str, OpenApiParameter.HEADER, description="`true`: an answer that was given before.", response=[202], enum=["true"]
    ),
]


def _answer(shape: Any, description: str, example: Any = None) -> OpenApiResponse:
    return OpenApiResponse(shape, description, [_example("example", example)] if example is not None else [])


_LISTING = {
    (200, _JSON): OpenApiResponse(
        PolymorphicProxySerializer(
            component_name="RunListing", serializers=[RunSerializer(many=True), RunPageSerializer], resource_type_field_name=None, many=False
        ),
        "The 50 newest runs as an array; with `page` or `per_page`, an object with that page. A total is counted up to 100,000.",
        [_example("newest", [_RUN]), _example("page", {"items": [_RUN], "total": 1, "page": 1, "per_page": 20, "pages": 1})],
    )
}

RUN: dict[str, Any] = {
    "operation_id": "run_pipeline",
    "summary": "Trigger a run",
    "description": "Answers at once, when the run is stored; a worker executes it. Follow it at `Location`. `{pipeline_id}` is the id or the slug.",
    "tags": ["runs"],
    "parameters": [_header("Location", 202, "Path of the run."), *_ONCE],
    "request": {_JSON: RunRequest},
    "examples": [_sent("params", {"params": {"date": "2024-01-15"}})],
    "responses": {(202, _JSON): _answer(AcceptedRunSerializer, "The run was accepted.", _ACCEPTED)} | problems(404, 409, 413, 415, 422),
}
PIPELINE_RUNS: dict[str, Any] = {
    "operation_id": "list_pipeline_runs",
    "summary": "List runs of a pipeline",
    "description": "Newest first. `{pipeline_id}` is the id or the slug; the runs of a deleted pipeline stay under its id.",
    "tags": ["runs"],
    "parameters": [RunListQuery],
    "responses": _LISTING | problems(404),
}
RUNS: dict[str, Any] = {
    "operation_id": "list_runs",
    "summary": "List runs of all pipelines",
    "description": "Newest first.",
    "tags": ["runs"],
    "parameters": [RunListQuery],
    "responses": _LISTING | problems(),
}
RUN_DETAIL: dict[str, Any] = {
    "operation_id": "get_run",
    "summary": "Get a run",
    "description": "With one entry a node, its latest attempt.",
    "tags": ["runs"],
    "responses": {(200, _JSON): _answer(RunDetailSerializer, "The run.", _RUN_DETAIL)} | problems(404),
}
CANCEL: dict[str, Any] = {
    "operation_id": "cancel_run",
    "summary": "Cancel a run",
    "description": "Executing nodes finish and no new node starts; `force` stops executing nodes too.",
    "tags": ["runs"],
    "request": {_JSON: CancelRequest},
    "responses": {
        (200, _JSON): _answer(RunDetailSerializer, "The run had not started; it is cancelled.", _CANCELLED),
        (202, _JSON): _answer(RunDetailSerializer, "The run is executing and will be cancelled.", _CANCELLING),
    }
    | problems(404, 409, 413, 415),
}
RESUME: dict[str, Any] = {
    "operation_id": "resume_run",
    "summary": "Resume a failed run",
    "description": "Makes a new run. Nodes that succeeded are skipped and their outputs feed the rest.",
    "tags": ["runs"],
    "parameters": [_header("Location", 202, "Path of the new run."), *_ONCE],
    "request": {_JSON: ResumeRequest},
    "examples": [_sent("from_node", {"from_node": "transform1"}), _sent("latest", {"version": "latest"})],
    "responses": {(202, _JSON): _answer(ResumedRunSerializer, "The new run was accepted.", _ACCEPTED | {"resumed_from": _RUN_ID})}
    | problems(404, 409, 413, 415, 422),
}
BACKFILL: dict[str, Any] = {
    "operation_id": "backfill_pipeline",
    "summary": "Backfill",
    "description": "A run a date, both ends included, or with `start` and `end` a run an interval of the schedule between. All are queued when this "
    "answers, or none; workers take the oldest first. A run of a date gets the date as the param `date`. At most 1,000 runs and 50,000 node runs.",
    "tags": ["backfills"],
    "parameters": [
        _header("Location", 202, "Path of the backfill."),
        _header("X-Backfill-Id", 202, "Id of the backfill."),
        *_ONCE,
    ],
    "request": {_JSON: BackfillRequest},
    "examples": [
        _sent("dates", {"start_date": "2024-01-01", "end_date": "2024-01-31"}),
        _sent("intervals", {"start": "2024-01-01T00:00:00Z", "end": "2024-02-01T00:00:00Z", "max_active": 2}),
    ],
    "responses": {
        (200, _JSON): _answer(BackfillPlanSerializer, "What would run (`dry_run`); nothing was written.", _PLAN | {"runs": [], "backfill_id": None}),
        (202, _JSON): OpenApiResponse(
            {"oneOf": [{"type": "array", "items": {"type": "string", "format": "uuid"}}, {"$ref": "#/components/schemas/BackfillPlan"}]},
            "Of dates: the ids of the runs, oldest date first. Of intervals: the plan.",
            [_example("dates", [_RUN_ID]), _example("intervals", _PLAN)],
        ),
    }
    | problems(404, 409, 413, 415, 422),
}
BACKFILLS: dict[str, Any] = {
    "operation_id": "list_pipeline_backfills",
    "summary": "List backfills of a pipeline",
    "description": "The 50 newest, newest first.",
    "tags": ["backfills"],
    "responses": {(200, _JSON): _answer(BackfillSerializer(many=True), "The backfills.", _BACKFILL)} | problems(404),
}
BACKFILL_DETAIL: dict[str, Any] = {
    "operation_id": "get_backfill",
    "summary": "Get a backfill",
    "description": "Its progress, and its runs.",
    "tags": ["backfills"],
    "responses": {(200, _JSON): _answer(BackfillDetailSerializer, "The backfill.", _BACKFILL_DETAIL)} | problems(404),
}
BACKFILL_CANCEL: dict[str, Any] = {
    "operation_id": "cancel_backfill",
    "summary": "Cancel a backfill",
    "description": "Runs that have not started are cancelled; those that execute go on unless `running` is true. Asking again changes nothing.",
    "tags": ["backfills"],
    "parameters": [_header("Location", 200, "Path of the backfill.")],
    "request": {_JSON: BackfillCancelRequest},
    "examples": [_sent("running", {"running": True})],
    "responses": {(200, _JSON): _answer(BackfillDetailSerializer, "The backfill, cancelled.", _BACKFILL_DETAIL)} | problems(404, 409, 413, 415),
}
LOGS: dict[str, Any] = {
    "operation_id": "get_run_logs",
    "summary": "Get run logs",
    "description": "Oldest first, `limit` of them at most.",
    "tags": ["run logs"],
    "parameters": [LogQuery, _header("Link", 200, "Where the log goes on, with `rel=next`, when there is more of it.")],
    "responses": {(200, _JSON): _answer(LogEntrySerializer(many=True), "The entries.", _LOG_ENTRY)} | problems(404),
}
LOGS_EXPORT: dict[str, Any] = {
    "operation_id": "export_run_logs",
    "summary": "Export logs",
    "description": "All entries as a file, a line an entry.",
    "tags": ["run logs"],
    "parameters": [LogExportQuery],
    "responses": {
        (200, "text/plain"): OpenApiResponse(
            OpenApiTypes.STR,
            "The entries: text, or one object a line.",
            [_example("text", "2024-01-15T06:00:00.120Z INFO    [source1#1] Starting node: Fetch Users (source_file)\n")],
        ),
        (200, "application/x-ndjson"): OpenApiResponse(OpenApiTypes.STR, "The entries: text, or one object a line."),
    }
    | problems(404),
}
EVENTS: dict[str, Any] = {
    "operation_id": "follow_events",
    "summary": "Follow events (WebSocket)",
    "description": "The handshake of a WebSocket: a plain GET is answered with 426. Each event is a JSON text frame: `{seq, type, run_id, "
    "pipeline_id, node_id?, attempt?, status?, row_count?, duration_ms?, percent?, level, message, error?, timestamp}`. "
    '`{"subscribe": {"run_id"?, "pipeline_id"?, "types"?, "since"?}}` asks for others. docs/events.md tells the rest.',
    "tags": ["events"],
    "parameters": [EventsQuery],
    "responses": {101: OpenApiResponse(None, "The frames follow.")} | problems(426),
}
PREVIEW: dict[str, Any] = {
    "operation_id": "get_node_preview",
    "summary": "Node data preview",
    "description": "The first 50 rows of the node's output. Integers beyond 2^53 and decimals are strings, NaN and infinities null.",
    "tags": ["node outputs"],
    "responses": {(200, _JSON): _answer(PreviewSerializer, "The rows.", _PREVIEW)} | problems(404),
}
OUTPUT: dict[str, Any] = {
    "operation_id": "get_node_output",
    "summary": "Node output",
    "description": "The whole output as a file. A CSV is for people: a text that a spreadsheet would execute gets an apostrophe unless `raw=true`.",
    "tags": ["node outputs"],
    "parameters": [OutputQuery],
    "responses": {
        (200, "application/vnd.apache.parquet"): OpenApiResponse(OpenApiTypes.BINARY, "The output, in the form asked for."),
        (200, "text/csv"): OpenApiResponse(OpenApiTypes.STR, "The output, in the form asked for.", [_example("csv", '"id","name"\n1,"Alice"\n')]),
        (200, "application/x-ndjson"): OpenApiResponse(
            OpenApiTypes.STR, "The output, in the form asked for.", [_example("jsonl", '{"id":1,"name":"Alice"}\n')]
        ),
    }
    | problems(404),
}
PROFILE: dict[str, Any] = {
    "operation_id": "get_node_profile",
    "summary": "Node profile",
    "description": "What was measured of the output when it was written, how it differs from the last successful run before this one, "
    "and which columns of its inputs its columns come from.",
    "tags": ["node outputs"],
    "responses": {(200, _JSON): _answer(ProfileAnswerSerializer, "The profile.", _PROFILE)} | problems(404),
}
_WOULD_WRITE = {
    "rows": 10,
    "columns": [{"name": "country", "type": "VARCHAR"}, {"name": "revenue", "type": "DOUBLE"}],
    "target": "out/revenue.parquet",
    "mode": "overwrite",
    "exists": True,
    "differences": {"added": ["revenue"], "removed": ["amount"], "retyped": []},
}
_DRY_NODE = {
    "node_id": "source1",
    "name": "Fetch Users",
    "type": "source_file",
    "status": "success",
    "columns": ["id", "name"],
    "schema": [{"name": "id", "type": "BIGINT"}, {"name": "name", "type": "VARCHAR"}],
    "rows": [{"id": 1, "name": "Alice"}],
    "row_count": 10,
    "truncated": True,
    "log": [],
}
_DRY_RUN_ANSWER = {
    "source1": _DRY_NODE,
    "broken": _DRY_NODE
    | {"node_id": "broken", "name": "Broken", "type": "transform", "status": "failed", "columns": [], "schema": [], "rows": [], "row_count": None}
    | {"truncated": False, "error": "Rule 1 (filter_rows), field 'rules.0.condition', line 1, column 1: There is no column 'x'. Columns: id, name."},
    "sink1": _DRY_NODE | {"node_id": "sink1", "name": "Write", "type": "sink_file", "would_write": _WOULD_WRITE},
}
_DRY_RUN_NOTE = (
    "Takes the first 10 rows of each source and computes everything below with the data engine, in memory. Nothing is written anywhere: no "
    "run, no file, no row. A node that fails hides only those below it. 504 after 30 seconds."
)
_DRY_RUN_RESPONSES = {(200, _JSON): _answer(DryRunSerializer, "What became of each node, by its id.", _DRY_RUN_ANSWER)}
DRY_RUN: dict[str, Any] = {
    "operation_id": "dry_run_pipeline",
    "summary": "Dry run",
    "description": f"{_DRY_RUN_NOTE} `{{pipeline_id}}` is the id or the slug.",
    "tags": ["runs"],
    "request": {_JSON: DryRunRequest},
    "examples": [_sent("params", {"params": {"date": "2024-01-15"}})],
    "responses": _DRY_RUN_RESPONSES | problems(404, 413, 415, 422, 504),
}
DRAFT_DRY_RUN: dict[str, Any] = {
    "operation_id": "dry_run_draft",
    "summary": "Dry run of a draft",
    "description": f"{_DRY_RUN_NOTE} The body is a pipeline as for `validate`; its `params` are used. Needs the right to run, and to create or edit.",
    "tags": ["runs"],
    "request": {_JSON: PipelineDocumentSerializer},
    "responses": _DRY_RUN_RESPONSES | problems(413, 415, 422, 504),
}
