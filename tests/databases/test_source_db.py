"""`source_db` against real servers: types, values, refusals, stops."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from brokoli_site.common.errors import NodeCancelled, NodeError, NodeTimeout, TransientNodeError
from pipelines.nodes.base import Stop
from tests import postgres
from tests.contracts.case import Given
from tests.contracts.workshop import Outcome, Workshop
from tests.patience import within
from tests.programs import wait_for
from tests.servers import Database

# (SQL of a value, the type that it comes as, the value as text of DuckDB)
POSTGRES_TYPES = [
    ("true", "BOOLEAN", "true"),
    ("(-32768)::int2", "SMALLINT", "-32768"),
    ("2147483647", "INTEGER", "2147483647"),
    ("9223372036854775807", "BIGINT", "9223372036854775807"),
    ("1.5::float4", "FLOAT", "1.5"),
    ("'NaN'::float8", "DOUBLE", "nan"),
    ("12.30::numeric(10, 2)", "DECIMAL(10,2)", "12.30"),
    ("99999999999999999999999999999999999999::numeric(38)", "DECIMAL(38,0)", "99999999999999999999999999999999999999"),
    ("0.000000000000000001::numeric", "DECIMAL(38,18)", "0.000000000000000001"),
    ("'NaN'::numeric", "VARCHAR", "nan"),
    ("1e50::numeric", "VARCHAR", "1" + "0" * 50),
    ("'1234.56'::money", "DECIMAL(19,2)", "1234.56"),
    ("'it''s \u00e9\U0001f966'::text", "VARCHAR", "it's \u00e9\U0001f966"),
    ("'x'::char(3)", "VARCHAR", "x  "),
    ("'\\x00ff'::bytea", "BLOB", "\\x00\\xFF"),
    ("date '2024-02-29'", "DATE", "2024-02-29"),
    ("'infinity'::date", "DATE", "infinity"),
    ("'-infinity'::date", "DATE", "-infinity"),
    ("date '0044-03-15 BC'", "DATE", "0044-03-15 (BC)"),
    ("time '23:59:59.999999'", "TIME", "23:59:59.999999"),
    ("timetz '12:00:00+02'", "VARCHAR", "12:00:00+02"),
    ("timestamp '2024-01-01 01:02:03.123456'", "TIMESTAMP", "2024-01-01 01:02:03.123456"),
    ("'infinity'::timestamp", "TIMESTAMP", "infinity"),
    ("'-infinity'::timestamp", "TIMESTAMP", "-infinity"),
    ("timestamptz '2024-01-01 01:02:03+02'", "TIMESTAMP WITH TIME ZONE", "2023-12-31 23:02:03+00"),
    ("interval '1 month 2 days 3.5 seconds'", "INTERVAL", "1 month 2 days 00:00:03.5"),
    ("'{\"a\": [1, null]}'::jsonb", "JSON", '{"a": [1, null]}'),
    ("'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid", "UUID", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("array[1, null, 3]", "INTEGER[]", "[1, NULL, 3]"),
    ("array['a', 'b,c']", "VARCHAR[]", "[a, 'b,c']"),
    ("array[1.5::numeric]", "VARCHAR[]", "[1.5]"),
    ("array[date '2024-01-01']", "DATE[]", "[2024-01-01]"),
    ("'happy'::mood", "VARCHAR", "happy"),
    ("'10.1.2.3/8'::inet", "VARCHAR", "10.1.2.3/8"),
    ("int4range(1, 5)", "VARCHAR", "[1,5)"),
    ("B'1010'", "VARCHAR", "1010"),
    ("row(1, 'x')", "VARCHAR", "(1,x)"),
    ("4294967295::oid", "BIGINT", "4294967295"),
    ("NULL", "VARCHAR", None),
]
MARIADB_TYPES = [
    ("TINYINT", "127", "TINYINT", "127"),
    ("BOOLEAN", "true", "TINYINT", "1"),
    ("SMALLINT UNSIGNED", "65535", "USMALLINT", "65535"),
    ("MEDIUMINT", "-8388608", "INTEGER", "-8388608"),
    ("INT UNSIGNED", "4294967295", "UINTEGER", "4294967295"),
    ("BIGINT UNSIGNED", "18446744073709551615", "UBIGINT", "18446744073709551615"),
    ("BIGINT", "-9223372036854775808", "BIGINT", "-9223372036854775808"),
    ("DECIMAL(10,2)", "-99999999.99", "DECIMAL(10,2)", "-99999999.99"),
    ("DECIMAL(38,10) UNSIGNED", "1.0000000001", "DECIMAL(38,10)", "1.0000000001"),
    ("FLOAT", "1.5", "FLOAT", "1.5"),
    ("DOUBLE", "1e300", "DOUBLE", "1e+300"),
    ("CHAR(3)", "'x'", "VARCHAR", "x"),
    ("TEXT", "'it''s \u00e9\U0001f966'", "VARCHAR", "it's \u00e9\U0001f966"),
    ("VARBINARY(4)", "x'00ff'", "BLOB", "\\x00\\xFF"),
    ("BLOB", "x'00ff'", "BLOB", "\\x00\\xFF"),
    ("DATE", "'2024-02-29'", "DATE", "2024-02-29"),
    ("DATE", "'0000-00-00'", "DATE", None),
    ("DATETIME(6)", "'2024-01-01 01:02:03.123456'", "TIMESTAMP", "2024-01-01 01:02:03.123456"),
    ("DATETIME", "'2024-00-15 00:00:00'", "TIMESTAMP", None),
    ("TIMESTAMP NULL", "'2024-01-01 01:02:03'", "TIMESTAMP WITH TIME ZONE", "2024-01-01 01:02:03+00"),
    ("TIME(3)", "'23:59:59.125'", "TIME", "23:59:59.125"),
    ("YEAR", "2024", "SMALLINT", "2024"),
    ("BIT(1)", "b'1'", "BOOLEAN", "true"),
    ("BIT(12)", "b'100000000001'", "UBIGINT", "2049"),
    ("ENUM('a','b')", "'b'", "VARCHAR", "b"),
    ("SET('a','b')", "'a,b'", "VARCHAR", "a,b"),
    ("JSON", "'{\"a\": 1}'", "VARCHAR", '{"a": 1}'),
    ("UUID", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "VARCHAR", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
]
BOTH = ["postgres_database", "mariadb_database"]


@pytest.fixture(params=BOTH)
def database(request: pytest.FixtureRequest) -> Database:
    found: Database = request.getfixturevalue(request.param)
    return found


def read(workshop: Workshop, database: Database, query: str, stop: Stop | None = None, **params: Any) -> Outcome:
    return workshop.run("source_db", Given({"conn_id": "db", "query": query}, vault=database.vault()), params, stop)


def as_texts(workshop: Workshop, outcome: Outcome) -> list[Any]:
    names = ", ".join(f'CAST("{name}" AS VARCHAR)' for name in outcome.columns)
    return list(workshop.rows(f"SELECT {names} FROM {outcome.sql}")[0])


# --- types --------------------------------------------------------------------------------------------------------


def test_every_type_of_postgresql(workshop: Workshop, postgres_database: Database) -> None:
    postgres_database.execute("CREATE TYPE mood AS ENUM ('happy', 'sad')")
    items = ", ".join(f"{sql} AS c{number}" for number, (sql, _, _) in enumerate(POSTGRES_TYPES))
    outcome = read(workshop, postgres_database, f"SELECT {items}")
    assert [column.type for column in outcome.schema] == [kind for _, kind, _ in POSTGRES_TYPES]
    assert as_texts(workshop, outcome) == [text for _, _, text in POSTGRES_TYPES]
    nothing = read(workshop, postgres_database, f"SELECT * FROM (SELECT {items}) t WHERE false")
    assert nothing.rows == []
    declared = [kind for sql, kind, _ in POSTGRES_TYPES if not sql.endswith("::numeric")]
    assert [column.type for column, row in zip(nothing.schema, POSTGRES_TYPES, strict=True) if not row[0].endswith("::numeric")] == declared
    blank = read(workshop, postgres_database, f"SELECT t.* FROM (SELECT 1) one LEFT JOIN (SELECT {items}) t ON false")
    assert blank.rows == [(None,) * len(POSTGRES_TYPES)]


def test_every_type_of_mariadb(workshop: Workshop, mariadb_database: Database) -> None:
    columns = ", ".join(f"c{number} {kind} NULL" for number, (kind, *_) in enumerate(MARIADB_TYPES))
    values = ", ".join(value for _, value, *_ in MARIADB_TYPES)
    nulls = ", ".join("NULL" for _ in MARIADB_TYPES)
    mariadb_database.execute(f"CREATE TABLE t ({columns})")
    with mariadb_database.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET sql_mode = '', time_zone = '+00:00'")
        cursor.execute(f"INSERT INTO t VALUES ({values})")
        cursor.execute(f"INSERT INTO t VALUES ({nulls})")
    outcome = read(workshop, mariadb_database, "SELECT * FROM t")
    assert [column.type for column in outcome.schema] == [kind for _, _, kind, _ in MARIADB_TYPES]
    assert as_texts(workshop, outcome) == [text for *_, text in MARIADB_TYPES]
    assert outcome.rows[1] == (None,) * len(MARIADB_TYPES)
    assert "Column 'c16' holds 1 dates that do not exist" in outcome.log.text
    nothing = read(workshop, mariadb_database, "SELECT * FROM t WHERE false")
    assert (nothing.rows, nothing.schema) == ([], outcome.schema)


def test_an_array_of_several_dimensions_is_refused(workshop: Workshop, postgres_database: Database) -> None:
    with pytest.raises(NodeError, match="Column 'grid' holds arrays of several dimensions; cast it to text or json in the query"):
        read(workshop, postgres_database, "SELECT '{{1,2},{3,4}}'::int[] AS grid")


def test_a_time_that_is_no_time_of_day(workshop: Workshop, mariadb_database: Database) -> None:
    with pytest.raises(NodeError, match=r"Column 'd' holds 100:00:00, which is no time of day; .*TIME_TO_SEC\(d\)"):
        read(workshop, mariadb_database, "SELECT CAST('100:00:00' AS TIME) AS d")


def test_columns_of_one_name(workshop: Workshop, database: Database) -> None:
    outcome = read(workshop, database, "SELECT 1 AS a, 2 AS a, 3 AS A")
    assert [name.lower() for name in outcome.columns] == ["a", "a_1", "a_2"]
    assert outcome.rows == [(1, 2, 3)]
    assert "'a' is now 'a_1'" in outcome.log.text


# --- values and statements ----------------------------------------------------------------------------------------

NASTY = "x'; DROP TABLE t; -- \" \\' %s $1 :a `"


def test_references_are_bound_values(workshop: Workshop, database: Database) -> None:
    database.execute("CREATE TABLE t (id integer, name varchar(100), day date)", "INSERT INTO t VALUES (1, 'a', '2024-01-01')")
    query = (
        "SELECT id, '${param.nasty}' AS a, 'it''s ${param.id} %' AS b FROM t "
        "WHERE id = ${param.id} AND day = '${param.day}' AND day < DATE '${param.later}' AND name <> ${param.nasty} AND 5 % 3 = 2"
    )
    outcome = read(workshop, database, query, nasty=NASTY, id=1, day="2024-01-01", later="2024-06-01")
    assert outcome.rows == [(1, NASTY, "it's 1 %")]
    assert database.rows("SELECT count(*) FROM t") == [(1,)]


def test_types_of_values_are_those_that_the_query_needs(workshop: Workshop, postgres_database: Database) -> None:
    query = "SELECT g FROM generate_series(timestamptz '${param.from}', ${param.to}, INTERVAL '${param.days} days') g "
    query += "WHERE ${param.yes} LIMIT ${param.most}"
    params: dict[str, Any] = {"from": "2024-01-01T00:00:00Z", "to": "2024-02-01T00:00:00Z", "days": 7, "yes": True, "most": 3}
    assert len(read(workshop, postgres_database, query, **params).rows) == 3
    with pytest.raises(NodeError, match='PostgreSQL refused the query: invalid input syntax for type integer: "x"'):
        read(workshop, postgres_database, "SELECT 1 + ${param.id}", id="x")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELECT * FROM nope", "nope"),
        ("SELEC 1", "begins with SELECT"),
        ("SELECT 1; SELECT 2", "Only one statement"),
        ("SELECT * FROM ${param.table}", "refused the query"),
        ("INSERT INTO t VALUES (2)", "begins with SELECT"),
        ("SELECT FROM", "refused the query"),
    ],
)
def test_what_is_no_query_is_refused(query: str, words: str, workshop: Workshop, database: Database) -> None:
    database.execute("CREATE TABLE t (id integer)")
    with pytest.raises(NodeError, match=words):
        read(workshop, database, query, table="t")


def test_a_query_that_writes_changes_nothing(workshop: Workshop, postgres_database: Database) -> None:
    postgres_database.execute(
        "CREATE TABLE t (id integer)",
        "CREATE FUNCTION sneak() RETURNS integer LANGUAGE sql VOLATILE AS 'INSERT INTO t VALUES (1) RETURNING id'",
    )
    for query in ("WITH x AS (INSERT INTO t VALUES (2) RETURNING id) SELECT * FROM x", "SELECT sneak()"):
        with pytest.raises(NodeError, match=r"PostgreSQL refused the query: .*read-only transaction"):
            read(workshop, postgres_database, query)
    with pytest.raises(NodeError, match="read-write mode"):
        read(workshop, postgres_database, "SELECT set_config('transaction_read_only', 'off', true), sneak()")
    assert postgres_database.rows("SELECT * FROM t") == []


def test_a_query_that_writes_changes_nothing_in_mariadb(workshop: Workshop, mariadb_database: Database, tmp_path: Path) -> None:
    mariadb_database.execute("CREATE TABLE t (id integer)", "CREATE FUNCTION sneak() RETURNS integer BEGIN INSERT INTO t VALUES (1); RETURN 1; END")
    with pytest.raises(NodeError, match=r"MySQL refused the query: .*READ ONLY"):
        read(workshop, mariadb_database, "SELECT sneak()")
    with pytest.raises(NodeError, match="cannot write files"):
        read(workshop, mariadb_database, "SELECT 1 INTO OUTFILE '/tmp/never'")
    assert mariadb_database.rows("SELECT * FROM t") == []


# --- reaching -----------------------------------------------------------------------------------------------------


def test_why_a_server_cannot_be_entered(workshop: Workshop, database: Database) -> None:
    def refused(**changes: Any) -> NodeError:
        with pytest.raises(NodeError) as caught:
            workshop.run("source_db", Given({"conn_id": "db", "query": "SELECT 1"}, vault=database.vault(**changes)))
        assert database.password not in caught.value.message
        return caught.value

    assert "did not accept the login or the password of the connection 'db'" in refused(password="wrong-password").message
    assert "has no database 'nope'" in refused(schema="nope").message or "did not accept" in refused(schema="nope").message
    assert "nothing listens there now" in refused(port=1).message
    assert isinstance(refused(port=1), TransientNodeError)
    assert "is not known" in refused(host="nope.invalid").message
    assert isinstance(refused(host="nope.invalid"), TransientNodeError)
    assert "TLS" in refused(extra={"sslmode": "verify-full"}).message
    assert "'hostaddr' of the connection 'db' cannot be set" in refused(extra={"hostaddr": "10.0.0.1"}).message
    assert "outside the data folders" in refused(extra={"sslrootcert": "/etc/ssl/certs/ca-certificates.crt"}).message


def test_a_password_in_a_uri_is_not_told(workshop: Workshop, database: Database) -> None:
    with pytest.raises(NodeError) as caught:
        workshop.run("source_db", Given({"uri": database.uri, "query": f"SELECT '{database.password}' + nope"}))
    assert database.password not in caught.value.message
    assert workshop.run("source_db", Given({"uri": database.uri, "query": "SELECT 1 AS a"})).rows == [(1,)]


def test_addresses_that_are_not_allowed_are_not_asked(workshop: Workshop, database: Database, settings: Any) -> None:
    settings.ALLOWED_NETWORKS = type(settings.ALLOWED_NETWORKS)()
    for host in ("127.0.0.1", "localhost", "0x7f000001", "2130706433"):
        with pytest.raises(NodeError, match="may not be reached"):
            workshop.run("source_db", Given({"conn_id": "db", "query": "SELECT 1"}, vault=database.vault(host=host)))


# --- stopping and dying -------------------------------------------------------------------------------------------

ENDLESS = {
    "postgres": ["SELECT pg_sleep(60)", "SELECT g AS id, repeat('x', 1000) AS s FROM (SELECT generate_series(1, 2000000000) AS g) t"],
    "mysql": ["SELECT sleep(60)", "SELECT a.seq AS id, repeat('x', 1000) AS s FROM seq_1_to_1000000 a, seq_1_to_1000 b"],
}


@pytest.mark.parametrize("number", [0, 1], ids=["before the first row", "in the middle"])
def test_a_stop_ends_the_query_on_the_server_too(number: int, workshop: Workshop, database: Database) -> None:
    stop, errors = Stop(), list[BaseException]()

    def work() -> None:
        try:
            read(workshop, database, ENDLESS[database.type][number], stop)
        except NodeError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    wait_for(lambda: database.others() == 1)
    thread.join(0.5)
    asked = time.monotonic()
    stop.stop(NodeCancelled("The run was cancelled."))
    thread.join(10)
    assert not thread.is_alive()
    assert time.monotonic() - asked < within(2)
    assert [type(error) for error in errors] == [NodeCancelled]
    wait_for(lambda: database.others() == 0)
    assert not workshop.artifacts()


def test_a_read_that_takes_too_long(workshop: Workshop, database: Database) -> None:
    with pytest.raises(NodeTimeout):
        read(workshop, database, ENDLESS[database.type][0], Stop(timeout_seconds=0.5))
    wait_for(lambda: database.others() == 0)


def test_a_session_that_is_ended_in_the_middle(workshop: Workshop, database: Database) -> None:
    """What a restart of the server does to it."""
    thread = threading.Thread(target=database.end_reader)
    thread.start()
    with pytest.raises(TransientNodeError, match="went away in the middle of the work"):
        read(workshop, database, ENDLESS[database.type][1])
    thread.join()
    assert not workshop.artifacts()


# --- dry runs -----------------------------------------------------------------------------------------------------


def test_a_dry_run_reads_the_first_rows(workshop: Workshop, database: Database) -> None:
    series = {"postgres": "SELECT generate_series(1, 100000000) AS id", "mysql": "SELECT seq AS id FROM seq_1_to_100000000"}[database.type]
    answer = workshop.dry_run("source_db", Given({"conn_id": "db", "query": series}, vault=database.vault()))
    assert answer["status"] == "success", answer
    assert [row["id"] for row in answer["rows"]] == list(range(1, 11))
    wait_for(lambda: database.others() == 0)


# --- servers that die ---------------------------------------------------------------------------------------------


@pytest.fixture
def own_server(loopback_allowed: None) -> Iterator[postgres.Server]:
    """One that may be harmed."""
    with postgres.running() as server:
        yield server


@pytest.mark.slow
def test_a_server_that_dies_half_way(workshop: Workshop, own_server: postgres.Server) -> None:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            workshop.run("source_db", Given({"uri": own_server.url(), "query": ENDLESS["postgres"][1]}))
        except NodeError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    watching = Database("postgres", "postgres", own_server.port, own_server.password)
    wait_for(lambda: watching.rows("SELECT 1 FROM pg_stat_activity WHERE query LIKE 'COPY%' AND now() - query_start > interval '0.5 s'"))
    own_server.restart(signal.SIGQUIT)  # a crash, and up again
    thread.join(10)
    assert [(type(error), "went away" in str(error)) for error in errors] == [(TransientNodeError, True)]
    assert not workshop.artifacts()


def freeze(server: psutil.Process) -> list[psutil.Process]:
    """The server, and then its children, so that it makes no more of them. One that is about to end, as that of a closed connection, may."""
    server.suspend()
    frozen = [server]
    for process in server.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.suspend()
            frozen.append(process)
    return frozen


@pytest.mark.slow
def test_a_stop_does_not_wait_for_a_frozen_server(workshop: Workshop, own_server: postgres.Server) -> None:
    """It answers neither the query nor the cancellation."""
    stop, errors = Stop(), list[BaseException]()

    def work() -> None:
        try:
            workshop.run("source_db", Given({"uri": own_server.url(), "query": ENDLESS["postgres"][0]}), stop=stop)
        except NodeError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    with psycopg.connect(own_server.url(), autocommit=True) as watching:
        wait_for(lambda: watching.execute("SELECT pid FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()").fetchall())
    frozen = freeze(psutil.Process(own_server.process_id))
    try:
        asked = time.monotonic()
        stop.stop(NodeCancelled("The run was cancelled."))
        thread.join(10)
        assert not thread.is_alive()
        assert time.monotonic() - asked < within(2)
        assert [type(error) for error in errors] == [NodeCancelled]
    finally:
        for process in frozen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
