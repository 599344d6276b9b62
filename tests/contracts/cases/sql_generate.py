"""Cases of `sql_generate`: literals of every dialect, batches, and text that real databases take back."""

from pathlib import Path

from tests.contracts import sqlite_tables
from tests.contracts.case import Cases, Failing, Given, Invalid, Valid
from tests.contracts.workshop import Workshop

ROWS = "SELECT * FROM (VALUES (1, 'x', 1.5), (2, NULL, NULL)) t(id, name, amount)"
# Everything that one dialect or another writes in its own way.
KINDS = """SELECT 'it''s \\ "q"' AS s, '\\xAB\\x00'::BLOB AS b, {'a': [1, 2]} AS n, DATE '2024-01-15' AS d, TIMESTAMP '2024-01-15 06:00:00.5' AS t,
    TIMESTAMPTZ '2024-01-15 06:00:00+02' AS z, TIME '06:00:00' AS c, true AS y, 12345678901234567890::DECIMAL(20, 0) AS big, 0.1::DOUBLE AS f,
    NULL::VARCHAR AS o"""
_NAMES = ("s", "b", "n", "d", "t", "z", "c", "y", "big", "f", "o")


def insert(quote: str, values: str) -> str:
    names = ", ".join(f"{quote}{name}{quote}" for name in _NAMES)
    return f"INSERT INTO {quote}t{quote} ({names}) VALUES\n  ({values});\n"


def gives(config: dict[str, object], sql: str, text: str, name: str = "") -> Valid:
    return Valid({"table": "t", **config}, [sql], columns=["sql_output"], types=["VARCHAR"], rows=[(text,)], name=name)


VALID = [
    gives({}, ROWS, 'INSERT INTO "t" ("id", "name", "amount") VALUES\n  (1, \'x\', 1.5),\n  (2, NULL, NULL);\n'),
    gives(
        {"batch_size": 1, "create_table": True},
        "SELECT i AS id FROM range(2) t(i)",
        'CREATE TABLE IF NOT EXISTS "t" (\n  "id" BIGINT\n);\nINSERT INTO "t" ("id") VALUES\n  (0);\nINSERT INTO "t" ("id") VALUES\n  (1);\n',
        name="a statement a row",
    ),
    gives({}, f"{ROWS} WHERE false", "", name="no rows, no statement"),
    gives({"table": 'sales."my.orders"'}, "SELECT 1 AS id", 'INSERT INTO "sales"."my.orders" ("id") VALUES\n  (1);\n'),
    gives(
        {"table": 't" (id) VALUES (1); --'}, "SELECT 1 AS id", 'INSERT INTO "t"" (id) VALUES (1); --" ("id") VALUES\n  (1);\n', name="no injection"
    ),
    gives(
        {"table": "t`x", "dialect": "MariaDB"}, 'SELECT 1 AS "a`b%s"', "INSERT INTO `t``x` (`a``b%s`) VALUES\n  (1);\n", name="no injection in MySQL"
    ),
    gives(
        {"dialect": "generic"},
        KINDS,
        insert(
            '"',
            "'it''s \\ \"q\"', X'AB00', '{\"a\":[1,2]}', DATE '2024-01-15', TIMESTAMP '2024-01-15 06:00:00.5', "
            "TIMESTAMP '2024-01-15 04:00:00+00:00', TIME '06:00:00', TRUE, 12345678901234567890, 0.1, NULL",
        ),
    ),
    gives(
        {"dialect": "postgresql"},
        KINDS,
        insert(
            '"',
            "'it''s \\ \"q\"', CAST('\\xAB00' AS BYTEA), '{\"a\":[1,2]}', '2024-01-15', '2024-01-15 06:00:00.5', '2024-01-15 04:00:00+00:00', "
            "'06:00:00', TRUE, 12345678901234567890, 0.1, NULL",
        ),
    ),
    gives(
        {"dialect": "mysql"},
        KINDS,
        insert(
            "`",
            "'it''s \\\\ \"q\"', X'AB00', '{\"a\":[1,2]}', '2024-01-15', '2024-01-15 06:00:00.5', '2024-01-15 04:00:00', "
            "'06:00:00', TRUE, 12345678901234567890, 0.1, NULL",
        ),
    ),
    gives(
        {"dialect": "sqlite"},
        KINDS,
        insert(
            '"',
            "'it''s \\ \"q\"', X'AB00', '{\"a\":[1,2]}', '2024-01-15', '2024-01-15 06:00:00.5', '2024-01-15 04:00:00', "
            "'06:00:00', 1, 12345678901234567890, 0.1, NULL",
        ),
    ),
    gives(
        {"dialect": "postgres"},
        "SELECT 'nan'::DOUBLE AS f, '-inf'::DOUBLE AS g, 'infinity'::DATE AS d",
        'INSERT INTO "t" ("f", "g", "d") VALUES\n  (CAST(\'nan\' AS DOUBLE PRECISION), CAST(\'-inf\' AS DOUBLE PRECISION), \'infinity\');\n',
    ),
    gives(
        {"dialect": "sqlite"}, "SELECT 'nan'::DOUBLE AS f, '-inf'::DOUBLE AS g", 'INSERT INTO "t" ("f", "g") VALUES\n  (NULL, -9e999);\n', name="NaN"
    ),
    gives(
        {"dialect": "postgres", "create_table": True},
        "SELECT 1::DECIMAL(18, 3) AS a, uuid() AS b, 1::UTINYINT AS c, [1] AS d, INTERVAL 1 DAY AS e WHERE false",
        'CREATE TABLE IF NOT EXISTS "t" (\n  "a" DECIMAL(18, 3),\n  "b" UUID,\n  "c" SMALLINT,\n  "d" JSONB,\n  "e" INTERVAL\n);\n',
        name="types",
    ),
]

