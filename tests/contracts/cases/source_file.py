"""Cases of `source_file`: every format, what a file may hold, and everything that may be wrong with one."""

import gzip
import json
import os
from collections.abc import Callable

from tests.contracts.case import Cases, Failing, Given, Invalid, Valid
from tests.contracts.workshop import Outcome, Workshop

FLIGHTS = "carrier,dep_delay,tailnum\nUA,2,N14228\nAA,NA,\nB6,-5,NA\n"


def file(name: str, content: str | bytes) -> Callable[[Workshop], None]:
    def write(workshop: Workshop) -> None:
        target = workshop.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)

    return write


def files(**contents: str | bytes) -> Callable[[Workshop], None]:
    """`a_csv="…"` writes `a.csv`."""

    def write(workshop: Workshop) -> None:
        for name, content in contents.items():
            file(name.replace("_", "."), content)(workshop)

    return write


def parquet(name: str, sql: str) -> Callable[[Workshop], None]:
    def write(workshop: Workshop) -> None:
        workshop.maker.execute(f"COPY ({sql}) TO '{workshop.folder / name}' (FORMAT parquet)")

    return write


def damaged(name: str, change: Callable[[bytes], bytes]) -> Callable[[Workshop], None]:
    def write(workshop: Workshop) -> None:
        parquet(name, "SELECT i AS id FROM range(100_000) t(i)")(workshop)
        target = workshop.folder / name
        target.write_bytes(change(target.read_bytes()))

    return write


def link(name: str, target: str) -> Callable[[Workshop], None]:
    return lambda workshop: (workshop.folder / name).symlink_to(target)


def pipe(workshop: Workshop) -> None:
    os.mkfifo(workshop.folder / "pipe.csv")


def pipe_and_link(workshop: Workshop) -> None:
    pipe(workshop)
    (workshop.folder / "link.csv").symlink_to("pipe.csv")


def numbered(line: str, count: int) -> str:
    return "".join(line.format(number) + "\n" for number in range(count))


def long_text(outcome: Outcome, workshop: Workshop) -> None:
    assert len(outcome.rows[0][1]) == 5_000_000


def typical(workshop: Workshop, table: str) -> Given:
    parquet("typical.parquet", table)(workshop)
    return Given({"path": "typical.parquet"})


def slow(workshop: Workshop) -> Given:
    # Members of gzip may follow each other: a small file that unpacks to gigabytes of rows.
    rows = b"1,a name of a hundred characters or so,0.5\n" * 250_000
    (workshop.folder / "slow.csv.gz").write_bytes(gzip.compress(b"id,name,share\n") + gzip.compress(rows) * 600)
    return Given({"path": "slow.csv.gz"})


