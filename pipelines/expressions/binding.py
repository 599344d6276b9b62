"""What DuckDB makes of SQL over empty tables of known schemas: the columns that come out, or what is wrong. Nothing is read."""

from collections.abc import Mapping
from functools import lru_cache

import duckdb

from pipelines.expressions import parser
from pipelines.expressions.checking import Refused
from pipelines.expressions.errors import ExpressionError
from pipelines.expressions.parser import SyntaxProblem, Tree
from pipelines.expressions.quoting import literal, quote
from pipelines.nodes.base import Column, Schema

# Words that people use for types, as the type that holds what they mean: a whole number may be large, a float is double.
TYPE_WORDS = {
    "int": "BIGINT",
    "integer": "BIGINT",
    "long": "BIGINT",
    "int64": "BIGINT",
    "number": "DOUBLE",
    "float": "DOUBLE",
    "float64": "DOUBLE",
    "str": "VARCHAR",
    "string": "VARCHAR",
    "text": "VARCHAR",
    "object": "VARCHAR",
    "bool": "BOOLEAN",
    "datetime": "TIMESTAMP",
    "timestamptz": "TIMESTAMP WITH TIME ZONE",
}


# The same pipeline is bound at each save and each run; what is wide or long is rare, and takes memory to keep.
_CACHED_CHARACTERS = 10_000
_CACHED_COLUMNS = 300


class BindingProblem(Exception):
    """DuckDB cannot make sense of a statement. `name`: the column or function that it is about, "" where it is about none."""

    def __init__(self, message: str, name: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.name = name


def describe(sql: str, tables: Mapping[str, Schema]) -> Schema:
    """The columns that a checked query over `tables` gives. Errors: `BindingProblem`."""
    if len(sql) > _CACHED_CHARACTERS or sum(map(len, tables.values())) > _CACHED_COLUMNS:
        return _describe(sql, tuple(tables.items()))
    return _describe_cached(sql, tuple(tables.items()))


def _describe(sql: str, tables: tuple[tuple[str, Schema], ...]) -> Schema:
    with parser.cursor() as connection:
        try:
            for name, schema in tables:
                columns = ", ".join(f"CAST(NULL AS {canonical_type(column.type)}) AS {quote(column.name)}" for column in schema)
                # A view, as in a run: a table has a `rowid`.
                connection.execute(f"CREATE TEMP VIEW {quote(name)} AS SELECT {columns}")
            rows = connection.execute(f"DESCRIBE {sql}").fetchall()
        except duckdb.Error as error:
            facts = parser.error_facts(error)
            raise BindingProblem(_sentence(str(facts["exception_message"])), str(facts.get("name", ""))) from error
        except ExpressionError as error:  # a type that is none
            raise BindingProblem(error.message) from error
    return tuple(Column(str(row[0]), str(row[1])) for row in rows)


def stored(schema: Schema) -> Schema:
    """`schema` as an output keeps it: Parquet has no 128-bit integers, so the engine stores those as 64-bit ones."""
    return tuple(Column(column.name, "BIGINT") if column.type in ("HUGEINT", "UHUGEINT") else column for column in schema)


_describe_cached = lru_cache(maxsize=512)(_describe)


def _sentence(message: str) -> str:
    """The parts of DuckDB's message that help: not the statement that it repeats, nor advice on its settings."""
    message = message.split("\n\n", maxsplit=1)[0].split("Candidate functions:", maxsplit=1)[0]
    lines = [line.strip() for line in message.splitlines()]
    sentence = " ".join(line for line in lines if line and not line.startswith("LINE "))
    return sentence if sentence.endswith((".", "?", "!")) else f"{sentence}."


def converts(value: object, type_name: str) -> bool:
    """Whether `value` (a text, a number, true or false) can be of that type. Errors: `ExpressionError` for what is no type."""
    with parser.cursor() as connection:
        try:
            connection.execute(f"SELECT CAST({literal(value)} AS {canonical_type(type_name)})").fetchall()
        except duckdb.ConversionException:
            return False
    return True


def type_named(text: str) -> str:
    """The type that a person means: `BIGINT` for `int`, `DOUBLE` for `number`, else as `canonical_type`. Errors: `ExpressionError`."""
    return canonical_type(TYPE_WORDS.get(text.strip().lower(), text) if isinstance(text, str) else text)


@lru_cache(maxsize=1024)
def canonical_type(text: str) -> str:
    """DuckDB's name of a type: `DECIMAL(18,3)` for `numeric`, `INTEGER` for `int4`. Errors: `ExpressionError`."""
    if not isinstance(text, str) or not text.strip() or len(text) > 10_000 or "\0" in text:
        raise ExpressionError("a type is a text such as BIGINT, DOUBLE, VARCHAR, DATE or DECIMAL(18, 2)")
    try:
        sql = parser.render([_only_a_cast(parser.parse(f"SELECT CAST(NULL AS {text})"), text)])
        with parser.cursor() as connection:
            row = connection.execute(f"DESCRIBE {sql}").fetchone()
    except (SyntaxProblem, Refused, duckdb.Error) as problem:
        raise ExpressionError(f"unknown type {text!r}; types are BIGINT, DOUBLE, DECIMAL(18, 2), VARCHAR, BOOLEAN, DATE, TIMESTAMP, …") from problem
    assert row is not None
    return str(row[1])


def _only_a_cast(statements: list[Tree], text: str) -> Tree:
    """The statement, when it is the CAST that we wrote around a type and nothing that the type's text brought along."""
    node = statements[0]["node"] if len(statements) == 1 else {}
    items = node.get("select_list", [])
    is_bare = node.get("type") == "SELECT_NODE" and node["from_table"]["type"] == "EMPTY" and not node["modifiers"] and len(items) == 1
    if not (is_bare and items[0].get("class") == "CAST" and _is_type(items[0]["type_expr"])):
        raise Refused(f"{text!r} is no type")
    return statements[0]


def _is_type(tree: Tree) -> bool:
    """A type made of types and constants: `STRUCT(a DECIMAL(9, 2))`, `ENUM('a', 'b')`."""
    if tree.get("class") == "CONSTANT":
        return True
    return tree.get("class") == "TYPE" and all(_is_type(child) for child in tree["children"])