INVALID = [
    Invalid({}, field="table"),
    Invalid({"table": ""}, field="table"),
    Invalid({"table": "a..b"}, field="table", words="is not the name of a table"),
    Invalid({"table": "t", "dialect": "klingon"}, field="dialect"),
    Invalid({"table": "t", "batch_size": 0}, field="batch_size"),
    Invalid({"table": "t", "batch_size": 10_001}, field="batch_size"),
]

FAILING = [
    Failing({"table": "t", "dialect": "mysql"}, ["SELECT 'nan'::DOUBLE AS f"], words=["Column 'f' holds nan", "mysql SQL has no number"]),
    Failing({"table": "t"}, ["SELECT 'inf'::DOUBLE AS f"], words=["Column 'f' holds inf"]),
    Failing({"table": "t"}, ["SELECT 'a' || chr(0) AS s"], words=["Column 's' holds a NUL character"]),
    Failing({"table": "t", "dialect": "sqlite"}, ["SELECT 'infinity'::DATE AS d"], words=["Column 'd' holds the time 'infinity'"]),
    Failing({"table": "t"}, ["SELECT repeat('x', 1000000) AS s FROM range(17)"], words=["more than 16 MiB of SQL", "Use sink_db"]),
]


def typical(workshop: Workshop, table: str) -> Given:
    return Given({"table": "typical", "dialect": "sqlite", "create_table": True, "batch_size": 10}, [table])


def slow(workshop: Workshop) -> Given:
    # Short rows: all of them are written before the bound on bytes would stop the node.
    return Given({"table": "t"}, ["SELECT i % 7 AS k FROM range(2_200_000) t(i)"])


def read_back(workshop: Workshop) -> str:
    """Rows as SQLite has them after it executed the statements of the latest output."""
    outputs = [workshop.store.path(f"{workshop.run_id}/{name}") for name in workshop.artifacts()]
    latest = max(outputs, key=lambda path: path.stat().st_mtime_ns)
    ((text,),) = workshop.rows(f"SELECT sql_output FROM read_parquet('{latest}')")
    file = Path(workshop.folder, "read_back.db")
    file.unlink(missing_ok=True)
    sqlite_tables.execute(file, text)
    return sqlite_tables.taken_over(workshop, file, "typical")


CASES = Cases(
    valid=VALID,
    invalid=INVALID,
    failing=FAILING,
    normalised=[({"table": "t", "dialect": " PostgreSQL "}, {"table": "t", "dialect": "postgres"}), ({"dialect": ""}, {"dialect": "generic"})],
    typical=typical,
    slow=slow,
    read_back=read_back,
    refuses_many="more than 16 MiB of SQL",
)
