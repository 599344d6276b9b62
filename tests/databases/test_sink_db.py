"""`sink_db` against real servers: PostgreSQL, MariaDB and SQLite hold the same promises."""

import datetime as dt
import itertools
import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from brokoli_site.common.errors import NodeCancelled, NodeError
from pipelines.databases import ledger
from pipelines.nodes.base import Stop
from tests.contracts.case import Given
from tests.contracts.workshop import Outcome, Workshop
from tests.patience import within
from tests.programs import wait_for
from tests.servers import Database

pytestmark = pytest.mark.any_database
_nodes = itertools.count(1)
KINDS = ("postgres", "mariadb", "sqlite")


@dataclass
class Target:
    """One database, and what a test does to it beside the node."""

    kind: str
    workshop: Workshop
    server: Database | None
    file: Path

    @property
    def uri(self) -> str:
        return "sqlite:///target.db" if self.server is None else self.server.uri

    def execute(self, *statements: str) -> None:
        if self.server is not None:
            self.server.execute(*statements)
            return
        with closing(sqlite3.connect(self.file)) as connection:
            connection.executescript(";".join(statements))

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        if self.server is not None:
            return [tuple(row) for row in self.server.rows(sql)]
        with closing(sqlite3.connect(self.file)) as connection:
            return list(connection.execute(sql).fetchall())

    def write(self, sql: str, node_id: str = "", stop: Stop | None = None, **config: Any) -> Outcome:
        given = Given({"uri": self.uri, "table": "t", **config}, [sql])
        return self.workshop.run("sink_db", given, stop=stop, node_id=node_id or f"sink{next(_nodes)}")


@pytest.fixture(params=KINDS)
def target(request: pytest.FixtureRequest, workshop: Workshop) -> Target:
    server = None if request.param == "sqlite" else request.getfixturevalue(f"{request.param}_database")
    made = Target(request.param, workshop, server, workshop.folder / "target.db")
    if server is None:
        sqlite3.connect(made.file).close()
        made.file.touch()
    return made


@pytest.fixture
def postgres(workshop: Workshop, postgres_database: Database) -> Target:
    return Target("postgres", workshop, postgres_database, workshop.folder / "none")


@pytest.fixture
def mariadb(workshop: Workshop, mariadb_database: Database) -> Target:
    return Target("mariadb", workshop, mariadb_database, workshop.folder / "none")


# --- modes ----------------------------------------------------------------------------------------------------------


def test_append_overwrite_and_upsert(target: Target) -> None:
    target.execute("CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(20), seen INT NOT NULL DEFAULT 7)", "INSERT INTO t (id, name) VALUES (1, 'old')")

    assert target.write("SELECT 2 AS id, 'two' AS name").result.row_count == 1
    assert sorted(target.rows("SELECT * FROM t")) == [(1, "old", 7), (2, "two", 7)]
    upserted = target.write("SELECT * FROM (VALUES (1, 'one'), (3, 'first'), (3, 'last')) v(id, name)", mode="upsert", key_columns=["id"])
    assert upserted.result.row_count == 2
    assert "of each key the last row is kept" in upserted.log.text
    assert sorted(target.rows("SELECT * FROM t")) == [(1, "one", 7), (2, "two", 7), (3, "last", 7)]
    assert target.write("SELECT 9 AS id", mode="overwrite").result.row_count == 1
    assert target.rows("SELECT * FROM t") == [(9, None, 7)]


