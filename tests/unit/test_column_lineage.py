"""Column lineage: what is told of queries, and that it is true: a column that does not feed another cannot change it.

`input` has the columns a, b, c, s (a struct), l (a list); `input_2` has k, a, d.
"""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.column_lineage import TracedInput, facts_of, identity
from pipelines.expressions import describe
from pipelines.nodes.base import Column, Schema

pytestmark = pytest.mark.any_database

LEFT: Schema = (*(Column(name, "INTEGER") for name in "abc"), Column("s", "STRUCT(x INTEGER, y INTEGER)"), Column("l", "INTEGER[]"))
RIGHT: Schema = tuple(Column(name, "INTEGER") for name in "kad")
INPUTS = (TracedInput("input", "left", LEFT), TracedInput("input_2", "right", RIGHT))
_INITIALS = {"identity": "=", "expression": "~", "aggregate": "#"}


def traced(sql: str) -> Any:
    """Facts in few letters: `total#a,d` (an aggregate of a and the right's d), `x=a|b:window`; at the end what decides about the rows."""
    schema = describe(sql, {"input": LEFT, "input_2": RIGHT})
    facts = facts_of(sql, INPUTS, [column.name for column in schema])
    if facts is None:
        return None
    columns = [
        f"{one['column']}{_INITIALS[one['transformation']]}{','.join(map(_place, one['from']))}{_ways('|', one.get('indirect', []))}"
        for one in facts["columns"]
    ]
    return " ".join(columns) + _ways(" / ", facts["indirect"])


def _place(entry: Mapping[str, Any]) -> str:
    return ("2." if entry["node_id"] == "right" else "") + str(entry["column"])


def _ways(before: str, entries: Sequence[Mapping[str, Any]]) -> str:
    return before + ",".join(f"{_place(entry)}:{'+'.join(entry['by'])}" for entry in entries) if entries else ""


