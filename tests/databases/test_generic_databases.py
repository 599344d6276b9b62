"""`source_db` and `sink_db` through SQLAlchemy alone: a dialect and a driver that nothing here knows by name.

PostgreSQL through pg8000 stands for them: a real server, and a driver that only these tests install.
"""

import datetime as dt
import itertools
import json
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings as django_settings

from brokoli_site.common.errors import NodeError
from pipelines.databases.places import of_connection
from pipelines.vault import ConnectionDetails, StoredConnection, Vault
from tests.contracts.case import Given
from tests.contracts.workshop import Outcome, Workshop
from tests.servers import Database

pytestmark = pytest.mark.any_database
_nodes = itertools.count(1)


def generic(database: Database, **changes: Any) -> Vault:
    """A vault whose connection `db` leads there through SQLAlchemy."""
    identity = "connection:db"
    secrets = {"password": changes.pop("password", database.password), "extra": changes.pop("extra", {})}
    given = {"host": f"postgresql+pg8000://{database.login}@{database.host}:{database.port}/{database.name}", **changes}
    sealed = django_settings.KEYRING.seal(json.dumps(secrets), identity)
    return Vault(connections={"db": StoredConnection("db", "generic", secrets=sealed, identity=identity, **given)})


class Loader:
    """`sink_db` with a generic connection."""

    def __init__(self, workshop: Workshop, database: Database) -> None:
        self.workshop, self.database = workshop, database

    def write(self, sql: str, node_id: str = "", **config: Any) -> Outcome:
        given = Given({"conn_id": "db", "table": "t", **config}, [sql], vault=generic(self.database))
        return self.workshop.run("sink_db", given, node_id=node_id or f"sink{next(_nodes)}")


@pytest.fixture
def target(workshop: Workshop, postgres_database: Database) -> Loader:
    return Loader(workshop, postgres_database)


def test_rows_are_appended_and_overwritten(target: Loader) -> None:
    target.database.execute("CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(20))", "INSERT INTO t VALUES (1, 'old')")

    assert target.write("SELECT 2 AS id, 'two: 50 % ?' AS name").result.row_count == 1
    assert sorted(target.database.rows("SELECT * FROM t")) == [(1, "old"), (2, "two: 50 % ?")]
    assert target.write("SELECT i AS id, NULL AS name FROM range(1200) t(i)", mode="overwrite", batch_size=500).result.row_count == 1200
    assert target.database.rows("SELECT count(*), count(name), max(id) FROM t") == [(1200, 0, 1199)]


def test_a_created_table_holds_what_was_written(target: Loader) -> None:
    sql = """SELECT 'it''s \\ :x %s 🥦' AS s, DATE '2024-01-15' AS d, TIMESTAMP '2024-01-15 06:00:00.5' AS t, true AS y,
        1234567890.25::DECIMAL(18, 2) AS n, 0.1::DOUBLE AS f, 2::BIGINT AS i, '\\xAB'::BLOB AS b, NULL::DATE AS o"""
    target.write(sql, create_table=True, mode="overwrite")

    ((s, d, t, y, n, f, i, b, o),) = target.database.rows("SELECT s, d, t, y, n, f, i, b, o FROM t")
    assert (s, d, t) == ("it's \\ :x %s 🥦", dt.date(2024, 1, 15), dt.datetime(2024, 1, 15, 6, 0, 0, 500_000))  # noqa: DTZ001 - the column has no zone
    assert (y, Decimal(str(n)), f, i, bytes(b), o) == (True, Decimal("1234567890.25"), 0.1, 2, b"\xab", None)