def test_a_created_table_holds_every_kind_of_value(target: Target) -> None:
    sql = """SELECT 'it''s \\ %s 🥦' AS s, '\\xAB\\x00'::BLOB AS b, {'a': [1, NULL]} AS n, DATE '2024-01-15' AS d,
        TIMESTAMP '2024-01-15 06:00:00.5' AS t,
        TIMESTAMPTZ '2024-01-15 06:00:00+02' AS z, true AS y, 12345678901234567890::DECIMAL(38, 2) AS big, 0.1::DOUBLE AS f, 200::UTINYINT AS u,
        '01234567-89ab-cdef-0123-456789abcdef'::UUID AS g, 18446744073709551615::UBIGINT AS w, NULL::DATE AS o"""
    target.write(sql, mode="overwrite", create_table=True)

    ((s, b, n, d, t, z, y, big, f, u, g, w, o),) = target.rows("SELECT s, b, n, d, t, z, y, big, f, u, g, w, o FROM t")
    assert (s, b, bool(y), f, u, o) == ("it's \\ %s 🥦", b"\xab\x00", True, 0.1, 200, None)
    assert str(n).replace("'", '"').replace("None", "null").replace(" ", "") == '{"a":[1,null]}'
    assert (str(d), Decimal(str(big)), int(w), str(g)) == (
        "2024-01-15",
        Decimal("12345678901234567890"),
        2**64 - 1,
        "01234567-89ab-cdef-0123-456789abcdef",
    )
    assert str(t).startswith("2024-01-15 06:00:00.5")
    instant = z if isinstance(z, dt.datetime) else dt.datetime.fromisoformat(str(z))
    assert instant.replace(tzinfo=dt.UTC) == dt.datetime(2024, 1, 15, 4, tzinfo=dt.UTC)


def test_names_that_try_to_be_statements(target: Target) -> None:
    target.execute("CREATE TABLE victim (id INT)")
    table, column = "t\"; DROP TABLE victim; -- ` %s 's", 'a"); DROP TABLE victim; -- `%s?'
    quoted = '"' + column.replace('"', '""') + '"'
    for mode in ("append", "overwrite", "upsert"):
        target.write(f"SELECT 1 AS {quoted}", table=f"`{table.replace('`', '')}`", create_table=True, mode=mode, key_columns=[column])
    assert target.rows("SELECT count(*) FROM victim") == [(0,)]


@pytest.mark.parametrize("mode", ["append", "overwrite", "upsert"])
def test_rows_that_break_a_rule_leave_the_table_as_it_was(target: Target, mode: str) -> None:
    target.execute("CREATE TABLE t (id INT PRIMARY KEY, a INT CHECK (a < 19000))", "INSERT INTO t VALUES (-1, -1)")

    with pytest.raises(NodeError, match="refused the rows"):
        target.write("SELECT i AS id, i AS a FROM range(20_000) t(i)", mode=mode, key_columns=["id"])
    assert target.rows("SELECT * FROM t") == [(-1, -1)]


def test_values_out_of_range_are_named(target: Target) -> None:
    target.execute("CREATE TABLE t (id SMALLINT, name VARCHAR(3))")
    if target.kind == "sqlite":  # which takes any integer, and texts of any length
        return
    with pytest.raises(NodeError, match=r"70000|'id'"):
        target.write("SELECT 70000 AS id")
    with pytest.raises(NodeError, match="too long"):
        target.write("SELECT 1 AS id, 'abcd' AS name")
    assert target.rows("SELECT * FROM t") == []


def test_what_does_not_fit_is_refused_before_anything_is_written(target: Target) -> None:
    target.execute("CREATE TABLE t (id INT NOT NULL, amount DECIMAL(9, 2), must VARCHAR(9) NOT NULL)")

    for sql, words in (
        ("SELECT 1 AS id, 'x' AS must, 2 AS amuont", "Is 'amuont' the table's 'amount'?"),
        ("SELECT 1 AS id", "needs a value for 'must'"),
        ("SELECT 'x' AS id, 'x' AS must", "Column 'id' is VARCHAR"),
        ("SELECT 1 AS id, 'x' AS must, 'y' AS amount", "Column 'amount' is VARCHAR"),
    ):
        with pytest.raises(NodeError) as caught:
            target.write(sql)
        assert words in caught.value.message


