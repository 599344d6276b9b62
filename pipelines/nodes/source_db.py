"""`source_db`: the rows of a query of a database."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from pipelines.assets import tables
from pipelines.assets.values import Assets, Databases, text
from pipelines.databases.asking import place_asked, statement_asked
from pipelines.databases.checking import check_place, check_query
from pipelines.databases.opening import Opening
from pipelines.databases.queries import Statement
from pipelines.databases.streaming import Stream, query_of
from pipelines.nodes.base import Analysis, NodeConfig, NodeContext, NodeType, Ports, Query, Schema
from pipelines.spec import NodeSpec

_DRY_ROWS = 10


class SourceDbConfig(NodeConfig):
    """Which database, and what to ask it."""

    conn_id: str = Field("", description="The connection to read from, of type postgres, mysql, sqlite or generic.")
    uri: str = Field("", description="Instead of a connection: `postgres://…`, `mysql://…`, `sqlite:///file`, or any URL of SQLAlchemy.")
    query: str = Field(
        min_length=1,
        description="One SELECT in the database's own SQL. `${…}` is bound as a value, in single quotes or without; it cannot name a table.",
    )
    # What the SDK calls `schema`; the name is taken in pydantic's models.
    expected: Any = Field(
        None, alias="schema", description="The columns that the author expects. Kept with the pipeline; the query decides what comes."
    )


class SourceDb(NodeType):
    name = "source_db"
    label = "Database"
    category = "source"
    help = "Reads the rows of a query from PostgreSQL, MySQL, MariaDB, SQLite, or what SQLAlchemy has a driver for."
    ports = Ports(0, None)  # an edge into it only says that it comes after
    Config = SourceDbConfig
    trusted = True
    sql_keys = frozenset({"query"})
    takes_data = False

    def analyse(self, node: NodeSpec, config: SourceDbConfig, inputs: Sequence[Schema | None]) -> Analysis:
        return Analysis((*check_place(config.conn_id, config.uri, "conn_id", "uri"), *check_query(config.query, config.uri, "query")))

    def assets(self, config: Mapping[str, Any], databases: Databases) -> Assets:
        return Assets(reads=tables.read_by(text(config, "query"), text(config, "conn_id"), text(config, "uri"), databases))

    def run(self, context: NodeContext) -> Query:
        """Errors: `NodeError` in the database's words, `TransientNodeError` where it cannot be reached or goes away, the stop's reason."""
        place = place_asked(context, "conn_id", "uri")
        context.log.info(f"Reading from {place.label} ({place.system})")
        return query_of(Stream(place, _opening(context), statement_asked(context, "query", place), context.log), context)

    def dry_run(self, context: NodeContext) -> Query:
        """The first rows."""
        place = place_asked(context, "conn_id", "uri")
        statement = statement_asked(context, "query", place)
        if place.kind in ("postgres", "sqlite") and not _is_special(statement):
            statement = statement.replaced("SELECT * FROM (", f"\n) AS first_rows LIMIT {_DRY_ROWS}")
        context.connection.register("first_rows", Stream(place, _opening(context), statement, context.log).first(_DRY_ROWS))
        return Query("SELECT * FROM first_rows")


def _opening(context: NodeContext) -> Opening:
    return Opening(context.stop, context.files)


def _is_special(statement: Statement) -> bool:
    """Not a SELECT that could stand within another."""
    first = statement.parts[0]
    return isinstance(first, str) and first.lstrip().upper().startswith(("SHOW", "DESC", "EXPLAIN", "TABLE"))