def test_a_second_attempt_appends_nothing(target: Loader) -> None:
    target.database.execute("CREATE TABLE t (id INT)")

    first = target.write("SELECT i AS id FROM range(10) t(i)", node_id="load")
    second = target.write("SELECT i AS id FROM range(10) t(i)", node_id="load")

    assert (first.result.row_count, second.result.row_count) == (10, 10)
    assert "An earlier attempt has written these rows (10) already" in second.log.text
    assert target.database.rows("SELECT count(*) FROM t") == [(10,)]
    assert target.database.rows("SELECT origin_run, node, target, row_count FROM brokoli_loads") == [("run", "load", "t", 10)]


@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_rows_that_break_a_rule_leave_the_table_as_it_was(target: Loader, mode: str) -> None:
    target.database.execute("CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t VALUES (1)")

    with pytest.raises(NodeError, match="refused the rows: duplicate key value violates"):
        target.write("SELECT 5 AS id UNION ALL SELECT 5", mode=mode, node_id="load")
    assert target.database.rows("SELECT * FROM t") == [(1,)]
    target.write("SELECT 6 AS id", node_id="load")
    assert sorted(target.database.rows("SELECT * FROM t")) == [(1,), (6,)]


@pytest.mark.parametrize(
    ("sql", "config", "words"),
    [
        ("SELECT 1 AS id, 2 AS other", {}, "has no column 'other'"),
        ("SELECT 'x' AS id", {}, "Column 'id' is VARCHAR"),
        ("SELECT 1 AS id", {"table": "nothing"}, "There is no table 'nothing'"),
        ("SELECT 1 AS id", {"mode": "upsert", "key_columns": ["id"]}, "upsert"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(target: Loader, sql: str, config: dict[str, Any], words: str) -> None:
    target.database.execute("CREATE TABLE t (id INT)")
    with pytest.raises(NodeError, match=words):
        target.write(sql, **config)
    assert target.database.rows("SELECT count(*) FROM t") == [(0,)]


def test_statements_are_all_executed_or_none(target: Loader) -> None:
    target.database.execute("CREATE TABLE t (id INT)")
    with pytest.raises(NodeError):
        target.write("SELECT 'INSERT INTO t VALUES (1); INSERT INTO nothing VALUES (2)' AS sql_output")
    assert target.database.rows("SELECT count(*) FROM t") == [(0,)]
    target.write("SELECT 'INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)' AS sql_output")
    assert sorted(target.database.rows("SELECT id FROM t")) == [(1,), (2,)]


def test_rows_are_read(workshop: Workshop, postgres_database: Database) -> None:
    given = Given(
        {"conn_id": "db", "query": "SELECT i, i / 4.0 AS q, 'r' || i AS r FROM generate_series(1, 12000) s(i)"}, vault=generic(postgres_database)
    )
    assert workshop.run("source_db", given).result.row_count == 12_000


def test_a_wrong_password_is_told(workshop: Workshop, postgres_database: Database) -> None:
    given = Given({"conn_id": "db", "query": "SELECT 1 AS a"}, vault=generic(postgres_database, password="wrong"))
    with pytest.raises(NodeError, match="did not accept the login or the password of the connection 'db'"):
        workshop.run("source_db", given)


@pytest.mark.parametrize(
    ("host", "extra"),
    [
        ("mysql+mysqldb://db.example.org/x", {"unix_socket": "/run/mysqld/mysqld.sock"}),
        ("mssql+pyodbc://db.example.org/x", {"odbc_connect": "Server=10.0.0.1"}),
        ("postgresql+pg8000://db.example.org/x", {"unix_sock": "/tmp/x"}),
        ("postgresql://db.example.org/x", {"options": "-c role=postgres"}),
        ("postgresql://db.example.org/x", {"host": "10.0.0.1"}),
    ],
)
def test_options_beside_a_url_are_judged_as_those_within(host: str, extra: dict[str, Any]) -> None:
    """A driver's options can name another host, or a file: the address that was judged is the one that is reached."""
    details = ConnectionDetails("db", "generic", host, None, "", "", "", extra)
    with pytest.raises(NodeError, match=f"option '{next(iter(extra))}' of the connection 'db' cannot be set"):
        of_connection(details)