def test_keys_of_an_upsert_are_looked_at_first(target: Target) -> None:
    target.execute("CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(9))")

    with pytest.raises(NodeError, match=r"no unique index on \(name\).*CREATE UNIQUE INDEX"):
        target.write("SELECT 1 AS id, 'a' AS name", mode="upsert", key_columns=["name"])
    with pytest.raises(NodeError, match="2 rows have no value in the key"):
        target.write("SELECT * FROM (VALUES (NULL, 'a'), (NULL, 'b'), (1, 'c')) v(id, name)", mode="upsert", key_columns=["id"])
    assert target.rows("SELECT * FROM t") == []


# --- once -----------------------------------------------------------------------------------------------------------


def test_a_second_attempt_appends_nothing(target: Target) -> None:
    target.execute("CREATE TABLE t (id INT)")

    first = target.write("SELECT i AS id FROM range(10) t(i)", node_id="load")
    second = target.write("SELECT i AS id FROM range(10) t(i)", node_id="load")

    assert (first.result.row_count, second.result.row_count) == (10, 10)
    assert "An earlier attempt has written these rows (10) already" in second.log.text
    assert target.rows("SELECT count(*) FROM t") == [(10,)]
    assert target.rows("SELECT origin_run, node, target, row_count FROM brokoli_loads") == [("run", "load", "t", 10)]
    target.write("SELECT 1 AS id", node_id="another")
    assert target.rows("SELECT count(*) FROM t") == [(11,)]


def test_an_attempt_that_failed_leaves_no_mark(target: Target) -> None:
    target.execute("CREATE TABLE t (id INT NOT NULL)")

    with pytest.raises(NodeError):
        target.write("SELECT NULL::INT AS id", node_id="load")
    target.write("SELECT 1 AS id", node_id="load")
    assert target.rows("SELECT id FROM t") == [(1,)]


def test_without_a_ledger_an_append_is_repeated(target: Target) -> None:
    target.execute("CREATE TABLE t (id INT)")
    for _ in range(2):
        target.write("SELECT 1 AS id", node_id="load", ledger_table="")
    assert target.rows("SELECT count(*) FROM t") == [(2,)]


