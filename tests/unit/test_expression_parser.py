"""The parser as a service: used by many threads, and by children of a process that used it."""

import multiprocessing
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipelines.expressions import ExpressionError, canonical_type, converts, describe, parse_query, parse_scalar, stored, type_named
from pipelines.expressions.binding import BindingProblem
from pipelines.nodes import registry
from pipelines.nodes.base import Analysis, Column
from pipelines.spec import NodeSpec


def parsed(number: int) -> str:
    return parse_scalar(f"a + {number}", None).sql


def test_many_threads_parse_at_once() -> None:
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(parsed, range(400))) == [f"((a + {number}))" for number in range(400)]


def test_a_forked_child_has_a_parser_of_its_own() -> None:
    parsed(1)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(parsed, (10_000,)) == "((a + 10000))"


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("a + b > 1", {"a", "b"}),
        ("A + input.b", {"a", "b"}),
        ("status == paid", {"status"}),
        ("list_transform([a], x -> x + b)", {"a", "b"}),
        ("list_transform([a], lambda a: a + 1)", {"a"}),
        ("sum(a) over (partition by b order by status)", {"a", "b", "status"}),
        ("case when a > 1 then b end", {"a", "b"}),
        ("1", set()),
    ],
)
def test_the_columns_that_an_expression_reads(text: str, columns: set[str]) -> None:
    assert parse_scalar(text, ["a", "b", "status"]).columns == columns


def test_the_inputs_that_a_query_reads() -> None:
    query = parse_query(
        "WITH x AS (SELECT * FROM Orders) SELECT * FROM x JOIN customers c USING (id)", {"orders": None, "customers": None, "other": None}
    )
    assert query.tables == {"orders", "customers"}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("int4", "INTEGER"),
        ("decimal(10, 2)", "DECIMAL(10,2)"),
        ("struct(a int, b varchar[])", "STRUCT(a INTEGER, b VARCHAR[])"),
        ("enum('a')", "ENUM('a')"),
    ],
)
def test_types_by_their_own_names(text: str, name: str) -> None:
    assert canonical_type(text) == name


@pytest.mark.parametrize(
    ("text", "name"), [("int", "BIGINT"), ("Float", "DOUBLE"), ("text", "VARCHAR"), ("INTEGER[]", "INTEGER[]"), ("date", "DATE")]
)
def test_types_as_people_call_them(text: str, name: str) -> None:
    assert type_named(text) == name


@pytest.mark.parametrize(
    "text", ["", "colour", "int, 1", "int) , (1", "int FROM x", "int; DROP TABLE x", "decimal(1, (SELECT 1))", "int -- x", "x" * 20_000, "in\0t"]
)
def test_what_is_no_type(text: str) -> None:
    with pytest.raises(ExpressionError):
        canonical_type(text)


def test_describe_gives_columns_or_says_what_is_wrong() -> None:
    tables = {"t": (Column("a", "INTEGER"), Column('odd "name"', "VARCHAR"))}
    assert stored(describe("SELECT *, sum(a) OVER () AS s FROM t", tables)) == (*tables["t"], Column("s", "BIGINT"))
    with pytest.raises(BindingProblem, match="types '\\+\\(INTEGER, BLOB\\)'") as caught:
        describe("SELECT a + 'x'::BLOB FROM t", tables)
    assert "Candidate functions" not in caught.value.message


def test_whether_a_value_fits_a_type() -> None:
    assert converts("12", "INTEGER")
    assert not converts("twelve", "INTEGER")


@pytest.mark.parametrize(
    "text",
    [
        "repeat('x', 1000000000)",
        "a || repeat('x', 1000000000)",
        "lpad('x', 1000000000, ' ')",
        "a + len(range(100000000))",
        "list_reduce(['x', 'x'], lambda x, y: x || y || x)",
        "printf('%1000000000d', 1)",
        "substring(replace('aaaa', 'a', 'bbbb'), 1, b)",
    ],
)
def test_what_binding_alone_might_compute_is_noticed(text: str) -> None:
    assert parse_scalar(text, None).folds_much
    assert parse_query(f"SELECT * FROM t WHERE ({text}) IS NOT NULL", None).folds_much
    assert parse_query(f"SELECT * FROM t LIMIT length({text})", None).folds_much
    assert parse_query(f"SELECT * FROM range(length({text}))", None).folds_much


@pytest.mark.parametrize(
    "text",
    [
        "a > 1 and upper(status) = upper('x')",
        "lpad(a, 5, '0')",
        "list_transform(tags, lambda x: x || '!')",
        "day + interval 1 day > now()",
        "strptime('2024-01-01', '%Y-%m-%d')",
        "a in ('x', 'y')",
        "concat('a', 'b') || 'c'",
        "row_number() over (order by a)",
    ],
)
def test_what_is_cheap_to_bind(text: str) -> None:
    assert not parse_scalar(text, None).folds_much
    assert not parse_query(f"SELECT {text} AS x, count(*) FROM t, unnest(tags) u(x) GROUP BY ALL LIMIT 10", None).folds_much


def test_a_query_that_is_costly_to_bind_is_not_bound_when_it_is_saved() -> None:
    column = {"type": "add_column", "name": "x", "expression": "repeat('x', 2000000000)"}
    given: list[tuple[str, dict[str, object]]] = [
        ("sql", {"query": "SELECT repeat('x', 2000000000) AS x FROM input LIMIT length(repeat('x', 2000000000))"}),
        ("transform", {"rules": [column, {"type": "filter_rows", "condition": "x > 1"}]}),
    ]
    for name, document in given:
        node_type = registry.get(name)
        config = node_type.Config.model_validate(document)
        started = time.process_time()
        assert node_type.analyse(NodeSpec("n", name, "N", document), config, [(Column("a", "INTEGER"),)]) == Analysis()
        assert time.process_time() - started < 1
