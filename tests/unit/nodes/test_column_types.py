"""Which types go together, and which are refused."""

import duckdb
import pytest

from pipelines.nodes.column_types import common_type

TOGETHER = [
    ("INTEGER", "INTEGER", "INTEGER"),
    ("INTEGER", "BIGINT", "BIGINT"),
    ("UTINYINT", "UINTEGER", "UINTEGER"),
    ("UINTEGER", "INTEGER", "BIGINT"),
    ("UBIGINT", "TINYINT", "HUGEINT"),
    ("FLOAT", "FLOAT", "FLOAT"),
    ("FLOAT", "DOUBLE", "DOUBLE"),
    ("BIGINT", "DOUBLE", "DOUBLE"),
    ("DECIMAL(10,2)", "DECIMAL(6,4)", "DECIMAL(12,4)"),
    ("DECIMAL(38,10)", "DECIMAL(38,2)", "DECIMAL(38,10)"),
    ("INTEGER", "DECIMAL(4,2)", "DECIMAL(12,2)"),
    ("DECIMAL(4,2)", "DOUBLE", "DOUBLE"),
    ("DATE", "TIMESTAMP", "TIMESTAMP"),
    ("TIMESTAMP_S", "TIMESTAMP_NS", "TIMESTAMP_NS"),
    ("TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "TIMESTAMP WITH TIME ZONE"),
    ("ENUM('a', 'b')", "VARCHAR", "VARCHAR"),
    ("JSON", "VARCHAR", "VARCHAR"),
    ("INTEGER[]", "BIGINT[]", "BIGINT[]"),
    ("STRUCT(a INTEGER)", "STRUCT(a INTEGER)", "STRUCT(a INTEGER)"),
    ('"NULL"', "DATE", "DATE"),
]
APART = [
    ("INTEGER", "VARCHAR"),
    ("BOOLEAN", "INTEGER"),
    ("DATE", "VARCHAR"),
    ("TIME", "TIMESTAMP"),
    ("UUID", "VARCHAR"),
    ("BLOB", "VARCHAR"),
    ("INTEGER[]", "VARCHAR[]"),
    ("INTEGER[]", "INTEGER"),
    ("STRUCT(a INTEGER)", "STRUCT(b INTEGER)"),
]


@pytest.mark.parametrize(("first", "second", "expected"), TOGETHER)
def test_types_that_go_together_do_so_both_ways(first: str, second: str, expected: str) -> None:
    assert common_type(first, second) == common_type(second, first) == expected


@pytest.mark.parametrize(("first", "second"), APART)
def test_types_that_do_not_go_together_are_refused_both_ways(first: str, second: str) -> None:
    assert common_type(first, second) is None
    assert common_type(second, first) is None


@pytest.mark.parametrize(("first", "second", "expected"), [row for row in TOGETHER if "NULL" not in row[0]])
def test_duckdb_casts_both_to_the_common_type(first: str, second: str, expected: str) -> None:
    with duckdb.connect() as connection:
        sql = f"SELECT typeof(CAST(CAST(NULL AS {first}) AS {expected})), typeof(CAST(CAST(NULL AS {second}) AS {expected}))"
        assert connection.execute(sql).fetchall() == [(expected, expected)]