def test_two_attempts_at_the_same_moment_append_once(target: Target) -> None:
    """A worker that was taken for dead, and the one that took over."""
    target.execute("CREATE TABLE t (id INT)")
    target.write("SELECT 0 AS id")  # the ledger's table is there
    sql = "SELECT i AS id FROM range(1, 20_001) t(i)"
    given = Given({"uri": target.uri, "table": "t"}, [sql])
    target.workshop.table(sql)
    counts: list[int] = []
    threads = [
        threading.Thread(target=lambda: counts.append(target.workshop.run("sink_db", given, node_id="same").result.row_count)) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert counts == [20_000, 20_000]
    assert target.rows("SELECT count(*) FROM t") == [(20_001,)]


# --- statements -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["made", "found"])
def test_sql_that_a_node_generated_is_executed_once(target: Target, table: str) -> None:
    dialect = {"mariadb": "mysql"}.get(target.kind, target.kind)
    rows = (
        "SELECT i AS id, 'it''s; \\ -- ' || i AS name, i % 2 = 0 AS even, DATE '2024-01-15' AS d, '\\xAB'::BLOB AS b, i / 4 AS f FROM range(250) t(i)"
    )
    generated = target.workshop.run("sql_generate", Given({"table": "t", "dialect": dialect, "create_table": table == "made"}, [rows]))
    if table == "found":
        target.write(f"{rows} LIMIT 0", mode="overwrite", create_table=True)
    sql = f"FROM {generated.sql}"
    for _ in range(2):
        assert target.write(sql, node_id="same", table="").result.row_count == 250
    assert target.rows("SELECT count(*), count(DISTINCT name) FROM t") == [(250, 250)]
    ((name, even, day, data),) = target.rows("SELECT name, even, d, b FROM t WHERE id = 2")
    assert (name, bool(even), str(day), bytes(data)) == ("it's; \\ -- 2", True, "2024-01-15", b"\xab")


def test_statements_are_all_executed_or_none(target: Target) -> None:
    target.execute("CREATE TABLE t (id INT)")
    with pytest.raises(NodeError, match="Statement 2 of 2"):
        target.write("SELECT 'INSERT INTO t VALUES (1); INSERT INTO nowhere VALUES (1)' AS sql_output")
    for bad in ("COMMIT", "SELECT 1", "SET x = 1", "COPY t FROM PROGRAM ''id''", "LOAD DATA INFILE ''x'' INTO TABLE t"):
        with pytest.raises(NodeError, match="Statement 2 of sql_output begins with"):
            target.write(f"SELECT 'INSERT INTO t VALUES (1); {bad}' AS sql_output")
    assert target.rows("SELECT * FROM t") == []


# --- what readers see -----------------------------------------------------------------------------------------------


def test_readers_see_the_old_rows_or_the_new_ones(target: Target) -> None:
    target.execute("CREATE TABLE t (id INT)", "INSERT INTO t VALUES (1)")
    if target.kind == "sqlite":
        target.execute("PRAGMA journal_mode = WAL")  # without it readers wait for the end
    seen: set[int] = set()
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            seen.add(target.rows("SELECT count(*) FROM t")[0][0])

    reader = threading.Thread(target=look)
    reader.start()
    for _ in range(3):
        target.write("SELECT i AS id FROM range(20_000) t(i)", mode="overwrite")
    over.set()
    reader.join(30)
    assert seen <= {1, 20_000}


def test_overwrites_at_the_same_moment_do_not_add_up(postgres: Target) -> None:
    """Without a lock the second would not see the rows that the first inserted, and so not delete them."""
    postgres.execute("CREATE TABLE t (id INT)", "INSERT INTO t SELECT * FROM generate_series(1, 1000)")
    sql = "SELECT i AS id FROM range(50_000) t(i)"
    given = Given({"uri": postgres.uri, "table": "t", "mode": "overwrite"}, [sql])
    postgres.workshop.table(sql)
    threads = [threading.Thread(target=lambda: postgres.workshop.run("sink_db", given)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert postgres.rows("SELECT count(*) FROM t") == [(50_000,)]


# --- breaking off ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["postgres", "mariadb"], indirect=True)
def test_a_stop_breaks_off_what_waits_for_a_lock(target: Target) -> None:
    assert target.server is not None
    target.execute("CREATE TABLE t (id INT)", "INSERT INTO t VALUES (1)")
    given = Given({"uri": target.uri, "table": "t", "mode": "overwrite"}, ["SELECT 2 AS id"])
    stop = Stop()
    with closing(target.server.connect()) as other, other.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("UPDATE t SET id = 3")
        with target.workshop.running("sink_db", given, stop) as running:
            wait_for(lambda: target.server is not None and target.server.others() >= 2)
            asked = time.monotonic()
            stop.stop(NodeCancelled("The run was cancelled."))
            running.thread.join(20)
            took = time.monotonic() - asked
        cursor.execute("ROLLBACK")
    assert [type(error) for error in running.errors] == [NodeCancelled]
    assert took < within(3)
    wait_for(lambda: target.server is not None and target.server.others() == 0)
    assert target.rows("SELECT id FROM t") == [(1,)]


def test_a_stop_right_before_the_commit_commits_nothing(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that lost its lease while the last rows were on their way."""
    target.execute("CREATE TABLE t (id INT)")
    held = [True]
    stop = Stop(lease_is_held=lambda: held[0])
    fill_in = ledger.fill_in

    def lose(*arguments: Any) -> None:
        fill_in(*arguments)
        held[0] = False

    monkeypatch.setattr(ledger, "fill_in", lose)
    with pytest.raises(NodeCancelled):
        target.write("SELECT 1 AS id", stop=stop)
    assert target.rows("SELECT * FROM t") == []
    assert target.kind == "sqlite" or target.rows("SELECT * FROM brokoli_loads") == []


# --- where the ledger cannot be made --------------------------------------------------------------------------------


def test_a_login_that_may_not_create_tables(postgres: Target) -> None:
    assert postgres.server is not None
    postgres.execute("CREATE TABLE t (id INT)", "CREATE ROLE writer LOGIN PASSWORD 'geheim!'", "GRANT SELECT, INSERT ON t TO writer")
    try:
        uri = f"postgres://writer:geheim%21@127.0.0.1:{postgres.server.port}/{postgres.server.name}"
        with pytest.raises(NodeError, match=r"'brokoli_loads', which.*permission denied for schema public.*CREATE TABLE IF NOT EXISTS") as caught:
            postgres.write("SELECT 1 AS id", uri=uri)
        assert "geheim" not in caught.value.message
        assert postgres.rows("SELECT * FROM t") == []
        postgres.write("SELECT 1 AS id", uri=uri, ledger_table="")
        assert postgres.rows("SELECT * FROM t") == [(1,)]
    finally:
        postgres.execute("DROP OWNED BY writer", "DROP ROLE writer")


def test_mysql_tables_without_transactions_are_refused(mariadb: Target) -> None:
    mariadb.execute("CREATE TABLE t (id INT) ENGINE=MyISAM")
    with pytest.raises(NodeError, match=r"MyISAM of 't' knows no transactions.*ENGINE=InnoDB"):
        mariadb.write("SELECT 1 AS id")


def test_an_upsert_that_could_change_the_row_of_another_key_is_refused(mariadb: Target) -> None:
    mariadb.execute("CREATE TABLE t (id INT PRIMARY KEY, sku VARCHAR(9) UNIQUE)", "INSERT INTO t VALUES (1, 'a')")
    with pytest.raises(NodeError, match=r"another unique index, on \(sku\)"):
        mariadb.write("SELECT 2 AS id, 'a' AS sku", mode="upsert", key_columns=["id"])
    assert mariadb.rows("SELECT * FROM t") == [(1, "a")]


def test_the_types_that_only_postgresql_knows(postgres: Target) -> None:
    postgres.execute(
        "CREATE TYPE mood AS ENUM ('sad', 'happy')",
        "CREATE DOMAIN small AS INT CHECK (VALUE < 10)",
        "CREATE TABLE t (id INT PRIMARY KEY, tags TEXT[], ip INET, m mood, s small, n NUMERIC, j JSON, r VARCHAR(4))",
    )
    sql = """SELECT 1 AS id, '{a,b}' AS tags, '10.0.0.1' AS ip, 'happy' AS m, 3 AS s, 1.5::DOUBLE AS n, '{"a": 1}' AS j, 'abc' AS r"""
    postgres.write(sql)
    postgres.write(sql, mode="upsert", key_columns=["id"])
    ((tags, ip, m, s, n, j, r),) = postgres.rows("SELECT tags, ip::text, m::text, s, n, j, r FROM t")
    assert (tags, ip, m, s, n, j, r) == (["a", "b"], "10.0.0.1/32", "happy", 3, Decimal("1.5"), {"a": 1}, "abc")


def test_dry_runs_compare_and_write_nothing(target: Target) -> None:
    target.execute("CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(9))")
    answer = target.workshop.dry_run("sink_db", Given({"uri": target.uri, "table": "t"}, ["SELECT 1 AS id, 'x' AS name"]))
    assert answer["would_write"]["exists"]
    assert answer["would_write"]["differences"] == {"added": [], "removed": [], "retyped": []}
    refused = target.workshop.dry_run("sink_db", Given({"uri": target.uri, "table": "t"}, ["SELECT 'x' AS id, 1 AS other"]))
    assert refused["status"] == "failed"
    assert "'t' has no column 'other'" in refused["error"]
    new = target.workshop.dry_run("sink_db", Given({"uri": target.uri, "table": "new", "create_table": True}, ["SELECT 1 AS id"]))
    assert (new["status"], new["would_write"]["exists"]) == ("success", False)
    tables = {"sqlite": "SELECT name FROM sqlite_master WHERE type = 'table'", "mariadb": "SHOW TABLES"}
    assert target.rows(tables.get(target.kind, "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace")) == [
        ("t",)
    ]
    assert target.rows("SELECT * FROM t") == []