CSV = [
    Valid(
        {"path": "a.csv"}, before=file("a.csv", "id,name\n1,x\n2,\n"), columns=["id", "name"], types=["BIGINT", "VARCHAR"], rows=[(1, "x"), (2, None)]
    ),
    Valid(
        {"path": "f.csv", "null_values": ["NA"]},
        before=file("f.csv", FLIGHTS),
        types=["VARCHAR", "BIGINT", "VARCHAR"],
        rows=[("UA", 2, "N14228"), ("AA", None, None), ("B6", -5, None)],
        name="missing values of nycflights13",
    ),
    Valid(
        {"path": "f.csv", "null_values": "NA, -5"}, before=file("f.csv", FLIGHTS), rows=[("UA", 2, "N14228"), ("AA", None, None), ("B6", None, None)]
    ),
    Valid({"path": "a.csv"}, before=file("a.csv", "id,name\n"), columns=["id", "name"], rows=[], name="header alone"),
    Valid({"path": "a.csv"}, before=file("a.csv", "id,id,,ID\n1,2,3,4\n"), columns=["id", "id_1", "column2", "ID_2"], rows=[(1, 2, 3, 4)]),
    Valid({"path": "a.csv"}, before=file("a.csv", "\ufeffid,name\n1,Zoë\n"), columns=["id", "name"], rows=[(1, "Zoë")], name="byte order mark"),
    Valid({"path": "a.csv"}, before=file("a.csv", "id;name\n1;a,b\n"), columns=["id", "name"], rows=[(1, "a,b")], name="semicolons"),
    Valid({"path": "a.csv"}, before=file("a.csv", 'id,"a;b"\n1,2\n'), columns=["id", "a;b"]),
    Valid({"path": "a.csv", "delimiter": "||"}, before=file("a.csv", "id||name\n1||x\n"), rows=[(1, "x")]),
    Valid({"path": "a.csv", "delimiter": "tab"}, before=file("a.csv", "id\tname\n1\tx\n"), rows=[(1, "x")]),
    Valid({"path": "a.tsv"}, before=file("a.tsv", "id\tname\n1\ta,b\n"), rows=[(1, "a,b")]),
    Valid({"path": "a.csv"}, before=file("a.csv", "id,name\r\n1,x\r\n\r\n2,y\r\n"), rows=[(1, "x"), (2, "y")], name="CRLF and an empty line"),
    Valid({"path": "a.csv"}, before=file("a.csv", 'id,name\n1,"two\nlines, ""quoted"""\n'), rows=[(1, 'two\nlines, "quoted"')]),
    Valid({"path": "a.csv"}, before=file("a.csv", "id,day\n007,2024-01-15\n"), types=["VARCHAR", "DATE"], name="leading zeros stay"),
    Valid({"path": "a.csv"}, before=file("a.csv", "a,b\n#1,2\n"), rows=[("#1", 2)], name="no comments in CSV"),
    Valid({"path": "a.csv"}, before=file("a.csv", "id\n170141183460469231731\n"), types=["DECIMAL(38,0)"], name="beyond 64 bits"),
    Valid({"path": "a.csv", "header": False}, before=file("a.csv", "1,x\n2,y\n"), columns=["column0", "column1"], rows=[(1, "x"), (2, "y")]),
    Valid(
        {"path": "a.csv", "header": False, "columns": [{"name": "n", "type": "integer"}, {"name": "s"}]},
        before=file("a.csv", "1,x\n"),
        columns=["n", "s"],
        types=["INTEGER", "VARCHAR"],
    ),
    Valid(
        {"path": "a.csv", "columns": {"b": "varchar", "a": "double"}}, before=file("a.csv", "a,b,c\n1,2,3\n"), columns=["b", "a"], rows=[("2", 1.0)]
    ),
    Valid({"path": "a.csv", "columns": ["c", "a"]}, before=file("a.csv", "a,b,c\n1,2,3\n"), columns=["c", "a"], rows=[(3, 1)]),
    Valid(
        {"path": "a.csv", "columns": {"id": "BIGINT", "name": ""}}, before=file("a.csv", ""), columns=["id", "name"], rows=[], name="empty, declared"
    ),
    Valid({"path": "a.csv", "encoding": "latin-1"}, before=file("a.csv", "id,name\n1,café\n".encode("latin-1")), rows=[(1, "café")]),
    Valid({"path": "a.csv", "encoding": "cp1252"}, before=file("a.csv", "id,name\n1,5 €\n".encode("cp1252")), rows=[(1, "5 €")]),
    Valid(
        {"path": "a.csv", "encoding": "utf-16"},
        before=file("a.csv", "id,name\n1,café\n".encode("utf-16")),
        columns=["id", "name"],
        rows=[(1, "café")],
    ),
    Valid({"path": "a.csv.gz"}, before=file("a.csv.gz", gzip.compress(b"id\n1\n") + gzip.compress(b"2\n")), rows=[(1,), (2,)], name="two members"),
    Valid({"path": "a.csv"}, before=file("a.csv", gzip.compress(b"id\n1\n")), rows=[(1,)], name="gzip by another name"),
    Valid({"path": "data.bin", "format": "CSV"}, before=file("data.bin", "id\n1\n"), rows=[(1,)]),
    Valid({"path": "a[1]*.csv"}, before=file("a[1]*.csv", "id\n1\n"), rows=[(1,)], name="a name that looks like a pattern"),
    Valid(
        {"path": "a.csv"},
        before=file("a.csv", "id,name\n" + numbered("{0},a", 50_000) + "x,b\n"),
        types=["VARCHAR", "VARCHAR"],
        logged=["a.csv, line 50002: column 'id' looked like BIGINT at first, but holds 'x'"],
        name="a late contradiction",
    ),
    Valid(
        {"path": "a.csv"},
        before=file("a.csv", "id,text\n1," + "x" * 5_000_000 + "\n"),
        after=long_text,
        columns=["id", "text"],
        name="a huge value",
    ),
    Valid(
        {"path": "in/*.csv"},
        before=files(**{"in/b_csv": "name,id\ny,2\n", "in/a_csv": "id,extra\n1,z\n"}),
        columns=["id", "extra", "name"],
        rows=[(1, "z", None), (2, None, "y")],
        name="several files by name",
    ),
]

