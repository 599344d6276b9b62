"""Cases of `sink_file`: every format and compression, appending, and the old file that survives a failure."""

import datetime as dt
import gzip
from collections.abc import Callable

import python_calamine

from tests.contracts.case import Cases, Failing, Given, Invalid, Valid
from tests.contracts.workshop import Outcome, Workshop

ROWS = "SELECT * FROM (VALUES (1, 'x', 1.5), (2, NULL, NULL)) t(id, name, amount)"
# Everything that one of the formats has no word for.
KINDS = """SELECT 'it''s "q", ' || chr(10) || 'two lines' AS s, 'nan'::DOUBLE AS f, '\\xAB'::BLOB AS b, {'a': [1, 2]} AS n, DATE '2024-01-15' AS d,
    TIMESTAMP '2024-01-15 06:00:00' AS t, true AS y, 12345678901234567890::DECIMAL(20, 0) AS big, NULL::VARCHAR AS z"""


def holds(name: str, content: str | bytes) -> Callable[[Outcome, Workshop], None]:
    """The file has this content, and nothing else is in the folder."""

    def check(outcome: Outcome, workshop: Workshop) -> None:
        expected = content.encode() if isinstance(content, str) else content
        assert workshop.files() == {name: expected}

    return check


def unpacks_to(name: str, content: str) -> Callable[[Outcome, Workshop], None]:
    def check(outcome: Outcome, workshop: Workshop) -> None:
        assert gzip.decompress(workshop.files()[name]).decode() == content

    return check


def reads_back(sql: str, rows: list[tuple[object, ...]]) -> Callable[[Outcome, Workshop], None]:
    """`sql` selects from `{folder}/…`."""

    def check(outcome: Outcome, workshop: Workshop) -> None:
        assert workshop.rows(sql.format(folder=workshop.folder)) == rows

    return check


