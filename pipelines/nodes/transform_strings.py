"""Rules written as texts: `drop_null(id)`, `FILTER amount > 0`, `rename(a, b)`, `total = price * quantity`."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import ValidationError

from pipelines.expressions import ExpressionError
from pipelines.expressions.source import Source
from pipelines.nodes.transform_rules import MODELS, TYPE_ALIASES, Rule, Scalar, normalise, read
from pipelines.problems import shortened

_CALL = re.compile(r"(?P<name>[A-Za-z_]\w*)\s*\((?P<arguments>.*)\)", re.DOTALL)
_KEYWORD = re.compile(r"(?:filter|where)\s+(?P<condition>\S.*)", re.DOTALL | re.IGNORECASE)
_ASSIGNMENT = re.compile(r"""(?P<name>[^\W\d]\w*|"[^"]+")\s*=(?!=)\s*(?P<expression>\S.*)""", re.DOTALL)
_PIECE = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|[(\[{]|[)\]}]|,|.""", re.DOTALL)
_FUNCTIONS_OF_A_COLUMN = frozenset({"lower", "upper", "trim", "title", "abs", "round", "length"})

FORMS = "drop_null(column), deduplicate(column), filter(condition), rename(old, new), cast(column, type), name = expression"


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a text rule, and where it starts in the text."""

    text: str
    start: int

    @property
    def name(self) -> str:
        """As a column: quotes of either kind are left out."""
        text = self.text
        if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
            return text[1:-1].replace(text[0] * 2, text[0])
        return text

    @property
    def value(self) -> Scalar:
        """As a value: a number, true or false, null, or else a text."""
        words: dict[str, Scalar] = {"true": True, "false": False, "null": None, "none": None}
        if self.text.lower() in words:
            return words[self.text.lower()]
        for convert in (int, float):
            try:
                return convert(self.text)
            except ValueError:
                continue
        return self.name


@dataclass(frozen=True, slots=True)
class Written:
    """The rule that a text stands for, and where its expression (when it has one) starts in the text."""

    rule: Rule
    start: int = 0


def parse(text: str) -> Written:
    """Errors: `ExpressionError`."""
    Source.of(text)  # is it a text of reasonable length?
    written = text.rstrip().removesuffix(";").rstrip()
    start = len(written) - len(written.lstrip())
    call, keyword, assignment = (pattern.fullmatch(written, start) for pattern in (_CALL, _KEYWORD, _ASSIGNMENT))
    if call and _is_one_call(call["arguments"]):
        return _of_call(call["name"].lower(), _arguments(call["arguments"], call.start("arguments")), written)
    if keyword:
        return _rule({"type": "filter_rows", "condition": keyword["condition"]}, keyword.start("condition"))
    if assignment:
        name = assignment["name"].strip('"')
        return _rule({"type": "add_column", "name": name, "expression": assignment["expression"]}, assignment.start("expression"))
    raise _no_rule(text)


def _no_rule(text: str) -> ExpressionError:
    return ExpressionError(f"{shortened(text)!r} is no rule; rules as texts are {FORMS}")


def _is_one_call(arguments: str) -> bool:
    """Not `f(a) > g(b)`, whose first and last brackets are not a pair."""
    depth = 0
    for piece in _PIECE.findall(arguments):
        depth += {"(": 1, ")": -1}.get(piece, 0)
        if depth < 0:
            return False
    return depth == 0


def _arguments(text: str, offset: int) -> list[Argument]:
    """The parts between the commas that are in no brackets and no quotes."""
    parts, depth, start = [], 0, 0
    for match in _PIECE.finditer(text):
        piece = match[0]
        if piece in "([{":
            depth += 1
        elif piece in ")]}":
            depth -= 1
        elif piece == "," and depth == 0:
            parts.append((start, match.start()))
            start = match.end()
    parts.append((start, len(text)))
    found = []
    for first, last in parts:
        raw = text[first:last]
        found.append(Argument(raw.strip(), offset + first + len(raw) - len(raw.lstrip())))
    return [] if len(found) == 1 and not found[0].text else found