QUERIES = {
    # columns, expressions, names
    "SELECT a, b AS c FROM input": "a=a c=b",
    "SELECT * FROM input": "a=a b=b c=c s=s l=l",
    "FROM input SELECT A, input.B": "a=a b=b",
    "SELECT a + b AS n, 1 AS one, CAST(a AS VARCHAR) AS t FROM input": "n~a,b one~ t~a",
    "SELECT t.c1, t.b FROM input t(c1)": "c1=a b=b",
    "SELECT a + 1 AS x, x * c AS y FROM input": "x~a y~a,c",
    "SELECT a + 1 AS b, b * 2 AS y FROM input": "b~a y~b",
    "SELECT s.x, s, s['y'] AS y, input.s.x AS z FROM input": "x~s s=s y~s z~s",
    "SELECT input AS row FROM input": "row~a,b,c,s,l",
    "SELECT CASE WHEN a > 1 THEN b ELSE 0 END AS v FROM input": "v~b|a:condition",
    "SELECT coalesce(a, b) AS v, a IS NULL AS n, a BETWEEN b AND c AS m, a IN (b, 1) AS i FROM input": "v~a,b n~a m~a,b,c i~a,b",
    "SELECT list_transform(l, lambda a: a + b) AS v FROM input": "v~b,l",
    "SELECT [x * c for x in l if x > a] AS v FROM input": "v~a,c,l",
    "SELECT a, a FROM input": "a=a a=a",
    "SELECT random() AS r, a FROM input": "r~ a=a",
    # stars
    "SELECT * EXCLUDE (b, s, l) FROM input": "a=a c=c",
    "SELECT * EXCLUDE (s, l) REPLACE (a + c AS b) RENAME (c AS d) FROM input": "a=a b~a,c d=c",
    "SELECT input_2.*, 7 AS n FROM input, input_2": "k=2.k a=2.a d=2.d n~",
    "SELECT COLUMNS('a|b') FROM input": None,
    "SELECT s.* FROM input": None,
    # filters, order, limits
    "SELECT a FROM input WHERE b > 1": "a=a / b:filter",
    "SELECT a + 1 AS x FROM input WHERE x > 1": "x~a / a:filter",
    "SELECT a FROM input ORDER BY b LIMIT 2": "a=a / b:sort",
    "SELECT a, b AS o FROM input ORDER BY 2": "a=a o=b / b:sort",
    "SELECT -a AS b, c FROM input ORDER BY b": "b~a c=c / a:sort",
    "SELECT -a AS b, c FROM input ORDER BY b + 0": "b~a c=c / b:sort",
    "SELECT a, c FROM input ORDER BY ALL": "a=a c=c / a:sort,c:sort",
    "SELECT a FROM input LIMIT (SELECT max(d) FROM input_2)": "a=a / 2.d:limit",
    "SELECT DISTINCT a, b FROM input": "a=a b=b / a:distinct,b:distinct",
    "SELECT DISTINCT ON (a) b FROM input ORDER BY c": "b=b / a:distinct,c:sort",
    "SELECT a FROM input USING SAMPLE 3 ROWS": "a=a",
    # aggregates
    "SELECT sum(a) AS total, count(*) AS n FROM input": "total#a n#",
    "SELECT a, sum(b) AS total FROM input GROUP BY a": "a=a total#b / a:group_by",
    "SELECT a + 1 AS g, max(b) AS m FROM input GROUP BY g": "g~a m#b / a:group_by",
    "SELECT a, b, count(*) AS n FROM input GROUP BY 1, 2": "a=a b=b n# / a:group_by,b:group_by",
    "SELECT a, avg(b) AS m FROM input GROUP BY ALL": "a=a m#b / a:group_by",
    "SELECT b, max(m) AS m FROM (SELECT b, min(a) AS m FROM input GROUP BY b) GROUP BY ALL": "b=b m#a / b:group_by",
    "SELECT a FROM input GROUP BY a HAVING sum(b) > 1": "a=a / a:group_by,b:filter",
    "SELECT sum(b) AS a FROM input GROUP BY input.a HAVING a > 1": "a#b / a:group_by,b:filter",
    "SELECT count(*) AS a, b FROM input GROUP BY b HAVING sum(a) > 1": "a# b=b / a:filter,b:group_by",
    "SELECT sum(a) FILTER (WHERE b > 1) AS v, string_agg(a, ',' ORDER BY c) AS w FROM input": "v#a|b:filter w#a|c:sort",
    "SELECT arg_max(a, b) AS v FROM input": "v#a,b",
    "SELECT a, b, sum(c) AS n FROM input GROUP BY ROLLUP (a, b)": "a=a b=b n#c / a:group_by,b:group_by",
    "SELECT sum(a) + 1 AS v FROM input": "v#a",
    # windows
    "SELECT sum(a) OVER (PARTITION BY b ORDER BY c) AS v, a FROM input": "v#a|b:window,c:window a=a",
    "SELECT row_number() OVER (ORDER BY b) AS n, lag(a, 1, c) OVER (ORDER BY a) AS v FROM input": "n~|b:window v~a,c|a:window",
    "SELECT a FROM input QUALIFY row_number() OVER (PARTITION BY b ORDER BY c) = 1": "a=a / b:window,c:window",
    "SELECT sum(a) FILTER (WHERE b > 1) OVER w AS v FROM input WINDOW w AS (ORDER BY c)": "v#a|b:filter,c:window",
    # joins
    "SELECT l.a, r.d FROM input l JOIN input_2 r ON l.b = r.k": "a=a d=2.d / b:join,2.k:join",
    "SELECT * EXCLUDE (s, l) FROM input JOIN input_2 USING (a)": "a=a b=b c=c k=2.k d=2.d / a:join,2.a:join",
    "SELECT a, d FROM input RIGHT JOIN input_2 USING (a)": "a=2.a d=2.d / a:join,2.a:join",
    "SELECT a, input.a AS l, input_2.a AS r FROM input FULL JOIN input_2 USING (a)": "a~a,2.a l=a r=2.a / a:join,2.a:join",
    "SELECT a, d FROM input NATURAL LEFT JOIN input_2": "a=a d=2.d / a:join,2.a:join",
    "SELECT * EXCLUDE (s, l) FROM input SEMI JOIN input_2 ON b = k": "a=a b=b c=c / b:join,2.k:join",
    "SELECT a FROM input ANTI JOIN input_2 USING (a)": "a=a / a:join,2.a:join",
    "SELECT b, d FROM input CROSS JOIN input_2": "b=b d=2.d",
    "SELECT b, d FROM input POSITIONAL JOIN input_2": "b=b d=2.d",
    "SELECT b, d FROM input ASOF JOIN input_2 ON input.a >= input_2.a": "b=b d=2.d / a:join,2.a:join",
    "SELECT x.b, y.b AS z FROM input x JOIN input y ON x.a = y.c": "b=b z=b / a:join,c:join",
    "SELECT b, v FROM input, LATERAL (SELECT a + d AS v FROM input_2 r WHERE r.k = c)": "b=b v~2.a,2.d / c:filter,2.k:filter",
    "SELECT b, v FROM input i, LATERAL (SELECT i.a + d AS v FROM input_2 r WHERE r.k = i.c)": "b=b v~a,2.d / c:filter,2.k:filter",
    # subqueries and WITH
    "SELECT n + 1 AS m FROM (SELECT a AS n FROM input WHERE b > 0) t": "m~a / b:filter",
    "WITH t AS (SELECT a AS n FROM input) SELECT n FROM t": "n=a",
    "WITH t(n) AS (SELECT a + b FROM input), u AS (SELECT n * 2 AS m FROM t) SELECT m, n FROM u, t": "m~a,b n~a,b",
    "WITH input AS (SELECT b AS a FROM input) SELECT a FROM input": "a=b",
    "WITH input_2 AS (SELECT b AS d FROM input) SELECT d FROM input_2": "d=b",
    "WITH input_2 AS (SELECT 1 AS d) SELECT d FROM temp.main.input_2": "d=2.d",
    "SELECT a, (SELECT max(d) FROM input_2 WHERE k = b) AS m FROM input": "a=a m#2.d|b:filter,2.k:filter",
    "SELECT EXISTS (SELECT d FROM input_2 WHERE k = b) AS e FROM input": "e~|b:filter,2.k:filter",
    "SELECT a IN (SELECT d FROM input_2) AS e FROM input": "e~a,2.d",
    "SELECT a FROM input WHERE b NOT IN (SELECT k FROM input_2 WHERE d > 1)": "a=a / b:filter,2.k:filter,2.d:filter",
    "SELECT a_1 FROM (SELECT a, b AS a FROM input)": "a_1=b",
    "SELECT max FROM (SELECT max(a), 1 AS max FROM input)": "max~",
    "SELECT zz FROM (SELECT a + 1, 1 AS zz FROM input)": "zz~",
    "SELECT * FROM (SELECT a + 1, c FROM input)": "(a + 1)~a c=c",
    "WITH RECURSIVE t(n, m) AS (SELECT a, b FROM input UNION ALL SELECT m, n + 1 FROM t WHERE n < 3) SELECT n FROM t": "n~a,b / a:filter,b:filter",
    # set operations
    "SELECT a FROM input UNION ALL SELECT d FROM input_2": "a=a,2.d",
    "SELECT a FROM input UNION SELECT d + 1 FROM input_2": "a~a,2.d / a:distinct,2.d:distinct",
    "SELECT a, b FROM input EXCEPT SELECT k, a FROM input_2": "a=a b=b / a:distinct,b:distinct,2.k:distinct,2.a:distinct",
    "SELECT a FROM input INTERSECT SELECT k FROM input_2": "a=a,2.k / a:distinct,2.k:distinct",
    "SELECT a, b FROM input UNION ALL BY NAME SELECT k AS b, d FROM input_2": "a=a b=b,2.k d=2.d",
    "SELECT a, b FROM input UNION ALL SELECT k, d FROM input_2 ORDER BY b": "a=a,2.k b=b,2.d / b:sort,2.d:sort",
    # rows of values and lists
    "SELECT x, y FROM (VALUES (1, 2)) t(x, y)": "x~ y~",
    "SELECT a, u FROM input, unnest(l) t(u)": "a=a u~l / l:unnest",
    "SELECT unnest(l) AS u, a FROM input": "u~l a=a / l:unnest",
    "SELECT range AS i FROM range(3)": "i~",
    "SELECT unnest(s), a FROM input": None,
    "PIVOT input_2 ON k IN (1, 2) USING sum(d)": None,
}


