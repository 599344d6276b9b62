"""Rules between pipelines: read from the document; and no circle of them."""

from typing import Any

import pytest

from pipelines.dependencies import DependencyRule, find_cycle, read
from pipelines.problems import Problem


def test_both_keys_are_read_and_the_rule_wins() -> None:
    problems: list[Problem] = []
    rules = read(
        {
            "depends_on": ["a", "b"],
            "dependency_rules": [{"pipeline_id": "b", "state": "failed", "within_seconds": 60, "mode": "trigger"}, {"pipeline_id": "c"}],
        },
        problems,
    )
    assert problems == []
    assert rules == (
        DependencyRule("b", "failed", 60, "trigger", "/dependency_rules/0"),
        DependencyRule("c", pointer="/dependency_rules/1"),
        DependencyRule("a", pointer="/depends_on/0"),
    )


@pytest.mark.parametrize("nothing", [{}, {"depends_on": None, "dependency_rules": None}, {"depends_on": [], "dependency_rules": []}])
def test_none_is_none(nothing: dict[str, Any]) -> None:
    problems: list[Problem] = []
    assert (read(nothing, problems), problems) == ((), [])


def rule(**keys: Any) -> dict[str, Any]:
    return {"dependency_rules": [{"pipeline_id": "a", **keys}]}


@pytest.mark.parametrize(
    ("document", "pointer", "words"),
    [
        ({"depends_on": "a"}, "/depends_on", "must be a list, not a text"),
        ({"depends_on": ["a", 5]}, "/depends_on/1", "entry 2 is none"),
        ({"depends_on": [""]}, "/depends_on/0", "entry 1"),
        ({"depends_on": ["x" * 101]}, "/depends_on/0", "entry 1"),
        ({"depends_on": [f"p{n}" for n in range(101)]}, "/depends_on", "at most 100 pipelines; this one names 101"),
        ({"dependency_rules": {"pipeline_id": "a"}}, "/dependency_rules", "must be a list, not an object"),
        ({"dependency_rules": ["a"]}, "/dependency_rules/0", "must be an object with 'pipeline_id', not a text"),
        ({"dependency_rules": [{}]}, "/dependency_rules/0/pipeline_id", "the id or the slug"),
        (rule(state="ok"), "/dependency_rules/0/state", "one of succeeded, completed, failed, not 'ok'"),
        (rule(state=["failed"]), "/dependency_rules/0/state", "not a list"),
        (rule(mode="push"), "/dependency_rules/0/mode", "one of gate, trigger, not 'push'"),
        (rule(within_seconds="1h"), "/dependency_rules/0/within_seconds", "a whole number of seconds"),
        (rule(within_seconds=-1), "/dependency_rules/0/within_seconds", "a whole number of seconds"),
        (rule(within_seconds=True), "/dependency_rules/0/within_seconds", "a whole number of seconds"),
        ({"dependency_rules": [{"pipeline_id": "a"}, {"pipeline_id": "a", "state": "failed"}]}, "/dependency_rules/1/pipeline_id", "Two rules"),
        (
            {"depends_on": [f"a{n}" for n in range(60)], "dependency_rules": [{"pipeline_id": f"b{n}"} for n in range(60)]},
            "/dependency_rules",
            "at most 100 others; this one on 120",
        ),
    ],
)
def test_what_is_refused(document: dict[str, Any], pointer: str, words: str) -> None:
    problems: list[Problem] = []
    read(document, problems)
    assert [(problem.pointer, words in problem.message) for problem in problems] == [(pointer, True)], problems


@pytest.mark.parametrize(
    ("edges", "cycle"),
    [
        ({}, ()),
        ({"a": "b", "b": "c"}, ()),
        ({"a": "a"}, ("a", "a")),
        ({"a": "b", "b": "a"}, ("a", "b", "a")),
        ({"a": "bc", "b": "d", "c": "d", "d": "a"}, ("a", "b", "d", "a")),
        ({"a": "b", "b": "c", "c": "b"}, ()),  # a circle, but not through a
    ],
)
def test_a_cycle_is_found_along_the_upstreams(edges: dict[str, str], cycle: tuple[str, ...]) -> None:
    assert find_cycle("a", lambda key: edges.get(key, "")) == cycle


def test_a_long_chain_needs_no_recursion() -> None:
    assert len(find_cycle(0, lambda key: [(key + 1) % 5000])) == 5001
