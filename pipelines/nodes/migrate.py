"""`migrate`: the rows of a query of one database into a table of another, in batches, in one transaction of the destination."""

from collections.abc import Mapping
from contextlib import closing
from typing import Any, Literal

import duckdb
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from brokoli_site.common.errors import NodeError
from pipelines.assets import tables
from pipelines.assets.values import Assets, Databases, text
from pipelines.databases import loading
from pipelines.databases.asking import place_asked, statement_asked
from pipelines.databases.checking import check_place, check_query
from pipelines.databases.generic import dialect_of
from pipelines.databases.ledger import TABLE, Mark
from pipelines.databases.loading import Load, Rows
from pipelines.databases.opening import Opening, opened
from pipelines.databases.partitions import Partitioned, Ranges
from pipelines.databases.places import Place
from pipelines.databases.streaming import VIEW, Stream, schema_in
from pipelines.databases.writing import session_of
from pipelines.nodes.base import Analysis, DryResult, NodeConfig, NodeContext, NodeType, NotExecuted, Ports, Schema, Written
from pipelines.nodes.columns import ColumnNames
from pipelines.nodes.config_errors import refused
from pipelines.spec import NodeSpec

_MODES = {"insert": "append", "replace": "overwrite", "truncate": "overwrite", "merge": "upsert"}


