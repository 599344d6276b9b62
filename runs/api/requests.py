"""What the API accepts about runs: bodies and query parameters, with their limits."""

import math
from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from brokoli_site.common.api import StrictBooleanField, StrictCharField, StrictIntegerField, StrictSerializer
from brokoli_site.common.pagination import PageQuery
from runs.api.serializers import LEVELS, RUN_STATUSES, TRIGGERS

MAX_PARAMS = 100
MAX_PARAM_NAME = 200
MAX_PARAM_TEXT = 10_000
_INT64 = 2**63
MAX_LOG_LINES = 10_000
DEFAULT_LOG_LINES = 5_000


@extend_schema_field({"oneOf": [{"type": "string"}, {"type": "number"}, {"type": "boolean"}]})
class ParamField(serializers.Field[Any, Any, Any, Any]):
    """A scalar: text, a number, true, false or null."""

    default_error_messages: ClassVar = {
        "scalar": "A parameter is a text, a number, true, false or null.",
        "long": f"A text of {MAX_PARAM_TEXT} characters at most.",
        "number": "A number that fits 64 bits.",
    }

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, str):
            if len(data) > MAX_PARAM_TEXT:
                self.fail("long")
        elif (isinstance(data, float) and not math.isfinite(data)) or (isinstance(data, int) and not -_INT64 <= data < _INT64):
            self.fail("number")
        elif not isinstance(data, int | float):
            self.fail("scalar")
        return data

    def to_representation(self, value: Any) -> Any:
        return value


class ParamsField(serializers.DictField):
    """Parameters by name."""

    child = ParamField(allow_null=True)
    default_error_messages: ClassVar = {
        "many": f"{MAX_PARAMS} parameters at most.",
        "name": f"The name of a parameter has 1 to {MAX_PARAM_NAME} characters.",
    }

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            if len(data) > MAX_PARAMS:
                self.fail("many")
            if any(not 1 <= len(str(name)) <= MAX_PARAM_NAME for name in data):
                self.fail("name")
        return super().to_internal_value(data)


class RunRequest(StrictSerializer):
    params = ParamsField(required=False, help_text="Values of the pipeline's parameters: texts, numbers, true, false or null.")
    priority = StrictIntegerField(required=False, default=0, min_value=-100, max_value=100, help_text="Higher is served first.")


class CancelRequest(StrictSerializer):
    force = StrictBooleanField(required=False, default=False, help_text="Stop executing nodes too, instead of letting them finish.")


class ResumeRequest(StrictSerializer):
    version = serializers.ChoiceField(choices=["same", "latest"], required=False, default="same", help_text="Version of the pipeline to run.")
    from_node = StrictCharField(
        required=False, default="", allow_blank=True, max_length=200, trim_whitespace=False, help_text="Run this node and all below it again."
    )


class RunListQuery(PageQuery):
    """Either of `page` and `per_page` asks for the object form."""

    status = serializers.ChoiceField(choices=RUN_STATUSES, required=False)
    trigger = serializers.ChoiceField(choices=TRIGGERS, required=False)
    since = serializers.DateTimeField(required=False, help_text="Created at this time or later.")
    until = serializers.DateTimeField(required=False, help_text="Created at this time or earlier.")


class LogFilterQuery(StrictSerializer):
    node_id = serializers.CharField(required=False, max_length=200, trim_whitespace=False)
    level = serializers.ChoiceField(choices=LEVELS, required=False)
    q = serializers.CharField(required=False, max_length=200, trim_whitespace=False, help_text="Only entries whose message contains this text.")
    since = serializers.IntegerField(required=False, default=0, min_value=0, max_value=_INT64 - 1, help_text="Only entries after this `seq`.")


class LogQuery(LogFilterQuery):
    limit = serializers.IntegerField(required=False, default=DEFAULT_LOG_LINES, min_value=1, max_value=MAX_LOG_LINES)


class LogExportQuery(LogFilterQuery):
    format = serializers.ChoiceField(choices=["text", "jsonl"], required=False, default="text")


class OutputQuery(StrictSerializer):
    format = serializers.ChoiceField(choices=["parquet", "csv", "jsonl"], required=False, default="parquet")
    raw = serializers.BooleanField(
        required=False,
        default=False,
        help_text="CSV only: give texts exactly as they are. Otherwise a text that a spreadsheet would execute gets a leading apostrophe.",
    )
