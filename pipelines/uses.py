"""Which variables and connections a pipeline names in its configs. Pure: no database."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from brokoli_site.common.errors import NodeError
from pipelines import references
from pipelines.nodes import registry
from pipelines.nodes.base import NodeType, RunFacts
from pipelines.references import References
from pipelines.spec import NodeSpec


@dataclass(frozen=True, slots=True)
class Uses:
    """Names of variables (secret ones too) and of connections."""

    variables: frozenset[str] = frozenset()
    connections: frozenset[str] = frozenset()

    def __or__(self, other: "Uses") -> "Uses":
        return Uses(self.variables | other.variables, self.connections | other.connections)

    def __bool__(self) -> bool:
        return bool(self.variables or self.connections)


def of_node(node: NodeSpec) -> Uses:
    """What the config names as it is written. A connection that a reference names is not known yet: see `connections_of`."""
    node_type = _type_of(node)
    if node_type is None:
        return Uses()
    config = node_type.normalise(node.config)
    texts = (text for key, value in config.items() if key not in node_type.raw_keys for text in _texts(value))
    found = (reference for text in texts if "${" in text for reference in references.find(text))
    variables = frozenset(one.name for one in found if one.kind in references.STORED and one.name and not one.escaped)
    return Uses(variables, frozenset(name for name in _connection_names(node_type, config) if not _refers(name)))


def connections_of(node: NodeSpec, facts: RunFacts) -> frozenset[str]:
    """The connections that the node names in this run, references resolved; one that cannot be is left for the node to complain of."""
    node_type = _type_of(node)
    if node_type is None:
        return frozenset()
    found = set()
    for name in _connection_names(node_type, node_type.normalise(node.config)):
        try:
            found.add(str(References.of(facts).substitute(name)) if _refers(name) else name)
        except NodeError:
            continue
    return frozenset(found)


def _type_of(node: NodeSpec) -> NodeType | None:
    try:
        return registry.get(node.type)
    except NodeError:
        return None


def _connection_names(node_type: NodeType, config: Mapping[str, Any]) -> Iterator[str]:
    for key in node_type.connection_keys:
        name = config.get(key)
        if isinstance(name, str) and name:
            yield name


def _refers(text: str) -> bool:
    return any(True for _ in references.find(text))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
