"""`sql`: any SELECT over the inputs."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import Field

from brokoli_site.common.errors import NodeError
from pipelines.expressions import BindingProblem, ExpressionError, ParsedQuery, describe, parse_queries_ahead, parse_query, stored
from pipelines.nodes.base import Analysis, KnownInput, NodeConfig, NodeContext, NodeType, Ports, Query, Result, Schema
from pipelines.problems import Problem
from pipelines.references import References
from pipelines.spec import NodeSpec


class SqlConfig(NodeConfig):
    """The query."""

    query: str = Field(
        min_length=1,
        description="One SELECT in DuckDB's SQL. Its tables are the inputs: by the id of their node, by their order (`input`, `input_2`, …), "
        "or by the name of their node (`load_orders` for 'Load orders').",
    )


class Sql(NodeType):
    name = "sql"
    label = "SQL"
    category = "transform"
    help = "Runs a SELECT over its inputs."
    ports = Ports(0, None)
    Config = SqlConfig
    sql_keys = frozenset({"query"})

    def expect(self, configs: Iterable[Mapping[str, Any]]) -> None:
        parse_queries_ahead(config.get("query") for config in configs)

    def analyse(self, node: NodeSpec, config: SqlConfig, inputs: Sequence[Schema | None]) -> Analysis:
        return _analysis(config, None, {view_of(index): schema for index, schema in enumerate(inputs)})

    def analyse_inputs(self, node: NodeSpec, config: SqlConfig, inputs: Sequence[KnownInput]) -> Analysis:
        tables = table_names([(known.node_id, known.name) for known in inputs])
        return _analysis(config, tables, {view_of(index): known.schema for index, known in enumerate(inputs)})

    def run(self, context: NodeContext) -> Result:
        """Errors: `NodeError` with line and column, and for an unknown table the tables that there are."""
        config: SqlConfig = context.config
        tables = table_names([(source.node_id, source.name) for source in context.inputs])
        schemas = {source.view: source.schema for source in context.inputs}
        views = {table: context.inputs[index].view for table, index in tables.items()}
        try:
            query = parse_query(config.query, {table: schemas[view] for table, view in views.items()}, References.of(context.run), views)
            if not query.folds_much:
                _bound(query, schemas)
        except ExpressionError as error:
            raise NodeError(f"Field 'query', line {error.line}, column {error.column}: {error.sentence}") from error
        used = ", ".join(sorted(query.tables)) or "no input"
        context.log.info(f"Query reads {used}")
        return Query(query.sql)


def view_of(index: int) -> str:
    """The view of an input, by the order of edges."""
    return "input" if index == 0 else f"input_{index + 1}"


def table_names(inputs: Sequence[tuple[str, str]]) -> dict[str, int]:
    """What a query may call its inputs, given as (id, name) of their nodes in the order of edges.

    Where two inputs would have one name, an id goes before the order and both before a node's name; a name that several nodes
    share stands for none of them. Case does not matter.
    """
    names: dict[str, int] = {}
    taken: set[str] = set()

    def offer(name: str, index: int) -> None:
        if name and name.lower() not in taken:
            names[name] = index
            taken.add(name.lower())

    for index, (node_id, _) in enumerate(inputs):
        offer(node_id, index)
    for index in range(len(inputs)):
        offer(view_of(index), index)
    shared = [name.lower() for _, name in inputs]
    for index, (_, name) in enumerate(inputs):
        if shared.count(name.lower()) == 1:
            offer(_slug(name), index)
            offer(name, index)
    return names


def _slug(name: str) -> str:
    """`load_orders` of `Load orders!`; letters of any alphabet stay."""
    return re.sub(r"\W+", "_", name.lower()).strip("_")


def _analysis(config: SqlConfig, tables: Mapping[str, int] | None, schemas: Mapping[str, Schema | None]) -> Analysis:
    views = None if tables is None else {table: view_of(index) for table, index in tables.items()}
    try:
        query = parse_query(config.query, None if views is None else {table: schemas[view] for table, view in views.items()}, None, views)
        known = {view: schema for view, schema in schemas.items() if schema}
        if len(known) < len(schemas) or (tables is None and not {name.lower() for name in query.tables} <= known.keys()):
            return Analysis()
        if query.folds_much:
            return Analysis()
        schema = _bound(query, known)
    except ExpressionError as error:
        return Analysis((Problem(error.sentence, field="query", line=error.line, column=error.column),))
    return Analysis((), stored(schema))


def _bound(query: ParsedQuery, schemas: Mapping[str, Schema]) -> Schema:
    """The columns that the query gives. Errors: `ExpressionError` for what DuckDB cannot make sense of."""
    try:
        return describe(query.sql, schemas)
    except BindingProblem as problem:
        raise query.error_about(problem) from problem
