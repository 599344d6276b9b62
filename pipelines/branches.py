"""Which nodes a run leaves out because a condition decided for another branch, and which inputs that leaves to the others. Pure: no database.

An edge is *taken* unless it leaves a node that is left out, or has a `condition` that its condition node has decided against. A node is
left out as soon as it is certain that too few of the edges to it can still be taken: none, or fewer than it needs.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from brokoli_site.common.errors import NodeError
from pipelines.graph import Graph
from pipelines.nodes import registry
from pipelines.nodes.base import Ports
from pipelines.spec import EdgeSpec, PipelineSpec

_UNKNOWN = Ports(1, None)  # of a type that is turned off since: its attempt is to say so


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Why a node is left out: what that condition node decided. `has` of the `needs` inputs may still come."""

    condition: str
    decision: bool
    has: int
    needs: int

    def reason(self, condition_name: str) -> str:
        """`condition 'Any rows' is true, and only its false branch leads here`"""
        decided, other = str(self.decision).lower(), str(not self.decision).lower()
        if self.has == 0:
            return f"condition '{condition_name}' is {decided}, and only its {other} branch leads here"
        missing = f"of the {self.needs} inputs that it needs {self.has} may come"
        return f"condition '{condition_name}' is {decided}, and {missing} without its {other} branch"


class Branches:
    """Of one definition. False when no edge has a condition and every node takes what leads to it: then nobody needs to ask."""

    def __init__(self, spec: PipelineSpec, graph: Graph, ports: Mapping[str, Ports], leading: Collection[str] = ()) -> None:
        """`ports` by node. `leading`: nodes whose first input has a role of its own, so that they are left out without it."""
        self._order = graph.order
        self._into: dict[str, list[EdgeSpec]] = defaultdict(list)
        for edge in spec.edges:
            self._into[edge.target].append(edge)
        self._needs = {node: ports[node].least for node in graph.order}
        self._leading = frozenset(leading)
        self._takes_nothing = {node for node in self._into if ports[node].most == 0}
        self._conditional = any(edge.condition is not None for edge in spec.edges)
        self._latest: tuple[dict[str, bool], Mapping[str, LeftOut]] = ({}, {})  # decisions and what they leave out; swapped as one, for threads

    @classmethod
    def of(cls, spec: PipelineSpec, graph: Graph) -> "Branches":
        """With what the registry says of each node's type."""
        types = {}
        for node in spec.nodes:
            try:
                types[node.id] = registry.get(node.type)
            except NodeError:
                continue
        ports = {node.id: types[node.id].ports if node.id in types else _UNKNOWN for node in spec.nodes}
        return cls(spec, graph, ports, [node_id for node_id, found in types.items() if found.first_input_leads])

    def __bool__(self) -> bool:
        return self._conditional or bool(self._takes_nothing)

    def left_out(self, decisions: Mapping[str, bool]) -> Mapping[str, LeftOut]:
        """The nodes that will not run, whatever the conditions decide that have not yet; `decisions` by condition node.

        A run asks several times a step, and hears the same until another condition has decided.
        """
        if not self._conditional or not decisions:
            return {}
        known, found = self._latest
        if known != decisions:
            found = self._left_out(decisions)
            self._latest = (dict(decisions), found)
        return found

    def _left_out(self, decisions: Mapping[str, bool]) -> dict[str, LeftOut]:
        found: dict[str, LeftOut] = {}
        for node in self._order:
            edges = self._into.get(node, ())
            against = [_decided_against(edge, decisions, found) for edge in edges]
            cause = next((one for one in against if one is not None), None)
            if cause is None:
                continue
            has, needs = against.count(None), max(1, self._needs[node])
            if has < needs or (node in self._leading and against[0] is not None):
                found[node] = LeftOut(*cause, has, needs)
        return found

    def inputs(self, node: str, decisions: Mapping[str, bool]) -> tuple[str, ...]:
        """The nodes whose outputs it gets, in edge order: as `before`, but edges into a node that takes no input only say what it waits for."""
        return () if node in self._takes_nothing else self.before(node, decisions)

    def before(self, node: str, decisions: Mapping[str, bool]) -> tuple[str, ...]:
        """The nodes of the edges to it that are taken, in edge order, once all that leads to it has ended."""
        left_out = self.left_out(decisions)
        return tuple(edge.source for edge in self._into.get(node, ()) if _decided_against(edge, decisions, left_out) is None)


def _decided_against(edge: EdgeSpec, decisions: Mapping[str, bool], left_out: Mapping[str, LeftOut]) -> tuple[str, bool] | None:
    """(condition, its decision) when the edge is not taken."""
    above = left_out.get(edge.source)
    if above is not None:
        return above.condition, above.decision
    if edge.condition is not None and decisions.get(edge.source, edge.condition) != edge.condition:
        return edge.source, decisions[edge.source]
    return None
