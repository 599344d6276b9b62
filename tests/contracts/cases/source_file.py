"""Cases of `source_file`: every format, what a file may hold, and everything that may be wrong with one."""

import datetime as dt
import gzip
import json
import os
from collections.abc import Callable

from tests.contracts.case import Cases, Failing, Given, Invalid, Valid
from tests.contracts.workshop import Outcome, Workshop
from tests.workbooks import with_members, workbook

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

DAY, MOMENT, HOUR = "yyyy-mm-dd", "yyyy-mm-dd hh:mm:ss", "hh:mm:ss"
AIRPORTS = [["faa", "name", "alt"], ["EWR", "Newark", 18], ["JFK", None, 13], [None], ["LGA", "La Guardia", 22]]

XLSX = [
    Valid(
        {"path": "a.xlsx"},
        before=file("a.xlsx", workbook(AIRPORTS)),
        columns=["faa", "name", "alt"],
        types=["VARCHAR", "VARCHAR", "BIGINT"],
        rows=[("EWR", "Newark", 18), ("JFK", None, 13), ("LGA", "La Guardia", 22)],
        name="an empty row is left out",
    ),
    Valid(
        {"path": "a.xlsx"},
        before=file(
            "a.xlsx",
            workbook(
                [
                    ["whole", "share", "yes", "day", "at", "time", "long"],
                    [1, 0.5, True, (dt.date(2024, 1, 15), DAY), (dt.datetime(2024, 1, 15, 6, 30), MOMENT), (0.25, HOUR), (1.25, "[h]:mm:ss")],  # noqa: DTZ001
                    [-2, 2, False, (dt.date(1900, 3, 1), DAY), (dt.date(2024, 1, 1), DAY), (0.5, HOUR), (0.5, "[h]:mm:ss")],
                ]
            ),
        ),
        types=["BIGINT", "DOUBLE", "BOOLEAN", "DATE", "TIMESTAMP", "TIME", "VARCHAR"],
        rows=[
            (1, 0.5, True, dt.date(2024, 1, 15), dt.datetime(2024, 1, 15, 6, 30), dt.time(6), "30:00:00"),  # noqa: DTZ001
            (-2, 2.0, False, dt.date(1900, 3, 1), dt.datetime(2024, 1, 1), dt.time(12), "12:00:00"),  # noqa: DTZ001
        ],
        name="what cells can hold",
    ),
    Valid(
        {"path": "a.xlsx"},
        before=file("a.xlsx", workbook([["day"], [(dt.date(2024, 1, 15), DAY)]], options={"date_1904": True})),
        types=["DATE"],
        rows=[(dt.date(2024, 1, 15),)],
        name="the calendar of 1904",
    ),
    Valid(
        {"path": "a.xlsx"},
        before=file("a.xlsx", workbook([["v"], [1], ["x"], [True], [1.5], [(dt.date(2024, 1, 15), DAY)]])),
        types=["VARCHAR"],
        rows=[("1",), ("x",), ("true",), ("1.5",), ("2024-01-15",)],
        name="a mixed column is text",
    ),
    Valid(
        {"path": "a.xlsx"},
        before=file("a.xlsx", workbook([["id", "id", None, "ID", ""], [1, 2, 3, 4, None]])),
        columns=["id", "id_1", "column2", "ID_2"],
        rows=[(1, 2, 3, 4)],
        name="duplicate and empty names as in CSV",
    ),
    Valid(
        {"path": "a.xlsx"},
        before=file("a.xlsx", workbook([["a", "b"], [{"formula": "=NA()", "value": "#N/A"}, {"formula": "=1+1", "value": 2}], [1, "=x"]])),
        types=["BIGINT", "VARCHAR"],
        rows=[(None, "2"), (1, "=x")],
        logged=["a.xlsx, sheet 'Sheet1': 1 cells hold errors such as #N/A, the first in A2; they are read as null."],
        name="errors and formulas",
    ),
    Valid(
        {"path": "a.xlsx"},
        before=file("a.xlsx", workbook([["a", "b"], [{"merge": 2, "value": "m"}], ["x", "y"]])),
        rows=[("m", None), ("x", "y")],
        name="a merged cell has its value once",
    ),
    Valid({"path": "a.xlsx"}, before=file("a.xlsx", workbook([[None], [None, "id"], [None, 7]])), columns=["id"], rows=[(7,)], name="not in A1"),
    Valid({"path": "a.xlsx", "sheet": "Two"}, before=file("a.xlsx", workbook([["a"]], [["b"], [1]], names=["One", "Two"])), rows=[(1,)]),
    Valid({"path": "a.xlsx", "sheet": 2}, before=file("a.xlsx", workbook([["a"]], [["b"], [1]], names=["One", "Two"])), rows=[(1,)]),
    Valid({"path": "a.xlsx"}, before=file("a.xlsx", workbook([["a", "b"]])), columns=["a", "b"], rows=[], name="header alone"),
    Valid(
        {"path": "a.xlsx", "columns": {"a": "BIGINT"}}, before=file("a.xlsx", workbook([])), columns=["a"], rows=[], name="an empty sheet, declared"
    ),
    Valid(
        {"path": "a.xlsx"}, before=file("a.xlsx", workbook([])), columns=["column0"], rows=[], logged=["a.xlsx holds no rows"], name="an empty sheet"
    ),
    Valid({"path": "a.xlsx", "header": False}, before=file("a.xlsx", workbook([[1, "x"]])), columns=["column0", "column1"], rows=[(1, "x")]),
    Valid(
        {"path": "a.xlsx", "header": False, "columns": {"n": "INTEGER", "s": ""}},
        before=file("a.xlsx", workbook([[1, "x"]])),
        columns=["n", "s"],
        types=["INTEGER", "VARCHAR"],
        rows=[(1, "x")],
    ),
    Valid(
        {"path": "a.xlsx", "columns": {"b": "VARCHAR", "a": "DOUBLE"}},
        before=file("a.xlsx", workbook([["a", "b", "c"], [1, 2, 3]])),
        columns=["b", "a"],
        rows=[("2", 1.0)],
    ),
    Valid(
        {"path": "a.xlsx", "null_values": ["NA", "-"]},
        before=file("a.xlsx", workbook([["a", "b"], [1, "-"], ["NA", 2.5]])),
        types=["BIGINT", "DOUBLE"],
        rows=[(1, None), (None, 2.5)],
        name="words for nothing",
    ),
    Valid(
        {"path": "in/*.xlsx"},
        before=files(**{"in/a_xlsx": workbook([["id", "x"], [1, 0.5]]), "in/b_xlsx": workbook([["y", "id"], ["z", "w"]])}),
        columns=["id", "x", "y"],
        types=["VARCHAR", "DOUBLE", "VARCHAR"],
        rows=[("1", 0.5, None), ("w", None, "z")],
        name="several workbooks by name",
    ),
    Valid({"path": "a.xlsx.gz"}, before=file("a.xlsx.gz", gzip.compress(workbook([["id"], [1]]))), rows=[(1,)]),
]

