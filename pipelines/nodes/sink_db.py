"""`sink_db`: rows into a table of a database, all of them and once, or none. Or the statements of `sql_output`, just so."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from brokoli_site.common.errors import NodeError
from pipelines.assets import tables
from pipelines.assets.values import Assets, Databases, text
from pipelines.databases import ledger, loading, statements
from pipelines.databases.declaring import table_parts
from pipelines.databases.fitting import fit
from pipelines.databases.loading import Load, Rows, Session, TargetTable
from pipelines.databases.opening import Opening, opened
from pipelines.databases.places import place_of
from pipelines.databases.writing import session_of
from pipelines.expressions import quote
from pipelines.nodes.base import Analysis, Column, DryResult, NodeConfig, NodeContext, NodeType, NotExecuted, Ports, Schema, WouldWrite, Written
from pipelines.nodes.columns import ColumnNames, find, unknown_column
from pipelines.nodes.config_errors import refused
from pipelines.problems import Problem
from pipelines.references import is_unresolved
from pipelines.spec import NodeSpec

_MODES = {"insert": "append", "replace": "overwrite", "truncate": "overwrite", "merge": "upsert"}


class SinkDbConfig(NodeConfig):
    """Which database, which table, and what becomes of the rows that it has."""

    conn_id: str = Field("", description="The connection: of type postgres, mysql, sqlite or generic.")
    uri: str = Field("", description="Instead of a connection: `postgres://user:password@host/database`, `mysql://…`, `sqlite:///file.db`.")
    table: str = Field("", description="The table: `orders`, `sales.orders`. Not needed where the input is sql_output.")
    mode: Literal["append", "overwrite", "upsert"] = Field(
        "append",
        description="Add the rows; replace all rows of the table by them; or update the rows whose key_columns are there and add the others.",
    )
    key_columns: ColumnNames = Field((), description="What an upsert finds a row by. The table needs a unique index on them.")
    truncate: bool = Field(default=False, description="Let overwrite clear with TRUNCATE: quicker, but readers wait. PostgreSQL only.")
    create_table: bool = Field(default=False, description="Create the table from the input's columns when there is none.")
    batch_size: int = Field(5000, ge=1, le=100_000, description="Rows of one INSERT, for databases that are loaded so.")
    ledger_table: str = Field(
        ledger.TABLE,
        description="The table in the target that remembers which appends were done, so that no retry repeats one. Empty: none, and that risk.",
    )

    @field_validator("table", "ledger_table")
    @classmethod
    def _is_name(cls, value: str) -> str:
        if value and not is_unresolved(value):
            try:
                table_parts(value)
            except NodeError as error:
                raise ValueError(error.message.removesuffix(".")) from None
        return value

    @model_validator(mode="after")
    def _is_whole(self) -> "SinkDbConfig":
        if not self.conn_id and not self.uri:
            raise refused("conn_id", "is missing; name a connection, or give a uri")
        if self.mode == "upsert" and not self.key_columns:
            raise refused("key_columns", "is missing; an upsert finds rows by it")
        return self


class SinkDb(NodeType):
    name = "sink_db"
    label = "Database"
    category = "sink"
    help = "Writes its input to a table: all rows in one transaction, and never twice."
    ports = Ports(1, 1)
    Config = SinkDbConfig
    trusted = True
    effects = True

    def normalise(self, config: Mapping[str, Any]) -> dict[str, Any]:
        found = dict(config)
        mode = found.get("mode")
        if isinstance(mode, str):
            lowered = mode.strip().lower()
            found["mode"] = _MODES.get(lowered, lowered) or "append"
        return found

    def analyse(self, node: NodeSpec, config: SinkDbConfig, inputs: Sequence[Schema | None]) -> Analysis:
        schema = inputs[0] if inputs else None
        problems = []
        if schema is not None and not _is_sql(schema):
            if not config.table:
                problems.append(Problem("is missing; name the table to write to", node.id, "table"))
            keys = config.key_columns if config.mode == "upsert" else ()
            problems += [Problem(unknown_column(key, schema), node.id, "key_columns") for key in keys if find(schema, key) is None]
        return Analysis(tuple(problems), schema)

    def assets(self, config: Mapping[str, Any], databases: Databases) -> Assets:
        table = tables.named(text(config, "table"), text(config, "conn_id"), text(config, "uri"), databases)
        return Assets(writes=(table,), by_statements=not text(config, "table"))

    def run(self, context: NodeContext) -> Written:
        """Errors: `NodeError` for a table that is not there or does not fit, rows that break its rules, a database that cannot be reached."""
        if _is_sql(context.inputs[0].schema):
            with _session(context) as session:
                return Written(_execute(context, session))
        _check_table(context.config)
        with _session(context) as session:
            what = _load(context.config, _mark(context) if context.config.mode == "append" else None)
            if what.truncate and session.dialect != "postgres":
                context.log.warning(
                    f"truncate has no effect here: only PostgreSQL can take a TRUNCATE back. {session.system} is cleared with DELETE."
                )
            count = loading.load(session, what, _rows(context), context.stop, context.log)
            context.log.info(f"Wrote {count} rows to '{what.table}' ({what.mode})")
            return Written(count)

    def dry_run(self, context: NodeContext) -> DryResult:
        config: SinkDbConfig = context.config
        columns = context.inputs[0].schema
        if _is_sql(columns):
            return NotExecuted(f"A dry run does not execute the statements of {statements.COLUMN}.")
        _check_table(config)
        target, refusal = None, ""
        if not (config.create_table and _is_new_file(context)):
            with _session(context, read_only=True) as session:
                target = session.describe(config.table)
                refusal = _refusal(session, config, target, columns)
                session.rollback()
        existing = None if target is None else _existing(target, columns)
        return WouldWrite(context.inputs[0].row_count, columns, config.table, config.mode, target is not None, existing, refusal)


@contextmanager
def _session(context: NodeContext, *, read_only: bool = False) -> Iterator[Session]:
    config: SinkDbConfig = context.config
    place = place_of(config.conn_id, config.uri, context.run.vault, context.node.config.get("uri"))
    if place.kind == "sqlite" and not config.create_table:
        context.files.resolve_read(place.database)  # nothing to write to: no empty file is left behind to tell of it
    with opened(place, Opening(context.stop, context.files, write=not read_only)) as database:
        yield session_of(database, read_only=read_only)


def _is_new_file(context: NodeContext) -> bool:
    """Whether the database is a file that writing would create."""
    place = place_of(context.config.conn_id, context.config.uri, context.run.vault, context.node.config.get("uri"))
    return place.kind == "sqlite" and not context.files.resolve_target(place.database).exists()


def _is_sql(schema: Schema) -> bool:
    return len(schema) == 1 and schema[0].name.lower() == statements.COLUMN and schema[0].type == "VARCHAR"


def _check_table(config: SinkDbConfig) -> None:
    if not config.table:
        raise NodeError("Field 'table' is missing; name the table to write to.")


def _load(config: SinkDbConfig, mark: ledger.Mark | None) -> Load:
    return Load(config.table, config.mode, config.key_columns, config.create_table, config.truncate, mark, config.batch_size)


def _mark(context: NodeContext) -> ledger.Mark | None:
    table = context.config.ledger_table
    return ledger.Mark(context.run.origin_id, context.node.id, table=table) if table else None


def _rows(context: NodeContext) -> Rows:
    source = context.inputs[0]
    return Rows(context.connection, source.view, source.schema, source.row_count)


def _execute(context: NodeContext, session: Session) -> int:
    """The statements of the input, in one transaction, once."""
    column = quote(context.inputs[0].schema[0].name)
    found = context.connection.execute(f"SELECT {column} FROM {quote(context.inputs[0].view)} WHERE {column} IS NOT NULL").fetchall()  # noqa: S608 - quoted
    first, rest = statements.check(session, [one for (text,) in found for one in statements.split(text, session.dialect)])

    def define() -> None:
        statements.execute(session, first, context.stop, context.log)

    def change() -> int:
        return statements.execute(session, rest, context.stop, context.log)

    count = loading.at_once(session, _mark(context), statements.COLUMN, change, context.stop, context.log, define)
    context.log.info(f"Executed {len(first) + len(rest)} statements; {count} rows changed")
    return count


def _refusal(session: Session, config: SinkDbConfig, target: TargetTable | None, columns: Schema) -> str:
    """The sentence with which the rows would be refused, "" when they would not."""
    if target is None and config.create_table:
        return ""
    try:
        target = loading.existing(session, config.table)
        fits = fit(session.system, target.name, target.columns, columns)
        if config.mode == "upsert":
            loading.check_keys(session, target, fits, config.key_columns)
    except NodeError as error:
        return error.message
    return ""


def _existing(target: TargetTable, columns: Schema) -> Schema:
    """The table's columns; the type of one that takes the input's as it is, is the input's: they differ in name alone."""
    known = {}
    for column in columns:
        try:
            (one,) = fit("", target.name, [found for found in target.columns if found.name.casefold() == column.name.casefold()], [column])
        except NodeError:
            continue
        known[one.target.name] = column.type
    return tuple(Column(column.name, known.get(column.name, column.type)) for column in target.columns)
