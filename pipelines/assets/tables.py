"""Tables that a node reads or writes, of the fields of its config. Pure."""

from pipelines.assets import naming
from pipelines.assets.queries import table_named, tables_of
from pipelines.assets.values import Asset, Databases


def read_by(query: str, conn_id: str, uri: str, databases: Databases) -> tuple[Asset, ...]:
    """The tables of a query, and an unknown one where it cannot be read, or not wholly."""
    found = naming.database(conn_id, uri, databases)
    if found is None:
        return (Asset("table", "", "", known=False),)
    place, database = found
    tables = tables_of(query, database)
    unknown = () if tables.complete else (Asset("table", place, "", known=False),)
    return (*(Asset("table", place, name) for name in tables.tables), *unknown)


def named(name: str, conn_id: str, uri: str, databases: Databases) -> Asset:
    """The table of that name."""
    found = naming.database(conn_id, uri, databases)
    if found is None:
        return Asset("table", "", "", known=False)
    place, database = found
    table = table_named(name, database) if name else None
    return Asset("table", place, table or "", known=table is not None)
