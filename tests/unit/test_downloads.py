"""Outputs as CSV and JSON lines: every type, bounded pieces, harmless in a spreadsheet."""

import io
import json
from pathlib import Path
from typing import Any, BinaryIO

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runs import downloads, plain


def parquet(tmp_path: Path, select: str) -> BinaryIO:
    """What the engine would write for a query."""
    path = tmp_path / "output.parquet"
    duckdb.execute(f"COPY ({select}) TO '{path}' (FORMAT parquet, PARQUET_VERSION v2)")
    return path.open("rb")


VALUES: list[tuple[str, Any, str]] = [
    ("42", 42, "42"),
    ("9007199254740992::BIGINT", 9007199254740992, "9007199254740992"),
    ("9007199254740993::BIGINT", "9007199254740993", "9007199254740993"),
    ("(-9223372036854775808)::BIGINT", "-9223372036854775808", "-9223372036854775808"),
    ("18446744073709551615::UBIGINT", "18446744073709551615", "18446744073709551615"),
    ("1.5::DOUBLE", 1.5, "1.5"),
    ("'nan'::DOUBLE", None, "nan"),
    ("'inf'::DOUBLE", None, "inf"),
    ("1.50::DECIMAL(18,2)", "1.50", "1.50"),
    ("true", True, "true"),
    ("'it''s \"ä\"'", 'it\'s "ä"', '"it\'s ""ä"""'),
    ("''", "", '""'),
    ("NULL::VARCHAR", None, ""),
    ("NULL::INTEGER", None, ""),
    ("INTERVAL 1 DAY", "1 day", '"1 day"'),
    ("INTERVAL '14 months 3 days 4 hours 5 seconds 6 milliseconds'", "1 year 2 months 3 days 04:00:05.006", '"1 year 2 months 3 days 04:00:05.006"'),
    ("INTERVAL 100 HOUR", "4 days 04:00:00", '"4 days 04:00:00"'),
    ("INTERVAL 0 DAY", "00:00:00", '"00:00:00"'),
    ("{'a': INTERVAL 1500 MILLISECOND}", {"a": "00:00:01.5"}, '"{""a"": ""00:00:01.5""}"'),
    ("NULL::INTERVAL", None, ""),
    ("DATE '2024-01-10'", "2024-01-10", '"2024-01-10"'),
    ("DATE '20000-01-01'", "20000-01-01", '"20000-01-01"'),
    ("'infinity'::DATE", "infinity", '"infinity"'),
    ("TIMESTAMP '2024-01-15 06:00:00'", "2024-01-15T06:00:00", '"2024-01-15T06:00:00"'),
    ("TIMESTAMP '2024-01-15 06:00:00.120'", "2024-01-15T06:00:00.12", '"2024-01-15T06:00:00.12"'),
    ("TIMESTAMP_NS '2024-01-15 06:00:00.123456789'", "2024-01-15T06:00:00.123456789", '"2024-01-15T06:00:00.123456789"'),
    ("TIMESTAMPTZ '2024-01-15 06:00:00.5+02'", "2024-01-15T04:00:00.5Z", '"2024-01-15T04:00:00.5Z"'),
    ("'-infinity'::TIMESTAMP", "-infinity", '"-infinity"'),
    ("TIME '06:10:00'", "06:10:00", '"06:10:00"'),
    ("'abc'::BLOB", "YWJj", '"YWJj"'),
    ("'5592b98b-9220-4ae8-8586-baf23728fb23'::UUID", "5592b98b-9220-4ae8-8586-baf23728fb23", '"5592b98b-9220-4ae8-8586-baf23728fb23"'),
    ("'{\"a\": 1}'::JSON", '{"a": 1}', '"{""a"": 1}"'),
    ("'a'::ENUM('a', 'b')", "a", '"a"'),
    ("[1, NULL, 9007199254740993]", [1, None, "9007199254740993"], '"[1, null, ""9007199254740993""]"'),
    ("[DATE '2024-01-15']", ["2024-01-15"], '"[""2024-01-15""]"'),
    ("[]::INTEGER[]", [], '"[]"'),
    ("{'x': 1, 'y': {'z': 1.5::DECIMAL(3,1)}}", {"x": 1, "y": {"z": "1.5"}}, '"{""x"": 1, ""y"": {""z"": ""1.5""}}"'),
    ("MAP {7: 'seven'}", {"7": "seven"}, '"{""7"": ""seven""}"'),
]


