"""`sink_api`: rows to an HTTP API, in batches of JSON, each with a key by which the receiver tells a repeat."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from django.conf import settings
from pydantic import Field

from brokoli_site.common.errors import NodeError
from brokoli_site.common.outbound import Answer, Client, Limits
from pipelines import references
from pipelines.assets import naming
from pipelines.assets.values import Assets, Databases, text
from pipelines.expressions import quote
from pipelines.nodes.base import Analysis, Category, Column, NodeConfig, NodeContext, NodeType, Ports, Schema, WouldWrite, Written
from pipelines.nodes.http_config import ApiNodeConfig, address_problems, secret_problems
from pipelines.problems import Problem
from pipelines.spec import NodeSpec
from pipelines.web import targets
from pipelines.web.requesting import Policy, Refusal, Requester, RequestFailed

METHODS = ("POST", "PUT", "PATCH", "DELETE")
IDLE_SECONDS = 60.0
_MOST_BATCH_BYTES = 64 * 1024**2
_MOST_READ = 64 * 1024
_DEFAULT_RETRIES = 3
_SAFE_INTEGER = 2**53
_LONG_INTEGERS = ("BIGINT", "UBIGINT")
_TEXTS = re.compile(r"^(U?HUGEINT|DECIMAL.*|UUID|INTERVAL|TIME.*|BIT)$")
# `{{ rows }}` and `${rows}`, in quotes or not: what stands for a value of JSON takes its quotes with it.
_PLACE = re.compile(r'"?(?:\{\{\s*(\w+)\s*\}\}|\$\{(\w+)\})"?')
_NAMES = ("rows", "row", "count", "batch", "batches", "pipeline", "run_id", "node")


class SinkApiConfig(ApiNodeConfig):
    """Config of `sink_api`."""

    methods: ClassVar[tuple[str, ...]] = METHODS

    url: str = Field("", description="The address to send to; with a connection, the path below its host.")
    method: str = Field("POST", description=f"One of {', '.join(METHODS)}.")
    batch_size: int = Field(100, ge=1, le=100_000, description="Rows of one request.")
    body_template: Any = Field(
        None, description='What to send, with `{{rows}}` where the batch goes: `{"events": {{rows}}}`. Empty: the array of rows alone.'
    )

    @property
    def template(self) -> str:
        if self.body_template is None or self.body_template == "":
            return "{{rows}}"
        return self.body_template if isinstance(self.body_template, str) else json.dumps(self.body_template, ensure_ascii=False)


class SinkApi(NodeType):
    name: ClassVar[str] = "sink_api"
    label: ClassVar[str] = "HTTP API"
    category: ClassVar[Category] = "sink"
    help: ClassVar[str] = "Sends its input to an HTTP API as JSON, in batches that are tried again and can be told from repeats."
    ports: ClassVar[Ports] = Ports(1, 1)
    Config: ClassVar[type[NodeConfig]] = SinkApiConfig
    trusted: ClassVar[bool] = True
    effects: ClassVar[bool] = True
    # `${rows}` is the batch: resolved here, not as a reference.
    raw_keys: ClassVar[frozenset[str]] = frozenset({"body_template"})

    def analyse(self, node: NodeSpec, config: Any, inputs: Sequence[Schema | None]) -> Analysis:
        found: SinkApiConfig = config
        problems = [*address_problems(node, found, "url", found.url), *secret_problems(node, found)]
        if fault := template_fault(found):
            problems.append(Problem(fault, node.id, "body_template"))
        return Analysis(tuple(problems), inputs[0] if inputs else None)

    def assets(self, config: Mapping[str, Any], databases: Databases) -> Assets:
        return Assets(writes=(naming.api(text(config, "url"), text(config, "conn_id")),))

    def run(self, context: NodeContext) -> Written:
        config: SinkApiConfig = context.config
        if fault := template_fault(config):
            raise NodeError(f"Field 'body_template' {fault}.")
        limits = Limits(config.request_timeout, 0, settings.ALLOWED_NETWORKS, IDLE_SECONDS)
        with Client(limits) as client:
            return Written(_Sender(context, client).send_all())

    def dry_run(self, context: NodeContext) -> WouldWrite:
        config: SinkApiConfig = context.config
        target = targets.target(context, config, "url", config.url)
        return WouldWrite(context.inputs[0].row_count, context.inputs[0].schema, targets.shown(target.url), config.method, exists=True)


def template_fault(config: SinkApiConfig) -> str:
    """What is wrong with the template, as the end of a sentence; "" when nothing is."""
    if other := next((found.text for found in references.find(config.template) if "." in found.text), ""):
        return f"holds {other[:60]}, which is not filled in here; known are {', '.join(_NAMES)}"
    names = [one or other for one, other in _PLACE.findall(config.template)]
    if unknown := sorted({name for name in names if name not in _NAMES}):
        return f"names {', '.join(unknown)}; known are {', '.join(_NAMES)}"
    if "rows" not in names and "row" not in names:
        return "has no {{rows}}, so no row would be sent"
    if "row" in names and config.batch_size != 1:
        return "has {{row}}, a single row, which needs a batch_size of 1"
    try:
        json.loads(_PLACE.sub("0", config.template))
    except (ValueError, RecursionError):
        return "is not JSON once the rows are in it"
    return ""


class _Sender:
    """One node's batches, one after the other."""

    def __init__(self, context: NodeContext, client: Client) -> None:
        self._context = context
        self._config: SinkApiConfig = context.config
        self._target = targets.target(context, self._config, "url", self._config.url)
        of_node = context.node.retry
        retries = of_node.max_retries or _DEFAULT_RETRIES
        self._requester = Requester(context, client, Policy(retries, of_node.delay_ms / 1000, of_node.backoff == "exponential"))
        self._total = context.inputs[0].row_count
        self._batches = -(-self._total // self._config.batch_size)

    def send_all(self) -> int:
        """The rows that were accepted. Errors: `NodeError`, which says how many were before it failed."""
        sent = 0
        for number, rows in enumerate(self._rows(), start=1):
            self._context.stop.check()
            status = self._send(number, rows, sent)
            sent += len(rows)
            self._context.log.info(f"Batch {number} of {self._batches}: {_rows(len(rows))} accepted ({status}).")
            self._context.log.progress(min(1.0, sent / max(1, self._total)), f"{sent:,} of {_rows(self._total)}")
        self._context.log.info(f"Sent {_rows(sent)} to {targets.shown(self._target.url)}.")
        return sent

    def _send(self, number: int, rows: Sequence[str], sent: int) -> int:
        content = self._content(number, rows)
        if len(content) > _MOST_BATCH_BYTES:
            raise NodeError(f"{self._before(number, sent)}Batch {number} is larger than {_MOST_BATCH_BYTES // 1024**2} MiB. Lower `batch_size`.")
        headers = {"Content-Type": "application/json", "Accept": "*/*", **self._target.headers, "Idempotency-Key": key(self._context, number)}
        what = f"Batch {number} of {self._batches} ({self._config.method} {targets.shown(self._target.url)})"
        try:
            return self._requester.ask(self._config.method, self._target.url, headers, _accepted, body=content, what=what)
        except RequestFailed as failed:
            raise self._failure(failed.refusal, number, sent) from None

    def _failure(self, refusal: Refusal, number: int, sent: int) -> NodeError:
        unsure = " Whether the server took it is not known." if refusal.unsure else ""
        message = f"{self._before(number, sent)}{refusal.sentence}{unsure}"
        self._context.log.error(message)
        return type(refusal.error())(message)

    def _before(self, number: int, sent: int) -> str:
        if number == 1:
            return "No batch was accepted. "
        which = "Batch 1 was" if number == 2 else f"Batches 1–{number - 1} were"  # noqa: RUF001 - a range
        return f"{which} accepted ({_rows(sent)}). "

    def _content(self, number: int, rows: Sequence[str]) -> bytes:
        values = {
            "rows": f"[{','.join(rows)}]",
            "row": rows[0],
            "count": str(len(rows)),
            "batch": str(number),
            "batches": str(self._batches),
            "pipeline": json.dumps(self._context.run.pipeline_name),
            "run_id": json.dumps(self._context.run.run_id),
            "node": json.dumps(self._context.node.name),
        }
        return _PLACE.sub(lambda match: values[match[1] or match[2]], self._config.template).encode()

    def _rows(self) -> Iterator[list[str]]:
        """Batches of rows as JSON, made by DuckDB and never all in memory."""
        columns = self._context.inputs[0].schema
        items = ", ".join(f"{quote(column.name)} := {value_of(column)}" for column in columns)
        cursor = self._context.connection.execute(f"SELECT CAST(to_json(struct_pack({items})) AS VARCHAR) FROM {quote(self._context.inputs[0].view)}")  # noqa: S608 - quoted
        while found := cursor.fetchmany(self._config.batch_size):
            yield [row[0] for row in found]


def key(context: NodeContext, number: int) -> str:
    """The same for each attempt to send this batch, also by another worker or a run that resumes this one."""
    name = f"{context.run.origin_id}\0{context.node.id}\0{number}\0{context.config.batch_size}"
    return hashlib.sha256(name.encode()).hexdigest()[:40]


def value_of(column: Column) -> str:
    """A column's value for JSON: exact, and such that every reader of JSON gets the same (docs/apis.md)."""
    name = quote(column.name)
    kind = column.type
    if kind in _LONG_INTEGERS:
        lowest = f"{name} >= -{_SAFE_INTEGER} AND " if kind == "BIGINT" else ""
        return f"CASE WHEN {lowest}{name} <= {_SAFE_INTEGER} THEN to_json({name}) ELSE to_json(CAST({name} AS VARCHAR)) END"
    if kind in ("FLOAT", "DOUBLE"):
        return f"CASE WHEN isfinite({name}) THEN {name} END"
    if kind in ("TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"):
        return f"strftime({name}, '%Y-%m-%dT%H:%M:%S.%f')"
    if kind == "TIMESTAMP WITH TIME ZONE":
        return f"strftime({name} AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%fZ')"
    if kind == "BLOB":
        return f"base64({name})"
    return f"CAST({name} AS VARCHAR)" if _TEXTS.match(kind) else name


def _accepted(answer: Answer) -> int:
    """Read what there is, so that the connection can be used again."""
    answer.read(_MOST_READ)
    return answer.status


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"