def there(name: str, content: str | bytes) -> Callable[[Workshop], None]:
    def write(workshop: Workshop) -> None:
        (workshop.folder / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return write


def parquet_there(sql: str) -> Callable[[Workshop], None]:
    def write(workshop: Workshop) -> None:
        workshop.maker.execute(f"COPY ({sql}) TO '{workshop.folder / 'a.parquet'}' (FORMAT parquet)")

    return write


def compression_of(name: str) -> Callable[[Outcome, Workshop], None]:
    def check(outcome: Outcome, workshop: Workshop) -> None:
        sql = f"SELECT DISTINCT compression FROM parquet_metadata('{workshop.folder / 'a.parquet'}')"
        assert workshop.rows(sql) == [(name,)]

    return check


def link(name: str, target: str) -> Callable[[Workshop], None]:
    return lambda workshop: (workshop.folder / name).symlink_to(target)


def wrote(count: int) -> Callable[[Outcome, Workshop], None]:
    def check(outcome: Outcome, workshop: Workshop) -> None:
        assert outcome.result.row_count == count
        assert outcome.result.output is None

    return check


OVERWRITE = [
    Valid({"path": "a.csv"}, [ROWS], after=holds("a.csv", "id,name,amount\n1,x,1.5\n2,,\n")),
    Valid({"path": "a.csv"}, [ROWS], before=there("a.csv", "old"), after=holds("a.csv", "id,name,amount\n1,x,1.5\n2,,\n"), name="replaces"),
    Valid({"path": "deep/er/a.csv", "header": False}, [ROWS], after=holds("deep/er/a.csv", "1,x,1.5\n2,,\n")),
    Valid({"path": "a.csv", "delimiter": ";"}, [ROWS], after=holds("a.csv", "id;name;amount\n1;x;1.5\n2;;\n")),
    Valid({"path": "a.tsv"}, [ROWS], after=holds("a.tsv", "id\tname\tamount\n1\tx\t1.5\n2\t\t\n")),
    Valid({"path": "a.csv"}, [f"{ROWS} WHERE false"], after=holds("a.csv", "id,name,amount\n"), rows=[], name="no rows"),
    Valid({"path": "a.csv"}, [ROWS], after=wrote(2), name="counts the rows written"),
    Valid({"path": "a.json"}, [ROWS], after=reads_back("FROM read_json('{folder}/a.json')", [(1, "x", 1.5), (2, None, None)])),
    Valid({"path": "a.jsonl"}, [ROWS], after=holds("a.jsonl", '{"id":1,"name":"x","amount":1.5}\n{"id":2,"name":null,"amount":null}\n')),
    Valid({"path": "a.jsonl"}, ["SELECT 'nan'::DOUBLE AS f, '\\xAB'::BLOB AS b"], after=holds("a.jsonl", '{"f":null,"b":"qw=="}\n')),
    Valid({"path": "a.csv.gz"}, [ROWS], after=unpacks_to("a.csv.gz", "id,name,amount\n1,x,1.5\n2,,\n")),
    Valid({"path": "a.jsonl", "compress": True}, ["SELECT 1 AS id"], after=unpacks_to("a.jsonl", '{"id":1}\n')),
    Valid({"path": "a.parquet"}, [ROWS], after=compression_of("SNAPPY")),
    Valid({"path": "a.parquet", "compression": "zstd"}, [ROWS], after=compression_of("ZSTD")),
    Valid({"path": "a.parquet", "compression": "none"}, [ROWS], after=compression_of("UNCOMPRESSED")),
    Valid({"path": "data", "format": "CSV"}, ["SELECT 1 AS id"], after=holds("data", "id\n1\n")),
    Valid({"path": "a[1]*.csv"}, ["SELECT 1 AS id"], after=holds("a[1]*.csv", "id\n1\n"), name="a name that looks like a pattern"),
    Valid(
        {"path": "a.csv"},
        [KINDS],
        after=holds(
            "a.csv",
            's,f,b,n,d,t,y,big,z\n"it\'s ""q"", \ntwo lines",nan,qw==,"{""a"":[1,2]}",2024-01-15,2024-01-15 06:00:00,true,12345678901234567890,\n',
        ),
        name="every kind as CSV",
    ),
    Valid(
        {"path": "a.sql", "table": "main.orders"},
        [KINDS],
        after=holds(
            "a.sql",
            'INSERT INTO "main"."orders" ("s", "f", "b", "n", "d", "t", "y", "big", "z") VALUES '
            "('it''s \"q\", \ntwo lines', NULL, X'AB', '{\"a\":[1,2]}', '2024-01-15', '2024-01-15 06:00:00', true, 12345678901234567890, NULL);\n",
        ),
        name="every kind as SQL",
    ),
    Valid({"path": "in/orders.sql"}, ['SELECT 1 AS "o\'dd"'], after=holds("in/orders.sql", 'INSERT INTO "orders" ("o\'dd") VALUES (1);\n')),
]

APPEND = [
    Valid({"path": "a.csv", "mode": "append"}, ["SELECT 1 AS id"], after=holds("a.csv", "id\n1\n"), name="to nothing"),
    Valid(
        {"path": "a.csv", "mode": "append"}, ["SELECT 1 AS id"], before=there("a.csv", ""), after=holds("a.csv", "id\n1\n"), name="to an empty file"
    ),
    Valid({"path": "a.csv", "mode": "append"}, ["SELECT 2 AS id"], before=there("a.csv", "id\n1\n"), after=holds("a.csv", "id\n1\n2\n")),
    Valid(
        {"path": "a.csv", "mode": "append"},
        ["SELECT 2 AS id"],
        before=there("a.csv", "id\n1"),
        after=holds("a.csv", "id\n1\n2\n"),
        name="no line end",
    ),
    Valid(
        {"path": "a.csv.gz", "mode": "append"},
        ["SELECT 2 AS id"],
        before=there("a.csv.gz", gzip.compress(b"id\n1\n")),
        after=unpacks_to("a.csv.gz", "id\n1\n2\n"),
    ),
    Valid(
        {"path": "a.jsonl", "mode": "append"}, ["SELECT 2 AS b"], before=there("a.jsonl", '{"a":1}\n'), after=holds("a.jsonl", '{"a":1}\n{"b":2}\n')
    ),
    Valid(
        {"path": "a.json", "mode": "append"},
        ["SELECT 2 AS a"],
        before=there("a.json", '[{"a": 1}]'),
        after=reads_back("FROM read_json('{folder}/a.json')", [(1,), (2,)]),
    ),
    Valid(
        {"path": "a.json", "mode": "append"},
        ["SELECT 2 AS a"],
        before=there("a.json", "[\n]"),
        after=reads_back("FROM read_json('{folder}/a.json')", [(2,)]),
        name="to an empty array",
    ),
    Valid(
        {"path": "a.json", "mode": "append"},
        ["SELECT 2 AS a WHERE false"],
        before=there("a.json", '[{"a": 1}]'),
        after=reads_back("FROM read_json('{folder}/a.json')", [(1,)]),
        name="nothing to an array",
    ),
    Valid(
        {"path": "a.parquet", "mode": "append"},
        ["SELECT 2 AS a, 'y' AS b"],
        before=parquet_there("SELECT 1 AS a, 'x' AS b"),
        after=reads_back("FROM read_parquet('{folder}/a.parquet')", [(1, "x"), (2, "y")]),
    ),
    Valid(
        {"path": "a.sql", "mode": "append"},
        ["SELECT 1 AS a"],
        before=there("a.sql", "-- old\n"),
        after=holds("a.sql", '-- old\nINSERT INTO "a" ("a") VALUES (1);\n'),
    ),
]

# Numbers of more than 15 digits, times with a zone and old dates are text; so is what looks like a formula.
CELLS = """SELECT 1 AS i, 12345678901234567 AS big, 1.50::DECIMAL(38, 2) AS d, 'nan'::DOUBLE AS f, '=1+1' AS s, DATE '2024-01-15' AS day,
    DATE '1800-01-01' AS old, TIMESTAMP '2024-01-15 06:30:00' AS at, TIMESTAMPTZ '2024-01-15 06:00:00+02' AS zoned, TIME '06:00:01' AS t,
    true AS y, [1, 2] AS l, chr(1) || '_x0041_' AS c, '\\xAB'::BLOB AS b"""


def cells(outcome: Outcome, workshop: Workshop) -> None:
    """Read by another library than the one that wrote it."""
    (rows,) = [python_calamine.load_workbook(workshop.folder / "a.xlsx").get_sheet_by_name("Data").to_python()]
    day, at = dt.date(2024, 1, 15), dt.datetime(2024, 1, 15, 6, 30)  # noqa: DTZ001
    assert rows[0] == outcome.columns
    zoned = "2024-01-15 04:00:00+00"
    expected = [1, "12345678901234567", 1.5, "", "=1+1", day, "1800-01-01", at, zoned, dt.time(6, 0, 1), True, "[1,2]", "\x01_x0041_", "qw=="]
    assert rows[1] == expected


XLSX = [
    Valid({"path": "a.xlsx", "sheet": "Data"}, [CELLS], after=cells),
    Valid(
        {"path": "a.xlsx", "header": False},
        ["SELECT 1 AS a WHERE false"],
        after=lambda outcome, workshop: (None, python_calamine.load_workbook(workshop.folder / "a.xlsx"))[0],
        name="no rows",
    ),
    Valid(
        {"path": "a.csv", "neutralise_formulas": True},
        ["""SELECT '=1+1' AS "=s", '-5' AS n, '@x' AS "at", -5 AS i, ['=x'] AS l, NULL::VARCHAR AS z"""],
        after=holds("a.csv", '\'=s,n,at,i,l,z\n\'=1+1,-5,\'@x,-5,"[""=x""]",\n'),
        name="formulas are neutralised where that is asked for",
    ),
    Valid(
        {"path": "a.csv", "neutralise_formulas": True},
        ["SELECT '\uff1d1+1' AS a, '\uff0b1-a' AS b, '\uff0da' AS c, '\uff20x' AS d"],
        after=holds("a.csv", "a,b,c,d\n'\uff1d1+1,'\uff0b1-a,'\uff0da,'\uff20x\n"),
        name="full-width signs are signs",
    ),
    Valid({"path": "a.csv"}, ["SELECT '=1+1' AS s"], after=holds("a.csv", "s\n=1+1\n"), name="raw is the default"),
]

INVALID = [
    Invalid({}, field="path"),
    Invalid({"path": ""}, field="path"),
    Invalid({"path": "x/../a.csv"}, field="path", words="must not contain '..'"),
    Invalid({"path": "a.xlsx", "mode": "append"}, field="path", words="rows cannot be appended to a workbook"),
    Invalid({"path": "a.xlsx", "compression": "gzip"}, field="compression", words="xlsx files are compressed in themselves"),
    Invalid({"path": "a.xlsx.gz"}, field="compression", words="xlsx files are compressed in themselves"),
    Invalid({"path": "a.xlsx", "sheet": "a/b"}, field="sheet", words="'a/b' cannot be the name of a sheet"),
    Invalid({"path": "a.ods"}, field="path", words="the format ods cannot be written by this version"),
    Invalid({"path": "a.csv", "format": "xml"}, field="format", words="the format xml cannot be written by this version"),
    Invalid({"path": "a"}, field="path", words="does not tell a format"),
    Invalid({"path": "a.csv", "mode": "upsert"}, field="mode"),
    Invalid({"path": "a.csv", "delimiter": "||"}, field="delimiter"),
    Invalid({"path": "a.csv", "compression": "rar"}, field="compression", words="'rar' is not a compression"),
    Invalid({"path": "a.csv", "compression": "brotli"}, field="compression", words="csv files can be compressed with none, gzip"),
    Invalid({"path": "a.json.gz", "mode": "append"}, field="compression", words="cannot be appended to a compressed JSON array"),
]

FAILING = [
    Failing(
        {"path": "a.xlsx"},
        ["SELECT 'x' AS id, repeat('a', 32_768) AS t"],
        before=there("a.xlsx", "old"),
        words=["'a.xlsx', row 2: column 't' holds a text of 32,768 characters; a cell holds 32,767"],
    ),
    Failing({"path": "a.xlsx"}, ["SELECT 1 AS a FROM range(1_048_576)"], words=["1,048,576 rows and a header; a sheet holds 1,048,576 rows"]),
    Failing(
        {"path": "a.xlsx"},
        ["SELECT " + ", ".join(f"1 AS c{number}" for number in range(16_385))],
        words=["'a.xlsx' would have 16,385 columns; a sheet holds 16,384"],
    ),
    Failing({"path": "/etc/cron.d/x.csv"}, ["SELECT 1 AS id"], words=["'/etc/cron.d/x.csv' is outside the data folders"]),
    Failing({"path": "out/x.csv"}, ["SELECT 1 AS id"], before=link("out", "/tmp"), words=["'out/x.csv' is outside the data folders"]),
    Failing({"path": "x.csv"}, ["SELECT 1 AS id"], before=link("x.csv", "/etc/passwd"), words=["'x.csv' is outside the data folders"]),
    Failing({"path": "d.csv"}, ["SELECT 1 AS id"], before=lambda workshop: (workshop.folder / "d.csv").mkdir(), words=["'d.csv' is a folder"]),
    Failing({"path": "a.csv/b.csv"}, ["SELECT 1 AS id"], before=there("a.csv", "old"), words=["a part of its path is a file"]),
    Failing(
        {"path": "a.csv", "mode": "append"}, ["SELECT 1 AS id"], before=there("a.csv", "no\n1\n"), words=["has the columns no; the new rows have id"]
    ),
    Failing({"path": "a.csv", "mode": "append"}, ["SELECT 1 AS id"], before=there("a.csv", gzip.compress(b"id\n")), words=["it is compressed"]),
    Failing({"path": "a.json", "mode": "append"}, ["SELECT 1 AS id"], before=there("a.json", '{"id": 1}'), words=["does not hold a JSON array"]),
    Failing({"path": "a.parquet", "mode": "append"}, ["SELECT 1 AS id"], before=there("a.parquet", "id\n"), words=["it is not a Parquet file"]),
    Failing(
        {"path": "a.parquet", "mode": "append"},
        ["SELECT 'x' AS a"],
        before=parquet_there("SELECT 1 AS a"),
        words=["has the columns a INTEGER; the new rows have a VARCHAR"],
    ),
]


def typical(workshop: Workshop, table: str) -> Given:
    return Given({"path": "out/typical.parquet"}, [table])


def slow(workshop: Workshop) -> Given:
    return Given(
        {"path": "slow.csv.gz"}, ["SELECT i AS id, md5(CAST(i AS VARCHAR)) AS a, sha256(CAST(i AS VARCHAR)) AS b FROM range(2_000_000) t(i)"]
    )


CASES = Cases(
    valid=[*OVERWRITE, *APPEND, *XLSX],
    invalid=INVALID,
    failing=FAILING,
    normalised=[({"path": "a.csv", "compress": True}, {"path": "a.csv", "compression": True})],
    typical=typical,
    slow=slow,
    read_back=lambda workshop: f"FROM read_parquet('{workshop.folder}/out/typical.parquet')",
)
