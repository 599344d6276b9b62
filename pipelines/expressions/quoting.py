"""Names and values as SQL, written by sqlglot: the only way that either gets into a statement."""

import datetime as dt
import math
from decimal import Decimal
from functools import lru_cache

from sqlglot import exp

from pipelines.expressions.errors import ExpressionError

DIALECT = "duckdb"


@lru_cache(maxsize=16_384)
def quote(name: str) -> str:
    """`name` as a DuckDB identifier, always in double quotes. Errors: `ExpressionError` for what no identifier can hold."""
    _check_text(name, "a name")
    if not name:
        raise ExpressionError("a name cannot be empty")
    return exp.to_identifier(name, quoted=True).sql(dialect=DIALECT)


def literal(value: object) -> str:
    """A JSON scalar, a date, a time or a decimal as a SQL literal. Errors: `ExpressionError` for anything else."""
    if isinstance(value, float) and not math.isfinite(value):
        return exp.cast(exp.Literal.string(str(value)), exp.DataType.Type.DOUBLE).sql(dialect=DIALECT)
    if isinstance(value, str):
        _check_text(value, "a text")
    elif value is not None and not isinstance(value, (bool, int, float, Decimal, dt.date)):
        raise ExpressionError(f"a value must be a text, a number, true, false or null, not {type(value).__name__}")
    return exp.convert(value).sql(dialect=DIALECT)


def _check_text(text: str, what: str) -> None:
    if "\0" in text:
        raise ExpressionError(f"{what} cannot hold a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ExpressionError(f"{what} cannot hold half of a surrogate pair") from error
