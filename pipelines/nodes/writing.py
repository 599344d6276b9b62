"""How the rows of a sink become the bytes of a file: one COPY statement a format, and what appending to an old file means for it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from brokoli_site.common.spreadsheets import FORMULA, NUMBER, harmless
from pipelines.expressions import literal, quote
from pipelines.nodes.base import Column

TEXT_COMPRESSIONS = ("none", "gzip")
PARQUET_COMPRESSIONS = ("snappy", "zstd", "gzip", "lz4", "brotli", "none")
_NESTED = re.compile(r"^(STRUCT|MAP|UNION)\b|\[\d*\]$")
_FLOATS = ("FLOAT", "DOUBLE")
_BARE = re.compile(r"^(U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|DECIMAL.*|BOOLEAN)$")  # written without quotes in SQL


@dataclass(frozen=True, slots=True)
class Writing:
    """How to write. `table` is the name in SQL statements; `compression` one of the format's.

    `neutralise`: texts of CSV that a spreadsheet would execute get an apostrophe before them.
    """

    kind: str
    compression: str = "none"
    delimiter: str = ","
    header: bool = True
    table: str = ""
    neutralise: bool = False

    def copy(self, columns: Sequence[Column], source: str, target: str, *, header: bool) -> str:
        """The statement that writes the relation `source` to the file `target`; it answers the number of rows."""
        return f"COPY (SELECT {self._items(columns)} FROM {source}) TO {literal(target)} ({self._options(header=header)})"  # noqa: S608 - quoted

    def _items(self, columns: Sequence[Column]) -> str:
        if self.kind == "sql":
            return _insert(self.table, columns)
        if self.kind in ("csv", "tsv") and self.neutralise:
            return ", ".join(_harmless(column) for column in columns)
        shape = {"csv": _flat, "tsv": _flat, "json": _strict, "jsonl": _strict}.get(self.kind, _same)
        return ", ".join(shape(column) for column in columns)

    def _options(self, *, header: bool) -> str:
        # Text is compressed afterwards (`unpacking.pack`): DuckDB's own gzip goes on for seconds after an interrupt.
        compression = literal({"none": "uncompressed"}.get(self.compression, self.compression) if self.kind == "parquet" else "none")
        options = {
            "csv": f"FORMAT csv, HEADER {literal(header)}, DELIMITER {literal(self.delimiter)}",
            "tsv": f"FORMAT csv, HEADER {literal(header)}, DELIMITER {literal(chr(9))}",
            "json": "FORMAT json, ARRAY true",
            "jsonl": "FORMAT json, ARRAY false",
            "parquet": "FORMAT parquet",
            # Lines as they are: a delimiter that a single column never needs, and no quotes.
            "sql": f"FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIMITER {literal(chr(1))}",
        }[self.kind]
        return f"{options}, COMPRESSION {compression}, USE_TMP_FILE false"


def _same(column: Column) -> str:
    return quote(column.name)


def _flat(column: Column) -> str:
    """For CSV: what is nested as JSON, binary as base64."""
    name = quote(column.name)
    if _NESTED.search(column.type):
        return f"CAST(to_json({name}) AS VARCHAR) AS {name}"
    return f"base64({name}) AS {name}" if column.type == "BLOB" else name


def _harmless(column: Column) -> str:
    """As `_flat`, but what a spreadsheet takes for a formula is text to it."""
    source, name = quote(column.name), quote(harmless(column.name))
    if column.type == "BLOB":
        return f"base64({source}) AS {name}"
    if column.type != "VARCHAR" and not is_nested(column.type):
        return f"{source} AS {name}"
    text = source if column.type == "VARCHAR" else f"CAST(to_json({source}) AS VARCHAR)"
    risky = f"regexp_matches({text}, {literal(FORMULA)}) AND NOT regexp_full_match({text}, {literal(NUMBER)})"
    return f"CASE WHEN {risky} THEN chr(39) || {text} ELSE {text} END AS {name}"


def is_nested(kind: str) -> bool:
    """Whether values of that type hold others."""
    return _NESTED.search(kind) is not None


def _strict(column: Column) -> str:
    """For JSON, which has no NaN, no infinities and no bytes."""
    name = quote(column.name)
    if column.type in _FLOATS:
        return f"CASE WHEN isfinite({name}) THEN {name} END AS {name}"
    return f"base64({name}) AS {name}" if column.type == "BLOB" else name


def _insert(table: str, columns: Sequence[Column]) -> str:
    """One INSERT statement a row, in standard SQL."""
    target = ".".join(quote(part) for part in table.split("."))
    start = f"INSERT INTO {target} ({', '.join(quote(column.name) for column in columns)}) VALUES ("  # noqa: S608 - quoted; text of a file
    values = ", ', ', ".join(_sql_value(column) for column in columns)
    return f"concat({literal(start)}, {values}, ');')"


def _sql_value(column: Column) -> str:
    name = quote(column.name)
    if _BARE.match(column.type):
        return f"coalesce(CAST({name} AS VARCHAR), 'NULL')"
    if column.type in _FLOATS:
        return f"CASE WHEN isfinite({name}) THEN CAST({name} AS VARCHAR) ELSE 'NULL' END"
    text = f"hex({name})" if column.type == "BLOB" else f"CAST({name} AS VARCHAR)"
    if _NESTED.search(column.type):
        text = f"CAST(to_json({name}) AS VARCHAR)"
    prefix = "X" if column.type == "BLOB" else ""
    return f"coalesce('{prefix}''' || replace({text}, '''', '''''') || '''', 'NULL')"
