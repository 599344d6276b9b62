"""Looks up what nodes may use while they run: the rows of variables and connections, as a vault."""

from collections.abc import Collection
from dataclasses import replace

from pipelines.models import Connection, Variable
from pipelines.nodes.base import RunFacts
from pipelines.spec import NodeSpec
from pipelines.uses import connections_of, of_node
from pipelines.vault import StoredConnection, StoredVariable, Vault


def vault_for(node: NodeSpec, facts: RunFacts) -> Vault | None:
    """What the node's config names; None when it names nothing, which costs no query. Names that do not exist are left for the node to miss."""
    uses = of_node(node)
    variables = variables_of(uses.variables)
    connections = connections_of(node, replace(facts, vault=Vault(variables)))
    return Vault(variables, connections_named(connections)) if variables or connections or uses else None


def variables_of(keys: Collection[str]) -> dict[str, StoredVariable]:
    """The stored variables with these keys."""
    rows = Variable.objects.filter(key__in=keys) if keys else ()
    return {row.key: StoredVariable(row.key, row.type, row.value, row.identity) for row in rows}


def connections_named(names: Collection[str]) -> dict[str, StoredConnection]:
    """The stored connections of these names."""
    rows = Connection.objects.filter(conn_id__in=names) if names else ()
    return {row.conn_id: stored_connection(row) for row in rows}


def stored_connection(row: Connection) -> StoredConnection:
    """The row, without the database."""
    return StoredConnection(row.conn_id, row.type, row.host, row.port, row.schema, row.login, row.extra, row.secrets, row.identity)
