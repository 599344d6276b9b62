"""Validation: every problem at once, each with its node and field; what refuses a save, and what only a run."""

import sys
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import documents, validation
from pipelines.problems import Problem
from pipelines.schedules import schedule_fault, zone_names
from pipelines.spec import InvalidPipeline

pytestmark = pytest.mark.usefixtures("stub_types")


def node(node_id: str, type_name: str = "stub_pick", **config: Any) -> dict[str, Any]:
    return {"id": node_id, "type": type_name, "config": config}


def rows(node_id: str = "rows", *columns: str, **config: Any) -> dict[str, Any]:
    return node(node_id, "stub_rows", columns=list(columns or ("id", "name")), **config)


def pipeline(*nodes: dict[str, Any], edges: str = "", **keys: Any) -> dict[str, Any]:
    pairs = [edge.split(">") for edge in edges.split()]
    return {"name": "p", "nodes": list(nodes), "edges": [{"from": a, "to": b} for a, b in pairs], **keys}


def found(problems: tuple[Problem, ...]) -> list[tuple[str, str, str]]:
    return [(problem.node_id, problem.field, problem.message) for problem in problems]


def test_a_whole_pipeline_is_valid() -> None:
    document = pipeline(
        rows(), node("pick", rules=[{"type": "keep", "column": "id"}]), edges="rows>pick", schedule="0 6 * * 1-5", schedule_timezone="Europe/Berlin"
    )
    report = validation.validate(document)
    assert (report.valid, report.errors, report.warnings) == (True, (), ())
    assert validation.check(documents.normalised(document)).name == "p"


STRUCTURE: list[tuple[dict[str, Any], list[tuple[str, str, str]]]] = [
    (pipeline(node("a", "teleport")), [("a", "type", "no node type 'teleport'")]),
    (pipeline(node("a", "stub_pik")), [("a", "type", "Did you mean 'stub_pick'")]),
    (pipeline(node("a", "bash")), [("a", "type", "bash")]),
    (pipeline(node("a", "x" * 100)), [("a", "type", "no node type")]),
    (pipeline(rows(), node("a"), node("b"), edges="rows>a a>b b>a"), [("a", "edges", "at most 1 input, and 2 edges"), ("a", "edges", "a → b → a")]),
    (pipeline(node("a"), edges="a>a"), [("a", "edges", "feeds itself")]),
    (pipeline(rows("a"), rows("b"), edges="a>b"), [("b", "edges", "takes no input, and 1 edges")]),
    (pipeline(rows("a"), rows("b"), rows("c"), node("d", "stub_both"), edges="a>d b>d c>d"), [("d", "edges", "at most 2 inputs, and 3 edges")]),
    (pipeline(rows(), schedule="every day"), [("", "schedule", "five cron fields")]),
    (pipeline(rows(), schedule="0 25 * * *"), [("", "schedule", "hour cannot be read: it takes 0-23")]),
    (pipeline(rows(), schedule="* * * * * *"), [("", "schedule", "five cron fields")]),
    (pipeline(rows(), schedule=5), [("", "schedule", "must be a text")]),
    (pipeline(rows(), schedule_timezone="Mars/Phobos"), [("", "schedule_timezone", "no time zone 'Mars/Phobos'")]),
    (pipeline(rows(), schedule_timezone="../../etc/passwd"), [("", "schedule_timezone", "no time zone")]),
    (pipeline(rows(), schedule_timezone=["UTC"]), [("", "schedule_timezone", "no time zone")]),
    (pipeline(rows(), tags="daily"), [("", "tags", "must be a list")]),
    (pipeline(rows(), tags=["a"] * 51), [("", "tags", "at most 50")]),
    (pipeline(rows(), tags=["a" * 101]), [("", "tags", "1 to 100 characters")]),
    (pipeline(rows(), tags=[5]), [("", "tags", "texts")]),
    (pipeline(rows(), description=5), [("", "description", "must be a text")]),
    (pipeline(rows(), enabled="yes"), [("", "enabled", "true or false")]),
    (pipeline(rows(), params=[1]), [("", "params", "must be an object")]),
    (pipeline(rows(), pipeline_id="a b"), [("", "pipeline_id", "letters, digits")]),
    (pipeline(rows(), pipeline_id=5), [("", "pipeline_id", "letters, digits")]),
    (pipeline(rows(), pipeline_id="x" * 101), [("", "pipeline_id", "1 to 100")]),
]


