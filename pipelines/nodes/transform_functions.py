"""The functions of `apply_function`, as SQL over one column."""

from collections.abc import Callable

from pipelines.expressions import literal
from pipelines.expressions.kinds import NUMBER, TEXT, UNKNOWN, of_type

# All that Python calls white space, which is more than the blank that SQL's `trim` takes away.
_WHITE_SPACE = literal("".join(chr(code) for code in range(0x3001) if chr(code).isspace()))
# Letters, digits and apostrophes make words: `o'neill-smith` becomes `O'neill-Smith`.
_WORDS = literal(r"[\p{L}\p{N}'\x{2019}]+|[^\p{L}\p{N}'\x{2019}]+")


def _title(text: str) -> str:
    return f"array_to_string(list_transform(regexp_extract_all({text}, {_WORDS}), lambda word: upper(word[1]) || lower(word[2:])), '')"


_OF_TEXT: dict[str, Callable[[str], str]] = {
    "lower": "lower({})".format,
    "upper": "upper({})".format,
    "trim": lambda text: f"trim({text}, {_WHITE_SPACE})",
    "ltrim": lambda text: f"ltrim({text}, {_WHITE_SPACE})",
    "rtrim": lambda text: f"rtrim({text}, {_WHITE_SPACE})",
    "title": _title,
    "capitalize": lambda text: f"upper({text}[1]) || lower({text}[2:])",
    "length": "length({})".format,
    "reverse": "reverse({})".format,
}
_OF_NUMBER: dict[str, Callable[[str], str]] = {
    "abs": "abs({})".format,
    "floor": "floor({})".format,
    "ceil": "ceil({})".format,
    "sqrt": "sqrt({})".format,
    "sign": "sign({})".format,
}
_OF_TIME: dict[str, Callable[[str], str]] = {
    name: (name + "({})").format for name in ("year", "quarter", "month", "week", "day", "hour", "minute", "second")
}
_ALIASES = {"lowercase": "lower", "uppercase": "upper", "strip": "trim", "len": "length", "titlecase": "title", "ceiling": "ceil"}

NAMES = tuple(sorted({*_OF_TEXT, *_OF_NUMBER, *_OF_TIME, "round"}))


def known(name: str) -> str | None:
    """The function's own name, None when there is no such function."""
    lowered = name.strip().lower()
    lowered = _ALIASES.get(lowered, lowered)
    return lowered if lowered in NAMES else None


def apply(function: str, column: str, type_name: str, digits: int) -> str:
    """SQL of `function` (one of `NAMES`) over the quoted `column`. What is of another kind is converted first, and loudly."""
    kind = of_type(type_name) if type_name else UNKNOWN
    if function in _OF_TEXT:
        return _OF_TEXT[function](column if kind == TEXT or _has_length(function, type_name) else f"CAST({column} AS VARCHAR)")
    if function in _OF_TIME:
        return _OF_TIME[function](f"CAST({column} AS TIMESTAMP)" if kind == TEXT else column)
    number = f"CAST({column} AS DOUBLE)" if kind == TEXT else column
    if function == "round":
        return f"round({number}, {digits:d})"
    return _OF_NUMBER[function](f"({number})" if kind == NUMBER else number)


def _has_length(function: str, type_name: str) -> bool:
    """Lists have a length of their own."""
    return function == "length" and type_name.endswith("]")
