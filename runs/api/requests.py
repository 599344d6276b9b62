"""What the API accepts about runs: bodies and query parameters, with their limits."""

import datetime as dt
import math
import re
from typing import Any, ClassVar

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from brokoli_site.common.api import StrictBooleanField, StrictCharField, StrictIntegerField, StrictSerializer
from brokoli_site.common.openapi import NO_NUL
from brokoli_site.common.pagination import PageQuery
from brokoli_site.common.time import iso
from runs.api.serializers import LEVELS, RUN_STATUSES, TRIGGERS
from runs.backfill_plans import MOST_SLOTS, ONLY
from runs.events.filters import MAX_SEQ, TYPES

MAX_PARAMS = 100
MAX_PARAM_NAME = 200
MAX_PARAM_TEXT = 10_000
_INT64 = 2**63
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d{1,9})?(?P<offset>[Zz]|[+-]\d{2}:\d{2})?", re.ASCII)
MAX_LOG_LINES = 10_000
DEFAULT_LOG_LINES = 5_000


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


_SCALARS = [{"type": "string", "maxLength": MAX_PARAM_TEXT, "pattern": NO_NUL}, {"type": "number"}, {"type": "boolean"}, {"type": "null"}]


@extend_schema_field(
    {
        "type": "object",
        "maxProperties": MAX_PARAMS,
        "propertyNames": {"minLength": 1, "maxLength": MAX_PARAM_NAME, "pattern": NO_NUL},
        "additionalProperties": {"oneOf": _SCALARS},
    }
)
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
    ignore_dependencies = StrictBooleanField(
        required=False, default=False, help_text="Run though a pipeline that it depends on has not ended as it should."
    )


class DryRunRequest(StrictSerializer):
    params = ParamsField(required=False, help_text="Values of the pipeline's parameters: texts, numbers, true, false or null.")


class CancelRequest(StrictSerializer):
    force = StrictBooleanField(required=False, default=False, help_text="Stop executing nodes too, instead of letting them finish.")


class ResumeRequest(StrictSerializer):
    version = serializers.ChoiceField(choices=["same", "latest"], required=False, default="same", help_text="Version of the pipeline to run.")
    from_node = StrictCharField(
        required=False, default="", allow_blank=True, max_length=200, trim_whitespace=False, help_text="Run this node and all below it again."
    )


@extend_schema_field(OpenApiTypes.DATE)
class DayField(serializers.Field[dt.date, Any, str, Any]):
    """`2024-01-31`, and no other way to write a date."""

    default_error_messages: ClassVar = {"invalid": "A date such as 2024-01-31."}

    def to_internal_value(self, data: Any) -> dt.date:
        if not isinstance(data, str) or not _DAY.fullmatch(data):
            self.fail("invalid")
        try:
            return dt.date.fromisoformat(data)
        except ValueError:
            self.fail("invalid")

    def to_representation(self, value: dt.date) -> str:
        return value.isoformat()


@extend_schema_field(OpenApiTypes.DATETIME)
class InstantField(serializers.Field[dt.datetime, Any, str, Any]):
    """A moment as RFC 3339 writes it."""

    default_error_messages: ClassVar = {
        "invalid": "A date, a time and its offset from UTC, such as 2024-01-31T06:00:00Z.",
        "naive": "Without an offset from UTC this is no moment; end it with Z or +01:00.",
    }

    def to_internal_value(self, data: Any) -> dt.datetime:
        match = _INSTANT.fullmatch(data) if isinstance(data, str) else None
        if match is None:
            self.fail("invalid")
        if match["offset"] is None:
            self.fail("naive")
        try:
            return dt.datetime.fromisoformat(match[0].upper()).astimezone(dt.UTC)
        except (ValueError, OverflowError):
            self.fail("invalid")

    def to_representation(self, value: dt.datetime) -> str:
        return str(iso(value))