@pytest.mark.parametrize(("document", "expected"), STRUCTURE, ids=[str(expected[0][1:])[:60] for _, expected in STRUCTURE])
def test_structure_that_cannot_be_saved(document: dict[str, Any], expected: list[tuple[str, str, str]]) -> None:
    with pytest.raises(InvalidPipeline) as caught:
        validation.check_structure(document)
    problems = found(caught.value.problems)
    assert [(node_id, field) for node_id, field, _ in problems] == [(node_id, field) for node_id, field, _ in expected]
    assert all(words in message for (_, _, message), (_, _, words) in zip(problems, expected, strict=True))
    assert all(problem.pointer for problem in caught.value.problems)
    assert not validation.validate(document).valid


QUESTION = {"expression": "row_count > 0"}


@pytest.mark.parametrize(
    ("edges", "words"),
    [
        ([("rows", "a", True)], "The edge from 'rows' to 'a' has a condition, and 'rows' is no condition node (its type is 'stub_rows')"),
        ([("c", "a", True), ("c", "a", False)], "Edges of both branches lead from 'c' to 'a'"),
        ([("c", "a", True), ("a", "b", False)], "'a' is no condition node"),
        ([("rows", "rows2", None)], "a stub_rows node takes no input"),
    ],
)
def test_edges_of_branches(edges: list[tuple[str, str, bool | None]], words: str) -> None:
    document = pipeline(rows(), rows("rows2"), node("c", "condition", **QUESTION), node("a", "stub_many"), node("b", "stub_many"), edges="rows>c")
    document["edges"] += [{"from": before, "to": after, "condition": condition} for before, after, condition in edges]
    with pytest.raises(InvalidPipeline) as caught:
        validation.check_structure(document)
    assert [words in problem.message for problem in caught.value.problems] == [True], caught.value.problems
    assert caught.value.problems[0].field == "edges"


def test_a_branch_may_lead_to_a_source_which_then_comes_after_it() -> None:
    document = pipeline(rows(), node("c", "condition", **QUESTION), rows("after"), edges="rows>c")
    document["edges"].append({"from": "c", "to": "after", "condition": True})
    assert validation.validate(document).valid


UNFINISHED: list[tuple[dict[str, Any], list[tuple[str, str, str]]]] = [
    (pipeline(), [("", "nodes", "no nodes")]),
    (pipeline(node("a", "stub_rows")), [("a", "columns", "Field 'columns' is missing.")]),
    (pipeline(rows("a", count=0)), [("a", "count", "Field 'count' must be 1 or more.")]),
    (pipeline(rows("a", n="many")), [("a", "count", "Field 'count' must be a whole number.")]),
    (pipeline(node("a", "stub_rows", columns=[])), [("a", "columns", "must not be empty")]),
    (pipeline(node("a", "stub_rows", columns=["x", 5])), [("a", "columns.1", "must be a text")]),
    (pipeline(node("a")), [("a", "edges", "needs 1 input and has none")]),
    (pipeline(rows(), node("a", "stub_both"), edges="rows>a"), [("a", "edges", "needs 2 inputs and has only 1")]),
    (pipeline(rows(), node("a", mode="c"), edges="rows>a"), [("a", "mode", "must be 'a' or 'b'")]),
    (pipeline(rows(), node("a", rules=[{"type": "keep"}]), edges="rows>a"), [("a", "rules.0.column", "is missing")]),
    (pipeline(rows(), node("a", rules=[{"type": "keep", "column": "nope"}]), edges="rows>a"), [("a", "rules.0.column", "no column 'nope'")]),
    (pipeline(rows(), node("a", rules="drop"), edges="rows>a"), [("a", "rules", "must be a list")]),
]


