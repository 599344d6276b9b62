"""`GET /api/audit`: who did what to which object, from where. `GET /api/audit/export`: the same as a file."""

import csv
import io
import json
from collections.abc import Generator
from typing import Any, ClassVar

from django.http import HttpResponseBase
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from brokoli_site.common import audit
from brokoli_site.common.api import ApiView, StrictSerializer
from brokoli_site.common.ids import parse_id
from brokoli_site.common.json import dumps
from brokoli_site.common.openapi import problems
from brokoli_site.common.pagination import MOST_PER_PAGE
from brokoli_site.common.problems import QueryError
from brokoli_site.common.spreadsheets import harmless
from brokoli_site.common.streaming import ChunkedResponse, attachment
from brokoli_site.common.time import iso
from runs.api.requests import InstantField
from system import audit_listing
from system.audit_listing import LOOKED_AT, AuditFilter
from system.models import AuditEntry

DEFAULT_LIMIT = 50
_EXPORTED_AT_ONCE = 200
_JSON = "application/json"
_COLUMNS = ("actor", "user_id", "via", "token", "address", "request_id", "action", "kind", "object_id", "name")
_ACTION = r"^[a-z_]{1,40}\.([a-z_]{1,40}|\*)$"
_FORMATS = {"jsonl": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}
_EXAMPLE = {
    "id": "019a9f3c-5b1e-7c42-9d0e-2f6a4c1b8e70",
    "timestamp": "2026-01-15T06:00:00.000Z",
    "actor": "ada",
    "user_id": "7",
    "via": "token",
    "token": "deployments",
    "address": "198.51.100.7",
    "request_id": "019a9f3c5b1b7f10b2f04d1e2a3c4b5d",
    "action": "connection.updated",
    "kind": "connection",
    "object_id": "warehouse",
    "name": "warehouse",
    "changes": [
        {"field": "host", "before": "db1.example.org", "after": "db2.example.org"},
        {"field": "password", "before": "(set)", "after": "(changed)"},
    ],
    "left_out": 0,
}


class ExportQuery(StrictSerializer):
    """The filters. All that are given hold."""

    actor = serializers.CharField(max_length=200, required=False, help_text="Name of the user then; `local`, `system`, `webhook`.")
    user_id = serializers.CharField(max_length=40, required=False, help_text="Id of the user, whatever their name was then.")
    action = serializers.RegexField(
        _ACTION,
        required=False,
        max_length=81,
        help_text="`pipeline.updated`, or all of an area: `pipeline.*`.",
        error_messages={"invalid": "An action such as pipeline.updated, or all of an area: pipeline.*"},
    )
    kind = serializers.CharField(max_length=40, required=False, help_text="Of the object: `pipeline`, `connection`, `run`, `user` …")
    object_id = serializers.CharField(max_length=100, required=False, help_text="As the API names the object; of a connection its `conn_id`.")
    request_id = serializers.CharField(max_length=64, required=False, help_text="`X-Request-ID` of the answer to the request that did it.")
    since = InstantField(required=False, help_text="At this time or later. RFC 3339.")
    until = InstantField(required=False, help_text="At this time or earlier. RFC 3339.")
    q = serializers.CharField(max_length=200, required=False, help_text="Part of the object's name or id, or of the actor's name.")


class ExportFileQuery(ExportQuery):
    format = serializers.ChoiceField(choices=list(_FORMATS), required=False, default="jsonl")


class AuditQuery(ExportQuery):
    after = serializers.CharField(max_length=64, required=False, help_text="The cursor of the page before.")
    limit = serializers.IntegerField(min_value=1, max_value=MOST_PER_PAGE, required=False, default=DEFAULT_LIMIT, help_text="Items on a page.")


class ChangeSerializer(serializers.Serializer[Any]):
    """A field that changed. A side that is not there did not exist."""

    field = serializers.CharField(help_text="Where: `nodes[load].config.table`.")
    before = serializers.JSONField(required=False, allow_null=True)
    after = serializers.JSONField(required=False, allow_null=True)


class AuditEntrySerializer(serializers.Serializer[Any]):
    """Who did what to which object, from where, and what changed."""

    id = serializers.UUIDField()
    timestamp = serializers.DateTimeField()
    actor = serializers.CharField(allow_blank=True, help_text="Name of the user then, or `local`, `system`, `webhook`, `command:…`; empty: nobody.")
    user_id = serializers.CharField(allow_blank=True)
    via = serializers.ChoiceField(choices=audit.VIA)
    token = serializers.CharField(allow_blank=True, help_text="Name of the token.")
    address = serializers.CharField(allow_blank=True)
    request_id = serializers.CharField(allow_blank=True)
    action = serializers.CharField()
    kind = serializers.CharField()
    object_id = serializers.CharField(allow_blank=True)
    name = serializers.CharField(allow_blank=True, help_text="Of the object, then.")
    changes = ChangeSerializer(many=True)
    left_out = serializers.IntegerField(help_text="Further changes, for which there was no room.")


