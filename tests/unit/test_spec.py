"""Reading documents: what is understood, what is refused, and that every problem is named at once."""

from typing import Any

import pytest

from pipelines.spec import EdgeSpec, InvalidPipeline, RetryPolicy, from_document, read


def document(**changes: Any) -> dict[str, Any]:
    return {
        "name": "orders",
        "nodes": [{"id": "a", "type": "source_file"}, {"id": "b", "type": "sql"}],
        "edges": [{"from": "a", "to": "b"}],
    } | changes


def with_node(**changes: Any) -> dict[str, Any]:
    return document(nodes=[{"id": "a", "type": "source_file"} | changes], edges=[])


def test_what_is_left_out_has_a_default() -> None:
    spec = from_document(document())
    node = spec.nodes[0]
    assert (node.id, node.type, node.name, dict(node.config)) == ("a", "source_file", "a", {})
    assert (node.retry, node.timeout_seconds, node.pool) == (RetryPolicy(0, 1000, "exponential"), 1800.0, "")
    assert spec.edges == (EdgeSpec("a", "b", None),)


@pytest.mark.parametrize("where", ["config", "node"])
def test_retries_timeout_and_pool_are_read_from_the_config_and_from_the_node(where: str) -> None:
    keys = {"max_retries": 3, "retry_delay": 250, "retry_backoff": "fixed", "timeout": 5, "pool": "warehouse"}
    node = from_document(with_node(**(keys if where == "node" else {"config": keys}))).nodes[0]
    assert (node.retry, node.timeout_seconds, node.pool) == (RetryPolicy(3, 250, "fixed"), 5, "warehouse")


def test_aliases_defaults_and_numbers_as_forms_send_them() -> None:
    node = from_document(
        with_node(retries=9, config={"retries": "2", "timeout": "1.5", "conn_id": "db", "retry_backoff": "", "retry_delay": None})
    ).nodes[0]
    assert (node.retry, node.timeout_seconds, node.pool) == (RetryPolicy(2, 1000, "exponential"), 1.5, "db")
    assert from_document(with_node(config={"timeout": 0})).nodes[0].timeout_seconds == 1800.0
    assert from_document(with_node(config={"conn_id": "x" * 201})).nodes[0].pool == ""  # no connection has such a name


def test_unknown_keys_do_not_matter() -> None:
    assert read(document(interface={"a": 1}, ir_version=2))[1] == ()


INVALID: list[tuple[dict[str, Any], str, str]] = [
    (document(name=""), "/name", "needs a name"),
    (document(name=5), "/name", "needs a name"),
    (document(name="n" * 201), "/name", "needs a name"),
    (document(nodes={"a": 1}), "/nodes", "must be a list, not an object"),
    (document(nodes=[1], edges=[]), "/nodes/0", "Node 1 must be an object, not a number"),
    (document(nodes=[{"type": "sql"}], edges=[]), "/nodes/0/id", "Node 1: its id must be"),
    (document(nodes=[{"id": 5, "type": "sql"}], edges=[]), "/nodes/0/id", "Node 1: its id must be"),
    (document(nodes=[{"id": "a/b", "type": "sql"}], edges=[]), "/nodes/0/id", "without slashes"),
    (document(nodes=[{"id": " a", "type": "sql"}], edges=[]), "/nodes/0/id", "spaces at its ends"),
    (document(nodes=[{"id": "a\n", "type": "sql"}], edges=[]), "/nodes/0/id", "control characters"),
    (document(nodes=[{"id": "..", "type": "sql"}], edges=[]), "/nodes/0/id", "must be"),
    (document(nodes=[{"id": "a", "type": "sql"}] * 2, edges=[]), "/nodes/1/id", "Two nodes have the id 'a'"),
    (with_node(type=None), "/nodes/0/type", "'type' must be"),
    (with_node(type=["sql"]), "/nodes/0/type", "'type' must be"),
    (with_node(name=[]), "/nodes/0/name", "'name' must be a text"),
    (with_node(config="x"), "/nodes/0/config", "'config' must be an object, not a text"),
    (with_node(position=[1, 2]), "/nodes/0/position", "'position' must be an object"),
    (with_node(config={"max_retries": -1}), "/nodes/0/config/max_retries", "a number from 0 to 100"),
    (with_node(config={"retries": True}), "/nodes/0/config/retries", "a number from 0 to 100"),
    (with_node(retry_delay="soon"), "/nodes/0/retry_delay", "a number from 0"),
    (with_node(config={"retry_backoff": "linear"}), "/nodes/0/config/retry_backoff", "one of exponential, fixed"),
    (with_node(config={"retry_backoff": ["fixed"]}), "/nodes/0/config/retry_backoff", "one of exponential, fixed"),
    (with_node(config={"timeout": 10**30}), "/nodes/0/config/timeout", "a number from 0"),
    (with_node(config={"pool": 7}), "/nodes/0/config/pool", "a text"),
    (document(edges="a>b"), "/edges", "must be a list, not a text"),
    (document(edges=["a>b"]), "/edges/0", "Edge 1 must be an object"),
    (document(edges=[{"from": "a"}]), "/edges/0/to", "'to' must be the id of a node"),
    (document(edges=[{"from": "a", "to": "nowhere"}]), "/edges/0/to", "'nowhere', which does not exist"),
    (document(edges=[{"from": "a", "to": "a"}]), "/edges/0", "feeds itself"),
    (document(edges=[{"from": "a", "to": "b", "condition": "yes"}]), "/edges/0/condition", "true or false"),
    (document(nodes=[{"id": f"{i}", "type": "sql"} for i in range(501)], edges=[]), "/nodes", "at most 500 nodes; this one has 501"),
    (document(edges=[{"from": "a", "to": "b"}] * 10_001), "/edges", "at most 10000 edges"),
]


@pytest.mark.parametrize(("raw", "pointer", "words"), INVALID, ids=[f"{pointer} {words}"[:60] for _, pointer, words in INVALID])
def test_what_is_refused(raw: dict[str, Any], pointer: str, words: str) -> None:
    with pytest.raises(InvalidPipeline) as caught:
        from_document(raw)
    assert [(problem.pointer, words in problem.message) for problem in caught.value.problems] == [(pointer, True)]


def test_every_problem_is_named_at_once_and_what_can_be_read_is_read() -> None:
    raw = {
        "nodes": [{"id": "a", "type": "sql"}, {"id": "a", "type": "sql"}, {"type": 3}],
        "edges": [{"from": "a", "to": "x"}, {"from": "y", "to": "a"}],
    }
    spec, problems = read(raw)
    assert [problem.pointer for problem in problems] == ["/name", "/nodes/1/id", "/nodes/2/id", "/edges/0/to", "/edges/1/from"]
    assert [node.id for node in spec.nodes] == ["a"]
    with pytest.raises(InvalidPipeline, match="5 errors"):
        from_document(raw)