@pytest.mark.parametrize("sql", QUERIES)
def test_what_is_told_of_a_query(sql: str) -> None:
    assert traced(sql) == QUERIES[sql]


def test_other_sql_is_not_guessed_at() -> None:
    for sql in (
        "SELECT * FROM read_csv('x')",
        "SELECT a FROM elsewhere",
        "SELECT 1; SELECT 2",
        "not sql",
        "SELECT rowid FROM input",
        "SELECT #1 FROM input",
    ):
        assert facts_of(sql, INPUTS, ["a"]) is None


def test_facts_that_do_not_fit_the_output_are_none() -> None:
    assert facts_of("SELECT a FROM input", INPUTS, ["b"]) is None
    assert facts_of("SELECT a FROM input", INPUTS, ["a", "b"]) is None


def test_what_is_too_large_is_not_traced() -> None:
    wide = (TracedInput("input", "left", tuple(Column(f"c{number}", "INTEGER") for number in range(10_001))),)
    assert facts_of("SELECT c0 FROM input", wide, ["c0"]) is None
    assert facts_of("SELECT a FROM input WHERE true" + " AND true" * 20_000, INPUTS, ["a"]) is None
    assert facts_of("SELECT " + "(" * 900 + "a" + " + 1)" * 900 + " AS a FROM input", INPUTS, ["a"]) is None


