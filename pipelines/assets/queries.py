"""Which tables a query reads, told by sqlglot in the database's own dialect. Pure.

A common table expression is no table where it is visible, and a name that a query gives to a part of itself is none either. What cannot be
read is said to be so: the tables that were found may not be all.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import ErrorLevel, SqlglotError
from sqlglot.tokenizer_core import Token, TokenType

from brokoli_site.common.errors import NodeError
from pipelines import references
from pipelines.assets.values import Database
from pipelines.databases.declaring import table_parts

LONGEST_QUERY = 20_000  # characters; sqlglot takes some 20 µs for each
MOST_TABLES = 100  # of one query
# Where a name without a schema is looked for: naming that schema, or not, is the same.
_OWN_SCHEMA = {"postgres": "public", "sqlite": "main", "duckdb": "main", "tsql": "dbo"}
_SAME_DATABASE_ONLY = frozenset({"postgres"})  # a name's first of three parts can only be the database itself
# `f(1).g(2)…`, `x[1][2]…`: the parser takes the square of their number, and more; people write a few.
_MOST_LINKS = 40
_BEFORE_LINK = frozenset({TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE})
_LINKS = frozenset({TokenType.DOT, TokenType.L_BRACKET})
_NO_TABLES = frozenset({"dual"})  # stands where a table must, and is none
_PLACEHOLDER = "brokoli_reference_"
# What the parser raises for texts that it did not expect, besides its own errors: it is not ours to mend.
_NOT_PARSED = (SqlglotError, RecursionError, ValueError, TypeError, AttributeError, LookupError)


@dataclass(frozen=True, slots=True)
class Found:
    """Names of tables, sorted. `complete`: no others are read."""

    tables: tuple[str, ...] = ()
    complete: bool = True


def tables_of(sql: str, database: Database) -> Found:
    """The tables that a query of `database` reads."""
    if not sql.strip() or len(sql) > LONGEST_QUERY:
        return Found(complete=False)
    return _tables_of(_without_references(sql), database)


def table_named(name: str, database: Database) -> str | None:
    """A table that a config names, as `tables_of` would call it; None for a name that is none, or is not told before the run."""
    if any(True for _ in references.find(name)):
        return None
    try:
        parts = table_parts(name)
    except NodeError:
        return None
    return _joined([_folded(exp.to_identifier(part, quoted=True), database.dialect) for part in parts], database)


@lru_cache(maxsize=1024)
def _tables_of(sql: str, database: Database) -> Found:
    try:
        query = _parsed(sql, database.dialect)
        names = {_name(table, database) for table in _tables(query, database.dialect)} if query is not None else None
    except _NOT_PARSED:
        return Found(complete=False)
    if names is None:
        return Found(complete=False)
    names -= {name for name in names if name.lower() in _NO_TABLES}
    told = sorted(name for name in names if _PLACEHOLDER not in name.lower())
    return Found(tuple(told[:MOST_TABLES]), complete=len(told) == len(names) and len(told) <= MOST_TABLES)


def _parsed(sql: str, dialect: str) -> exp.Expr | None:
    """None for what is no query, or too hard to read."""
    reader = Dialect.get_or_raise(dialect or None)
    tokens = reader.tokenize(sql)
    if _links(tokens) > _MOST_LINKS:
        return None
    statements = [one for one in reader.parser(error_level=ErrorLevel.IMMEDIATE).parse(tokens, sql) if one is not None]
    return statements[0] if len(statements) == 1 and isinstance(statements[0], exp.Query | exp.Values) else None


def _links(tokens: list[Token]) -> int:
    return sum(one.token_type in _BEFORE_LINK and other.token_type in _LINKS for one, other in pairwise(tokens))


def _without_references(sql: str) -> str:
    """References become names that no table has: most stand where a value does, and those that stand for a table are found out by it."""
    parts, done = [], 0
    for number, one in enumerate(references.find(sql) if "{" in sql else ()):
        parts += [sql[done : one.start], f"{_PLACEHOLDER}{number}_"]
        done = one.end
    return "".join(parts) + sql[done:]


def _tables(root: exp.Expr, dialect: str) -> Iterator[exp.Table]:
    """Every table below `root` that is no common table expression where it stands. Without recursion: a text decides how deep it is."""
    waiting: list[tuple[exp.Expr, frozenset[str]]] = [(root, frozenset())]
    while waiting:
        node, hidden = waiting.pop()
        if isinstance(node, exp.Table) and _is_named(node) and (node.args.get("db") or _folded(node.this, dialect) not in hidden):
            yield node
        named = node.args.get("with_")
        visible = hidden
        if isinstance(named, exp.With):
            every = hidden | {_alias(one, dialect) for one in named.expressions}
            for one in named.expressions:
                waiting.append((one.this, every if named.args.get("recursive") else visible))
                visible |= {_alias(one, dialect)}
        waiting += [(child, visible) for child in node.iter_expressions() if child is not named]


def _is_named(table: exp.Table) -> bool:
    """Not a function that gives rows."""
    return isinstance(table.this, exp.Identifier)


def _alias(named: exp.Expr, dialect: str) -> str:
    alias = named.args.get("alias")
    return _folded(alias.this, dialect) if alias is not None and isinstance(alias.this, exp.Identifier) else ""


def _name(table: exp.Table, database: Database) -> str:
    parts = [part for part in (table.args.get("catalog"), table.args.get("db"), table.this) if isinstance(part, exp.Identifier)]
    return _joined([_folded(part, database.dialect) for part in parts], database)


def _folded(name: exp.Identifier, dialect: str) -> str:
    """As the database sees it: PostgreSQL takes `Orders` for `orders`, and `"Orders"` for itself."""
    return str(Dialect.get_or_raise(dialect or None).normalize_identifier(name.copy()).name)


def _joined(parts: list[str], database: Database) -> str:
    if len(parts) > 2 and (database.dialect in _SAME_DATABASE_ONLY or parts[0] == database.database):
        parts = parts[-2:]
    own = database.database if database.dialect == "mysql" else _OWN_SCHEMA.get(database.dialect)
    if len(parts) == 2 and own and parts[0] == own:
        parts = parts[1:]
    return ".".join(part if re.fullmatch(r'[^."\s]+', part) else '"' + part.replace('"', '""') + '"' for part in parts)
