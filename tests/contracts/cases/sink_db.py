"""Cases of `sink_db`, on SQLite files in the data folder; `tests/databases` has the same on servers."""

from collections.abc import Callable
from typing import Any

from tests.contracts import sqlite_tables
from tests.contracts.case import Cases, Failing, Given, Invalid, Valid
from tests.contracts.workshop import Outcome, Workshop

URI = "sqlite:///a.db"
ROWS = "SELECT * FROM (VALUES (1, 'x', 1.5), (2, NULL, NULL)) t(id, name, amount)"
TABLE = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, amount DECIMAL(9, 2), seen INTEGER NOT NULL DEFAULT 7)"
KINDS = """SELECT 'it''s' AS s, '\\xAB\\x00'::BLOB AS b, {'a': [1, 2]} AS n, DATE '2024-01-15' AS d, TIMESTAMP '2024-01-15 06:00:00.5' AS t,
    TIMESTAMPTZ '2024-01-15 06:00:00+02' AS z, TIME '06:00:00' AS c, true AS y, 12345678901234567890::DECIMAL(20, 0) AS big, 0.1::DOUBLE AS f,
    18446744073709551615::UBIGINT AS u, NULL::VARCHAR AS o"""


def there(*statements: str) -> Callable[[Workshop], None]:
    return lambda workshop: sqlite_tables.execute(workshop.folder / "a.db", ";".join(statements))


def holds(sql: str, rows: list[tuple[Any, ...]], wrote: int | None = None) -> Callable[[Outcome, Workshop], None]:
    def check(outcome: Outcome, workshop: Workshop) -> None:
        assert sqlite_tables.rows(workshop.folder / "a.db", sql) == rows
        assert wrote is None or outcome.result.row_count == wrote

    return check


def still(sql: str, rows: list[tuple[Any, ...]]) -> Callable[[Workshop], None]:
    def check(workshop: Workshop) -> None:
        assert sqlite_tables.rows(workshop.folder / "a.db", sql) == rows

    return check


def into(**config: Any) -> dict[str, Any]:
    return {"uri": URI, "table": "t", **config}


VALID = [
    Valid(
        into(),
        [ROWS],
        before=there(TABLE),
        after=holds("SELECT * FROM t", [(1, "x", 1.5, 7), (2, None, None, 7)], wrote=2),
        logged=["Wrote 2 rows to 't'"],
    ),
    Valid(
        into(),
        ["SELECT 3 AS ID, 'z' AS Name"],
        before=there(TABLE, "INSERT INTO t (id) VALUES (1)"),
        after=holds("SELECT id, name FROM t", [(1, None), (3, "z")], wrote=1),
        name="columns in another case, and fewer",
    ),
    Valid(into(create_table=True), [ROWS], after=holds("SELECT * FROM t", [(1, "x", 1.5), (2, None, None)], wrote=2), logged=["Created table 't'"]),
    Valid(
        into(create_table=True, mode="overwrite"),
        [KINDS],
        after=holds(
            "SELECT * FROM t",
            [
                (
                    *("it's", b"\xab\x00", '{"a":[1,2]}', "2024-01-15", "2024-01-15 06:00:00.5", "2024-01-15 04:00:00", "06:00:00", 1),
                    *("12345678901234567890", 0.1, "18446744073709551615", None),
                )
            ],
        ),
        name="every kind",
    ),
    Valid(
        into(mode="overwrite", truncate=True),
        [ROWS],
        before=there(TABLE, "INSERT INTO t (id) VALUES (9)"),
        after=holds("SELECT id FROM t", [(1,), (2,)], wrote=2),
        logged=["truncate has no effect here"],
    ),
    Valid(
        into(mode="overwrite"), [f"{ROWS} WHERE false"], before=there(TABLE, "INSERT INTO t (id) VALUES (9)"), after=holds("SELECT id FROM t", [], 0)
    ),
    Valid(
        into(mode="upsert", key_columns=["ID"]),
        ["SELECT * FROM (VALUES (1, 'new'), (5, 'first'), (5, 'last')) t(id, name)"],
        before=there(TABLE, "INSERT INTO t VALUES (1, 'old', 1.5, 3), (2, 'kept', NULL, 3)"),
        after=holds("SELECT * FROM t", [(1, "new", 1.5, 3), (2, "kept", None, 3), (5, "last", None, 7)], wrote=2),
        logged=["1 rows have the key of a later row"],
        name="upsert, the last row of a key wins",
    ),
    Valid(
        into(mode="upsert", key_columns="id", create_table=True),
        ["SELECT 1 AS id, 'a' AS name"],
        after=holds("SELECT * FROM t", [(1, "a")], wrote=1),
        name="upsert into a table of its own making",
    ),
    Valid(
        into(table='t"; DROP TABLE t; --', create_table=True),
        ['SELECT 1 AS "i""d; --"'],
        after=holds('SELECT "i""d; --" FROM "t""; DROP TABLE t; --"', [(1,)]),
        name="no injection",
    ),
    Valid(into(table="main.t"), ["SELECT 1 AS id"], before=there(TABLE), after=holds("SELECT id FROM t", [(1,)])),
    Valid(
        {"uri": URI},
        ["SELECT 'INSERT INTO t (id, name) VALUES (1, ''a;b''), (2, ''--''); -- done;\nUPDATE t SET name = ''c'' WHERE id = 2;' AS sql_output"],
        before=there(TABLE),
        after=holds("SELECT id, name FROM t", [(1, "a;b"), (2, "c")], wrote=3),
        logged=["Executed 2 statements; 3 rows changed"],
        name="sql_output",
    ),
    Valid(
        {"uri": URI},
        ["SELECT 'CREATE TABLE IF NOT EXISTS t (id INT); INSERT INTO t VALUES (1);' AS sql_output"],
        before=there("CREATE TABLE other (id INT)"),
        after=holds("SELECT id FROM t", [(1,)], wrote=1),
        name="sql_output that creates its table",
    ),
]