JSON = [
    Valid(
        {"path": "a.json"}, before=file("a.json", '[{"b":1,"a":"x"},{"b":2,"c":[1]}]'), columns=["b", "a", "c"], rows=[(1, "x", None), (2, None, [1])]
    ),
    Valid({"path": "a.json"}, before=file("a.json", '{"b": 1,\n "a": {"x": 1}}'), columns=["b", "a"], rows=[(1, {"x": 1})], name="a single object"),
    Valid({"path": "a.json"}, before=file("a.json", '{"b":1}\n{"b":2}\n'), rows=[(1,), (2,)], name="lines in a .json file"),
    Valid({"path": "a.json"}, before=file("a.json", "[ ]\n"), columns=["json"], rows=[], logged=["holds no records"], name="an empty array"),
    Valid({"path": "a.json", "schema": {"id": "BIGINT"}}, before=file("a.json", "[]"), columns=["id"], types=["BIGINT"], rows=[]),
    Valid({"path": "a.jsonl"}, before=file("a.jsonl", ""), columns=["json"], rows=[], name="no lines"),
    Valid({"path": "a.ndjson"}, before=file("a.ndjson", '\ufeff{"a":1}\n\n{"a":null}\n'), rows=[(1,), (None,)], name="byte order mark, empty line"),
    Valid(
        {"path": "a.jsonl"}, before=file("a.jsonl", '{"b":1}\n{"b":"y"}\n{"b":{"c":2}}\n'), rows=[("1",), ("y",), ('{"c":2}',)], name="mixed types"
    ),
    Valid({"path": "a.jsonl"}, before=file("a.jsonl", '{"a":1,"A":2}\n'), columns=["a", "A_1"], rows=[(1, 2)]),
    Valid(
        {"path": "a.jsonl", "columns": {"a": "DOUBLE", "z": "VARCHAR"}},
        before=file("a.jsonl", '{"a":1,"b":2}\n'),
        columns=["a", "z"],
        rows=[(1.0, None)],
    ),
    Valid({"path": "a.jsonl.gz"}, before=file("a.jsonl.gz", gzip.compress(b'{"a":"x"}\n')), rows=[("x",)]),
    Valid({"path": "a.json", "encoding": "latin-1"}, before=file("a.json", '[{"a":"café"}]'.encode("latin-1")), rows=[("café",)]),
    Valid(
        {"path": "a.jsonl"},
        before=file("a.jsonl", numbered('{{"a":{0}}}', 50_000) + '{"a":"x","z":2}\n'),
        columns=["a", "z"],
        types=["VARCHAR", "BIGINT"],
        name="a late key and a late type",
    ),
    Valid(
        {"path": "a.jsonl"},
        before=file("a.jsonl", json.dumps({"a": ["x" * 1_000_000] * 17}) + "\n"),
        columns=["a"],
        name="a large record",
    ),
]

PARQUET = [
    Valid(
        {"path": "a.parquet"}, before=parquet("a.parquet", "SELECT 1::TINYINT AS a, [1, 2] AS b"), types=["TINYINT", "INTEGER[]"], rows=[(1, [1, 2])]
    ),
    Valid({"path": "a.parquet"}, before=parquet("a.parquet", "SELECT 1 AS a WHERE false"), columns=["a"], rows=[]),
    Valid({"path": "a.parquet", "columns": {"b": "VARCHAR"}}, before=parquet("a.parquet", "SELECT 1 AS a, 2 AS b"), columns=["b"], rows=[("2",)]),
]