def test_the_form_in_which_facts_are_stored() -> None:
    assert facts_of("SELECT sum(d) OVER (ORDER BY k) AS v, a FROM input_2 WHERE k > a", INPUTS, ["v", "a"]) == {
        "columns": [
            {
                "column": "v",
                "from": [{"node_id": "right", "column": "d"}],
                "transformation": "aggregate",
                "indirect": [{"node_id": "right", "column": "k", "by": ["window"]}],
            },
            {"column": "a", "from": [{"node_id": "right", "column": "a"}], "transformation": "identity"},
        ],
        "indirect": [{"node_id": "right", "column": "k", "by": ["filter"]}, {"node_id": "right", "column": "a", "by": ["filter"]}],
    }
    assert identity("n", LEFT[:1]) == {
        "columns": [{"column": "a", "from": [{"node_id": "n", "column": "a"}], "transformation": "identity"}],
        "indirect": [],
    }


# --- that it is true ----------------------------------------------------------------------------------------------

numbers = st.one_of(st.none(), st.integers(0, 3))
left_rows = st.lists(
    st.tuples(numbers, numbers, numbers, st.tuples(numbers, numbers), st.lists(st.integers(0, 3), max_size=2)), min_size=1, max_size=6
)
right_rows = st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=5)


@pytest.fixture(scope="module")
def connection() -> Any:
    made = duckdb.connect(config={"threads": 1})
    made.execute("CREATE TEMP TABLE input (a INTEGER, b INTEGER, c INTEGER, s STRUCT(x INTEGER, y INTEGER), l INTEGER[])")
    made.execute("CREATE TEMP TABLE input_2 (k INTEGER, a INTEGER, d INTEGER)")
    yield made
    made.close()


Answers = list[list[str]] | None  # the values of each column, sorted; None for a query that failed


def answers(
    connection: Any, left: list[Any], right: list[Any], queries: Sequence[str], changed: tuple[str, str] = ("", ""), shift: int = 0
) -> list[Answers]:
    """What the queries give, with the values of one column (`changed`: table and name) replaced."""
    for table, names, rows in (("input", "abcsl", left), ("input_2", "kad", right)):
        values = [
            _row(dict(zip(names, row, strict=True)), changed[1] if changed[0] == table else "", index + shift) for index, row in enumerate(rows)
        ]
        connection.execute(f"TRUNCATE {table}; INSERT INTO {table} VALUES {', '.join(values)}")
    return [_answer(connection, sql) for sql in queries]


def _row(row: dict[str, Any], changed: str, number: int) -> str:
    if changed:
        row[changed] = {"s": (number % 5, 7), "l": [number % 5] * (number % 3)}.get(changed, number * 7 % 5)
    if "s" in row:
        row["s"] = f"{{'x': {_literal(row['s'][0])}, 'y': {_literal(row['s'][1])}}}"
    return f"({', '.join(_literal(value) for value in row.values())})"


