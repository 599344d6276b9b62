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
    uses = of_node(node)
    variables = variables_of(uses.variables)
    connections = connections_of(node, replace(facts, vault=Vault(variables)))
    return Vault(variables, connections_named(connections)) if variables or connections or uses else None


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
