"""`source_db`, on SQLite files: servers have their own tests in `tests/databases/`."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import date, datetime

from pipelines.vault import StoredConnection, Vault
from tests.contracts.case import Cases, Failing, Given, Invalid, Valid
from tests.contracts.workshop import Workshop

VAULT = Vault(connections={"lite": StoredConnection("lite", "sqlite", host="a.db"), "web": StoredConnection("web", "http", host="example.org")})
URI = "sqlite:///a.db"
ENDLESS = "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s LIMIT 1000000000) SELECT count(*) AS n FROM s"


def database(*statements: str, name: str = "a.db") -> Callable[[Workshop], None]:
    """Makes the file."""

    def make(workshop: Workshop) -> None:
        with closing(sqlite3.connect(workshop.folder / name)) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()

    return make


PEOPLE = database(
    "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, born DATE, seen DATETIME, active BOOLEAN, weight REAL, photo BLOB)",
    "INSERT INTO people VALUES (1, 'Zoë', '1990-05-01', '2024-01-02 03:04:05.5', 1, 61.5, x'00ff'), (2, NULL, NULL, NULL, NULL, NULL, NULL)",
    "INSERT INTO people VALUES (9223372036854775807, 'it''s', '2001-12-31', '2024-01-02T03:04:05', 0, 70, x'')",
)
DYNAMIC = database("CREATE TABLE t (a)", "INSERT INTO t VALUES (1), ('x'), (2.5), (NULL)")
BLOBS = database("CREATE TABLE t (a)", "INSERT INTO t VALUES (x'ff'), ('x')")


def rubbish(workshop: Workshop) -> None:
    (workshop.folder / "a.db").write_text("x" * 5000)


def asked(query: str, **more: object) -> dict[str, object]:
    return {"conn_id": "lite", "query": query, **more}


VALID = [
    Valid(
        asked("SELECT * FROM people ORDER BY id"),
        before=PEOPLE,
        vault=VAULT,
        columns=["id", "name", "born", "seen", "active", "weight", "photo"],
        types=["BIGINT", "VARCHAR", "DATE", "TIMESTAMP", "BOOLEAN", "DOUBLE", "BLOB"],
        rows=[
            (1, "Zoë", date(1990, 5, 1), datetime.fromisoformat("2024-01-02 03:04:05.5"), True, 61.5, b"\x00\xff"),
            (2, None, None, None, None, None, None),
            (2**63 - 1, "it's", date(2001, 12, 31), datetime.fromisoformat("2024-01-02 03:04:05"), False, 70.0, b""),
        ],
        logged=["Reading from the connection 'lite' (SQLite)"],
        name="types",
    ),
    Valid(
        {"uri": URI, "query": "SELECT * FROM people WHERE id < 0;  "},
        before=PEOPLE,
        types=["BIGINT", "VARCHAR", "DATE", "TIMESTAMP", "BOOLEAN", "DOUBLE", "BLOB"],
        rows=[],
        name="nothing keeps its types",
    ),
    Valid(
        asked("SELECT a FROM t"),
        before=DYNAMIC,
        vault=VAULT,
        types=["VARCHAR"],
        rows=[("1",), ("x",), ("2.5",), (None,)],
        logged=["Column 'a' holds values of several kinds; it comes as text."],
        name="values of several kinds",
    ),
    Valid(
        asked("SELECT id, id AS ID, 1 AS id_1, name AS name FROM people WHERE id = 1"),
        before=PEOPLE,
        vault=VAULT,
        columns=["id", "ID_2", "id_1", "name"],
        rows=[(1, 1, 1, "Zoë")],
        name="columns of one name",
    ),
    Valid(
        asked(
            "SELECT '${param.text}' AS a, ${param.text} AS b, 'x ${param.number} y' AS c, ${param.number} + 1 AS d, "
            "${param.no} AS e, '$${x}' AS f -- ${param.text}"
        ),
        before=PEOPLE,
        vault=VAULT,
        params={"text": "it's '' \" \\ %s ? -- ; $1 :a", "number": 41, "no": None},
        rows=[("it's '' \" \\ %s ? -- ; $1 :a", "it's '' \" \\ %s ? -- ; $1 :a", "x 41 y", 42, None, "${x}")],
        name="references are values",
    ),
    Valid(
        asked(
            "WITH x AS (SELECT id FROM people) SELECT count(*) AS n, sum(id = ${param.id}) AS m FROM x",
            schema={"n": "int"},
            _schema_hint="query_result",
        ),
        before=PEOPLE,
        vault=VAULT,
        params={"id": 2},
        rows=[(3, 1)],
        name="WITH, and the SDK's keys",
    ),
    Valid(asked("VALUES (1, 'a'), (2, 'b')"), before=PEOPLE, vault=VAULT, columns=["column1", "column2"], rows=[(1, "a"), (2, "b")], name="VALUES"),
]

INVALID = [
    Invalid({}, field="query"),
    Invalid({"conn_id": "lite", "query": ""}, field="query"),
    Invalid({"query": "SELECT 1"}, field="conn_id", words="a 'uri'"),
    Invalid(
        {"uri": "sqlite:///a.db?x=1&mode", "query": "SELECT 1; SELECT 2"}, field="query", words="Only one statement", line=1, column=9, before=PEOPLE
    ),
    Invalid(asked("\n  DELETE FROM people"), field="query", words="begins with SELECT", line=2, column=3, before=PEOPLE, vault=VAULT),
    Invalid(asked("ATTACH 'b.db' AS b"), field="query", words="begins with SELECT", before=PEOPLE, vault=VAULT),
    Invalid(asked("SELECT 'abc"), field="query", words="has no end", before=PEOPLE, vault=VAULT),
    Invalid(
        asked('SELECT * FROM "${param.table}"'),
        field="query",
        words="nowhere else",
        line=1,
        column=16,
        before=PEOPLE,
        vault=VAULT,
        params={"table": "people"},
    ),
    Invalid(asked("SELECT ${nonsense.x}"), field="query", words="is unknown", line=1, column=8, before=PEOPLE, vault=VAULT),
    Invalid(asked("SELECT ${param.x}"), field="query", words="param.x", at_save=False, before=PEOPLE, vault=VAULT),
    Invalid({"uri": "postgres://h:99999999/x", "query": "SELECT 1"}, field="uri", words="cannot be read"),
    Invalid({"uri": "postgres://u@example.org/x?service=y", "query": "SELECT 1"}, field="uri", words="'service'"),
    Invalid({"uri": "postgres://u@a.example.org,b.example.org/x", "query": "SELECT 1"}, field="uri", words="must be one host"),
    Invalid({"uri": "sqlite://", "query": "SELECT 1"}, field="uri", words="is not named"),
    Invalid({"uri": "nonsense", "query": "SELECT 1"}, field="uri", words="cannot be read"),
]

FAILING = [
    Failing(asked("SELECT * FROM nope"), vault=VAULT, before=PEOPLE, words=["SQLite refused the query", "no such table: nope"]),
    Failing(
        asked("SELECT * FROM ${param.t}"), vault=VAULT, before=PEOPLE, params={"t": "people"}, words=["SQLite refused the query", "syntax error"]
    ),
    Failing(asked("SELECT 1"), words=["no connection 'lite'"]),
    Failing({"conn_id": "web", "query": "SELECT 1"}, vault=VAULT, words=["of type 'http'", "postgres"]),
    Failing({"uri": "sqlite:///missing.db", "query": "SELECT 1"}, words=["'missing.db'"]),
    Failing({"uri": "sqlite:////etc/passwd", "query": "SELECT 1"}, words=["'/etc/passwd' is outside the data folders"]),
    Failing({"uri": "sqlite:///../a.db", "query": "SELECT 1"}, words=["../a.db"]),
    Failing(
        asked("SELECT 1"),
        vault=VAULT,
        before=rubbish,
        words=["'a.db' is no SQLite database"],
    ),
    Failing(asked("SELECT a FROM t"), vault=VAULT, before=BLOBS, words=["Column 'a' holds blobs beside other values", "CAST(a AS TEXT)"]),
    Failing(asked("SELECT load_extension('x')"), vault=VAULT, before=PEOPLE, words=["SQLite refused the query"]),
    Failing(asked("WITH x AS (SELECT 1) DELETE FROM people"), vault=VAULT, before=PEOPLE, words=["SQLite refused the query"]),
    Failing(asked("SELECT * FROM pragma_database_list"), vault=VAULT, before=PEOPLE, words=["SQLite refused the query"]),
    Failing({"uri": "postgres://u:hidden-password@10.1.2.3/x", "query": "SELECT 1"}, words=["may not be reached", "BROKOLI_ALLOWED_NETWORKS"]),
    Failing({"uri": "mysql://u:hidden-password@169.254.169.254/x", "query": "SELECT 1"}, words=["may not be reached"]),
    Failing({"uri": "oracle+oracledb://u@10.0.0.1/x", "query": "SELECT 1"}, words=["may not be reached"]),
]


def typical(workshop: Workshop, table: str) -> Given:
    """The rows in a file, read back."""
    described = workshop.maker.execute(f"DESCRIBE {table}").fetchall()
    names = [f'"{name.replace(chr(34), chr(34) * 2)}" {kind}' for name, kind, *_ in described]
    path = workshop.folder / "typical.db"
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(f"CREATE TABLE t ({', '.join(names)})")
        found = workshop.maker.execute(table)
        while rows := found.fetchmany(50_000):
            plain = (
                [float(value) if type(value).__name__ == "Decimal" else str(value) if isinstance(value, date) else value for value in row]
                for row in rows
            )
            connection.executemany(f"INSERT INTO t VALUES ({', '.join('?' for _ in names)})", plain)
        connection.commit()
    return Given({"uri": "sqlite:///typical.db", "query": "SELECT * FROM t"})


def slow(workshop: Workshop) -> Given:
    database("CREATE TABLE IF NOT EXISTS t (a)", name="slow.db")(workshop)
    return Given({"uri": "sqlite:///slow.db", "query": ENDLESS})


CASES = Cases(valid=VALID, invalid=INVALID, failing=FAILING, typical=typical, slow=slow)
