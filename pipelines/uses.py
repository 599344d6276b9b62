"""Which variables and connections a pipeline names in its configs. Pure: no database."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from brokoli_site.common.errors import BrokoliError
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


@dataclass(frozen=True, slots=True)
class Named:
    """A name in a config: `kind` is `variable` or `connection`, `field` the dotted path in the config, `text` what stands there."""

    kind: Literal["variable", "connection"]
    name: str
    field: str
    text: str


def of_node(node: NodeSpec) -> Uses:
    """What the config names as it is written. A connection that a reference names is not known yet: see `connections_of`."""
    found = list(named_in(node))
    return Uses(
        frozenset(one.name for one in found if one.kind == "variable"),
        frozenset(one.name for one in found if one.kind == "connection"),
    )


def named_in(node: NodeSpec) -> Iterator[Named]:
    """The same with the places, in the order of the config. Also of a type that is turned off: it may be turned on again."""
    node_type = registry.find(node.type)
    if node_type is None:
        return
    config = node_type.normalise(node.config)
    for field, text in _texts({key: value for key, value in config.items() if key not in node_type.raw_keys}):
        for one in references.find(text) if "${" in text else ():
            if one.kind in references.STORED and one.name and not one.escaped:
                yield Named("variable", one.name, field, one.text)
    for field, name in _connection_names(node_type, config):
        if not _refers(name):
            yield Named("connection", name, field, name)


def named_later(node: NodeSpec) -> Iterator[Named]:
    """The places that name a connection by references: which one is known when the node starts. Their `name` is ""."""
    node_type = registry.find(node.type)
    if node_type is None:
        return
    for field, name in _connection_names(node_type, node_type.normalise(node.config)):
        if _refers(name):
            yield Named("connection", "", field, name)


def connections_of(node: NodeSpec, facts: RunFacts) -> frozenset[str]:
    """The connections that the node names in this run, references resolved; one that cannot be is left for the node to complain of."""
    node_type = registry.find(node.type)
    if node_type is None:
        return frozenset()
    return _resolved((name for _, name in _connection_names(node_type, node_type.normalise(node.config))), facts)


def pipelines_of(node: NodeSpec, facts: RunFacts) -> frozenset[str]:
    """The other pipelines that the node names in this run, references resolved."""
    node_type = registry.find(node.type)
    if node_type is None or not node_type.pipeline_keys:
        return frozenset()
    config = node_type.normalise(node.config)
    return _resolved((name for key in node_type.pipeline_keys if isinstance(name := config.get(key), str) and name), facts)


def _resolved(names: Iterable[str], facts: RunFacts) -> frozenset[str]:
    found = set()
    for name in names:
        try:
            found.add(str(References.of(facts).substitute(name)) if _refers(name) else name)
        except BrokoliError:
            continue
    return frozenset(found)


def _connection_names(node_type: NodeType, config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key in sorted(node_type.connection_keys):
        value = config.get(key)
        named = [(f"{key}.{number}", one) for number, one in enumerate(value)] if isinstance(value, list | tuple) else [(key, value)]
        yield from ((field, name) for field, name in named if isinstance(name, str) and name)


def _refers(text: str) -> bool:
    return any(True for _ in references.find(text))


def _texts(value: Any, field: str = "") -> Iterator[tuple[str, str]]:
    """(dotted field, text) for each text in a config."""
    if isinstance(value, str):
        yield field, value
    elif isinstance(value, Mapping | list | tuple):
        for key, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _texts(inner, f"{field}.{key}" if field else str(key))