def _of_call(name: str, arguments: list[Argument], text: str) -> Written:
    name = TYPE_ALIASES.get(name, name)
    if name in _FUNCTIONS_OF_A_COLUMN and arguments:
        rule = {"type": "apply_function", "function": name, "column": arguments[0].name}
        return _rule(rule | ({"digits": arguments[1].value} if len(arguments) > 1 else {}))
    build = _BUILDERS.get(name)
    if build is None:
        raise _no_rule(text)
    least, most, _ = build
    if len(arguments) < least or (most is not None and len(arguments) > most):
        expected = str(least) if least == most else f"{least} or more" if most is None else f"{least} to {most}"
        raise ExpressionError(f"{name} takes {expected} arguments, not {len(arguments)}")
    return build[2](arguments, text)


def _rule(document: dict[str, object], start: int = 0) -> Written:
    try:
        return Written(read(normalise(document)), start)
    except ValidationError as error:
        item = error.errors()[0]
        raise ExpressionError(f"{'.'.join(map(str, item['loc']))}: {item['msg'].removeprefix('Value error, ')}") from error


def _names(type_: str) -> Callable[[list[Argument], str], Written]:
    return lambda arguments, _: _rule({"type": type_, "columns": [argument.name for argument in arguments]})


def _filter(arguments: list[Argument], text: str) -> Written:
    start = arguments[0].start  # all of it: a condition may hold commas of its own
    return _rule({"type": "filter_rows", "condition": text[start:-1]}, start)


def _rename(arguments: list[Argument], _text: str) -> Written:
    if len(arguments) % 2:
        raise ExpressionError("rename takes pairs: rename(old, new)")
    return _rule({"type": "rename_columns", "mapping": {arguments[i].name: arguments[i + 1].name for i in range(0, len(arguments), 2)}})


def _add_column(arguments: list[Argument], text: str) -> Written:
    start = arguments[1].start
    return _rule({"type": "add_column", "name": arguments[0].name, "expression": text[start:-1]}, start)


def _sort(arguments: list[Argument], _text: str) -> Written:
    """`sort(a)`, `sort(a desc, b)`, `sort(-a)`."""
    columns, ascending = [], []
    for argument in arguments:
        text, direction = argument.text, "asc"
        if text.lower().endswith((" asc", " desc")):
            text, direction = text[: text.rindex(" ")].rstrip(), text[text.rindex(" ") + 1 :].lower()
        columns.append(Argument(text.removeprefix("-"), 0).name)
        ascending.append(direction == "asc" and not text.startswith("-"))
    return _rule({"type": "sort", "columns": columns, "ascending": ascending})


_BUILDERS: dict[str, tuple[int, int | None, Callable[[list[Argument], str], Written]]] = {
    "drop_null": (0, None, _names("drop_null")),
    "deduplicate": (0, None, _names("deduplicate")),
    "drop_columns": (1, None, _names("drop_columns")),
    "select": (1, None, _names("select")),
    "filter_rows": (1, None, _filter),
    "rename_columns": (2, None, _rename),
    "add_column": (2, None, _add_column),
    "sort": (1, None, _sort),
    "limit": (1, 1, lambda arguments, _: _rule({"type": "limit", "n": arguments[0].text})),
    "cast": (2, None, lambda arguments, _: _rule({"type": "cast", "column": arguments[0].name, "to": ", ".join(a.text for a in arguments[1:])})),
    "fill_null": (2, 2, lambda arguments, _: _rule({"type": "fill_null", "column": arguments[0].name, "value": arguments[1].value})),
    "replace_values": (
        3,
        3,
        lambda arguments, _: _rule({"type": "replace_values", "column": arguments[0].name, "mapping": {arguments[1].name: arguments[2].value}}),
    ),
    "apply_function": (2, 2, lambda arguments, _: _rule({"type": "apply_function", "column": arguments[0].name, "function": arguments[1].name})),
}
assert set(_BUILDERS) < set(MODELS)
