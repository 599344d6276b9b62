"""Which nodes a decision leaves out, held against a model that knows nothing of how it is found out."""

import itertools
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.branches import Branches, LeftOut
from pipelines.graph import Graph
from pipelines.nodes.base import Ports
from pipelines.spec import EdgeSpec, NodeSpec, PipelineSpec
from runs import reuse

EdgeText = tuple[str, str] | tuple[str, str, bool | None]


def spec_of(nodes: str, *edges: EdgeText) -> PipelineSpec:
    return PipelineSpec("p", tuple(NodeSpec(node, "x", node) for node in nodes), tuple(EdgeSpec(*edge) for edge in edges))


def branches_of(spec: PipelineSpec, least: Mapping[str, int] | None = None, leading: str = "", nothing: str = "") -> Branches:
    ports = {node.id: Ports(0, 0) if node.id in nothing else Ports((least or {}).get(node.id, 1), None) for node in spec.nodes}
    return Branches(spec, Graph(spec), ports, leading)


# --- by example -----------------------------------------------------------------------------------------------------------

DIAMOND: tuple[EdgeText, ...] = (("s", "c"), ("c", "t", True), ("c", "f", False), ("t", "u"), ("f", "u"))


def test_what_only_the_other_branch_feeds_is_left_out() -> None:
    branches = branches_of(spec_of("sctfu", *DIAMOND))
    assert branches.left_out({}) == {}
    assert branches.left_out({"c": True}) == {"f": LeftOut("c", decision=True, has=0, needs=1)}
    assert branches.inputs("u", {"c": True}) == ("t",)
    assert branches.inputs("u", {"c": False}) == ("f",)
    assert branches.inputs("t", {"c": True}) == ("c",)


def test_a_node_that_needs_both_sides_is_left_out_and_says_so() -> None:
    branches = branches_of(spec_of("sctfu", *DIAMOND), least={"u": 2})
    assert branches.left_out({"c": True}) == {"f": LeftOut("c", decision=True, has=0, needs=1), "u": LeftOut("c", decision=True, has=1, needs=2)}
    reason = LeftOut("c", decision=True, has=1, needs=2).reason("Any rows")
    assert reason == "condition 'Any rows' is true, and of the 2 inputs that it needs 1 may come without its false branch"
    assert LeftOut("c", decision=False, has=0, needs=1).reason("Any rows") == "condition 'Any rows' is false, and only its true branch leads here"


def test_a_node_whose_first_input_leads_is_left_out_without_it() -> None:
    branches = branches_of(spec_of("sctfu", *DIAMOND), leading="u")
    assert set(branches.left_out({"c": False})) == {"t", "u"}
    assert set(branches.left_out({"c": True})) == {"f"}


def test_edges_without_a_condition_are_always_taken() -> None:
    branches = branches_of(spec_of("sca", ("s", "c"), ("c", "a")))
    assert not branches
    assert branches_of(spec_of("scab", ("s", "c"), ("c", "a"), ("c", "b", True))).left_out({"c": False}).keys() == {"b"}


def test_a_condition_within_a_branch() -> None:
    spec = spec_of("cdxyz", ("c", "d", True), ("d", "x", True), ("d", "y", False), ("c", "z", False), ("y", "z"))
    branches = branches_of(spec)
    assert set(branches.left_out({"c": False})) == {"d", "x", "y"}
    assert branches.inputs("z", {"c": False}) == ("c",)
    assert set(branches.left_out({"c": True, "d": True})) == {"y", "z"}
    assert branches.inputs("z", {"c": True, "d": False}) == ("y",)


def test_edges_into_a_node_that_takes_nothing_say_only_what_comes_first() -> None:
    branches = branches_of(spec_of("sca", ("s", "c"), ("c", "a", True)), nothing="sa")
    assert branches.inputs("a", {"c": True}) == ()
    assert branches.before("a", {"c": True}) == ("c",)
    assert set(branches.left_out({"c": False})) == {"a"}


# --- what stands when a run is claimed or resumed --------------------------------------------------------------------------


def standing(spec: PipelineSpec, finished: str, decided: Mapping[str, bool], gone: str = "") -> set[str]:
    branches = branches_of(spec)

    def left_out(kept: Any) -> Any:
        return branches.left_out({node: branch for node, branch in decided.items() if node in kept})

    return set(reuse.standing(Graph(spec), set(finished), lambda node: node not in gone, left_out))