@pytest.mark.parametrize(("document", "expected"), UNFINISHED, ids=[str(expected[0][1:])[:60] for _, expected in UNFINISHED])
def test_an_unfinished_config_can_be_saved_and_not_run(document: dict[str, Any], expected: list[tuple[str, str, str]]) -> None:
    validation.check_structure(documents.normalised(document))
    problems = found(validation.validate(document).errors)
    assert [(node_id, field) for node_id, field, _ in problems] == [(node_id, field) for node_id, field, _ in expected]
    assert all(words in message for (_, _, message), (_, _, words) in zip(problems, expected, strict=True))
    with pytest.raises(InvalidPipeline):
        validation.check(documents.normalised(document))


def test_schemas_flow_along_the_graph() -> None:
    document = pipeline(
        rows("a", "id", "x"),
        rows("b", "y"),
        node("drop_x", rules=[{"type": "drop", "column": "x"}]),
        node("both", "stub_both"),
        node("last", rules=[{"type": "keep", "column": "y"}, {"type": "keep", "column": "x"}]),
        edges="a>drop_x drop_x>both b>both both>last",
    )
    assert [(p.node_id, p.field, p.line, p.column) for p in validation.validate(document).errors] == [("last", "rules.1.column", 1, 1)]


def test_what_is_unknown_is_not_guessed_at() -> None:
    """Below a node that is not finished, or whose columns only the run knows, no column is reported as missing."""
    document = pipeline(
        node("broken", "stub_rows"), node("many", "stub_many"), node("last", rules=[{"type": "keep", "column": "y"}]), edges="broken>many many>last"
    )
    assert [p.node_id for p in validation.validate(document).errors] == ["broken"]


def test_references_are_judged_when_the_node_runs() -> None:
    document = pipeline(rows("a", count="${param.n}"), node("b", "stub_rows", columns="{{ params.columns }}"))
    assert validation.validate(document).errors == ()


def test_what_is_kept_without_being_used_is_a_warning() -> None:
    document = pipeline(
        {**rows(n=2, colour="red", timeout=5), "capabilities": []},
        {**node("pick", mode="b", rules=[{"type": "keep", "column": "id", "why": "x"}]), "capabilities": ["c"], "retries": 1},
        interface={},
        edges="rows>pick",
        id="x",
        version=3,
    )
    report = validation.validate(document)
    assert report.valid
    assert found(report.warnings) == [
        ("rows", "colour", "Field 'colour' is not known to a stub_rows node; it is kept and does nothing."),
        ("pick", "rules.0.why", "Field 'rules.0.why' is not known to a stub_pick node; it is kept and does nothing."),
        ("pick", "mode", "Mode b is slow."),
        ("", "interface", "'interface' is kept, but this server does nothing with it."),
        ("", "nodes.capabilities", "'capabilities' of 2 nodes is kept, but this server does nothing with it."),
    ]


def test_all_problems_come_at_once() -> None:
    document = {
        "nodes": [rows(), rows(), node("a", "teleport"), node("b", mode="c"), {"id": 5}],
        "edges": [{"from": "rows", "to": "nowhere"}, {"from": "b", "to": "b"}],
        "schedule": "x",
        "tags": 5,
    }
    errors = validation.validate(document).errors
    assert {(p.node_id, p.field) for p in errors} == {
        ("", "name"),
        ("rows", "id"),
        ("a", "type"),
        ("b", "edges"),
        ("b", "mode"),
        ("", "id"),
        ("", "edges"),
        ("", "schedule"),
        ("", "tags"),
    }