class AuditPageSerializer(serializers.Serializer[Any]):
    items = AuditEntrySerializer(many=True)
    has_next = serializers.BooleanField()
    cursor = serializers.CharField(allow_null=True, help_text="For `after` of the next page.")


def _filter(query: dict[str, Any]) -> AuditFilter:
    """Of a validated query, without what is about pages."""
    wanted = dict(query)
    action = wanted.pop("action", "")
    if action.endswith(".*"):
        wanted["area"] = action.removesuffix(".*")
    elif action:
        wanted["action"] = action
    return AuditFilter(**wanted)


def as_json(entry: AuditEntry) -> dict[str, Any]:
    """The entry as `AuditEntrySerializer` documents it; written out, because exports are long."""
    return {
        "id": str(entry.id),
        "timestamp": iso(entry.at),
        **{name: getattr(entry, name) for name in _COLUMNS},
        "changes": entry.diff.get("changes", []),
        "left_out": entry.diff.get("left_out", 0),
    }


class AuditView(ApiView):
    """`GET /api/audit`"""

    required_permissions: ClassVar = {"GET": "audit.view"}
    query_serializers: ClassVar = {"GET": AuditQuery}

    @extend_schema(
        operation_id="list_audit_entries",
        summary="Who did what",
        description="Newest first. Secrets are in none. Where several filters or `q` are given, a page looks at "
        f"{LOOKED_AT:,} entries at most, so it may hold few or none and still have a next one.",
        tags=["audit"],
        parameters=[AuditQuery],
        responses={
            (200, _JSON): OpenApiResponse(
                AuditPageSerializer,
                "A page of entries.",
                [OpenApiExample("page", value={"items": [_EXAMPLE], "has_next": False, "cursor": None}, response_only=True)],
            )
        }
        | problems(),
    )
    def get(self, request: Request) -> Response:
        query = dict(self.query)
        limit, given = query.pop("limit"), query.pop("after", None)
        after = parse_id(given)
        if given is not None and after is None:
            raise QueryError({"after": ["This is not the cursor of a page."]})
        found = audit_listing.page(_filter(query), after, limit)
        cursor = str(found.cursor) if found.cursor else None
        return Response({"items": [as_json(entry) for entry in found.items], "has_next": cursor is not None, "cursor": cursor})


class AuditExportView(ApiView):
    """`GET /api/audit/export`"""

    required_permissions: ClassVar = {"GET": "audit.export"}
    query_serializers: ClassVar = {"GET": ExportFileQuery}

    @extend_schema(
        operation_id="export_audit_entries",
        summary="The audit log as a file",
        description="Newest first, JSON lines or CSV; in CSV a text that a spreadsheet would take for a formula gets an apostrophe in front.",
        tags=["audit"],
        parameters=[ExportFileQuery],
        responses={
            (200, "application/x-ndjson"): OpenApiResponse(AuditEntrySerializer, "An entry a line."),
            (200, "text/csv"): OpenApiResponse(str, "A header, and an entry a line."),
        }
        | problems(),
    )
    def get(self, request: Request) -> HttpResponseBase:
        query = dict(self.query)
        kind = query.pop("format")
        wanted = _filter(query)
        audit.note("audit.exported", "audit", "", after={"format": kind, **wanted.given})
        write = _csv if kind == "csv" else _jsonl
        return ChunkedResponse(write(wanted), content_type=_FORMATS[kind], headers=attachment(f"audit.{kind}"))


def _jsonl(wanted: AuditFilter) -> Generator[bytes]:
    for entries in audit_listing.every(wanted, _EXPORTED_AT_ONCE):
        yield b"".join(dumps(as_json(entry)) + b"\n" for entry in entries)


def _csv(wanted: AuditFilter) -> Generator[bytes]:
    yield _line(list(AuditEntrySerializer().fields))
    for entries in audit_listing.every(wanted, _EXPORTED_AT_ONCE):
        yield b"".join(_line([_cell(value) for value in as_json(entry).values()]) for entry in entries)


def _cell(value: Any) -> str:
    return harmless(json.dumps(value, ensure_ascii=False) if isinstance(value, list) else str(value))


def _line(cells: list[str]) -> bytes:
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.getvalue().encode("utf-8", "replace")
