"""`source_api`."""

import datetime as dt

from tests.contracts import web
from tests.contracts.case import Cases, Failing, Given, Invalid, Valid
from tests.contracts.workshop import Workshop


def _start(workshop: Workshop) -> None:
    web.server()


def _typical(workshop: Workshop, table: str) -> Given:
    """The data set as JSON lines, with its types declared: JSON has fewer of them."""
    web.server()
    path = workshop.folder.parent / "served"
    # DuckDB's JSON reader takes 32 MiB a thread, so what must pass in little memory is CSV.
    kind = "csv" if "1_000_000" in table else "jsonl"
    workshop.maker.execute(f"COPY ({table}) TO '{path}' (FORMAT {'csv' if kind == 'csv' else 'json'})")
    web.served["typical"] = path
    columns = [{"name": row[0], "type": row[1]} for row in workshop.maker.execute(f"DESCRIBE {table}").fetchall()]
    return Given({"url": web.URL + "/file", "params": {"name": "typical"}, "columns": columns, "format": kind})


def _slow(workshop: Workshop) -> Given:
    web.server()
    return Given({"url": web.URL + "/stall"})


ITEMS = {"url": web.URL + "/records", "records": "data.items"}
CASES = Cases(
    typical=_typical,
    slow=_slow,
    valid=[
        Valid(ITEMS, types=["BIGINT", "VARCHAR"], columns=["id", "name"], rows=[(1, "Zoë"), (2, None)], before=_start, name="records"),
        Valid({**ITEMS, "columns": {"name": "VARCHAR", "more": "DATE"}}, columns=["name", "more"], rows=[("Zoë", None), (None, None)], before=_start),
        Valid({"url": web.URL + "/rows"}, columns=["id", "day"], rows=[(1, dt.date(2024, 1, 15))], before=_start, name="CSV"),
        Valid(
            {"url": web.URL + "/offset", "records": "results", "pagination": {"strategy": "offset", "page_size": 10, "max_records": 12}},
            rows=[(number, f"name {number}", number / 2) for number in range(12)],
            logged=["Fetched 20 records"],
            before=_start,
            name="offset",
        ),
        Valid(
            {
                "url": web.URL + "/numbered",
                "records": "data.items",
                "pagination": {"strategy": "numbered", "page_param": "page", "total_pages_path": "meta.pages"},
                "execution": {"max_concurrency": 3},
            },
            rows=[(number, f"name {number}", number / 2) for number in range(6)],
            before=_start,
            name="numbered",
        ),
        Valid(
            {
                "url": web.URL + "/cursor",
                "records": "items",
                "pagination": {"strategy": "cursor", "cursor_path": "next.after", "cursor_param": "after"},
            },
            rows=[(number, f"name {number}", number / 2) for number in range(6)],
            before=_start,
            name="cursor",
        ),
        Valid({"url": web.URL + "/empty"}, rows=[], logged=["holds no records"], before=_start, name="no records"),
        Valid(
            {"url": web.URL + "/records", "response": "scalar", "value_path": "data.items.0.name"},
            columns=["value"],
            rows=[("Zoë",)],
            before=_start,
            name="a single value",
        ),
        Valid(
            {"url": web.URL + "/html", "response": "artifact"},
            columns=["content", "content_type", "size"],
            rows=[(b"<html></html>", "text/html", 13)],
            before=_start,
            name="the answer itself",
        ),
    ],
    invalid=[
        Invalid({}, field="url", words="is missing"),
        Invalid({"url": "ftp://example.org/x"}, field="url", words="must start with https://"),
        Invalid({"url": "https://user:secret@example.org/x"}, field="url", words="carries a user or a password"),
        Invalid(
            {"url": "https://${param.host}/x", "headers": {"X-Key": "a"}}, field="url", words="cannot be a part of the host", params={"host": "h"}
        ),
        Invalid({"url": "https://example.org", "method": "TRACE"}, field="method", words="must be one of GET"),
        Invalid({"url": "https://example.org", "headers": {"Host": "x"}}, field="headers", words="the server's own"),
        Invalid({"url": "https://example.org", "headers": {"X-A": "a\r\nB: c"}}, field="headers", words="not a text on one line"),
        Invalid({"url": "https://example.org", "pagination": {"strategy": "pages"}}, field="pagination.strategy", words="must be"),
        Invalid({"url": "https://example.org", "pagination": {"strategy": "cursor"}}, field="pagination", words="needs cursor_path and cursor_param"),
        Invalid({"url": "https://example.org", "execution": {"max_concurrency": 0}}, field="execution.max_concurrency", words="1"),
        Invalid({"url": "https://example.org", "records": "a", "value_path": "b"}, words="not both"),
        Invalid({"url": "https://example.org", "columns": {"a": "NUMBERS"}}, field="columns.type", words="is not a type"),
        Invalid({"url": "/x", "conn_id": "missing"}, words="There is no connection 'missing'", at_save=False),
    ],
    failing=[
        Failing(
            {"url": web.URL + "/nothing?key=canary"}, words=["/nothing?key=… was answered with 404 Not Found", "The server says:"], before=_start
        ),
        Failing({"url": web.URL + "/records", "records": "rows"}, words=["There is nothing at 'rows'", "It has: 'data'"], before=_start),
        Failing({"url": web.URL + "/html"}, words=["is of type text/html"], before=_start),
        Failing(
            {"url": web.URL + "/status", "params": {"code": 503}, "execution": {"page_max_retries": 1, "page_retry_delay": 1}},
            words=["503 Service Unavailable", "tried 2 times"],
            before=_start,
        ),
    ],
    normalised=[
        ({"url": "u", "schema": {"a": "BIGINT"}}, {"url": "u", "columns": {"a": "BIGINT"}}),
        (
            {"schema": {"columns": [{"name": "a", "type": {"kind": "int64"}}], "additional_columns": "closed"}},
            {"columns": [{"name": "a", "type": "BIGINT"}], "open_columns": False},
        ),
    ],
)