@pytest.mark.parametrize(("sql", "as_json", "as_csv"), VALUES, ids=[sql for sql, _, _ in VALUES])
def test_every_type_survives(tmp_path: Path, sql: str, as_json: Any, as_csv: str) -> None:
    # The second and third rows show that nulls, and the values behind them, stay in their places.
    select = f"SELECT {sql} AS v, 1 AS n UNION ALL SELECT NULL, 2 UNION ALL SELECT {sql}, 3 ORDER BY n"
    lines = b"".join(downloads.jsonl(parquet(tmp_path, select))).splitlines()
    assert [json.loads(line) for line in lines] == [{"v": as_json, "n": 1}, {"v": None, "n": 2}, {"v": as_json, "n": 3}]
    assert b"".join(downloads.csv(parquet(tmp_path, select), raw=True)).decode() == f'"v","n"\n{as_csv},1\n,2\n{as_csv},3\n'


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("=1+1", "'=1+1"),
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("+1-555", "'+1-555"),
        ("-a", "'-a"),
        ("@SUM(1)", "'@SUM(1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("\n=1", "'\n=1"),
        ("\uff1d1+1", "'\uff1d1+1"),
        ("-5", "-5"),
        ("+1,5", "+1,5"),
        ("-12.75", "-12.75"),
        ("plain = text", "plain = text"),
        ("", ""),
    ],
)
def test_a_csv_for_people_holds_no_formula(text: str, shown: str) -> None:
    file = io.BytesIO()
    pq.write_table(pa.table({text or "empty": [text, None, "-9"], "n": [-1, -2, -3]}), file)
    for raw, expected in ((False, shown), (True, text)):
        table = pa.csv.read_csv(
            pa.BufferReader(b"".join(downloads.csv(io.BytesIO(file.getvalue()), raw=raw))),
            parse_options=pa.csv.ParseOptions(newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(
                strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""], column_types={expected or "empty": pa.string()}
            ),
        )
        assert table.to_pydict() == {expected or "empty": [expected, None, "-9"], "n": [-1, -2, -3]}


def test_an_empty_output_still_has_its_columns(tmp_path: Path) -> None:
    assert b"".join(downloads.csv(parquet(tmp_path, "SELECT 1 AS a, 'x' AS b WHERE false"), raw=False)) == b'"a","b"\n'
    assert b"".join(downloads.jsonl(parquet(tmp_path, "SELECT 1 AS a, 'x' AS b WHERE false"))) == b""


def test_rows_come_in_pieces_and_the_header_once(tmp_path: Path) -> None:
    select = "SELECT range AS i, range::VARCHAR AS t FROM range(25000)"
    pieces = list(downloads.csv(parquet(tmp_path, select), raw=False))
    assert [piece.count(b"\n") for piece in pieces] == [10001, 10000, 5000]
    assert b"".join(pieces).splitlines()[25000] == b'24999,"24999"'
    assert [piece.count(b"\n") for piece in downloads.jsonl(parquet(tmp_path, select))] == [10000, 10000, 5000]


@pytest.mark.parametrize(
    ("select", "most"),
    [
        ("SELECT " + ", ".join(f"range AS c{n}" for n in range(1000)) + " FROM range(1500)", 500),
        ("SELECT repeat('x', 1000000) || range AS t FROM range(40)", 8),
        ("SELECT repeat('x', 1000000) AS t FROM range(40)", 8),  # one text, stored once
    ],
)
def test_wide_rows_and_long_texts_make_short_pieces(tmp_path: Path, select: str, most: int) -> None:
    assert max(piece.count(b"\n") for piece in downloads.jsonl(parquet(tmp_path, select))) <= most


def test_the_file_itself_comes_in_chunks_and_is_closed(tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096
    (tmp_path / "file").write_bytes(content)
    file = (tmp_path / "file").open("rb")
    chunks = list(downloads.parquet(file))
    assert (b"".join(chunks), len(chunks), file.closed) == (content, 4, True)


def test_a_download_that_is_given_up_closes_its_file(tmp_path: Path) -> None:
    file = parquet(tmp_path, "SELECT range AS i FROM range(25000)")
    pieces = downloads.csv(file, raw=True)
    next(pieces)
    pieces.close()
    assert file.closed


def test_a_slice_of_a_column_has_its_own_values() -> None:
    maps = pa.array([[("a", 1)], None, [("b", 2), ("c", 3)]], pa.map_(pa.string(), pa.int32()))
    lists = pa.array([[1], None, [2, 3]])
    structs = pa.array([{"x": 1}, None, {"x": 3}])
    assert plain.values(maps.slice(1)) == [None, {"b": 2, "c": 3}]
    assert plain.values(lists.slice(1)) == [None, [2, 3]]
    arrays = pa.array([[1.5, 2.5], None, [3.5, 4.5]], pa.list_(pa.float64(), 2))
    assert plain.values(structs.slice(1)) == [None, {"x": 3}]
    assert plain.values(arrays.slice(1)) == [None, [3.5, 4.5]]
