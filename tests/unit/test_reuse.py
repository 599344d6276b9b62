"""Which finished nodes need not run again."""

import pytest

from pipelines.graph import Graph
from pipelines.parameters import Parameter
from pipelines.spec import EdgeSpec, NodeSpec, PipelineSpec
from runs.reuse import standing, unchanged


def diamond(**configs: dict[str, object]) -> PipelineSpec:
    """source -> left, right -> join -> sink"""
    edges = (("source", "left"), ("source", "right"), ("left", "join"), ("right", "join"), ("join", "sink"))
    nodes = tuple(NodeSpec(name, "sql", name, configs.get(name, {})) for name in ("source", "left", "right", "join", "sink"))
    return PipelineSpec("Diamond", nodes, tuple(EdgeSpec(source, target) for source, target in edges))


@pytest.mark.parametrize(
    ("finished", "missing", "stand"),
    [
        pytest.param("source left right join sink", "", "source left right join sink", id="all done: nothing to do"),
        pytest.param("source left", "", "source left", id="the rest runs"),
        pytest.param("source left", "left", "source", id="a needed artifact is gone: its node runs again"),
        pytest.param("source left", "source", "", id="the root is gone: all below it runs again, whole or not"),
        pytest.param("source left right", "source", "source left right", id="gone, but nothing that will run reads it"),
        pytest.param("source left right", "right", "source left", id="one side of the join again"),
        pytest.param("source left right join sink", "source join", "source left right join sink", id="a finished run misses nothing"),
        pytest.param("left join", "", "", id="finished below something unfinished does not stand"),
        pytest.param("", "", "", id="nothing finished"),
    ],
)
def test_standing(finished: str, missing: str, stand: str) -> None:
    kept = standing(Graph(diamond()), finished.split(), lambda node_id: node_id not in missing.split())

    assert kept == frozenset(stand.split())


def test_a_changed_config_is_not_unchanged() -> None:
    assert unchanged(diamond(left={"query": "SELECT 2"}), diamond(left={"query": "SELECT 1"}), {}) == {"source", "right", "join", "sink"}


def test_a_changed_edge_changes_the_node_that_it_feeds() -> None:
    before = diamond()
    after = PipelineSpec("Diamond", before.nodes, (*before.edges[:-1], EdgeSpec("left", "sink")))

    assert unchanged(after, before, {}) == {"source", "left", "right", "join"}


def test_another_default_of_a_parameter_changes_the_nodes_that_refer_to_one() -> None:
    before = diamond(left={"query": "SELECT ${param.top}"}, right={"query": "SELECT 1"})
    after = PipelineSpec(before.name, before.nodes, before.edges, params={"top": 5})

    assert unchanged(after, before, {}) == {"source", "right", "join", "sink"}
    assert unchanged(after, after, {}) == {"source", "left", "right", "join", "sink"}
    assert unchanged(after, before, {"top": 7}) == {"source", "left", "right", "join", "sink"}


def test_another_declared_default_changes_scripts_too() -> None:
    """A script is given all params, whether or not it names one in its config."""
    script = NodeSpec("script", "code", "script", {"script": "output_data = rows"})
    before = PipelineSpec("P", (*diamond().nodes, script), diamond().edges, parameters=(Parameter("n", "integer", default=1),))
    after = PipelineSpec("P", before.nodes, before.edges, parameters=(Parameter("n", "integer", default=2),))

    assert unchanged(after, before, {}) == {"source", "left", "right", "join", "sink"}
    assert unchanged(after, before, {"n": 3}) == unchanged(after, after, {}) == {"source", "left", "right", "join", "sink", "script"}
