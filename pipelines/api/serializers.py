"""Bodies and query parameters of the pipeline calls, and what their answers look like in the OpenAPI document.

A pipeline document itself is checked by `pipelines.validation`, which names every problem and keeps what it does not know.
"""

from collections.abc import Collection
from typing import Any, ClassVar, get_args

from django.core.validators import RegexValidator
from drf_spectacular.utils import OpenApiExample, extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from brokoli_site.common.api import StrictCharField, StrictIntegerField, StrictSerializer
from brokoli_site.common.openapi import NOT_BLANK
from brokoli_site.common.pagination import CursorQuery
from pipelines import documents, parameters
from pipelines.dependencies import LONGEST_REFERENCE, LONGEST_WITHIN_SECONDS, MODES, MOST_DEPENDENCIES, STATES
from pipelines.schedules import MissedRuns, Overlap
from pipelines.spec import LONGEST_NAME, LONGEST_TIMEOUT_SECONDS, LONGEST_TYPE, MOST_ACTIVE_RUNS
from pipelines.validation import LONGEST_DESCRIPTION, LONGEST_SCHEDULE, LONGEST_SLUG, LONGEST_TAG, MOST_TAGS

MOST_VERSIONS = 100
# As much as a pattern can say; `spec` and `schedules` know the rest.
_NODE_ID = r"^[^\s/\\\u0000-\u001f\u007f-\u009f]([^/\\\u0000-\u001f\u007f-\u009f]*[^\s/\\\u0000-\u001f\u007f-\u009f])?$"
_TIME_OF_DAY = r"^\s*([01]?\d|2[0-3]):[0-5]\d(\s+\S+)?\s*$"
_NOT_BLANK = RegexValidator(NOT_BLANK, "This field may not be blank.")


class PipelineListQuery(CursorQuery):
    q = serializers.CharField(max_length=200, required=False, allow_blank=True, help_text="Part of the name, the slug or the description.")
    tag = serializers.CharField(max_length=100, required=False, allow_blank=True, help_text="Only pipelines with this tag.")
    enabled = serializers.BooleanField(required=False, help_text="Only enabled (or disabled) pipelines.")


class VersionListQuery(StrictSerializer):
    before = serializers.IntegerField(min_value=1, max_value=2**31 - 1, required=False, help_text="Only versions before this one.")
    limit = serializers.IntegerField(min_value=1, max_value=MOST_VERSIONS, default=MOST_VERSIONS, help_text="Versions to list.")


class ImportQuery(StrictSerializer):
    on_taken = serializers.ChoiceField(
        ["refuse", "rename", "replace"],
        default="refuse",
        help_text="When the slug is taken: answer 409, import under another slug, or make a new version of that pipeline.",
    )


class RollbackBody(StrictSerializer):
    version = StrictIntegerField(min_value=1, max_value=2**31 - 1, help_text="Number of the version to go back to.")


class CloneBody(StrictSerializer):
    name = StrictCharField(
        max_length=LONGEST_NAME,
        min_length=1,
        required=False,
        validators=[_NOT_BLANK],
        help_text="Name of the clone; made of the original's when left out.",
    )


# --- answers ------------------------------------------------------------------------------------------------------


class PositionSerializer(serializers.Serializer[Any]):
    x = serializers.FloatField()
    y = serializers.FloatField()


@extend_schema_field({"type": "string", "minLength": 1, "maxLength": LONGEST_NAME, "pattern": _NODE_ID})
class NodeIdField(serializers.CharField):
    """What stands in addresses and in the names of tables."""


class NodeSerializer(serializers.Serializer[Any]):
    id = NodeIdField(help_text="Unique in the pipeline. Printable, without slashes, and without spaces at its ends.")
    type = serializers.CharField(min_length=1, max_length=LONGEST_TYPE, help_text="One of `GET /api/node-types`.")
    name = serializers.CharField(required=False, max_length=LONGEST_NAME)
    config = serializers.DictField(required=False, help_text="What the node type's JSON Schema says.")
    position = PositionSerializer(required=False)


class EdgeSerializer(serializers.Serializer[Any]):
    to = serializers.CharField(help_text="Id of the node that the data flows to.")
    condition = serializers.BooleanField(required=False, allow_null=True)

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        # `from` is a keyword of Python, so it cannot be declared above.
        return {"from": serializers.CharField(help_text="Id of the node that the data comes from."), **super().get_fields()}


