"""For the tests of node types in packages of their own: runs one on a real DuckDB, without a server. Part of the stable surface."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb

from pipelines.expressions import quote
from pipelines.nodes.base import Analysis, Column, Input, NodeContext, NodeType, Query, RunFacts, Schema, Stop
from pipelines.nodes.files import DataFolders
from pipelines.spec import NodeSpec


class Log:
    """Keeps what a node logs."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def info(self, message: str) -> None:
        self.lines.append(("info", message))

    def warning(self, message: str) -> None:
        self.lines.append(("warning", message))

    def error(self, message: str) -> None:
        self.lines.append(("error", message))

    def progress(self, fraction: float, message: str = "") -> None:
        self.lines.append(("progress", f"{fraction} {message}"))


@dataclass(frozen=True)
class Outcome:
    """What a node gave."""

    schema: Schema
    rows: list[tuple[Any, ...]]
    log: list[tuple[str, str]]


def analysis(node_type: NodeType, config: Mapping[str, Any], *schemas: Schema | None) -> Analysis:
    """What is known when a pipeline is saved. Errors: pydantic's `ValidationError`."""
    normal = node_type.normalise(config)
    return node_type.analyse(NodeSpec("node", node_type.name, "The node", normal), node_type.Config.model_validate(normal), list(schemas))


def run(node_type: NodeType, config: Mapping[str, Any], *tables: str, params: Mapping[str, Any] | None = None) -> Outcome:
    """Run a type that returns a `Query` over inputs, each given as the SQL of its rows. Errors: `NodeError`, `duckdb.Error`, `ValidationError`.

    Asserts that the columns that come out are those that `analyse` announced, where it announced any.
    """
    normal, log = node_type.normalise(config), Log()
    with TemporaryDirectory() as folder, duckdb.connect(config={"threads": 1}) as connection:
        inputs = tuple(_input(connection, index, sql) for index, sql in enumerate(tables))
        context = NodeContext(
            node=NodeSpec("node", node_type.name, "The node", normal),
            config=node_type.Config.model_validate(normal),
            inputs=inputs,
            connection=connection,
            files=DataFolders([Path(folder)]),
            log=log,
            stop=Stop(),
            run=RunFacts("run", "pipeline", "Pipeline", dict(params or {})),
            scratch=_no_scratch,
        )
        result = node_type.run(context)
        assert isinstance(result, Query), f"this helper runs types that return a Query, not {type(result).__name__}"
        found = connection.execute(f"DESCRIBE {result.sql}", result.parameters).fetchall()
        rows = connection.execute(result.sql, result.parameters).fetchall()
    schema = tuple(Column(str(row[0]), str(row[1])) for row in found)
    announced = analysis(node_type, config, *(one.schema for one in inputs)).schema
    assert announced is None or announced == schema, f"announced {announced}, gave {schema}"
    return Outcome(schema, rows, log.lines)


def _no_scratch() -> Path:
    raise AssertionError("this helper has no folder for files")


def _input(connection: duckdb.DuckDBPyConnection, index: int, sql: str) -> Input:
    view = "input" if index == 0 else f"input_{index + 1}"
    connection.execute(f"CREATE TEMP TABLE {quote(view)} AS {sql}")
    described: Sequence[tuple[Any, ...]] = connection.execute(f"DESCRIBE {quote(view)}").fetchall()
    schema = tuple(Column(str(row[0]), str(row[1])) for row in described)
    row = connection.execute(f"SELECT count(*) FROM {quote(view)}").fetchone()  # noqa: S608 - quoted
    assert row is not None
    return Input(f"node{index + 1}", f"Node {index + 1}", view, schema, int(row[0]))
