"""A run's log: as an array, and as a file."""

from collections.abc import Callable, Generator
from typing import Any, ClassVar
from urllib.parse import urlencode
from uuid import UUID

import orjson
from django.db.models import Max, QuerySet
from django.http import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from brokoli_site.common.api import ApiView
from brokoli_site.common.streaming import ChunkedResponse, attachment
from brokoli_site.common.time import iso
from runs.api import documentation
from runs.api.lookup import check_run
from runs.api.requests import LogExportQuery, LogQuery
from runs.models import LogEntry

_EXPORT_PAGE = 2_000
# An entry is one line whatever its message holds, and nothing in it can steer the terminal that shows it.
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {9: "\t", 10: "\\n", 13: "\\r", 0x2028: "\\u2028", 0x2029: "\\u2029"}


def _entries(run_id: UUID, query: dict[str, Any]) -> QuerySet[LogEntry]:
    entries = LogEntry.objects.filter(run_id=run_id)
    for name in ("node_id", "level"):
        if name in query:
            entries = entries.filter(**{name: query[name]})
    if "q" in query:
        entries = entries.filter(message__icontains=query["q"])
    return entries.defer("data").order_by("seq")


def as_json(entry: LogEntry) -> dict[str, Any]:
    """The entry as `LogEntrySerializer` documents it; written out, because logs are long."""
    return {
        "seq": entry.seq,
        "run_id": entry.run_id,
        "node_id": entry.node_id,
        "attempt": entry.attempt,
        "kind": entry.kind,
        "level": entry.level,
        "message": entry.message,
        "timestamp": iso(entry.timestamp),
    }


def as_line(entry: LogEntry) -> str:
    """`2024-01-15T06:00:00.000Z INFO    [source1#1] Starting node: Fetch Users (source_api)`"""
    place = f" [{entry.node_id}#{entry.attempt}]" if entry.node_id else ""
    return f"{iso(entry.timestamp)} {entry.level.upper():7}{place} {entry.message}".translate(_CONTROL)


class RunLogsView(ApiView):
    """`GET /api/runs/{id}/logs`"""

    required_permissions: ClassVar = {"GET": "runs.view"}
    query_serializers: ClassVar = {"GET": LogQuery}

    @extend_schema(**documentation.LOGS)
    def get(self, request: Request, run_id: str) -> Response:
        limit = self.query["limit"]
        entries = list(_entries(check_run(run_id), self.query).filter(seq__gt=self.query["since"])[: limit + 1])
        response = Response([as_json(entry) for entry in entries[:limit]])
        if len(entries) > limit:
            following = request.query_params.dict() | {"since": str(entries[limit - 1].seq)}
            response["Link"] = f'<{reverse("run-logs", args=[run_id])}?{urlencode(following)}>; rel="next"'
        return response


class RunLogsExportView(ApiView):
    """`GET /api/runs/{id}/logs/export`"""

    required_permissions: ClassVar = {"GET": "runs.view"}
    query_serializers: ClassVar = {"GET": LogExportQuery}

    @extend_schema(**documentation.LOGS_EXPORT)
    def get(self, request: Request, run_id: str) -> HttpResponseBase:
        key, since = check_run(run_id), self.query["since"]
        entries = _entries(key, self.query)
        # The end is fixed now, so that a log which grows faster than it is read ends too.
        last = LogEntry.objects.filter(run_id=key).aggregate(last=Max("seq"))["last"] or 0
        if self.query["format"] == "jsonl":
            chunks, name, content_type = _pages(entries, since, last, _jsonl), f"run-{key}.jsonl", "application/x-ndjson"
        else:
            chunks, name, content_type = _pages(entries, since, last, _text), f"run-{key}.log", "text/plain; charset=utf-8"
        return ChunkedResponse(chunks, content_type=content_type, headers=attachment(name))


def _text(entry: LogEntry) -> bytes:
    return as_line(entry).encode("utf-8", "replace") + b"\n"


def _jsonl(entry: LogEntry) -> bytes:
    return orjson.dumps(as_json(entry), option=orjson.OPT_APPEND_NEWLINE)


def _pages(entries: QuerySet[LogEntry], since: int, last: int, write: Callable[[LogEntry], bytes]) -> Generator[bytes]:
    """The entries after `since` up to `last`, a page of them a chunk; each page starts where the one before ended."""
    while since < last:
        page = list(entries.filter(seq__gt=since, seq__lte=last)[:_EXPORT_PAGE])
        if not page:
            return
        yield b"".join(map(write, page))
        since = page[-1].seq