class DependencyRuleSerializer(serializers.Serializer[Any]):
    pipeline_id = serializers.CharField(min_length=1, max_length=LONGEST_REFERENCE, help_text="Id or slug of the pipeline to wait for.")
    state = serializers.ChoiceField(
        STATES, required=False, allow_blank=True, allow_null=True, default="succeeded", help_text="How its last ended run must have ended."
    )
    within_seconds = serializers.IntegerField(
        required=False, allow_null=True, min_value=0, max_value=LONGEST_WITHIN_SECONDS, help_text="Not longer ago than this."
    )
    mode = serializers.ChoiceField(
        MODES,
        required=False,
        allow_blank=True,
        allow_null=True,
        default="gate",
        help_text="gate: refuse to run until it holds. trigger: run when the other ends so.",
    )


_DECLARATION = {
    "type": "object",
    "properties": {
        "type": {"oneOf": [{"type": "string", "enum": list(parameters.TYPES)}, {"type": "object"}]},
        "required": {"type": "boolean"},
        "choices": {"type": "array", "items": {}},
        "description": {"type": "string"},
    },
}


@extend_schema_field(
    {"oneOf": [{"type": "object", "additionalProperties": _DECLARATION}, {"type": "array", "items": _DECLARATION}, {"type": "null"}]}
)
class ParametersField(serializers.JSONField):
    """Declarations by name, or a list of them."""


_EXAMPLE = {
    "name": "Daily orders",
    "schedule": "30 6 * * MON-FRI",
    "schedule_timezone": "Europe/Berlin",
    "nodes": [
        {
            "id": "orders",
            "type": "sql",
            "name": "Orders",
            "config": {"query": "SELECT * FROM (VALUES (1, 'paid', 9.5), (2, 'open', 3.0)) AS t(id, status, amount)"},
        },
        {"id": "totals", "type": "sql", "name": "Totals", "config": {"query": "SELECT status, sum(amount) AS total FROM input GROUP BY ALL"}},
    ],
    "edges": [{"from": "orders", "to": "totals"}],
}


@extend_schema_serializer(examples=[OpenApiExample("orders", value=_EXAMPLE, request_only=True)])
class PipelineDocumentSerializer(serializers.Serializer[Any]):
    """A pipeline as clients write it; null is as good as nothing. Other keys are kept and given back."""

    pipeline_id = serializers.RegexField(
        # "" is said by `allow_blank`.
        r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
        required=False,
        allow_blank=True,
        max_length=LONGEST_SLUG,
        help_text="Slug; made of the name when left out.",
    )
    name = serializers.CharField(max_length=LONGEST_NAME, min_length=1, validators=[_NOT_BLANK])
    description = serializers.CharField(required=False, allow_blank=True, max_length=LONGEST_DESCRIPTION)
    enabled = serializers.BooleanField(required=False, default=True)
    schedule = serializers.CharField(required=False, allow_blank=True, max_length=LONGEST_SCHEDULE, help_text="Five cron fields, or nothing.")
    schedule_timezone = serializers.CharField(required=False, allow_blank=True, default="UTC", help_text="IANA time zone.")
    tags = serializers.ListField(child=serializers.CharField(min_length=1, max_length=LONGEST_TAG), required=False, max_length=MOST_TAGS)
    params = serializers.DictField(required=False, help_text="Default value of each parameter.")
    parameters = ParametersField(
        required=False, help_text="What a run may be given: `{type, required, default, choices, description}` by name. Others are refused then."
    )
    timeout = serializers.FloatField(
        required=False,
        allow_null=True,
        min_value=0,
        max_value=LONGEST_TIMEOUT_SECONDS,
        help_text="Seconds that a run may take from its first start; 0: any number.",
    )
    max_active_runs = serializers.IntegerField(
        required=False, allow_null=True, min_value=0, max_value=MOST_ACTIVE_RUNS, help_text="Runs that may execute at the same time; 0: any number."
    )
    hooks = serializers.DictField(
        required=False,
        allow_null=True,
        help_text="Whom to tell: `on_start`, `on_success`, `on_failure`, `on_node_failure`, `on_sla_miss`; each a URL, "
        "`{type: webhook|slack|email, url, enabled, extra}`, or a list of these.",
    )
    nodes = NodeSerializer(many=True, required=False)
    edges = EdgeSerializer(many=True, required=False)
    depends_on = serializers.ListField(
        child=serializers.CharField(min_length=1, max_length=LONGEST_REFERENCE),
        required=False,
        max_length=MOST_DEPENDENCIES,
        help_text="Ids or slugs of pipelines that must have succeeded.",
    )
    dependency_rules = DependencyRuleSerializer(many=True, required=False)
    overlap_policy = serializers.ChoiceField(
        get_args(Overlap), required=False, allow_blank=True, help_text="What the schedule does while an earlier run that it made is active."
    )
    missed_runs = serializers.ChoiceField(
        get_args(MissedRuns), required=False, allow_blank=True, help_text="Which of the times that nobody was there to see are made up for."
    )
    catchup = serializers.BooleanField(required=False, help_text="true: `missed_runs` is all.")
    sla_deadline = serializers.RegexField(
        _TIME_OF_DAY, required=False, allow_blank=True, help_text="By this time of each day a run should have succeeded: 07:30."
    )
    sla_timezone = serializers.CharField(required=False, allow_blank=True, help_text="Of `sla_deadline`; the schedule's when left out.")

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        fields = super().get_fields()
        for name in fields.keys() - self.never_null:
            fields[name].allow_null = True
        return fields

    never_null: ClassVar[Collection[str]] = ("name",)


