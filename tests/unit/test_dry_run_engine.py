"""A dry run in this process, without its guard: what it computes, and how it reads."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from brokoli_site.common.errors import NodeError
from pipelines.nodes import registry
from pipelines.nodes.base import Column, NodeConfig, NodeContext, NodeType, Ports, Query, Result, RunFacts
from pipelines.nodes.files import DataFolders
from pipelines.nodes.unpacking import keep_whole_lines
from pipelines.spec import EdgeSpec, NodeSpec, PipelineSpec
from runs.dry_run_engine import DryRun, differences


class _Made(NodeType):
    """A node whose work is a function of its context."""

    label, category, help, ports, Config, trusted = "Made", "transform", "For tests.", Ports(0, None), NodeConfig, False

    def __init__(self, work: Callable[[NodeContext], Result]) -> None:
        self.work = work

    def run(self, context: NodeContext) -> Result:
        return self.work(context)


def _effect(context: NodeContext) -> Result:
    raise AssertionError("it was executed")


class _Effect(_Made):
    name = "effect"
    effects = True


def answers(*nodes: NodeSpec, edges: str = "", folder: Path = Path("/nonexistent"), **types: NodeType) -> dict[str, dict[str, Any]]:
    def prepare(node: NodeSpec, facts: RunFacts) -> tuple[NodeType, NodeConfig]:
        return (types[node.type], NodeConfig()) if node.type in types else registry.prepare(node, facts)

    run = DryRun(
        PipelineSpec("p", nodes, tuple(map(edge, edges.split()))), RunFacts("dry-run", "", "p", {}), DataFolders([folder]), 256 * 1024**2, 1, prepare
    )
    return {event["node_id"]: event for event in run.walk() if "node_id" in event}


def edge(text: str) -> EdgeSpec:
    """Of `a>b`, or `a>b:true`."""
    ends, _, condition = text.partition(":")
    source, target = ends.split(">")
    return EdgeSpec(source, target, condition == "true" if condition else None)


def node(node_id: str, kind: str, **config: Any) -> NodeSpec:
    return NodeSpec(node_id, kind, node_id, config)


def rows(folder: Path, name: str, content: bytes, **config: Any) -> list[dict[str, Any]]:
    (folder / name).write_bytes(content)
    found = answers(node("a", "source_file", path=name, **config), folder=folder)["a"]
    assert found["status"] == "success", found["error"]
    return list(found["rows"])


def test_a_source_gives_ten_rows_and_says_that_there_are_more(tmp_path: Path) -> None:
    for count, truncated in ((10, False), (11, True)):
        (tmp_path / "a.csv").write_text("i\n" + "\n".join(map(str, range(count))))
        found = answers(node("a", "source_file", path="a.csv"), folder=tmp_path)["a"]
        assert ([row["i"] for row in found["rows"]], found["row_count"], found["truncated"]) == (list(range(10)), 10, truncated)


@pytest.mark.parametrize(("sql", "status"), [("SELECT 1 AS a", "success"), ("SELECT 'x'::INTEGER AS a", "failed")])
def test_what_a_query_reads_from_is_closed_once_however_it_ends(sql: str, status: str) -> None:
    closed: list[str] = []
    made = _Made(lambda context: Query(sql, close=lambda: closed.append("closed")))
    assert answers(node("a", "made"), made=made)["a"]["status"] == status
    assert closed == ["closed"]


@pytest.mark.parametrize(
    ("name", "content", "config"),
    [
        ("a.csv.gz", gzip.compress("i,s\n1,ä\n".encode(), mtime=0), {}),
        ("a.csv", "i,s\n1,ä\n".encode("latin-1"), {"encoding": "latin-1"}),
        ("a.csv", "i,s\n1,ä\n".encode("utf-16"), {"encoding": "utf-16"}),
        ("a.jsonl.gz", gzip.compress('{"i": 1, "s": "ä"}\n'.encode(), mtime=0), {}),
        ("a.json.gz", gzip.compress('[{"i": 1, "s": "ä"}]'.encode(), mtime=0), {}),
    ],
)
def test_what_is_compressed_or_encoded_is_unpacked_in_memory(tmp_path: Path, name: str, content: bytes, config: dict[str, Any]) -> None:
    assert rows(tmp_path, name, content, **config) == [{"i": 1, "s": "ä"}]
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.csv.gz", "a.jsonl.gz"])
def test_of_a_large_file_the_head_is_enough(tmp_path: Path, name: str) -> None:
    line = b'1,"two\nlines ""quoted"""\n' if name.startswith("a.csv") else b'{"i": 1, "s": "a \\" quote"}\n'
    content = (b"i,s\n" if name.startswith("a.csv") else b"") + line * (17 * 1024**2 // len(line))
    assert [row["i"] for row in rows(tmp_path, name, gzip.compress(content, 1))] == [1] * 10


@pytest.mark.parametrize(
    ("content", "kept"),
    [(b'a\n"b\nc"\nd', b'a\n"b\nc"\n'), (b'a\n"b\nc', b"a\n"), (b"a", b""), (b'a"\nb\n', b'a"\nb\n'), (b'a"\nb"', b'a"\n')],
)
def test_a_head_ends_with_a_whole_line(tmp_path: Path, content: bytes, kept: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    keep_whole_lines(tmp_path / "x", quoted=True)
    assert (tmp_path / "x").read_bytes() == kept


def test_types_are_those_that_a_run_keeps() -> None:
    sql = """SELECT 99999999999999999999999::HUGEINT AS h, 'a'::ENUM('a', 'b') AS e, '101'::BIT AS b, TIMESTAMP_S '2020-01-01' AS s,
        [1, 2]::INTEGER[2] AS l, 1.5::DECIMAL(9, 2) AS d, INTERVAL 3 DAY AS i, TIMETZ '10:00:00+02' AS t, uuid() AS u"""
    found = answers(node("a", "made"), made=_Made(lambda context: Query(sql)))["a"]
    kinds = {column["name"]: column["type"] for column in found["schema"]}
    assert kinds == {
        "h": "DECIMAL(38,0)",
        "e": "VARCHAR",
        "b": "VARCHAR",
        "s": "TIMESTAMP",
        "l": "INTEGER[]",
        "d": "DECIMAL(9,2)",
        "i": "INTERVAL",
        "t": "TIME WITH TIME ZONE",
        "u": "UUID",
    }


def test_rows_pass_between_the_instances_with_their_types() -> None:
    sql = "SELECT INTERVAL 3 DAY AS i, TIMETZ '10:00:00+02' AS t, '{}'::JSON AS j, MAP {'a': 1} AS m, 1.5::DECIMAL(38, 2) AS d, NULL::UUID AS u"
    trusted = _Made(lambda context: Query(sql))
    trusted.trusted = True  # type: ignore[misc]
    found = answers(node("a", "made"), node("b", "sql", query="SELECT * FROM a"), edges="a>b", made=trusted)
    assert found["b"]["schema"] == found["a"]["schema"]
    assert found["b"]["rows"] == found["a"]["rows"]


def test_a_type_with_effects_is_not_executed_nor_what_is_below_it() -> None:
    found = answers(node("a", "effect"), node("b", "sql", query="SELECT * FROM a"), edges="a>b", effect=_Effect(_effect))
    assert (found["a"]["status"], found["b"]["status"]) == ("skipped", "skipped")
    assert found["a"]["error"] == "A dry run does not execute nodes of type 'effect': what they do cannot be undone."
    assert found["b"]["error"] == "Node 'a', which it needs, was not executed."


def test_a_node_that_wants_a_folder_is_not_executed() -> None:
    found = answers(node("a", "made"), made=_Made(lambda context: Query(str(context.scratch()))))["a"]
    assert (found["status"], found["error"]) == ("skipped", "A dry run does not execute this node: it needs temporary files.")


def test_a_node_that_asks_for_a_place_to_write_is_not_executed(tmp_path: Path) -> None:
    found = answers(node("a", "made"), folder=tmp_path, made=_Made(lambda context: Query(str(context.files.resolve_write("x/y.csv")))))["a"]
    assert (found["status"], found["error"]) == ("skipped", "A dry run does not execute this node: it would write 'x/y.csv'.")
    assert not list(tmp_path.iterdir())


def test_a_bug_in_a_node_type_does_not_hide_the_others() -> None:
    found = answers(node("a", "made"), node("b", "sql", query="SELECT 1 AS x"), made=_Made(lambda context: Query(str(1 // 0))))
    assert (found["a"]["status"], found["b"]["status"]) == ("failed", "success")
    assert found["a"]["error"] == "The node type 'made' failed unexpectedly (ZeroDivisionError); the server's log says more."
    assert "1 // 0" in found["a"]["trace"]


def test_a_query_that_recovers_is_tried_again() -> None:
    def recover(error: Exception) -> Query:
        if "nothing" not in str(error):
            raise NodeError("another")
        return Query("SELECT 2 AS x")

    found = answers(node("a", "made"), made=_Made(lambda context: Query("SELECT nothing", recover=recover)))["a"]
    assert found["rows"] == [{"x": 2}]


def test_the_sandbox_is_locked() -> None:
    for sql in ("SET threads = 8", "ATTACH 'x.db'", "COPY (SELECT 1) TO 'x.csv'", "FROM read_csv('/etc/passwd')", "INSTALL httpfs"):
        found = answers(node("a", "made"), made=_Made(lambda context, sql=sql: context.connection.execute(sql) and Query("SELECT 1 AS x")))["a"]  # type: ignore[misc]
        assert found["status"] == "failed", sql


def test_the_branch_that_the_first_rows_take_is_followed() -> None:
    nodes = [
        node("a", "sql", query="SELECT 1 AS x"),
        node("c", "condition", expression='max("x") > 5'),
        *(node(one, "sql", query="FROM input") for one in ("big", "small", "after")),
        node("all", "union"),
        node("both", "join", join_type="cross"),
    ]
    edges = "a>c c>big:true c>small:false big>after big>all small>all big>both a>both"
    found = answers(*nodes, edges=edges)
    statuses = {node_id: answer["status"] for node_id, answer in found.items()}
    skipped = dict.fromkeys(("big", "after", "both"), "skipped")
    assert statuses == dict.fromkeys(("a", "c", "small", "all"), "success") | skipped
    assert found["big"]["error"] == "Not on the branch taken: condition 'c' is false, and only its true branch leads here."
    assert found["all"]["rows"] == [{"x": 1}]
    assert found["c"]["log"][0]["message"] == 'max("x") > 5 → false (max("x") = 1)'


def test_differences_are_told_by_name_and_by_known_type() -> None:
    before = (Column("same", "BIGINT"), Column("old", "BIGINT"), Column("changed", "BIGINT"), Column("unknown", ""))
    after = (Column("same", "BIGINT"), Column("changed", "VARCHAR"), Column("unknown", "DATE"), Column("new", "DATE"))
    retyped = [{"name": "changed", "from": "BIGINT", "to": "VARCHAR"}]
    assert differences(before, after) == {"added": ["new"], "removed": ["old"], "retyped": retyped}
