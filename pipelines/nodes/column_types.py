"""Which type holds the values of two columns without changing what they mean, by DuckDB's names of types. Pure.

Numbers go with numbers, dates with timestamps, texts with texts. Anything else is refused by giving None: a guess would
compare `10` and `10.0` as texts, or a date with a text that looks like one.
"""

import re

# Bits that a signed (or unsigned) integer type holds, and the decimal digits that it needs.
_SIGNED = {"TINYINT": 8, "SMALLINT": 16, "INTEGER": 32, "BIGINT": 64, "HUGEINT": 128}
_UNSIGNED = {"UTINYINT": 8, "USMALLINT": 16, "UINTEGER": 32, "UBIGINT": 64, "UHUGEINT": 128}
_SIGNED_OF_BITS = {bits: name for name, bits in _SIGNED.items()}
_UNSIGNED_OF_BITS = {bits: name for name, bits in _UNSIGNED.items()}
_DIGITS_OF_BITS = {8: 3, 16: 5, 32: 10, 64: 20, 128: 39}
_MOST_DIGITS = 38

_DECIMAL = re.compile(r"DECIMAL\((\d+), ?(\d+)\)")
# Ordered by what holds what: a timestamp holds a date (its midnight), one with a zone holds one without (in UTC).
_TIMES = ("DATE", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP", "TIMESTAMP_NS", "TIMESTAMP WITH TIME ZONE")
# A column of nothing but NULL goes with everything.
_NULLS = frozenset({"NULL", '"NULL"'})


def common_type(first: str, second: str) -> str | None:
    """The type that holds the values of both; None where there is none."""
    if first == second or second in _NULLS:
        return first
    if first in _NULLS:
        return second
    for rule in (_integers, _numbers, _texts, _times, _lists):
        found = rule(first, second)
        if found is not None:
            return found
    return None


def is_number(type_name: str) -> bool:
    return is_integer(type_name) or type_name in ("FLOAT", "DOUBLE", "BIGNUM") or _DECIMAL.fullmatch(type_name) is not None


def is_integer(type_name: str) -> bool:
    return type_name in _SIGNED or type_name in _UNSIGNED


def is_text(type_name: str) -> bool:
    return type_name in ("VARCHAR", "JSON") or type_name.startswith("ENUM(")


def is_time(type_name: str) -> bool:
    """A point on the calendar: a date or a timestamp."""
    return type_name in _TIMES


def _integers(first: str, second: str) -> str | None:
    if first in _UNSIGNED and second in _UNSIGNED:
        return _UNSIGNED_OF_BITS[max(_UNSIGNED[first], _UNSIGNED[second])]
    bits = [_SIGNED.get(name) or 2 * _UNSIGNED.get(name, 256) for name in (first, second)]  # an unsigned one needs the next size up
    return _SIGNED_OF_BITS.get(max(bits))


def _numbers(first: str, second: str) -> str | None:
    if not (is_number(first) and is_number(second)):
        return None
    digits = [_digits(name) for name in (first, second)]
    if digits[0] is None or digits[1] is None:
        return "FLOAT" if first == second == "FLOAT" else "DOUBLE"
    scale = max(digits[0][1], digits[1][1])
    whole = max(digits[0][0] - digits[0][1], digits[1][0] - digits[1][1])
    # A decimal has room for 38 digits; a value that needs more fails the node instead of losing digits.
    return f"DECIMAL({min(_MOST_DIGITS, whole + scale)},{scale})"


def _digits(name: str) -> tuple[int, int] | None:
    """How many digits, and how many of them behind the point; None for floating-point types."""
    match = _DECIMAL.fullmatch(name)
    if match:
        return int(match[1]), int(match[2])
    bits = _SIGNED.get(name) or _UNSIGNED.get(name)
    return None if bits is None else (_DIGITS_OF_BITS[bits], 0)


def _texts(first: str, second: str) -> str | None:
    return "VARCHAR" if is_text(first) and is_text(second) else None


def _times(first: str, second: str) -> str | None:
    if not (is_time(first) and is_time(second)):
        return None
    return max(first, second, key=_TIMES.index)


def _lists(first: str, second: str) -> str | None:
    if not (first.endswith("[]") and second.endswith("[]")):
        return None
    inner = common_type(first[:-2], second[:-2])
    return None if inner is None else f"{inner}[]"
