"""How PostgreSQL's types come as Arrow: what the driver gives, what the query has to cast, and what is converted on arrival."""

import re
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from brokoli_site.common.errors import NodeError

MOST_DIGITS = 38  # of a DECIMAL

_TYPE, _TYPMOD = b"POSTGRESQL:type", b"POSTGRESQL:typmod"
# PostgreSQL's infinities are its largest and smallest numbers, counted from 2000; the driver adds the 30 years since 1970 to them as to any
# other, and they wrap around. DuckDB's are the largest number and its negative.
_DATE_INFINITIES = {-2147472692: 2147483647, -2147472691: -2147483647}
_YEARS = 946_684_800_000_000
_TIME_INFINITIES = {-(2**63) + _YEARS - 1: 2**63 - 1, -(2**63) + _YEARS: -(2**63) + 1}
_SEVERAL = "of several dimensions; cast it to text or json"


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """One column: `sql` casts it on the server ("" as it is; `{}` is the column), `type` is what it becomes."""

    name: str
    type: pa.DataType
    sql: str = ""
    note: str = ""

    def convert(self, column: pa.Array) -> pa.Array:
        """Errors: `NodeError` naming the column."""
        if isinstance(column, pa.ExtensionArray) and not isinstance(self.type, pa.BaseExtensionType):
            column = column.storage
        if pa.types.is_date32(self.type) or pa.types.is_timestamp(self.type):
            return _infinities(column, self.type)
        if column.type == self.type:
            return column
        try:
            return pc.cast(column, self.type)
        except pa.ArrowException as error:
            raise NodeError(
                f"Column '{self.name}' holds a value that is no {self.type}: {str(error)[:200]}. Cast it in the query, to text for instance."
            ) from error


def is_open_ended(field: pa.Field) -> bool:
    """A NUMERIC without a declared precision: the result of a sum, say."""
    return _name(field) == "numeric" and _declared(field) is None


def plan(field: pa.Field, measured: tuple[int, int, int] | None) -> ColumnPlan:
    """`measured` of open-ended numbers: digits after the point, before it, and how many are NaN or infinite."""
    kind, name = _name(field), field.name
    if kind == "numeric":
        return _numeric(field, measured)
    if kind == "money":
        return ColumnPlan(name, pa.decimal128(19, 2), "CAST({} AS numeric(19, 2))")
    if kind == "oid":
        return ColumnPlan(name, pa.int64(), "CAST({} AS bigint)")
    if pa.types.is_list(field.type):
        return _list(field)
    if pa.types.is_struct(field.type) or _is_opaque(field.type):
        return ColumnPlan(name, pa.string(), "CAST({} AS text)")
    return ColumnPlan(name, field.type)


def explained(error: Exception) -> NodeError | None:
    """The complaint that our own casts provoke, in plain words."""
    if _SEVERAL in str(error):
        named = re.search(r'column "([^"]*)"', str(error))
        return NodeError(f"Column '{named[1] if named else '?'}' holds arrays {_SEVERAL} in the query.")
    return None


def _numeric(field: pa.Field, measured: tuple[int, int, int] | None) -> ColumnPlan:
    declared = _declared(field)
    if declared is not None:
        return ColumnPlan(field.name, pa.decimal128(*declared))
    scale, whole, odd = measured or (0, 0, 0)
    if odd or scale + whole > MOST_DIGITS:
        why = "NaN or infinity" if odd else f"numbers of more than {MOST_DIGITS} digits"
        return ColumnPlan(field.name, pa.string(), note=f"Column '{field.name}' holds {why}; it comes as text.")
    return ColumnPlan(field.name, pa.decimal128(MOST_DIGITS, scale))


def _declared(field: pa.Field) -> tuple[int, int] | None:
    """Precision and scale of `numeric(p, s)`, where a DECIMAL can be that; https://www.postgresql.org/docs/current/datatype-numeric.html"""
    modifier = int((field.metadata or {}).get(_TYPMOD, b"-1").decode().strip("'")) - 4
    if modifier < 0:
        return None
    precision, scale = (modifier >> 16) & 0xFFFF, ((modifier & 0x7FF) ^ 1024) - 1024
    return (precision, scale) if 0 <= scale <= precision <= MOST_DIGITS else None


def _list(field: pa.Field) -> ColumnPlan:
    """Arrays become lists; the driver would make one flat list of an array of several dimensions, so that is refused where it is read."""
    inner = field.type.value_type
    plain = not (_is_opaque(inner) or pa.types.is_struct(inner) or pa.types.is_list(inner))
    kind = _name(field.type.value_field) if plain else "text"
    named = field.name.replace("'", "''").replace("{", "{{").replace("}", "}}")
    refuse = f"CAST('column \"{named}\" holds an array {_SEVERAL}: ' || array_ndims({{0}})::text AS integer[])::text[]"
    sql = f"CASE WHEN array_ndims({{0}}) > 1 THEN ({refuse})::{_array_type(kind)} ELSE {{0}}::{_array_type(kind)} END"
    return ColumnPlan(field.name, field.type if plain else pa.list_(pa.string()), sql)


def _array_type(kind: str) -> str:
    return '"char"[]' if kind == "char" else f"{kind}[]" if re.fullmatch(r"[a-z][a-z0-9_]*", kind) else "text[]"


def _is_opaque(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.OpaqueType)


def _name(field: pa.Field) -> str:
    return str((field.metadata or {}).get(_TYPE, b"").decode().strip("'"))


def _infinities(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """`infinity` as DuckDB has it."""
    plain, known = (pa.int32(), _DATE_INFINITIES) if pa.types.is_date32(kind) else (pa.int64(), _TIME_INFINITIES)
    numbers: Any = column.view(plain)
    least = pc.min(numbers).as_py()
    if least is None or least > max(known):
        return column
    for wrapped, real in known.items():
        numbers = pc.if_else(pc.equal(numbers, wrapped), pa.scalar(real, plain), numbers)
    return numbers.view(kind)
