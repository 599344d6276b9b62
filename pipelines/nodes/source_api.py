"""`source_api`: rows from an HTTP API, page by page, through files on disk."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from django.conf import settings
from pydantic import Field, model_validator

from brokoli_site.common.errors import NodeError
from brokoli_site.common.outbound import MOST_REDIRECTS, Client, Limits
from pipelines.assets import naming
from pipelines.assets.values import Assets, Databases, text
from pipelines.expressions import literal, quote
from pipelines.nodes import csv_files, dataset_schemas, json_files, reading
from pipelines.nodes.base import Analysis, Category, Column, DryResult, NodeConfig, NodeContext, NodeType, NotExecuted, Ports, Query, Schema
from pipelines.nodes.http_config import METHODS, ApiNodeConfig, address_problems, secret_problems
from pipelines.nodes.reading import Declared, Reading, SourceFile
from pipelines.nodes.source_columns import SourceColumns
from pipelines.spec import NodeSpec
from pipelines.web import bodies, fetching, records, targets
from pipelines.web.fetching import Fetched, Fetching
from pipelines.web.pages import Pagination
from pipelines.web.requesting import REPEATABLE_METHODS, Policy, Requester, RequestFailed

IDLE_SECONDS = 60.0  # of silence, after which a server is left
MIB = 1024**2
_MOST_ARTIFACT_BYTES = 256 * MIB
_DRY_RUN_BYTES, _DRY_RUN_SECONDS, _DRY_RUN_ROWS = 16 * MIB, 15.0, 10
_DEFAULT_RETRIES = 3


class Execution(NodeConfig):
    """How many requests at a time, how fast, and how often again."""

    max_concurrency: int = Field(1, ge=1, le=64, description="Pages (offset, numbered) that are asked for at the same time.")
    requests_per_second: float | None = Field(None, gt=0, le=10_000, description="Requests begun a second, at most.")
    page_max_retries: int | None = Field(
        None, ge=0, le=100, description="Times that a page is asked for again. Empty: the node's `max_retries`, else 3."
    )
    page_retry_backoff: Literal["", "exponential", "fixed"] = Field("", description="How waits grow. Empty: as the node's `retry_backoff`.")
    page_retry_delay: int | None = Field(
        None, ge=0, le=3_600_000, description="Milliseconds before the first retry. Empty: the node's `retry_delay`."
    )
    retry_scope: str = Field("page", description="page: a page that fails is asked for again. Anything else: only the whole node is tried again.")
    repeatable: bool = Field(default=False, description="Whether a POST or PATCH may be repeated, because it only asks (a search, a GraphQL query).")
    checkpoint_every: int | None = Field(None, ge=1, description="Pages after which the log says how far it is.")


class SourceApiConfig(ApiNodeConfig):
    """Config of `source_api`."""

    url: str = Field("", description="The address to ask; with a connection, the path below its host.")
    method: str = Field("GET", description=f"One of {', '.join(METHODS)}.")
    params: dict[str, Any] = Field(default_factory=dict, description="Params of the query; a list gives one more than once.")
    body: Any = Field(None, description="What to send: a text as it is, anything else as JSON.")
    response: Literal["dataset", "scalar", "artifact"] = Field(
        "dataset", description="Rows, a single value, or the answer itself as one binary value."
    )
    records: str = Field("", description="dataset: path of the array of records, such as `data.items`. Empty: the whole answer.")
    value_path: str = Field("", description="scalar: path of the value, such as `rates.0.usd`. Empty: the whole answer.")
    pagination: Pagination | None = Field(None, description="How the pages follow each other. Empty: there is one.")
    execution: Execution = Field(default_factory=Execution, description="Pages at the same time, pace and retries.")
    format: Literal["", "json", "jsonl", "csv", "tsv"] = Field("", description="What the answer is. Empty: as its content type says.")
    columns: SourceColumns = Field((), description="The columns with their types (`schema` too). Empty: all, as they are found.")
    open_columns: bool = Field(default=False, description="Whether columns that are not declared are kept, too.")
    delimiter: str = Field("", max_length=1, description="What separates the values of CSV. Empty: found in its first line.")
    header: bool = Field(default=True, description="Whether the first line of CSV names the columns.")
    null_values: tuple[str, ...] = Field((), description="Texts of CSV that mean no value, such as NA.")
    encoding: str = Field("", description="Encoding of the answer. Empty: as its content type says, else utf-8.")
    max_bytes: int = Field(4 * 1024 * MIB, ge=1, le=1024**4, description="Bytes, decompressed, of all answers together.")
    max_page_bytes: int = Field(1024 * MIB, ge=1, le=1024**4, description="Bytes, decompressed, of one answer.")

    @model_validator(mode="after")
    def _fits(self) -> "SourceApiConfig":
        if self.records and self.value_path:
            raise ValueError("set `records` for a data set or `value_path` for a single value, not both")
        if self.pagination is not None and self.response != "dataset":
            raise ValueError(f"a response of kind {self.response} has no pages: leave `pagination` out")
        return self


class SourceApi(NodeType):
    name: ClassVar[str] = "source_api"
    label: ClassVar[str] = "HTTP API"
    category: ClassVar[Category] = "source"
    help: ClassVar[str] = "Reads records from an HTTP API: JSON, JSON lines or CSV, with pages, retries and limits."
    ports: ClassVar[Ports] = Ports(0, 0)
    Config: ClassVar[type[NodeConfig]] = SourceApiConfig
    trusted: ClassVar[bool] = True

    def normalise(self, config: Mapping[str, Any]) -> dict[str, Any]:
        found = dict(config)
        schema = found.get("schema")
        if schema is not None and "columns" not in found:
            del found["schema"]
            found["columns"] = schema
            if isinstance(schema, Mapping) and dataset_schemas.is_schema(schema):
                found |= {"columns": dataset_schemas.columns(schema), "open_columns": dataset_schemas.is_open(schema)}
        return found

    def analyse(self, node: NodeSpec, config: Any, inputs: Sequence[Schema | None]) -> Analysis:
        found: SourceApiConfig = config
        problems = [*address_problems(node, found, "url", found.url), *secret_problems(node, found)]
        typed = found.columns and all(column.type for column in found.columns) and not found.open_columns and found.response == "dataset"
        schema = tuple(Column(column.name, column.type) for column in found.columns) if typed else None
        return Analysis(tuple(problems), schema)

    def assets(self, config: Mapping[str, Any], databases: Databases) -> Assets:
        return Assets(reads=(naming.api(text(config, "url"), text(config, "conn_id")),))

    def run(self, context: NodeContext) -> Query:
        config: SourceApiConfig = context.config
        limits = Limits(config.request_timeout, _redirects(config), settings.ALLOWED_NETWORKS, IDLE_SECONDS)
        return _read(context, Client(limits, config.execution.max_concurrency), _policy(context), fetching.Scratch(context))

    def dry_run(self, context: NodeContext) -> DryResult:
        """The first page, once, when asking for it changes nothing."""
        config: SourceApiConfig = context.config
        if config.method not in ("GET", "HEAD"):
            return NotExecuted(f"A dry run makes no {config.method} requests: what they do may not be undone.")
        limits = Limits(min(config.request_timeout, _DRY_RUN_SECONDS), _redirects(config), settings.ALLOWED_NETWORKS)
        return _read(context, Client(limits), Policy(retries=0), fetching.Memory(context), dry=True)


def _read(context: NodeContext, client: Client, policy: Policy, storage: bodies.Storage, *, dry: bool = False) -> Query:
    config: SourceApiConfig = context.config
    target = targets.target(context, config, "url", config.url)
    targets.hide_params(context.run.vault, config.params)
    content, headers = _content(config, target.headers)
    fetching_ = Fetching(
        requester=Requester(context, client, policy),
        method=config.method,
        target=target,
        url=targets.with_params(target.url, config.params),
        headers=headers,
        content=content,
        storage=storage,
        budget=bodies.Budget(min(config.max_bytes, _DRY_RUN_BYTES) if dry else config.max_bytes),
        most=min(config.max_page_bytes, _DRY_RUN_BYTES if dry else config.max_page_bytes),
        encoding=config.encoding or None,
    )
    with client:
        try:
            return _QUERIES[config.response](context, fetching_, dry)
        except RequestFailed as failed:
            tries = f" It was tried {failed.attempts} times." if failed.attempts > 1 else ""
            raise type(failed.refusal.error())(failed.refusal.sentence + tries) from None


def _content(config: SourceApiConfig, headers: Mapping[str, str]) -> tuple[bytes | None, dict[str, str]]:
    """The body to send, and the headers with what tells of it."""
    defaults = {"Accept": "application/json, application/x-ndjson, text/csv;q=0.9, */*;q=0.8"} if config.response == "dataset" else {"Accept": "*/*"}
    if config.body is None or config.body == "":
        return None, {**defaults, **headers}
    if not isinstance(config.body, str):
        content = json.dumps(config.body, ensure_ascii=False, allow_nan=False).encode()
        defaults["Content-Type"] = "application/json"
    else:
        content = config.body.encode()
        defaults["Content-Type"] = "application/json" if config.body.lstrip()[:1] in ("{", "[") else "text/plain; charset=utf-8"
    named = {name.lower() for name in headers}
    return content, {**{name: value for name, value in defaults.items() if name.lower() not in named}, **headers}


def _redirects(config: SourceApiConfig) -> int:
    """What is sent along would go to wherever the server says, so only what sends nothing is redirected."""
    return MOST_REDIRECTS if config.method in ("GET", "HEAD") and not config.body else 0


def _policy(context: NodeContext) -> Policy:
    config: SourceApiConfig = context.config
    execution, of_node = config.execution, context.node.retry
    retries = execution.page_max_retries if execution.page_max_retries is not None else of_node.max_retries or _DEFAULT_RETRIES
    return Policy(
        retries=retries if execution.retry_scope == "page" else 0,
        delay_seconds=(of_node.delay_ms if execution.page_retry_delay is None else execution.page_retry_delay) / 1000,
        exponential=(execution.page_retry_backoff or of_node.backoff) == "exponential",
        repeatable=execution.repeatable or config.method in REPEATABLE_METHODS,
        per_second=execution.requests_per_second,
    )


# --- what becomes of the answers ----------------------------------------------------------------------------------


def _dataset(context: NodeContext, fetching_: Fetching, dry: bool) -> Query:
    config: SourceApiConfig = context.config
    options = fetching.RecordOptions(
        records=config.records,
        pagination=config.pagination,
        format=config.format,
        delimiter=config.delimiter,
        header=config.header,
        concurrency=1 if dry else config.execution.max_concurrency,
        checkpoint_every=config.execution.checkpoint_every,
        first_page_only=dry,
        may_be_empty=bool(config.columns),
    )
    fetched = fetching.records_of(fetching_, options)
    context.log.info(f"Fetched {fetched.told()} from {targets.shown(fetching_.url)}.")
    query = _with_open_columns(context, _query(context, fetched, f"the answer of {targets.origin(fetching_.url)}"))
    most = config.pagination.max_records if config.pagination else None
    return _first(query, min(most or _DRY_RUN_ROWS, _DRY_RUN_ROWS) if dry else most)


def _query(context: NodeContext, fetched: Fetched, shown: str) -> Query:
    config: SourceApiConfig = context.config
    declared = () if config.open_columns else tuple(Declared(column.name, column.type) for column in config.columns)
    file = SourceFile(fetched.path, shown)
    if (fetched.count == 0 and fetched.kind in ("json", "jsonl")) or not file.path.stat().st_size:
        columns = tuple(Declared(column.name, column.type) for column in config.columns)
        if not columns:
            context.log.warning(f"{shown[:1].upper()}{shown[1:]} holds no records, so its columns are not known; declare them in `columns`.")
        return reading.nothing(columns or (Declared("json"),))
    found: Reading
    if fetched.kind in ("csv", "tsv"):
        delimiter = config.delimiter or ("\t" if fetched.kind == "tsv" else csv_files.likely_delimiter(file.path))
        found = csv_files.CsvReading((file,), delimiter, config.header, config.null_values, declared)
    else:
        found = json_files.JsonReading((file,), "array" if fetched.kind == "json" else "newline_delimited", declared)
    return reading.query(context, found)


def _with_open_columns(context: NodeContext, query: Query) -> Query:
    """The declared columns with their types, and then all others."""
    config: SourceApiConfig = context.config
    if not config.open_columns or not config.columns:
        return query
    rows = context.connection.execute(f"DESCRIBE {query.sql}").fetchall()
    there = {row[0] for row in rows}
    items = []
    for column in config.columns:
        source = quote(column.name) if column.name in there else "NULL"
        items.append(f"CAST({source} AS {column.type}) AS {quote(column.name)}" if column.type else f"{source} AS {quote(column.name)}")
    names = {column.name for column in config.columns}
    items += [quote(row[0]) for row in rows if row[0] not in names]
    recover = query.recover
    return Query(
        f"SELECT {', '.join(items)} FROM ({query.sql})",  # noqa: S608 - quoted
        recover=None if recover is None else lambda error: _with_open_columns(context, recover(error)),
    )


def _first(query: Query, most: int | None) -> Query:
    if most is None:
        return query
    recover = query.recover
    return Query(f"SELECT * FROM ({query.sql}) LIMIT {most}", recover=None if recover is None else lambda error: _first(recover(error), most))  # noqa: S608 - ours


def _scalar(context: NodeContext, fetching_: Fetching, dry: bool) -> Query:
    """One row with the column `value`."""
    config: SourceApiConfig = context.config
    body = fetching_.one(plain=True)
    what = f"the answer of {targets.origin(fetching_.url)}"
    path = fetching_.storage.new()
    if body.media_type.startswith("text/") and not config.value_path and bodies.kind_of(body, "json") == "json" and not _is_json(body, what):
        line = json.dumps({"value": body.path.read_text().strip()}).encode()
    else:
        line = records.scalar(body.path, config.value_path, what)
    path.write_bytes(line)
    return reading.query(context, json_files.JsonReading((SourceFile(path, what),), "newline_delimited"))


def _is_json(body: bodies.Body, what: str) -> bool:
    try:
        records.scalar(body.path, "", what)
    except NodeError:
        return False
    return True


def _artifact(context: NodeContext, fetching_: Fetching, dry: bool) -> Query:
    """One row: the bytes of the answer as `content`, their `content_type` and `size`."""
    fetching_.most = min(fetching_.most, _MOST_ARTIFACT_BYTES)
    body = fetching_.one(plain=False)
    path = literal(str(body.path))
    items = f"content, {literal(body.media_type)} AS content_type, CAST({body.size} AS BIGINT) AS size"
    return Query(f"SELECT {items} FROM read_blob({path})")  # noqa: S608 - quoted


_QUERIES = {"dataset": _dataset, "scalar": _scalar, "artifact": _artifact}