class PipelinePatchSerializer(PipelineDocumentSerializer):
    """A JSON Merge Patch (RFC 7396): keys that are left out stay, null removes."""

    name = serializers.CharField(max_length=LONGEST_NAME, min_length=1, validators=[_NOT_BLANK], required=False)


class PipelineSerializer(PipelineDocumentSerializer):
    """A pipeline as the server answers it."""

    never_null: ClassVar[Collection[str]] = (*documents.DEFAULTS, "id", "pipeline_id", "version", "created_at", "updated_at")

    id = serializers.UUIDField()
    version = serializers.IntegerField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class SummarySerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    pipeline_id = serializers.CharField()
    name = serializers.CharField()
    description = serializers.CharField(allow_blank=True)
    enabled = serializers.BooleanField()
    schedule = serializers.CharField(allow_blank=True)
    schedule_timezone = serializers.CharField()
    tags = serializers.ListField(child=serializers.CharField())
    version = serializers.IntegerField()
    node_count = serializers.IntegerField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class SummaryPageSerializer(serializers.Serializer[Any]):
    items = SummarySerializer(many=True)
    has_next = serializers.BooleanField()
    cursor = serializers.CharField(allow_null=True, help_text="Give it as `after` to get the next page.")


class FindingSerializer(serializers.Serializer[Any]):
    node_id = serializers.CharField(allow_blank=True, help_text="Empty for the pipeline itself.")
    field = serializers.CharField(allow_blank=True, help_text="Dotted path in the config of the node, or a key of the pipeline.")
    message = serializers.CharField()
    line = serializers.IntegerField(allow_null=True, help_text="In the text of the field, from 1.")
    column = serializers.IntegerField(allow_null=True, help_text="In the text of the field, from 1.")


class ReportSerializer(serializers.Serializer[Any]):
    valid = serializers.BooleanField(help_text="Whether the pipeline can run: there are no errors.")
    errors = FindingSerializer(many=True)  # type: ignore[assignment]  # DRF takes declared fields off the class
    warnings = FindingSerializer(many=True)


class GraphNodeSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    pipeline_id = serializers.CharField()
    name = serializers.CharField()
    enabled = serializers.BooleanField()


class GraphEdgeSerializer(serializers.Serializer[Any]):
    to = serializers.UUIDField(help_text="The pipeline that waits.")
    state = serializers.ChoiceField(STATES)
    mode = serializers.ChoiceField(MODES)
    within_seconds = serializers.IntegerField(allow_null=True)

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        # `from` is a keyword of Python, so it cannot be declared above.
        return {"from": serializers.UUIDField(help_text="The pipeline that is waited for."), **super().get_fields()}


class DependencyGraphSerializer(serializers.Serializer[Any]):
    nodes = GraphNodeSerializer(many=True)
    edges = GraphEdgeSerializer(many=True)


class VersionSerializer(serializers.Serializer[Any]):
    version = serializers.IntegerField()
    comment = serializers.CharField(allow_blank=True)
    created_at = serializers.DateTimeField()
    created_by = serializers.CharField(allow_null=True)


class PortsSerializer(serializers.Serializer[Any]):
    least = serializers.IntegerField()
    most = serializers.IntegerField(allow_null=True, help_text="null: any number.")


class NodeTypeSerializer(serializers.Serializer[Any]):
    type = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]  # DRF takes declared fields off the class
    category = serializers.ChoiceField(["source", "transform", "quality", "sink", "control"])
    help = serializers.CharField()
    ports = PortsSerializer(help_text="How many inputs it takes.")
    enabled = serializers.BooleanField(help_text="False: turned off on this server, and refused.")
    schema = serializers.DictField(help_text="JSON Schema (2020-12) of the config.")
