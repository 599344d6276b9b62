"""The expression language: SQL in DuckDB's dialect, checked when a pipeline is saved, plus Brokoli's older rule forms.

`docs/expressions.md` describes the language; `parser.py` says how a text is checked.
"""

from pipelines.expressions.binding import BindingProblem, canonical_type, converts, describe, stored, type_named
from pipelines.expressions.conditions import Condition, parse_condition
from pipelines.expressions.errors import ExpressionError
from pipelines.expressions.queries import ParsedQuery, parse_queries_ahead, parse_query
from pipelines.expressions.quoting import literal, quote
from pipelines.expressions.scalars import Scalar, parse_ahead, parse_scalar

__all__ = [
    "BindingProblem",
    "Condition",
    "ExpressionError",
    "ParsedQuery",
    "Scalar",
    "canonical_type",
    "converts",
    "describe",
    "literal",
    "parse_ahead",
    "parse_condition",
    "parse_queries_ahead",
    "parse_query",
    "parse_scalar",
    "quote",
    "stored",
    "type_named",
]
