"""The table of a model that dbt has built, read from its database."""

from pipelines.databases.opening import Opening
from pipelines.databases.places import place_of
from pipelines.databases.queries import parse
from pipelines.databases.streaming import Stream, query_of
from pipelines.nodes.base import NodeContext, Query
from pipelines.references import References


def table_of(context: NodeContext, relation: str) -> Query:
    """All rows of `relation`, SQL that dbt has quoted. Errors: `NodeError` in the database's words."""
    place = place_of(context.config.conn_id, "", context.run.vault)
    statement = parse(f"SELECT * FROM {relation}", place.kind, References.of(context.run))  # noqa: S608 - quoted by dbt, run with the project's rights
    return query_of(Stream(place, Opening(context.stop, context.files), statement, context.log), context)