AIRLINES = """<?xml version="1.0" encoding="UTF-8"?>
<airlines xmlns="urn:flights" xmlns:x="urn:x">
  <airline code="UA"><name>United</name><fleet>700</fleet><since>1926-04-06</since></airline>
  <airline code="AA"><name>American &amp; Co</name><x:fleet>1.5</x:fleet><!-- no day --></airline>
</airlines>"""

XML = [
    Valid(
        {"path": "a.xml"},
        before=file("a.xml", AIRLINES),
        columns=["code", "name", "fleet", "since"],
        types=["VARCHAR", "VARCHAR", "DOUBLE", "DATE"],
        rows=[("UA", "United", 700.0, dt.date(1926, 4, 6)), ("AA", "American & Co", 1.5, None)],
    ),
    Valid({"path": "a.xml.gz"}, before=file("a.xml.gz", gzip.compress(AIRLINES.encode())), columns=["code", "name", "fleet", "since"]),
    Valid(
        {"path": "a.xml", "records": "r/rows/row"},
        before=file("a.xml", "<r><meta><row>no</row></meta><rows><row><a>1</a></row></rows><rows><row><a>2</a></row></rows></r>"),
        rows=[(1,), (2,)],
        name="a path of records",
    ),
    Valid({"path": "a.xml", "records": "item"}, before=file("a.xml", "<r><x><item>1</item></x><y><item>2</item></y></r>"), rows=[(1,), (2,)]),
    Valid(
        {"path": "a.xml"},
        before=file("a.xml", '<r><i id="1"><tag>a</tag><tag>b</tag><p c="EUR">5</p><q><z/></q></i><i><id>2</id></i><i id="3"><id>4</id></i></r>'),
        columns=["id", "tag", "p", "q", "@id"],
        rows=[
            (1, '["a", "b"]', '{"@c": "EUR", "#text": "5"}', '{"z": null}', None),
            (2, None, None, None, None),
            (4, None, None, None, 3),
        ],
        name="what is nested or repeated is JSON",
    ),
    Valid(
        {"path": "a.xml"},
        before=file("a.xml", '<r xmlns:i="http://www.w3.org/2001/XMLSchema-instance"><p><a i:nil="true"/><b/><c><![CDATA[<x>]]></c></p></r>'),
        columns=["a", "b", "c"],
        rows=[(None, None, "<x>")],
        name="nothing, and a single record",
    ),
    Valid({"path": "a.xml"}, before=file("a.xml", "<r><p><a>1</a><A>2</A></p></r>"), columns=["a", "A_1"], rows=[(1, 2)], name="names by case"),
    Valid({"path": "a.xml"}, before=file("a.xml", "<r/>"), columns=["r"], rows=[(None,)], name="one empty element"),
    Valid({"path": "a.xml"}, before=file("a.xml", '<?xml version="1.0" encoding="latin-1"?><r><n>é</n></r>'.encode("latin-1")), rows=[("é",)]),
    Valid({"path": "a.xml"}, before=file("a.xml", "<r><n>é</n></r>".encode("utf-16")), rows=[("é",)], name="utf-16 by its mark"),
    Valid({"path": "a.xml", "encoding": "cp1252"}, before=file("a.xml", "<r><n>5 €</n></r>".encode("cp1252")), rows=[("5 €",)]),
    Valid(
        {"path": "a.xml", "null_values": "NA", "columns": {"b": "BIGINT", "z": "VARCHAR"}, "records": "p"},
        before=file("a.xml", "<r><p><b>NA</b><z>1</z></p><p><b>7</b></p></r>"),
        types=["BIGINT", "VARCHAR"],
        rows=[(None, "1"), (7, None)],
    ),
    Valid(
        {"path": "a.xml"},
        before=file("a.xml", "<r>" + numbered("<p><a>{0}</a></p>", 25_000) + "<p><a>x</a><late>1</late></p></r>"),
        columns=["a", "late"],
        types=["VARCHAR", "BIGINT"],
        name="a late type and a late column",
    ),
    Valid(
        {"path": "*.xml", "records": "p"},
        before=files(a_xml="<r><p><a>1</a></p></r>", b_xml="<r><p><b>x</b><a>2.5</a></p></r>"),
        columns=["a", "b"],
        types=["DOUBLE", "VARCHAR"],
        rows=[(1.0, None), (2.5, "x")],
    ),
]

