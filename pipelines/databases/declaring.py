"""The types with which columns are declared where a table is created, and names in a dialect's quotes. Pure."""

from functools import lru_cache

from sqlglot import exp

from brokoli_site.common.errors import NodeError
from pipelines.databases.kinds import ColumnKind, Kind, kind_of

_MOST_PARTS = 3  # catalog.schema.table
_QUOTES = {'"': '"', "`": "`", "[": "]"}

_SMALLEST_INTEGER = {8: "SMALLINT", 16: "SMALLINT", 32: "INTEGER", 64: "BIGINT"}
_MYSQL_INTEGER = {8: "TINYINT", 16: "SMALLINT", 32: "INT", 64: "BIGINT"}

_POSTGRES = {
    Kind.BOOLEAN: "BOOLEAN",
    Kind.TEXT: "TEXT",
    Kind.BINARY: "BYTEA",
    Kind.DATE: "DATE",
    Kind.TIME: "TIME",
    Kind.TIMESTAMP: "TIMESTAMP",
    Kind.TIMESTAMP_TZ: "TIMESTAMP WITH TIME ZONE",
    Kind.UUID: "UUID",
    Kind.INTERVAL: "INTERVAL",
    Kind.JSON: "JSONB",
}
_MYSQL = {
    Kind.BOOLEAN: "BOOLEAN",
    Kind.TEXT: "LONGTEXT CHARACTER SET utf8mb4",
    Kind.BINARY: "LONGBLOB",
    Kind.DATE: "DATE",
    Kind.TIME: "TIME(6)",
    Kind.TIMESTAMP: "DATETIME(6)",
    Kind.TIMESTAMP_TZ: "DATETIME(6)",  # in UTC: TIMESTAMP ends in 2038
    Kind.UUID: "CHAR(36)",
    Kind.INTERVAL: "VARCHAR(64)",
    Kind.JSON: "JSON",
}
_SQLITE = {
    Kind.BOOLEAN: "BOOLEAN",
    Kind.TEXT: "TEXT",
    Kind.BINARY: "BLOB",
    Kind.DATE: "DATE",
    Kind.TIME: "TIME",
    Kind.TIMESTAMP: "TIMESTAMP",
    Kind.TIMESTAMP_TZ: "TIMESTAMP",
    Kind.UUID: "TEXT",
    Kind.INTERVAL: "TEXT",
    Kind.JSON: "TEXT",
}
_GENERIC = {
    Kind.BOOLEAN: "BOOLEAN",
    Kind.TEXT: "TEXT",
    Kind.BINARY: "BLOB",
    Kind.DATE: "DATE",
    Kind.TIME: "TIME",
    Kind.TIMESTAMP: "TIMESTAMP",
    Kind.TIMESTAMP_TZ: "TIMESTAMP WITH TIME ZONE",
    Kind.UUID: "CHAR(36)",
    Kind.INTERVAL: "VARCHAR(64)",
    Kind.JSON: "TEXT",
}
# What can be part of a key; MySQL needs a length, and its default collation would take `a` and `A` for one key.
_MYSQL_KEYS = {
    Kind.TEXT: "VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    Kind.BINARY: "VARBINARY(255)",
}
_MOST_EXACT_DIGITS = 15  # that SQLite's numbers hold


def declared(dialect: str, type_name: str, *, key: bool = False) -> str:
    """The type in which `dialect` (generic, postgres, mysql, sqlite, duckdb) holds every value of a DuckDB type. `key`: it is part of a key."""
    if dialect == "duckdb":
        return type_name
    about = kind_of(type_name)
    if about.kind == Kind.INTEGER:
        return _integer(dialect, about)
    if about.kind == Kind.DECIMAL:
        exact = dialect != "sqlite" or about.precision <= _MOST_EXACT_DIGITS
        return f"DECIMAL({about.precision}, {about.scale})" if exact else "TEXT"
    if about.kind == Kind.FLOAT:
        return _float(dialect, about)
    if key and dialect == "mysql" and about.kind in _MYSQL_KEYS:
        return _MYSQL_KEYS[about.kind]
    return {"postgres": _POSTGRES, "mysql": _MYSQL, "sqlite": _SQLITE}.get(dialect, _GENERIC)[about.kind]


def spelled(type_name: str, dialect: str) -> str:
    """A standard type as a dialect of sqlglot writes it: BLOB is BYTEA in `redshift`, TEXT is VARCHAR(MAX) in `tsql`."""
    return exp.DataType.build(type_name).sql(dialect=dialect)


def _integer(dialect: str, about: ColumnKind) -> str:
    if dialect == "sqlite":
        # Its integers are signed ones of 64 bits; larger values keep their digits as text.
        return "INTEGER" if about.bits < 64 or (about.bits == 64 and about.signed) else "TEXT"
    if about.bits > 64:
        return "DECIMAL(39, 0)"
    if dialect == "mysql":
        return _MYSQL_INTEGER[about.bits] + ("" if about.signed else " UNSIGNED")
    if about.signed:
        return _SMALLEST_INTEGER[about.bits]
    return {8: "SMALLINT", 16: "INTEGER", 32: "BIGINT"}.get(about.bits, "DECIMAL(20, 0)")


def _float(dialect: str, about: ColumnKind) -> str:
    if dialect == "mysql":
        return "FLOAT" if about.bits == 32 else "DOUBLE"
    return "REAL" if about.bits == 32 or dialect == "sqlite" else "DOUBLE PRECISION"


@lru_cache(maxsize=16_384)
def identifier(name: str, dialect: str) -> str:
    """`name` in the quotes of a dialect of sqlglot ("" is standard SQL). Errors: `NodeError` for what no identifier can hold."""
    if not name or "\0" in name:
        raise NodeError("The name of a table or column cannot be empty or hold a NUL character.")
    return exp.to_identifier(name, quoted=True).sql(dialect=dialect)


def table_parts(text: str) -> tuple[str, ...]:
    """`public.orders` as `("public", "orders")`; a part in quotes (`"my.table"`) is one name. Errors: `NodeError`."""
    parts, current, closing = [], "", ""
    for character in text.strip():
        if closing:
            if character == closing:
                closing = ""
            current += character
        elif character in _QUOTES and not current:
            closing = _QUOTES[character]
            current += character
        elif character == ".":
            parts.append(current)
            current = ""
        else:
            current += character
    names = tuple(_without_quotes(part.strip()) for part in [*parts, current])
    if len(names) > _MOST_PARTS or not all(names) or any("\0" in name for name in names):
        raise NodeError(f"'{text}' is not the name of a table. Write table or schema.table; a name that holds a dot goes in double quotes.")
    return names


def _without_quotes(part: str) -> str:
    if len(part) > 1 and part[0] in _QUOTES and part[-1] == _QUOTES[part[0]]:
        return part[1:-1]
    return part