INVALID = [
    Invalid({}, field="path", words=""),
    Invalid({"path": ""}, field="path", words=""),
    Invalid({"path": "../a.csv"}, field="path", words="must not contain '..'", at_save=True),
    Invalid({"path": "a.xlsx"}, field="path", words="the format xlsx cannot be read by this version"),
    Invalid({"path": "a.csv", "format": "xml"}, field="format", words="the format xml cannot be read by this version"),
    Invalid({"path": "a.csv", "format": "toml"}, field="format", words="'toml' is not a file format"),
    Invalid({"path": "a.doc"}, field="path", words="does not tell a format"),
    Invalid({"path": "a"}, field="path", words="does not tell a format"),
    Invalid({"path": "a.csv", "delimiter": '"'}, field="delimiter", words="cannot be a quote"),
    Invalid({"path": "a.csv", "encoding": "klingon"}, field="encoding", words="'klingon' is not an encoding"),
    Invalid({"path": "a.csv", "encoding": "base64"}, field="encoding", words="does not encode text"),
    Invalid({"path": "a.csv", "columns": [{"name": "a", "type": "STRANGE"}]}, field="columns.0.type", words="'STRANGE' is not a type"),
    Invalid({"path": "a.csv", "columns": {"a": "INT); DROP"}}, field="columns.type", words="is not a type"),
    Invalid({"path": "a.csv", "columns": ["a", "A"]}, field="columns", words="more than once"),
    Invalid({"path": "a.csv", "header": "perhaps"}, field="header", words=""),
]

RAGGED = "id,name,x\n" + numbered("{0},a,1.5", 100) + "7,b\n" + numbered("{0},a,1.5", 100)

