"""The shape of a pipeline: order, cycles, what lies below a node, what may start. Pure, linear in nodes and edges, and without recursion."""

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence

from pipelines.problems import Problem
from pipelines.spec import EdgeSpec, InvalidPipeline, PipelineSpec


class Graph:
    """The DAG of a pipeline. Errors: `InvalidPipeline` naming each cycle."""

    def __init__(self, spec: PipelineSpec) -> None:
        nodes = tuple(node.id for node in spec.nodes)
        self._upstream, self._downstream = _neighbours(nodes, spec.edges)
        self.order: tuple[str, ...] = _order(nodes, self._upstream, self._downstream)
        if len(self.order) < len(nodes):
            raise InvalidPipeline(cycle_problems(spec))

    def upstream(self, node_id: str) -> tuple[str, ...]:
        """The nodes that feed it directly, each once, in edge order. Errors: `KeyError`."""
        return self._upstream[node_id]

    def downstream(self, node_id: str) -> tuple[str, ...]:
        """The nodes that it feeds directly, each once, in edge order. Errors: `KeyError`."""
        return self._downstream[node_id]

    def below(self, node_id: str) -> frozenset[str]:
        """It and every node that its data reaches. Errors: `KeyError`."""
        return self._reach((node_id,), self._downstream)

    def above(self, node_id: str) -> frozenset[str]:
        """It and every node whose data reaches it. Errors: `KeyError`."""
        return self._reach((node_id,), self._upstream)

    def ready(self, done: Collection[str], started: Collection[str]) -> tuple[str, ...]:
        """The nodes that may start, in order: not started, and everything that feeds them is done."""
        return tuple(
            node for node in self.order if node not in started and node not in done and all(source in done for source in self._upstream[node])
        )

    @staticmethod
    def _reach(starts: Iterable[str], neighbours: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
        found = set(starts)
        waiting = deque(found)
        while waiting:
            for node in neighbours[waiting.popleft()]:
                if node not in found:
                    found.add(node)
                    waiting.append(node)
        return frozenset(found)


def cycle_problems(spec: PipelineSpec) -> tuple[Problem, ...]:
    """A problem for each cycle (of cycles that share nodes, one), naming its nodes in order."""
    return tuple(
        Problem(
            message=f"Nodes feed each other in a circle: {_path(cycle)}. Remove one of these edges.",
            node_id=cycle[0],
            field="edges",
            pointer="/edges",
        )
        for cycle in find_cycles([node.id for node in spec.nodes], spec.edges)
    )


def find_cycles(nodes: Sequence[str], edges: Sequence[EdgeSpec]) -> list[tuple[str, ...]]:
    """Cycles that share no node, each in the direction of its edges, from its first node in document order."""
    upstream, downstream = _neighbours(nodes, edges)
    left = dict.fromkeys(nodes)
    cycles = []
    _strip(left, nodes, upstream, downstream)
    while left:
        cycle = _one_cycle(next(iter(left)), left, upstream)
        cycles.append(cycle)
        for node in cycle:
            del left[node]
        _strip(left, tuple(left), upstream, downstream)
    return cycles


def _strip(left: dict[str, None], nodes: Sequence[str], upstream: Mapping[str, tuple[str, ...]], downstream: Mapping[str, tuple[str, ...]]) -> None:
    """Take away, until none remains, the nodes that nothing left feeds or that feed nothing left: they lie on no cycle."""
    waiting = deque(nodes)
    while waiting:
        node = waiting.popleft()
        if node in left and not (any(other in left for other in upstream[node]) and any(other in left for other in downstream[node])):
            del left[node]
            waiting.extend(upstream[node])
            waiting.extend(downstream[node])


def _one_cycle(start: str, left: Mapping[str, None], upstream: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Walk against the edges: every node left is fed by another, so the walk meets itself."""
    place: dict[str, int] = {}
    walk: list[str] = []
    node = start
    while node not in place:
        place[node] = len(walk)
        walk.append(node)
        node = next(other for other in upstream[node] if other in left)
    cycle = walk[place[node] :][::-1]
    members = set(cycle)
    first = cycle.index(next(other for other in left if other in members))
    return tuple(cycle[first:] + cycle[:first])


def _neighbours(nodes: Iterable[str], edges: Iterable[EdgeSpec]) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    # Dictionaries keep edge order and drop the second of two edges between the same nodes.
    upstream: dict[str, dict[str, None]] = {node: {} for node in nodes}
    downstream: dict[str, dict[str, None]] = {node: {} for node in upstream}
    for edge in edges:
        upstream[edge.target][edge.source] = None
        downstream[edge.source][edge.target] = None
    return {node: tuple(found) for node, found in upstream.items()}, {node: tuple(found) for node, found in downstream.items()}


def _order(nodes: Sequence[str], upstream: Mapping[str, tuple[str, ...]], downstream: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Kahn's algorithm, sources first, in document order where there is a choice; short of nodes when there is a cycle."""
    missing = {node: len(upstream[node]) for node in nodes}
    waiting = deque(node for node in nodes if not missing[node])
    order = []
    while waiting:
        node = waiting.popleft()
        order.append(node)
        for after in downstream[node]:
            missing[after] -= 1
            if not missing[after]:
                waiting.append(after)
    return tuple(order)


def _path(cycle: Sequence[str]) -> str:
    """`a → b → a`; long cycles are shown by their ends."""
    names = [*cycle, cycle[0]]
    if len(names) > 12:
        names = [*names[:8], f"… {len(names) - 11} more …", *names[-3:]]
    return " → ".join(names)