def test_what_a_branch_fed_stands_though_the_other_has_no_output() -> None:
    spec = spec_of("sctfu", *DIAMOND)
    assert standing(spec, "sctu", {"c": True}) == set("sctu")
    assert standing(spec, "sct", {"c": True}, gone="t") == set("sc")


def test_what_comes_after_a_condition_that_decides_again_runs_again() -> None:
    spec = spec_of("sctfu", *DIAMOND)
    assert standing(spec, "sct", {"c": True}, gone="sct") == set()
    assert standing(spec, "sctu", {"c": True}, gone="c") == set("sctu"), "nobody needs it any more"


# --- any graph --------------------------------------------------------------------------------------------------------------


@st.composite
def pipelines(draw: st.DrawFn) -> tuple[PipelineSpec, dict[str, int]]:
    size = draw(st.integers(2, 7))
    nodes = "abcdefg"[:size]
    pairs = [pair for pair in itertools.combinations(nodes, 2) if draw(st.booleans())]
    edges = [(*pair, draw(st.sampled_from([None, True, False]))) for pair in pairs]
    least = {node: draw(st.integers(0, 2)) for node in nodes}
    return spec_of(nodes, *edges), {node: min(most, sum(edge[1] == node for edge in edges)) for node, most in least.items()}


def runs_in(spec: PipelineSpec, least: Mapping[str, int], answers: Mapping[str, bool]) -> set[str]:
    """The model: the nodes that execute when every condition answers so. Each looks at the edges that bring it something."""
    executed: set[str] = set()
    for node in Graph(spec).order:
        into = [edge for edge in spec.edges if edge.target == node]
        taken = [edge for edge in into if edge.source in executed and edge.condition in (None, answers.get(edge.source))]
        if len(taken) == len(into) or len(taken) >= max(1, least[node]):
            executed.add(node)
    return executed


@settings(max_examples=300, deadline=None)
@given(pipelines(), st.dictionaries(st.sampled_from("abcdefg"), st.booleans()))
def test_left_out_is_what_the_model_does_not_execute(made: tuple[PipelineSpec, dict[str, int]], given_answers: dict[str, bool]) -> None:
    spec, least = made
    conditions = {edge.source for edge in spec.edges if edge.condition is not None}
    branches = branches_of(spec, least)
    everything = {node: given_answers.get(node, True) for node in sorted(conditions)}
    executed = runs_in(spec, least, everything)

    assert branches.left_out(everything).keys() == {node.id for node in spec.nodes} - executed
    for node in executed:
        assert set(branches.inputs(node, everything)) <= executed
    for some in itertools.chain.from_iterable(itertools.combinations(everything, count) for count in range(len(everything))):
        known = {node: everything[node] for node in some}
        left_out = branches.left_out(known).keys()
        assert not left_out & executed, "a node was left out before it was certain"
        for each in spec.nodes:
            if Graph(spec).above(each.id) & conditions <= known.keys():
                assert (each.id in left_out) == (each.id not in executed), "what is certain is not known"


def test_a_long_chain_of_lost_outputs_is_looked_at_in_few_rounds() -> None:
    """Within a transaction that holds up others: a round for each of five hundred nodes took most of a second."""
    nodes = [f"n{number}" for number in range(500)]
    spec = PipelineSpec("p", tuple(NodeSpec(node, "sql", node, {}) for node in nodes), tuple(EdgeSpec(*pair) for pair in itertools.pairwise(nodes)))
    rounds: list[int] = []

    def left_out(kept: Any) -> Any:
        rounds.append(len(kept))
        return ()

    assert reuse.standing(Graph(spec), set(nodes[:-1]), lambda node: False, left_out) == frozenset()
    assert len(rounds) <= 3


def test_what_is_left_out_is_worked_out_once_for_the_same_decisions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run asks at each step."""
    branches = branches_of(spec_of("sctf", ("s", "c"), ("c", "t", True), ("c", "f", False)))
    asked: list[Any] = []
    original = Branches._left_out

    def counted(self: Branches, decisions: Mapping[str, bool]) -> Any:
        asked.append(dict(decisions))
        return original(self, decisions)

    monkeypatch.setattr(Branches, "_left_out", counted)
    decided = {"c": True}
    for _ in range(3):
        assert set(branches.left_out(dict(decided))) == {"f"}
    decided["c"] = False
    assert set(branches.left_out(decided)) == {"t"}
    decided["c"] = True
    assert set(branches.left_out(decided)) == {"f"}
    assert asked == [{"c": True}, {"c": False}, {"c": True}]