def _literal(value: Any) -> str:
    return "NULL" if value is None else str(value)


def _answer(connection: Any, sql: str) -> Answers:
    try:
        rows = connection.execute(sql).fetchall()
    except duckdb.Error:
        return None
    return [sorted(repr(row[position]) for row in rows) for position in range(len(connection.description))]


def check(connection: Any, queries: Sequence[str], left: Any, right: Any, shift: int) -> None:
    """No column changes when one does from which, as the facts say, it does not come."""
    told = [facts_of(sql, INPUTS, [column.name for column in describe(sql, {"input": LEFT, "input_2": RIGHT})]) for sql in queries]
    before = answers(connection, left, right, queries)
    for one in INPUTS:
        for column in one.schema:
            after = answers(connection, left, right, queries, (one.view, column.name), shift)
            for sql, facts, old, new in zip(queries, told, before, after, strict=True):
                for position in _untouched(facts, one.node_id, column.name) if old and new else ():
                    assert old is not None
                    assert new is not None
                    assert old[position] == new[position], f"{one.view}.{column.name} changed column {position} of {sql}"


def _untouched(facts: Any, node_id: str, column: str) -> list[int]:
    """The positions of the columns that, as the facts say, that column of an input cannot change."""
    if facts is None or any((entry["node_id"], entry["column"]) == (node_id, column) for entry in facts["indirect"]):
        return []
    feeds = [{(entry["node_id"], entry["column"]) for entry in (*about["from"], *about.get("indirect", []))} for about in facts["columns"]]
    return [position for position, places in enumerate(feeds) if (node_id, column) not in places]


