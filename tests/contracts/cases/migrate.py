"""`migrate`, between SQLite files: servers have their own tests in `tests/databases/`."""

from collections.abc import Callable

from pipelines.vault import StoredConnection, Vault
from tests.contracts import sqlite_tables
from tests.contracts.case import Cases, Failing, Given, Invalid, Valid
from tests.contracts.cases.source_db import ENDLESS, database
from tests.contracts.cases.source_db import typical as written_to_sqlite
from tests.contracts.workshop import Outcome, Workshop

VAULT = Vault(connections={name: StoredConnection(name, "sqlite", host=f"{name}.db") for name in ("from", "to")})
TABLE = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)"


def copy(query: str = "SELECT * FROM t", **more: object) -> dict[str, object]:
    return {"source_conn_id": "from", "dest_conn_id": "to", "source_query": query, "dest_table": "t", **more}


def files(*there: str) -> Callable[[Workshop], None]:
    """Three rows to copy, and a destination."""

    def make(workshop: Workshop) -> None:
        database(TABLE, "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, NULL)", name="from.db")(workshop)
        database(*there, name="to.db")(workshop)

    return make


def holds(count: int, *rows: tuple[object, ...]) -> Callable[[Outcome, Workshop], None]:
    """So many were written, and these are there now."""

    def check(outcome: Outcome, workshop: Workshop) -> None:
        assert outcome.result.row_count == count
        assert sqlite_tables.rows(workshop.folder / "to.db", "SELECT id, name FROM t ORDER BY id") == list(rows)

    return check


ALL = ((1, "a"), (2, "b"), (3, None))
VALID = [
    Valid(copy(), vault=VAULT, before=files(TABLE), after=holds(3, *ALL), logged=["Wrote 3 rows to 't' (append)"], name="append"),
    Valid(copy(create_table=True), vault=VAULT, before=files(), after=holds(3, *ALL), name="create the table"),
    Valid(
        copy("SELECT * FROM t WHERE id >= ${param.least}", mode="overwrite"),
        vault=VAULT,
        params={"least": 2},
        before=files(TABLE, "INSERT INTO t VALUES (9, 'old')"),
        after=holds(2, *ALL[1:]),
        name="overwrite",
    ),
    Valid(
        copy(mode="upsert", key_columns=["id"], partition={"column": "id", "strategy": "numeric", "boundaries": [2, 3], "max_parallel": 2}),
        vault=VAULT,
        before=files(TABLE, "INSERT INTO t VALUES (2, 'old'), (9, 'kept')"),
        after=holds(3, *ALL, (9, "kept")),
        name="upsert in parts",
    ),
    Valid(
        {"source_uri": "sqlite:///from.db", "dest_uri": "sqlite:///to.db", "source_query": "SELECT * FROM t", "dest_table": "t", "dialect": "sqlite"},
        before=files(TABLE),
        after=holds(3, *ALL),
        name="URIs, as the SDK writes them",
    ),
]
INVALID = [
    Invalid(copy(""), field="source_query"),
    Invalid(copy(source_conn_id=""), field="source_conn_id", vault=VAULT, before=files(TABLE)),
    Invalid(copy(dest_table=""), field="dest_table"),
    Invalid(copy(mode="sideways"), field="mode"),
    Invalid(copy(mode="upsert"), field="key_columns", words="an upsert finds rows by it"),
    Invalid(copy("DELETE FROM t"), field="source_query", words="begins with SELECT", vault=VAULT, before=files(TABLE)),
    Invalid(copy(partition={"column": "id", "boundaries": [3, 2]}), field="partition.boundaries", words="strictly increasing"),
    Invalid(copy(partition={"column": "id", "strategy": "date", "boundaries": [1, 2]}), field="partition.boundaries", words="times"),
    Invalid(copy(partition={"column": "id", "strategy": "hash", "boundaries": [1, 2]}), field="partition.strategy"),
    Invalid(copy(partition={"column": "id", "boundaries": [1], "max_parallel": 65}), field="partition.max_parallel"),
]
FAILING = [
    Failing(copy(), vault=VAULT, before=files(), words=["no table 't'", "create_table"]),
    Failing(copy("SELECT id, name FROM nope"), vault=VAULT, before=files(TABLE), words=["SQLite refused the query", "no such table: nope"]),
    Failing(copy("SELECT id, 'x' AS other FROM t"), vault=VAULT, before=files(TABLE), words=["other"]),
    Failing(copy(), vault=VAULT, before=files(TABLE, "INSERT INTO t VALUES (2, 'old')"), words=["UNIQUE"]),
    Failing(copy(), words=["no connection 'from'"]),
]


def typical(workshop: Workshop, table: str) -> Given:
    source = written_to_sqlite(workshop, table)
    more = {"dest_uri": "sqlite:///copied.db", "dest_table": "copied", "mode": "overwrite", "create_table": True}
    return Given({"source_uri": source.config["uri"], "source_query": source.config["query"], **more})


def slow(workshop: Workshop) -> Given:
    if not (workshop.folder / "from.db").exists():
        files("CREATE TABLE slow (n INTEGER)")(workshop)
    return Given(copy(ENDLESS, dest_table="slow", mode="overwrite"), vault=VAULT)


CASES = Cases(
    valid=VALID,
    invalid=INVALID,
    failing=FAILING,
    normalised=[(copy(mode="Replace"), copy(mode="overwrite"))],
    typical=typical,
    slow=slow,
    read_back=lambda workshop: sqlite_tables.taken_over(workshop, workshop.folder / "copied.db", "copied"),
)
