"""Which database a node asks, and what: as its config says when it runs."""

from brokoli_site.common.errors import NodeError
from pipelines.databases.generic import dialect_of
from pipelines.databases.places import Place, place_of
from pipelines.databases.queries import Statement, parse
from pipelines.expressions import ExpressionError
from pipelines.nodes.base import NodeContext
from pipelines.references import References


def place_asked(context: NodeContext, conn_field: str, uri_field: str) -> Place:
    """The database that these fields of the config name. Errors: `NodeError` when neither does; those of `place_of`."""
    conn_id, uri = getattr(context.config, conn_field), getattr(context.config, uri_field)
    if not conn_id and not uri:
        raise NodeError(f"Field '{conn_field}': name a connection, or give a '{uri_field}'.")
    return place_of(conn_id, uri, context.run.vault, context.node.config.get(uri_field))


def statement_asked(context: NodeContext, field: str, place: Place) -> Statement:
    """The query that this field of the config holds, in the dialect of `place`. Errors: `NodeError` with line and column."""
    try:
        return parse(getattr(context.config, field), dialect_of(place), References.of(context.run))
    except ExpressionError as error:
        raise NodeError(f"Field '{field}', line {error.line}, column {error.column}: {error.sentence}") from error