@settings(max_examples=3, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(left=left_rows, right=right_rows, shift=st.integers(0, 4))
def test_what_does_not_feed_a_column_does_not_change_it(connection: Any, left: Any, right: Any, shift: int) -> None:
    check(connection, [sql for sql in QUERIES if "random()" not in sql and "SAMPLE" not in sql], left, right, shift)


# Queries nobody wrote: pieces put together, each asked of DuckDB before it becomes a part of a larger one.

SCALARS = (
    "{0}",
    "{0} + {1}",
    "coalesce({0}, {1})",
    "CASE WHEN {0} > {1} THEN {1} ELSE {2} END",
    "sum({0}) OVER (PARTITION BY {1} ORDER BY {2})",
    "max({0})",
    "count(*)",
    "(SELECT max({0}) FROM input_2 z WHERE z.k = {1})",
    "EXISTS (SELECT 1 FROM input_2 z WHERE z.k > {0})::INTEGER",
    "({0} IN (SELECT k FROM input_2))::INTEGER",
    "sum({0}) FILTER (WHERE {1} > 1)",
)
STARS = ("*", "t.*", "*, 1 AS x", "* EXCLUDE ({0})", "* REPLACE ({1} + 1 AS {0})", "* RENAME ({0} AS x)")
JOINS = (
    *("", "", "{0} JOIN {1} USING ({2})", "JOIN {1} ON t.{3} = u.{2}", "{0} JOIN {1} ON t.{3} = u.{2}", "SEMI JOIN {1} USING ({2})"),
    *("ANTI JOIN {1} ON t.{3} = u.{2}", "NATURAL JOIN {1}", "CROSS JOIN {1}", ", LATERAL (SELECT t.{3} + 1 AS x) u", "POSITIONAL JOIN {1}"),
)
ENDS = ("", "", "", " ORDER BY {0}", " ORDER BY 1", " ORDER BY {0} + 1", " ORDER BY ALL", " ORDER BY {0}, {1} LIMIT 2")
GROUPS = ("", "", " GROUP BY ALL", " GROUP BY {0}", " GROUP BY 1", " GROUP BY {0} HAVING {1} > 1", " GROUP BY ALL HAVING sum({0}) > 1")
QUALIFIES = ("", "", "", " QUALIFY row_number() OVER (ORDER BY {1}) = 1")
TABLES = {"input {}": ["a", "b", "c"], "input_2 {}": ["k", "a", "d"], "input {}(x, k)": ["x", "k", "c"]}
Named = tuple[str, list[str]]  # a query or a table, and the names of its columns that hold numbers


class Writer:
    """Writes queries that DuckDB accepts, as chance has it."""

    def __init__(self, chance: Random, connection: Any) -> None:
        self.chance = chance
        self.connection = connection

    def query(self, depth: int = 2) -> Named:
        """With names in it that collide as often as not."""
        while True:
            sql = self._select(depth)
            if depth and self.chance.random() < 0.3:
                operation = self.chance.choice(["UNION ALL", "UNION", "EXCEPT", "UNION ALL BY NAME", "INTERSECT"])
                sql = f"({sql}) {operation} ({self.query(depth - 1)[0]})"
            if depth and self.chance.random() < 0.3:
                name = self.chance.choice(["input", "input_2", "w"])
                inner = self.query(depth - 1)[0]
                sql = f"WITH {name} AS ({inner}) {sql if self.chance.random() < 0.3 else f'SELECT * FROM {name} t'}"
            try:
                found = self.connection.execute(f"DESCRIBE SELECT * FROM ({sql})").fetchall()
            except duckdb.Error:
                continue
            names = [row[0] for row in found if row[0].isidentifier() and row[1] in ("INTEGER", "BIGINT", "HUGEINT")]
            if names:
                return sql, names

    def _select(self, depth: int) -> str:
        source, names = self._source(depth)

        def pick() -> str:
            return self.chance.choice(names)

        items = [f"{self._scalar(names)} AS {self.chance.choice('abckdxy')}" for _ in range(self.chance.randint(1, 3))]
        chosen = ", ".join([*items, pick()]) if self.chance.random() < 0.7 else self.chance.choice(STARS).format(pick(), pick())
        where = f" WHERE {pick()} > {self.chance.choice([pick(), '1'])}" if self.chance.random() < 0.4 else ""
        end = "".join(self.chance.choice(pieces) for pieces in (GROUPS, QUALIFIES, ENDS))
        return f"SELECT {self.chance.choice(['', '', 'DISTINCT '])}{chosen} FROM {source}{where}{end.format(pick(), pick())}"

    def _scalar(self, names: list[str]) -> str:
        parts = [self.chance.choice([*names, f"t.{self.chance.choice(names)}", "1"]) for _ in range(3)]
        return self.chance.choice(SCALARS).format(*parts)

    def _source(self, depth: int) -> Named:
        left, left_names = self._table(depth, "t")
        right, right_names = self._table(depth, "u")
        kind = self.chance.choice(["", "LEFT", "RIGHT", "FULL"])
        join = self.chance.choice(JOINS).format(kind, right, self.chance.choice(right_names), self.chance.choice(left_names))
        return f"{left} {join}", left_names + (right_names if join and self.chance.random() < 0.5 else [])

    def _table(self, depth: int, alias: str) -> Named:
        if depth and self.chance.random() < 0.6:
            sql, names = self.query(depth - 1)
            return f"({sql}) {alias}", names
        table = self.chance.choice(list(TABLES))
        return table.format(alias), TABLES[table]


def check_random_queries(connection: Any, chance: Random, depth: int, count: int) -> None:
    """Most of them are traced, and what is told of those is true."""
    writer, told = Writer(chance, connection), 0
    for _ in range(count):
        sql, _names = writer.query(depth)
        names = [row[0] for row in connection.execute(f"DESCRIBE {sql}").fetchall()]
        told += facts_of(sql, INPUTS, names) is not None
        check(connection, [sql], *_random_rows(chance), chance.randint(0, 4))
    assert told > 0.8 * count


def _random_rows(chance: Random) -> tuple[list[Any], list[Any]]:
    def number() -> Any:
        return chance.choice([None, 0, 1, 2, 3])

    left = [(number(), number(), number(), (number(), number()), [1] * chance.randint(0, 2)) for _ in range(chance.randint(1, 6))]
    return left, [(number(), number(), number()) for _ in range(chance.randint(1, 5))]


def test_it_is_true_of_queries_that_nobody_wrote(connection: Any) -> None:
    check_random_queries(connection, Random(2026), depth=1, count=50)


@pytest.mark.slow
def test_it_is_true_of_long_queries_that_nobody_wrote(connection: Any) -> None:
    check_random_queries(connection, Random(4), depth=2, count=150)
