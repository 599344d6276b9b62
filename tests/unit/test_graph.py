"""Order, cycles, reachability and readiness, on graphs of every shape."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.graph import Graph, find_cycles
from pipelines.spec import EdgeSpec, InvalidPipeline, NodeSpec, PipelineSpec


def make(edges: str, nodes: str = "") -> PipelineSpec:
    """`make("a>b b>c", "d")`: nodes in the order in which they are named."""
    pairs = [tuple(edge.split(">")) for edge in edges.split()]
    names = dict.fromkeys([*nodes.split(), *(name for pair in pairs for name in pair)])
    return PipelineSpec("p", tuple(NodeSpec(name, "sql", name) for name in names), tuple(EdgeSpec(a, b) for a, b in pairs))


def test_order_puts_every_node_after_what_feeds_it() -> None:
    graph = Graph(make("a>c b>c c>d a>d", "d c b a"))
    assert graph.order == ("b", "a", "c", "d")


def test_neighbours_are_distinct_and_in_edge_order() -> None:
    graph = Graph(make("b>c a>c b>c"))
    assert graph.upstream("c") == ("b", "a")
    assert graph.downstream("b") == ("c",)
    assert make("b>c a>c b>c").inputs_of("c") == ("b", "a", "b")


def test_reach() -> None:
    graph = Graph(make("a>b b>c b>d x>d"))
    assert graph.below("b") == {"b", "c", "d"}
    assert graph.below("d") == {"d"}
    assert graph.above("d") == {"a", "b", "x", "d"}
    with pytest.raises(KeyError):
        graph.below("nobody")


def test_ready_is_what_has_all_its_inputs_and_has_not_started() -> None:
    graph = Graph(make("a>c b>c c>d"))
    assert graph.ready(done=(), started=()) == ("a", "b")
    assert graph.ready(done=(), started={"a"}) == ("b",)
    assert graph.ready(done={"a"}, started={"a", "b"}) == ()
    assert graph.ready(done={"a", "b"}, started={"a", "b"}) == ("c",)
    assert graph.ready(done={"a", "b", "c", "d"}, started=()) == ()


@pytest.mark.parametrize(
    ("edges", "cycles"),
    [
        ("a>b b>c", []),
        ("a>b b>a", [("a", "b")]),
        ("s>a a>b b>c c>a c>t", [("a", "b", "c")]),
        ("a>b b>a b>c c>d d>c", [("a", "b"), ("c", "d")]),
        ("b>a a>b a>t s>b", [("b", "a")]),
        ("a>b b>c c>b c>a", [("a", "b", "c")]),
    ],
)
def test_cycles_are_found_and_what_only_hangs_on_them_is_not(edges: str, cycles: list[tuple[str, ...]]) -> None:
    spec = make(edges)
    found = find_cycles([node.id for node in spec.nodes], spec.edges)
    assert [set(cycle) for cycle in found] == [set(cycle) for cycle in cycles]
    for cycle in found:
        assert all(EdgeSpec(a, b) in spec.edges for a, b in zip(cycle, [*cycle[1:], cycle[0]], strict=True))


def test_a_cycle_is_refused_by_name() -> None:
    with pytest.raises(InvalidPipeline) as caught:
        Graph(make("s>a a>b b>c c>a"))
    assert "a → b → c → a" in caught.value.problems[0].message


@given(st.integers(1, 25), st.data())
def test_any_graph_is_either_ordered_or_has_a_cycle_of_its_own_edges(size: int, data: st.DataObject) -> None:
    ends = st.integers(0, size - 1).map(lambda number: f"n{number}")
    pairs = data.draw(st.lists(st.tuples(ends, ends), max_size=60))
    spec = PipelineSpec("p", tuple(NodeSpec(f"n{i}", "sql", "") for i in range(size)), tuple(EdgeSpec(a, b) for a, b in pairs))
    cycles = find_cycles([node.id for node in spec.nodes], spec.edges)
    for cycle in cycles:
        assert all((a, b) in pairs for a, b in zip(cycle, [*cycle[1:], cycle[0]], strict=True))
    if cycles:
        with pytest.raises(InvalidPipeline):
            Graph(spec)
        return
    place = {node: index for index, node in enumerate(Graph(spec).order)}
    assert len(place) == size
    assert all(place[a] < place[b] for a, b in pairs)


def _shape(name: str, size: int = 500) -> list[tuple[int, int]]:
    return {
        "deep": [(i, i + 1) for i in range(size - 1)],
        "wide": [(0, i) for i in range(1, size)],
        "fan in": [(i, size - 1) for i in range(size - 1)],
        "diamonds": [(i, i + step) for i in range(0, size - 3, 3) for step in (1, 2)]
        + [(i + s, i + 3) for i in range(0, size - 3, 3) for s in (1, 2)],
        "dense": [(i, j) for i in range(100) for j in range(i + 1, 200)][:10_000],
        "rings": [(i, i + 1) for i in range(0, size, 2)] + [(i + 1, i) for i in range(0, size, 2)],
        "one ring": [(i, (i + 1) % size) for i in range(size)],
    }[name]


@pytest.mark.parametrize("name", ["deep", "wide", "fan in", "diamonds", "dense", "rings", "one ring"])
def test_500_nodes_take_milliseconds(name: str) -> None:
    spec = PipelineSpec("p", tuple(NodeSpec(f"{i}", "sql", "") for i in range(500)), tuple(EdgeSpec(f"{a}", f"{b}") for a, b in _shape(name)))
    started = time.process_time()
    try:
        graph = Graph(spec)
    except InvalidPipeline as error:
        assert name in ("rings", "one ring")
        assert len(error.problems) == (250 if name == "rings" else 1)
    else:
        done: set[str] = set()
        while ready := graph.ready(done, done):
            done.update(ready)
        assert len(done) == 500
        assert graph.below("0")
    assert time.process_time() - started < 1.0