INVALID = [
    Invalid({"table": "t"}, field="conn_id", words="is missing"),
    Invalid(into(mode="upsert"), field="key_columns", words="is missing"),
    Invalid(into(mode="sideways"), field="mode"),
    Invalid(into(table="a..b"), field="table", words="is not the name of a table"),
    Invalid(into(batch_size=0), field="batch_size"),
    Invalid({"uri": URI}, ["SELECT 1 AS id"], field="table", words="is missing"),
]

OLD = "INSERT INTO t (id, name) VALUES (1, 'old')"
FAILING = [
    Failing(into(), ["SELECT 1 AS id"], words=["a.db"]),
    Failing(into(table="x"), ["SELECT 1 AS id"], before=there(TABLE), words=["There is no table 'x'", "create_table"]),
    Failing(into(), ["SELECT 1 AS id, 2 AS nam"], before=there(TABLE), words=["'t' has no column 'nam'", "Is 'nam' the table's 'name'?"]),
    Failing(into(), ["SELECT 'a' AS id"], before=there(TABLE), words=["Column 'id' is VARCHAR, which INTEGER", "Cast it to BIGINT"]),
    Failing(into(), ["SELECT 2 AS id"], before=there("CREATE TABLE t (id INT, must TEXT NOT NULL)"), words=["'t' needs a value for 'must'"]),
    Failing(
        into(),
        ["SELECT 100_000 - i AS id, 'new' AS name FROM range(100_000) t(i)"],
        before=there(TABLE, OLD),
        words=["SQLite refused the rows", "UNIQUE constraint failed: t.id"],
        after=still("SELECT id, name FROM t", [(1, "old")]),
    ),
    Failing(
        into(mode="overwrite"),
        ["SELECT CASE WHEN i < 99_999 THEN i END AS a FROM range(100_000) t(i)"],
        before=there("CREATE TABLE t (a INT NOT NULL)", "INSERT INTO t VALUES (-1)"),
        words=["NOT NULL constraint failed"],
        after=still("SELECT a FROM t", [(-1,)]),
    ),
    Failing(
        into(mode="upsert", key_columns=["id"]),
        ["SELECT NULL::INT AS id, 'x' AS name"],
        before=there(TABLE),
        words=["1 rows have no value in the key (id)"],
    ),
    Failing(
        into(mode="upsert", key_columns=["name"]),
        ["SELECT 1 AS id, 'x' AS name"],
        before=there(TABLE),
        words=["no unique index on (name)", 'CREATE UNIQUE INDEX "t_name_key" ON "main"."t" ("name")'],
    ),
    Failing(into(mode="upsert", key_columns=["nope"]), ["SELECT 1 AS id"], before=there(TABLE), words=["The key column 'nope'"]),
    Failing(into(), ["SELECT 1 AS id"], before=there("CREATE VIEW t AS SELECT 1 AS id"), words=["'t' is a view"]),
    Failing({"uri": URI}, ["SELECT 'COMMIT' AS sql_output"], before=there(TABLE), words=["begins with COMMIT"]),
    Failing({"uri": URI}, ["SELECT 'ATTACH ''/etc/x'' AS x' AS sql_output"], before=there(TABLE), words=["begins with ATTACH"]),
    Failing(
        {"uri": URI},
        ["SELECT 'INSERT INTO t (id) VALUES (2); INSERT INTO nope VALUES (1)' AS sql_output"],
        before=there(TABLE, OLD),
        words=["Statement 2 of 2", "no such table: nope"],
        after=still("SELECT id FROM t", [(1,)]),
    ),
    Failing({"uri": "sqlite:////etc/x.db", "table": "t", "create_table": True}, ["SELECT 1 AS id"], words=["outside the data folders"]),
    Failing({"conn_id": "nope", "table": "t"}, ["SELECT 1 AS id"], words=["There is no connection 'nope'"]),
]


def typical(workshop: Workshop, table: str) -> Given:
    return Given({"uri": "sqlite:///typical.db", "table": "typical", "mode": "overwrite", "create_table": True}, [table])


def slow(workshop: Workshop) -> Given:
    sqlite_tables.execute(workshop.folder / "a.db", "CREATE TABLE IF NOT EXISTS slow (id INTEGER, a TEXT, b TEXT)")
    return Given(into(table="slow", mode="overwrite"), ["SELECT i AS id, md5(CAST(i AS VARCHAR)) AS a, 'b' AS b FROM range(2_000_000) t(i)"])


def read_back(workshop: Workshop) -> str:
    taken = sqlite_tables.taken_over(workshop, workshop.folder / "typical.db", "typical")
    # More digits than SQLite's numbers hold are kept as text.
    texts = {row[0] for row in workshop.maker.execute(f"DESCRIBE {taken}").fetchall() if row[1] == "VARCHAR"} & {"amount"}
    return f"SELECT * REPLACE (CAST(amount AS DECIMAL(21, 1)) AS amount) {taken}" if texts else taken


CASES = Cases(
    valid=VALID,
    invalid=INVALID,
    failing=FAILING,
    normalised=[({"mode": "Replace"}, {"mode": "overwrite"}), ({"mode": ""}, {"mode": "append"})],
    typical=typical,
    slow=slow,
    read_back=read_back,
)
