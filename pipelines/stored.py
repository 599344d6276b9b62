"""Looks up what nodes may use while they run: the rows of variables and connections, as a vault."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

from django.db.models import QuerySet

from pipelines.models import Connection, Variable
from pipelines.nodes.base import RunFacts
from pipelines.spec import NodeSpec
from pipelines.uses import connections_of, of_node
from pipelines.vault import StoredConnection, StoredVariable, Vault

_LONGEST = 100  # characters of a name that something can have
_AT_ONCE = 500


def vault_for(node: NodeSpec, facts: RunFacts) -> Vault | None:
    """What the node's config names; None when it names nothing, which costs no query. Names that do not exist are left for the node to miss."""
    return vaults_for([node], facts).get(node.id)


def vaults_for(nodes: Collection[NodeSpec], facts: RunFacts) -> dict[str, Vault]:
    """What the config of each node names, by its id; those that name nothing are left out. Two queries at most for a usual pipeline."""
    uses = {node.id: of_node(node) for node in nodes}
    variables = variables_of(set().union(*(found.variables for found in uses.values())))
    own = {node_id: {key: variables[key] for key in found.variables if key in variables} for node_id, found in uses.items()}
    names = {node.id: connections_of(node, replace(facts, vault=Vault(own[node.id]))) for node in nodes}
    connections = connections_named(set().union(*names.values()))
    return {
        node_id: Vault(own[node_id], {name: connections[name] for name in names[node_id] if name in connections})
        for node_id, found in uses.items()
        if found or names[node_id]
    }


def variables_of(keys: Collection[str]) -> dict[str, StoredVariable]:
    """The stored variables with these keys."""
    return {row.key: stored_variable(row) for batch in _batches(keys) for row in Variable.objects.filter(key__in=batch)}


def connections_named(names: Collection[str]) -> dict[str, StoredConnection]:
    """The stored connections of these names."""
    return {row.conn_id: stored_connection(row) for batch in _batches(names) for row in Connection.objects.filter(conn_id__in=batch)}


def types_of(rows: QuerySet[Any], key: str, names: Collection[str]) -> dict[str, str]:
    """The type of each of these that exists, by name; `key` is the column that names it."""
    return {name: kind for batch in _batches(names) for name, kind in rows.filter(**{f"{key}__in": batch}).values_list(key, "type")}


def _batches(names: Collection[str]) -> Iterator[list[str]]:
    """A document may name more than a statement takes; a name that nothing can have is not asked for."""
    wanted = [name for name in names if len(name) <= _LONGEST and "\0" not in name]
    return (wanted[start : start + _AT_ONCE] for start in range(0, len(wanted), _AT_ONCE))


def stored_variable(row: Variable) -> StoredVariable:
    """The row, without the database."""
    return StoredVariable(row.key, row.type, row.value, row.identity)


def stored_connection(row: Connection) -> StoredConnection:
    """The row, without the database."""
    return StoredConnection(row.conn_id, row.type, row.host, row.port, row.schema, row.login, row.extra, row.secrets, row.identity)