class Partition(BaseModel):
    """Parts of the query that are read at the same time."""

    model_config = ConfigDict(frozen=True)

    column: str = Field(min_length=1, max_length=200, description="The column of the query that says which part a row belongs to.")
    strategy: Literal["numeric", "date", "range"] = Field("range", description="What the boundaries are: numbers, times, or either.")
    boundaries: tuple[int | float | str, ...] = Field(
        min_length=1,
        max_length=1000,
        description="Where one part ends and the next begins, ascending. Rows below the first and beyond the last go too.",
    )
    max_parallel: int = Field(4, ge=1, le=64, description="How many parts are read at once, each over a connection of its own.")

    @field_validator("strategy", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.strip().lower() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _ascends(self) -> "Partition":
        kinds = {isinstance(one, str) for one in self.boundaries}
        if len(kinds) > 1 or (self.strategy == "numeric" and True in kinds) or (self.strategy == "date" and False in kinds):
            raise refused("boundaries", "must be all numbers (numeric), or all times as texts (date)")
        if list(self.boundaries) != sorted(set(self.boundaries), key=lambda one: one):
            raise refused("boundaries", "must be strictly increasing")
        return self


class MigrateConfig(NodeConfig):
    """From where, what, and to where."""

    source_conn_id: str = Field("", description="The connection to read from.")
    source_uri: str = Field("", description="Instead of that connection: `postgres://…`, `mysql://…`, `sqlite:///file`, or any URL of SQLAlchemy.")
    source_query: str = Field(min_length=1, description="One SELECT in the source's own SQL. `${…}` is bound as a value.")
    dest_conn_id: str = Field("", description="The connection to write to.")
    dest_uri: str = Field("", description="Instead of that connection.")
    dest_table: str = Field(min_length=1, description="The table to write to: `orders`, `sales.orders`.")
    mode: Literal["append", "overwrite", "upsert"] = Field("append", description="As of sink_db: add, replace all, or update by `key_columns`.")
    key_columns: ColumnNames = Field((), description="What an upsert finds a row by. The table needs a unique index on them.")
    chunk_size: int = Field(5000, ge=1, le=100_000, description="Rows of one INSERT, for destinations that are loaded so.")
    create_table: bool = Field(default=False, description="Create the table from the query's columns when there is none.")
    dialect: str = Field("", description="The destination's dialect, as older pipelines name it. The connection says it; this is not needed.")
    partition: Partition | None = Field(None, description="Read parts of the query at the same time; what is written is still one transaction.")
    ledger_table: str = Field(TABLE, description="The table in the destination that remembers which appends were done. Empty: none.")

    @model_validator(mode="after")
    def _is_whole(self) -> "MigrateConfig":
        if self.mode == "upsert" and not self.key_columns:
            raise refused("key_columns", "is missing; an upsert finds rows by it")
        return self


class Migrate(NodeType):
    name = "migrate"
    label = "Migrate"
    category = "sink"
    help = "Copies the rows of a query from one database into a table of another: all of them, once, or none."
    ports = Ports(0, None)  # an edge into it only says that it comes after
    Config = MigrateConfig
    trusted = True
    effects = True
    sql_keys = frozenset({"source_query"})
    takes_data = False
    connection_keys = frozenset({"source_conn_id", "dest_conn_id"})

    def normalise(self, config: Mapping[str, Any]) -> dict[str, Any]:
        found = dict(config)
        if isinstance(mode := found.get("mode"), str):
            found["mode"] = _MODES.get(mode.strip().lower(), mode.strip().lower())
        return found

    def analyse(self, node: NodeSpec, config: MigrateConfig, inputs: "list[Schema | None] | Any") -> Analysis:
        source = check_place(config.source_conn_id, config.source_uri, "source_conn_id", "source_uri")
        destination = check_place(config.dest_conn_id, config.dest_uri, "dest_conn_id", "dest_uri")
        return Analysis((*source, *destination, *check_query(config.source_query, config.source_uri, "source_query")))

    def assets(self, config: Mapping[str, Any], databases: Databases) -> Assets:
        read = tables.read_by(text(config, "source_query"), text(config, "source_conn_id"), text(config, "source_uri"), databases)
        written = tables.named(text(config, "dest_table"), text(config, "dest_conn_id"), text(config, "dest_uri"), databases)
        return Assets(reads=read, writes=(written,))

    def run(self, context: NodeContext) -> Written:
        """Errors: `NodeError` of either database in its words, `TransientNodeError` where one goes away: the destination is as it was."""
        config: MigrateConfig = context.config
        source = place_asked(context, "source_conn_id", "source_uri")
        destination = place_asked(context, "dest_conn_id", "dest_uri")
        if destination.kind == "sqlite" and not config.create_table:
            context.files.resolve_read(destination.database)
        context.log.info(f"Copying from {source.label} ({source.system}) to '{config.dest_table}' in {destination.label} ({destination.system})")
        with closing(_rows(context, source)) as stream, opened(destination, Opening(context.stop, context.files, write=True)) as target:
            context.connection.register(VIEW, stream.reader())
            rows = Rows(context.connection, VIEW, schema_in(context.connection, stream.schema))
            try:
                count = loading.load(session_of(target), _load(context), rows, context.stop, context.log)
            except (NodeError, duckdb.Error) as error:
                told = stream.told(error)
                raise told from (None if told is error else error)
        context.log.info(f"Wrote {count} rows to '{config.dest_table}' ({config.mode})")
        return Written(count)

    def dry_run(self, context: NodeContext) -> DryResult:
        return NotExecuted("A dry run does not copy from one database to another.")


def _rows(context: NodeContext, source: Place) -> Stream | Partitioned:
    config: MigrateConfig = context.config
    statement, opening = statement_asked(context, "source_query", source), Opening(context.stop, context.files)
    if config.partition is None:
        return Stream(source, opening, statement, context.log)
    ranges = Ranges(config.partition.column, config.partition.boundaries)
    return Partitioned(source, opening, ranges.statements(statement, dialect_of(source)), config.partition.max_parallel, context.log)


def _load(context: NodeContext) -> Load:
    config: MigrateConfig = context.config
    mark = None
    if config.mode == "append" and config.ledger_table:
        mark = Mark(context.run.origin_id, context.node.id, table=config.ledger_table)
    return Load(config.dest_table, config.mode, config.key_columns, config.create_table, mark=mark, batch_size=config.chunk_size)
