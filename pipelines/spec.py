"""The definition of a pipeline as frozen values: read from the document (JSON or YAML) that clients send. Pure: no database.

A document keeps whatever it holds; a spec holds what this server understands of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong (or doubtful) with a pipeline, at a place that a person can find.

    `node_id` is "" for the pipeline itself; `field` is a dotted path in the node's config (`rules.2.condition`) or the name
    of a key of the pipeline (`schedule`); `line` and `column` count from 1 inside the text of that field.
    """

    message: str
    node_id: str = ""
    field: str = ""
    line: int | None = None
    column: int | None = None
    severity: Literal["error", "warning"] = "error"
    pointer: str = ""  # JSON Pointer into the document, when the problem is one of structure


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, and after how long, a failed attempt is followed by another. Delays in milliseconds."""

    max_retries: int = 0
    delay_ms: int = 1000
    backoff: Literal["exponential", "fixed"] = "exponential"


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One step of the DAG. `config` is normalised: aliases replaced, so that each thing has one key."""

    id: str
    type: str
    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    retry: RetryPolicy = RetryPolicy()
    timeout_seconds: float = 1800.0
    pool: str = ""


@dataclass(frozen=True, slots=True)
class EdgeSpec:
    """Data flows along it. `condition` picks a branch of the condition node that it leaves."""

    source: str
    target: str
    condition: bool | None = None


@dataclass(frozen=True, slots=True)
class PipelineSpec:
    """A pipeline that can be walked: unique node ids, edges between known nodes, no cycle."""

    name: str
    nodes: tuple[NodeSpec, ...]
    edges: tuple[EdgeSpec, ...]

    def node(self, node_id: str) -> NodeSpec:
        """Errors: `KeyError`."""
        for node in self.nodes:
            if node.id == node_id:
                return node
        raise KeyError(node_id)

    def inputs_of(self, node_id: str) -> tuple[str, ...]:
        """Ids of the nodes that feed it, in edge order: the first edge is a join's left side."""
        return tuple(edge.source for edge in self.edges if edge.target == node_id)