FAILING = [
    Failing({"path": "none.csv"}, words=["There is no file 'none.csv'."]),
    Failing({"path": "*.csv"}, words=["No file matches '*.csv'."]),
    Failing({"path": "d.csv"}, before=lambda workshop: (workshop.folder / "d.csv").mkdir(), words=["'d.csv' is a folder"]),
    Failing({"path": "/etc/passwd", "format": "csv"}, words=["'/etc/passwd' is outside the data folders"]),
    Failing({"path": "out.csv"}, before=link("out.csv", "/etc/passwd"), words=["'out.csv' is outside the data folders"]),
    Failing({"path": "link.csv"}, before=pipe_and_link, words=["'link.csv' is not a regular file"]),
    Failing({"path": "pipe.csv"}, before=pipe, words=["'pipe.csv' is not a regular file"]),
    Failing({"path": "a.csv"}, before=file("a.csv", ""), words=["a.csv is empty (0 bytes)", "`columns`"]),
    Failing({"path": "a.csv"}, before=file("a.csv", RAGGED), words=["a.csv, line 102: 2 values where 3 columns are expected", "7,b"]),
    Failing({"path": "a.csv"}, before=file("a.csv", "a,b\n1,2,3\n"), words=["a.csv, line 2: 3 values where 2 columns"]),
    Failing(
        {"path": "a.csv"}, before=file("a.csv", "id,name\n" + numbered("{0},a", 30_000) + "1,2,3\n"), words=["a.csv, line 30002: 3 values where 2"]
    ),
    Failing({"path": "*.csv"}, before=files(a_csv="id,b\n1,2\n", b_csv="id,b\n1,2,3\n"), words=["b.csv, line 2: 3 values"]),
    Failing({"path": "a.csv"}, before=file("a.csv", 'id,name\n1,"open\n2,b\n'), words=["a.csv, line 2: a quoted value is not closed"]),
    Failing({"path": "a.csv"}, before=file("a.csv", "a,b\r\n1,2\n3,4\r\n"), words=["a.csv", "mixes line endings"]),
    Failing({"path": "a.csv"}, before=file("a.csv", "id,name\n1,café\n".encode("latin-1")), words=["a.csv, line 2: not valid UTF-8", "`encoding`"]),
    Failing({"path": "a.csv"}, before=file("a.csv", "id,name\n1,café\n".encode("utf-16")), words=["a.csv is not UTF-8", "Set `encoding` to utf-16"]),
    Failing({"path": "a.csv.gz"}, before=file("a.csv.gz", gzip.compress("id\n1\n".encode("utf-16"))), words=["first bytes say utf-16"]),
    Failing({"path": "a.json"}, before=file("a.json", '[{"a":1}]'.encode("utf-32")), words=["a.json is not UTF-8", "Set `encoding` to utf-32"]),
    Failing({"path": "a.csv", "encoding": "utf-16"}, before=file("a.csv", b"\xff\xfea"), words=["a.csv, line 1", "not valid utf-16"]),
    Failing(
        {"path": "a.csv", "encoding": "cp1252"}, before=file("a.csv", b"id\n1\n\x81\n"), words=["a.csv, line 3 (about byte 5)", "not valid cp1252"]
    ),
    Failing(
        {"path": "a.csv", "columns": {"id": "BIGINT"}},
        before=file("a.csv", "id\n1\nx\n"),
        words=["a.csv, line 3: column 'id' holds 'x'", "not BIGINT"],
    ),
    Failing({"path": "a.csv", "columns": ["no"]}, before=file("a.csv", "id\n1\n"), words=["a.csv has no column 'no'. It has: 'id'."]),
    Failing(
        {"path": "a.csv", "header": False, "columns": ["a"]}, before=file("a.csv", "1,2\n"), words=["a.csv has 2 columns, but `columns` names 1"]
    ),
    Failing({"path": "a.csv.gz"}, before=file("a.csv.gz", b"id\n1\n"), words=["a.csv.gz is not valid gzip data"]),
    Failing({"path": "a.csv.gz"}, before=file("a.csv.gz", gzip.compress(RAGGED.encode())[:-20]), words=["a.csv.gz is cut off"]),
    Failing(
        {"path": "a.jsonl"},
        before=file("a.jsonl", '{"b":1}\n{"b":2}\n{"b":\n{"b":4}\n'),
        words=["a.jsonl, line 3: not valid JSON", "The line is: '{\"b\":'"],
    ),
    Failing({"path": "a.json"}, before=file("a.json", '[{"b":1},{"b":'), words=["a.json, about record 2", "not valid JSON"]),
    Failing({"path": "a.json"}, before=file("a.json", "hello"), words=["a.json", "not valid JSON"]),
    Failing({"path": "a.json"}, before=file("a.json", "[" * 100_000), words=["a.json"]),
    Failing({"path": "a.json"}, before=file("a.json", "[1,2]"), words=["a.json: the records must be JSON objects"]),
    Failing({"path": "a.jsonl"}, before=file("a.jsonl", '{"a":1,"a":2}\n'), words=["a.jsonl, line 1", 'duplicate key "a"']),
    Failing({"path": "a.jsonl"}, before=file("a.jsonl", '{"a":"café"}\n'.encode("latin-1")), words=["a.jsonl, line 1", "not valid UTF-8"]),
    Failing({"path": "a.jsonl", "columns": {"a": "BIGINT"}}, before=file("a.jsonl", '{"a":1}\n{"a":"x"}\n'), words=["a.jsonl, line 2"]),
    Failing({"path": "a.parquet"}, before=file("a.parquet", b""), words=["a.parquet cannot be read as Parquet"]),
    Failing({"path": "a.parquet"}, before=file("a.parquet", b"id\n1\n" * 100), words=["a.parquet cannot be read as Parquet"]),
    Failing(
        {"path": "a.parquet"},
        before=damaged("a.parquet", lambda content: content[: len(content) // 2]),
        words=["a.parquet cannot be read as Parquet"],
    ),
    Failing({"path": "a.parquet"}, before=damaged("a.parquet", lambda content: content[:2000] + b"\xff" * 100 + content[2100:]), words=["a.parquet"]),
    Failing({"path": "a.parquet", "columns": ["no"]}, before=parquet("a.parquet", "SELECT 1 AS id"), words=["a.parquet has no column 'no'"]),
]

CASES = Cases(
    valid=[*CSV, *JSON, *PARQUET],
    invalid=INVALID,
    failing=FAILING,
    normalised=[({"path": "a.csv", "schema": {"a": "INT"}}, {"path": "a.csv", "columns": {"a": "INT"}})],
    typical=typical,
    slow=slow,
)
