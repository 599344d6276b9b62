"""Which SQL type the texts of a column have."""

import datetime as dt
import math
import re
from collections.abc import Iterable

TEXT = "VARCHAR"
_LONG = "DECIMAL(38,0)"
_ZONED = "TIMESTAMP WITH TIME ZONE"
_WHOLE = re.compile(r"-?(0|[1-9]\d*)")  # a leading zero is a part of a code, not of a number
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d{1,3})?")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)?")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
# What values of several kinds have in common; anything else is text.
_COMMON = (
    (frozenset({"BIGINT", _LONG}), _LONG),
    (frozenset({"BIGINT", _LONG, "DOUBLE"}), "DOUBLE"),
    (frozenset({"DATE", "TIMESTAMP"}), "TIMESTAMP"),
)


def of_text(text: str) -> str:
    """The type that a text looks like. A cast to it cannot fail."""
    first = text[0]
    if first.isdigit() or first == "-":
        if _WHOLE.fullmatch(text):
            return _whole(text)
        if _NUMBER.fullmatch(text):
            return "DOUBLE" if math.isfinite(float(text)) else TEXT
        return _time(text)
    return "BOOLEAN" if text in ("true", "false") else TEXT


def of_texts(texts: Iterable[str | None]) -> set[str]:
    """The types of the texts; one of them being plain text, that alone."""
    found: set[str] = set()
    for text in texts:
        if text is not None:
            found.add(of_text(text))
            if TEXT in found:
                return {TEXT}
    return found


def common(found: Iterable[str]) -> str:
    """The type of a column whose values are of these."""
    kinds = frozenset(found)
    if len(kinds) == 1:
        return next(iter(kinds))
    return next((kind for members, kind in _COMMON if kinds and kinds <= members), TEXT)


def _whole(text: str) -> str:
    digits = len(text.lstrip("-"))
    if digits < 19 or (digits == 19 and -(2**63) <= int(text) < 2**63):
        return "BIGINT"
    return _LONG if digits <= 38 else TEXT


def _time(text: str) -> str:
    try:
        if _DAY.fullmatch(text):
            dt.date.fromisoformat(text)
            return "DATE"
        moment = _MOMENT.fullmatch(text)
        if moment:
            dt.datetime.fromisoformat(text)
            return _ZONED if moment[3] else "TIMESTAMP"
    except ValueError:
        pass
    return TEXT
