"""`sql_generate`: its input as SQL text, one row with one column `sql_output`, for `sink_db` or for people.

For tables of some size `sink_db` alone is the better way: it loads rows without ever writing them as text. So the text is bounded.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, field_validator

from brokoli_site.common.errors import NodeError
from pipelines.assets.values import Assets, Databases, text
from pipelines.databases.declaring import declared, identifier, table_parts
from pipelines.databases.literals import Literals
from pipelines.nodes.base import Analysis, Column, NodeConfig, NodeContext, NodeType, Ports, Query, Schema
from pipelines.problems import Problem
from pipelines.references import is_unresolved
from pipelines.spec import NodeSpec

OUTPUT_COLUMN = "sql_output"
MOST_BYTES = 16 * 1024**2  # the data engine needs some ten times as much to keep and profile a value
_DIALECTS = {"": "generic", "ansi": "generic", "postgresql": "postgres", "pg": "postgres", "mariadb": "mysql", "sqlite3": "sqlite"}
_ROWS_AT_ONCE = 1000


class SqlGenerateConfig(NodeConfig):
    """The table that the statements write to."""

    table: str = Field(min_length=1, description="The table that the statements write to: `orders`, `sales.orders`. Names are always quoted.")
    dialect: Literal["generic", "postgres", "mysql", "sqlite", "duckdb"] = Field(
        "generic", description="The SQL of generic (the standard), postgres, mysql (MariaDB too), sqlite or duckdb."
    )
    batch_size: int = Field(100, ge=1, le=10_000, description="Rows of one INSERT statement.")
    create_table: bool = Field(default=False, description="Start with a CREATE TABLE IF NOT EXISTS of the input's columns.")

    @field_validator("table")
    @classmethod
    def _known_table(cls, value: str) -> str:
        if not is_unresolved(value):
            try:
                table_parts(value)
            except NodeError as error:
                raise ValueError(error.message.removesuffix(".")) from None
        return value


class SqlGenerate(NodeType):
    name = "sql_generate"
    label = "Generate SQL"
    category = "transform"
    help = "Writes its input as INSERT statements: one row with one column, sql_output."
    ports = Ports(1, 1)
    Config = SqlGenerateConfig

    def normalise(self, config: Mapping[str, Any]) -> dict[str, Any]:
        found = dict(config)
        dialect = found.get("dialect")
        if isinstance(dialect, str):
            lowered = dialect.strip().lower()
            found["dialect"] = _DIALECTS.get(lowered, lowered)
        return found

    def analyse(self, node: NodeSpec, config: SqlGenerateConfig, inputs: Sequence[Schema | None]) -> Analysis:
        problems = []
        if inputs and inputs[0] == ():
            problems.append(Problem("The input has no columns.", node.id))
        return Analysis(tuple(problems), (Column(OUTPUT_COLUMN, "VARCHAR"),))

    def assets(self, config: Mapping[str, Any], databases: Databases) -> Assets:
        return Assets(statements_for=text(config, "table"))

    def run(self, context: NodeContext) -> Query:
        """Errors: `NodeError` for a value that the dialect cannot hold, or more text than `MOST_BYTES`."""
        text = "".join(_bounded(context))
        context.log.info(f"Generated {context.config.dialect} SQL for '{context.config.table}': {context.inputs[0].row_count} rows")
        return Query(f"SELECT CAST($text AS VARCHAR) AS {OUTPUT_COLUMN}", {"text": text})


def _bounded(context: NodeContext) -> Iterator[str]:
    written = 0
    for part in _statements(context):
        written += len(part.encode())
        if written > MOST_BYTES:
            raise NodeError(
                f"The input is more than {MOST_BYTES // 1024**2} MiB of SQL. Use sink_db, which loads rows of any number without writing them "
                "as text, or let fewer rows through."
            )
        yield part


def _statements(context: NodeContext) -> Iterator[str]:
    config: SqlGenerateConfig = context.config
    columns = context.inputs[0].schema
    sqlglot_dialect = "" if config.dialect == "generic" else config.dialect
    table = ".".join(identifier(part, sqlglot_dialect) for part in table_parts(config.table))
    names = [identifier(column.name, sqlglot_dialect) for column in columns]
    if config.create_table:
        types = ",\n".join(f"  {name} {declared(config.dialect, column.type)}" for name, column in zip(names, columns, strict=True))
        yield f"CREATE TABLE IF NOT EXISTS {table} (\n{types}\n);\n"
    start = f"INSERT INTO {table} ({', '.join(names)}) VALUES\n"
    literals = Literals(config.dialect, columns)
    row = 0
    for batch in _batches(context, literals):
        for line in batch:
            first, last = row % config.batch_size == 0, (row + 1) % config.batch_size == 0 or row + 1 == context.inputs[0].row_count
            yield f"{start if first else ''}  ({line}){';' if last else ','}\n"
            row += 1


def _batches(context: NodeContext, literals: Literals) -> Iterator[list[str]]:
    """The rows as lists of values, some at a time."""
    cursor = context.connection.execute(literals.query(context.inputs[0].view))
    done, total = 0, max(1, context.inputs[0].row_count)
    while rows := cursor.fetchmany(_ROWS_AT_ONCE):
        context.stop.check()
        yield [literals.line(values) for values in rows]
        done += len(rows)
        context.log.progress(done / total, f"{done} rows")