class BackfillRequest(StrictSerializer):
    """Either dates or moments; what it gives are the arguments of `backfills.over_dates` or `over_intervals`, and `dry_run`."""

    also_in_schema: ClassVar = {
        "oneOf": [
            {"required": ["start_date", "end_date"], "not": {"anyOf": [{"required": ["start"]}, {"required": ["end"]}]}},
            {"required": ["start", "end"], "not": {"anyOf": [{"required": ["start_date"]}, {"required": ["end_date"]}]}},
        ]
    }

    start_date = DayField(required=False, help_text="First date.")
    end_date = DayField(required=False, help_text="Last date; included.")
    start = InstantField(required=False, help_text="With `end`: a run an interval of the schedule that lies between. RFC 3339.")
    end = InstantField(required=False, help_text="Where the last interval ends at the latest. RFC 3339.")
    params = ParamsField(required=False, help_text="Values of the pipeline's parameters, for each run.")
    priority = StrictIntegerField(required=False, default=0, min_value=-100, max_value=100, help_text="Higher is served first.")
    only = serializers.ChoiceField(
        choices=ONLY,
        required=False,
        help_text="`missing`: what has no run; `failed`: whose latest run failed; `unfinished`: what no run has done or is doing. "
        "Cancelled runs do not count. When left out: `all` dates, or `unfinished` intervals.",
    )
    force = StrictBooleanField(required=False, default=False, help_text="The same as `only: all`.")
    max_active = StrictIntegerField(
        required=False, allow_null=True, min_value=1, max_value=MOST_SLOTS, help_text="Runs of it that execute at the same time; null: any number."
    )
    dry_run = StrictBooleanField(required=False, default=False, help_text="Answer what would run, and write nothing.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        over_dates, over_intervals = {"start_date", "end_date"} & attrs.keys(), {"start", "end"} & attrs.keys()
        if over_dates and over_intervals:
            raise serializers.ValidationError(
                dict.fromkeys(over_intervals, "Dates and moments cannot be mixed; give start_date and end_date, or start and end.")
            )
        if not over_dates and not over_intervals:
            raise serializers.ValidationError("Give start_date and end_date, or start and end.")
        needed = {"start", "end"} if over_intervals else {"start_date", "end_date"}
        if missing := needed - attrs.keys():
            raise serializers.ValidationError(dict.fromkeys(missing, "This is missing."))
        if attrs.pop("force"):
            if attrs.get("only", "all") != "all":
                raise serializers.ValidationError({"force": f"It means 'only: all'; this asks for {attrs['only']}, too."})
            attrs["only"] = "all"
        return attrs


class BackfillCancelRequest(StrictSerializer):
    running = StrictBooleanField(required=False, default=False, help_text="Ask the runs that execute to end, too.")


class RunListQuery(PageQuery):
    """Either of `page` and `per_page` asks for the object form."""

    status = serializers.ChoiceField(choices=RUN_STATUSES, required=False)
    trigger = serializers.ChoiceField(choices=TRIGGERS, required=False)
    backfill_id = serializers.UUIDField(required=False, help_text="The runs of this backfill.")
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


class EventsQuery(StrictSerializer):
    run_id = serializers.UUIDField(required=False, help_text="Only events of this run.")
    pipeline_id = serializers.UUIDField(required=False, help_text="Only events of runs of this pipeline.")
    types = serializers.CharField(required=False, help_text=f"Only events of these types, separated by commas: {', '.join(TYPES)}.")
    since = serializers.IntegerField(
        required=False, min_value=0, max_value=MAX_SEQ, help_text="The `seq` of the last event that you have: those after it are sent first."
    )

    def validate_types(self, value: str) -> frozenset[str]:
        names = [name.strip() for name in value.split(",")]
        wrong = next((name for name in names if name not in TYPES), None)
        if wrong is not None:
            raise serializers.ValidationError(f'"{wrong[:100]}" is none of {", ".join(TYPES)}.')
        return frozenset(names)