def test_the_document_that_is_stored() -> None:
    raw = {
        "id": "x",
        "version": 9,
        "pipeline_id": "p",
        "name": "P",
        "tags": None,
        "nodes": [
            {"id": "a", "type": "stub_rows", "config": {"n": 5, "retries": 2, "zzz": 1}, "retries": 3, "interface": {}},
            {"id": "b", "type": "?"},
            7,
        ],
        "interface": {"x": 1},
    }
    stored = documents.normalised(raw)
    assert stored == {
        "name": "P",
        "description": "",
        "enabled": True,
        "schedule": "",
        "schedule_timezone": "UTC",
        "tags": [],
        "params": {},
        "nodes": [
            {"id": "a", "type": "stub_rows", "name": "a", "config": {"count": 5, "max_retries": 2, "zzz": 1}, "max_retries": 3, "interface": {}},
            {"id": "b", "type": "?", "name": "b", "config": {}},
            7,
        ],
        "edges": [],
        "interface": {"x": 1},
    }
    assert documents.normalised(stored) == stored


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NODES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            key: JSON | st.sampled_from(["a", "b", "stub_rows", "stub_pick", "stub_both"]) for key in ("id", "type", "name", "config", "position")
        },
    )
    | JSON,
    max_size=4,
)
DOCUMENTS = st.dictionaries(
    st.sampled_from(["name", "tags", "params", "schedule", "schedule_timezone", "enabled", "interface", "retries"]), JSON
) | st.builds(
    lambda nodes, edges, rest: {"name": "p", "nodes": nodes, "edges": edges, **rest},
    NODES,
    JSON | st.lists(st.fixed_dictionaries({"from": st.sampled_from(["a", "b"]), "to": st.sampled_from(["a", "b"])}), max_size=4),
    st.dictionaries(st.text(max_size=4), JSON, max_size=2),
)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=200, deadline=None)
@given(DOCUMENTS)
def test_any_document_is_judged_and_none_breaks_it(document: dict[str, Any]) -> None:
    report = validation.validate(document)
    stored = documents.normalised(document)
    assert documents.normalised(stored) == stored
    if report.valid:
        validation.check(stored)


@given(st.dictionaries(st.text(max_size=3), JSON), st.dictionaries(st.text(max_size=3), JSON))
def test_merging_twice_changes_nothing_more(document: dict[str, Any], patch: dict[str, Any]) -> None:
    merged = documents.merged(document, patch)
    assert documents.merged(merged, patch) == merged
    assert documents.merged(document, {}) == document


def test_merging_examples_of_rfc_7396() -> None:
    examples: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    ]
    for target, patch, result in examples:
        assert documents.merged(target, patch) == result


@pytest.mark.parametrize(
    ("schedule", "right"),
    [
        ("* * * * *", True),
        ("*/5 0-6 L * MON-FRI", True),
        ("@daily", True),
        ("@reboot", False),
        ("0 0 31 2 *", False),
        ("60 * * * *", False),
        ("a b c d e", False),
        ("0 0 * *", False),
    ],
)
def test_schedules(schedule: str, right: bool) -> None:
    assert (schedule_fault(schedule) == "") == right


def test_zones() -> None:
    assert {"UTC", "Europe/Berlin", "Australia/Lord_Howe", "Africa/Cairo"} <= zone_names()


def _shape(name: str, count: int) -> dict[str, Any]:
    picks = [node(f"n{i}", rules=[{"type": "keep", "column": "id"}]) for i in range(1, count)]
    edges = {
        "deep": [(f"n{i}", f"n{i + 1}") for i in range(count - 1)],
        "wide": [("n0", f"n{i}") for i in range(1, count)],
        "tree": [(f"n{(i - 1) // 2}", f"n{i}") for i in range(1, count)],
    }[name]
    return {"name": name, "nodes": [rows("n0"), *picks], "edges": [{"from": a, "to": b} for a, b in edges]}


def _calls(document: dict[str, Any]) -> int:
    """How many functions are called to validate it: unlike the time, the same on every machine."""
    count = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        report = validation.validate(document)
    finally:
        sys.setprofile(None)
    assert report.valid
    return count


@pytest.mark.parametrize("name", ["deep", "wide", "tree"])
def test_the_work_grows_with_the_nodes_and_not_with_their_square(name: str) -> None:
    assert _calls(_shape(name, 500)) < 4.4 * _calls(_shape(name, 125))