INVALID = [
    Invalid({}, field="path", words=""),
    Invalid({"path": ""}, field="path", words=""),
    Invalid({"path": "../a.csv"}, field="path", words="must not contain '..'", at_save=True),
    Invalid({"path": "a.sql"}, field="path", words="the format sql cannot be read by this version"),
    Invalid({"path": "a.xml", "max_memory_mb": 1}, field="max_memory_mb", words=""),
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
    Failing({"path": "a.csv", "columns": {"no": "BIGINT"}}, before=file("a.csv", "id\n1\n"), words=["a.csv has no column 'no'. It has: 'id'."]),
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

ENTITIES = '<!DOCTYPE r [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>\n<r>&b;</r>'
OUTSIDE = '<?xml version="1.0"?>\n<!DOCTYPE r [<!ENTITY a SYSTEM "file:///etc/passwd">]><r>&a;</r>'

FAILING += [
    Failing({"path": "a.xlsx"}, before=file("a.xlsx", b""), words=["a.xlsx is empty (0 bytes)"]),
    Failing({"path": "a.xlsx"}, before=file("a.xlsx", b"id,name\n1,x\n"), words=["a.xlsx is not a workbook"]),
    Failing({"path": "a.xlsx"}, before=file("a.xlsx", workbook(AIRPORTS)[:-300]), words=["a.xlsx is damaged or cut off"]),
    Failing({"path": "a.xlsx"}, before=file("a.xlsx", workbook(AIRPORTS)[:1000]), words=["a.xlsx is damaged or cut off"]),
    Failing(
        {"path": "a.xlsx"},
        before=file("a.xlsx", with_members(workbook(AIRPORTS), {"xl/worksheets/sheet1.xml": b"<worksheet><sheetData><row"})),
        words=["a.xlsx, sheet 'Sheet1': it cannot be read"],
    ),
    Failing({"path": "a.xlsx"}, before=file("a.xlsx", with_members(workbook([]), {"xl/workbook.xml": b""})), words=["a.xlsx"]),
    Failing({"path": "a.xls"}, before=file("a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600), words=["a.xls cannot be read as a workbook"]),
    Failing({"path": "a.xlsx", "sheet": "No"}, before=file("a.xlsx", workbook([], [])), words=["has no sheet 'No'. It has: 'Sheet1', 'Sheet2'."]),
    Failing({"path": "a.xlsx", "columns": ["no"]}, before=file("a.xlsx", workbook([["a"], [1]])), words=["a.xlsx has no column 'no'. It has: 'a'."]),
    Failing(
        {"path": "a.xlsx", "columns": {"alt": "BIGINT", "name": "BIGINT"}},
        before=file("a.xlsx", workbook(AIRPORTS)),
        words=["a.xlsx, row 2: column 'name' holds 'Newark', which is not BIGINT"],
    ),
    Failing(
        {"path": "a.xlsx", "columns": {"a": "INTEGER"}},
        before=file("a.xlsx", workbook([["a"], [1], [None], [1.5]])),
        words=["a.xlsx, row 4: column 'a' holds '1.5', which is not INTEGER"],
    ),
    Failing({"path": "a.xlsx", "header": False, "columns": ["a"]}, before=file("a.xlsx", workbook([[1, 2]])), words=["a.xlsx has 2 columns, but"]),
    Failing({"path": "a.xml"}, before=file("a.xml", b""), words=["a.xml is empty (0 bytes)"]),
    Failing({"path": "a.xml"}, before=file("a.xml", "hello"), words=["a.xml, line 1, column 1: not valid XML"]),
    Failing({"path": "a.xml"}, before=file("a.xml", AIRLINES[:-20]), words=["a.xml, line 4", "it is cut off"]),
    Failing({"path": "a.xml"}, before=file("a.xml", AIRLINES.replace("</name>", "</nome>", 1)), words=["a.xml, line 3", "mismatched tag"]),
    Failing({"path": "a.xml"}, before=file("a.xml", "<r>\n<n>é</n></r>".encode("latin-1")), words=["a.xml, line 2", "`encoding`"]),
    Failing({"path": "a.xml"}, before=file("a.xml", ENTITIES), words=["a.xml, line 1: a document type (DOCTYPE) is declared"]),
    Failing({"path": "a.xml"}, before=file("a.xml", OUTSIDE), words=["a.xml, line 2: a document type (DOCTYPE) is declared"]),
    Failing({"path": "a.xml"}, before=file("a.xml", "<r>&x;</r>"), words=["a.xml, line 1", "undefined entity"]),
    Failing({"path": "a.xml"}, before=file("a.xml", "<a>" * 100_000), words=["a.xml, line 1: elements are nested more than 200 deep"]),
    Failing(
        {"path": "a.xml", "records": "x/y"},
        before=file("a.xml", AIRLINES),
        words=["has no element 'x/y' (`records`); its root element is 'airlines'"],
    ),
    Failing(
        {"path": "a.xml", "columns": {"name": "DATE"}},
        before=file("a.xml", AIRLINES),
        words=["a.xml, line 3: column 'name' holds 'United', which is not DATE"],
    ),
    Failing({"path": "a.xml.gz"}, before=file("a.xml.gz", gzip.compress(AIRLINES.encode())[:-20]), words=["a.xml.gz is cut off"]),
]

CASES = Cases(
    valid=[*CSV, *JSON, *PARQUET, *XLSX, *XML],
    invalid=INVALID,
    failing=FAILING,
    normalised=[({"path": "a.csv", "schema": {"a": "INT"}}, {"path": "a.csv", "columns": {"a": "INT"}})],
    typical=typical,
    slow=slow,
)
