"""A query as people wrote it, taken apart into text and bound values: what a `${…}` stands for never becomes text of the statement.

The text is cut where sqlglot's tokenizer of the dialect finds a value; everything else stays as it was written. If the database
saw other boundaries, it would complain of a placeholder in a strange place: no value can get out of its own.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import Token, TokenType

from pipelines.expressions import ExpressionError
from pipelines.references import Reference, References, UnknownReference, as_text, find, problem_with

# What may be asked. Whatever else a database can be told either changes something or gives no rows.
_READS = frozenset({"SELECT", "WITH", "VALUES", "TABLE", "SHOW", "DESCRIBE", "DESC", "EXPLAIN", "("})
_TYPED = frozenset({"DATE", "TIME", "TIMESTAMP", "TIMESTAMPTZ", "TIMETZ", "INTERVAL", "DATETIME"})
_FILES = frozenset({"OUTFILE", "DUMPFILE"})


@dataclass(frozen=True, slots=True)
class Bound:
    """A value within a statement. `typed` is the name of the type that the text was marked with: `DATE` of `DATE '${run.date}'`."""

    value: Any
    typed: str = ""


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement: pieces of its text, and values between them."""

    parts: tuple[str | Bound, ...]

    @property
    def values(self) -> list[Any]:
        """The bound values, in order."""
        return [part.value for part in self.parts if isinstance(part, Bound)]

    def render(self, mark: Callable[[int, Bound], str], text: Callable[[str], str] = str) -> str:
        """The statement with `mark(number from 1, value)` where values go; `text` escapes what a driver would take for a placeholder."""
        shown, number = [], 0
        for part in self.parts:
            if isinstance(part, Bound):
                number += 1
                shown.append(mark(number, part))
            else:
                shown.append(text(part))
        return "".join(shown)

    def replaced(self, before: str, after: str) -> "Statement":
        """The statement within a larger one."""
        return Statement((before, *self.parts, after))


def parse(text: str, dialect: str, references: References | None = None) -> Statement:
    """The statement that `text` is; without `references` (when a pipeline is saved) NULL stands for each.

    Errors: `ExpressionError` with line and column: no statement or several, one that is no query, a reference out of place.
    """
    found = list(find(text)) if "{" in text else []
    for reference in found:
        if problem := problem_with(reference):
            raise _error(text, reference.start, problem)
    names = _names(text, found)
    plain = _with_names(text, found, names)
    tokens = _tokens(plain, dialect, lambda position: _original(position, found, names))
    _check_one_query(text, tokens, lambda position: _original(position, found, names), dialect)
    values = [_value(text, reference, references) for reference in found]
    return Statement(tuple(_parts(text, plain, tokens, dict(zip(names, zip(found, values, strict=True), strict=True)), dialect)))


def _names(text: str, found: Sequence[Reference]) -> list[str]:
    prefix = "brokoli_reference_"
    while prefix in text.lower():
        prefix += "x_"
    return [f"{prefix}{number}_" for number in range(len(found))]


def _with_names(text: str, found: Sequence[Reference], names: Sequence[str]) -> str:
    parts, done = [], 0
    for reference, name in zip(found, names, strict=True):
        parts += [text[done : reference.start], name]
        done = reference.end
    return "".join(parts) + text[done:]


def _original(position: int, found: Sequence[Reference], names: Sequence[str]) -> int:
    """The place in what people wrote, of one in the text with our names."""
    for reference, name in zip(found, names, strict=True):
        if position <= reference.start:
            break
        position += len(reference.text) - len(name)
        if position < reference.end:
            return reference.start
    return position


def _error(text: str, position: int, message: str) -> ExpressionError:
    before = text[:position]
    return ExpressionError(message, before.count("\n") + 1, position - before.rfind("\n"))


def _tokens(plain: str, dialect: str, place: Callable[[int], int]) -> list[Token]:
    try:
        return list(Dialect.get_or_raise(dialect).tokenize(plain))
    except (SqlglotError, ValueError) as error:
        raise ExpressionError("The query cannot be read: a quoted text, a name or a comment in it has no end.", 1, 1) from error


def _check_comments(text: str, tokens: list[Token]) -> None:
    """What MySQL and MariaDB execute of a comment is seen by nobody else: not by this check either."""
    if any(comment.startswith(("!", "M!")) for token in tokens for comment in token.comments):
        raise ExpressionError("A comment that the database executes (/*! … */) cannot be part of a query here.", 1, 1)


def _check_one_query(text: str, tokens: list[Token], place: Callable[[int], int], dialect: str) -> None:
    if dialect == "mysql":
        _check_comments(text, tokens)
    while tokens and tokens[-1].token_type == TokenType.SEMICOLON:
        tokens.pop()
    if not tokens:
        raise ExpressionError("The query is empty.")
    for token in tokens:
        if token.token_type == TokenType.SEMICOLON:
            raise _error(text, place(token.start), "Only one statement can be run; here another begins.")
        if token.token_type == TokenType.VAR and token.text.upper() in _FILES:
            raise _error(text, place(token.start), "A source reads; it cannot write files on the server of the database.")
    first = tokens[0].text.split()[0].upper() if tokens[0].text.strip() else ""
    if first not in _READS:
        shown = tokens[0].text[:40]
        raise _error(text, place(tokens[0].start), f"A source reads: its query begins with SELECT, WITH or VALUES, not with {shown}.")


def _value(text: str, reference: Reference, references: References | None) -> Any:
    if references is None:
        return reference.plain if reference.escaped else None
    try:
        return references.value(reference)
    except UnknownReference as error:
        raise _error(text, reference.start, error.message) from error


def _parts(text: str, plain: str, tokens: Sequence[Token], values: dict[str, tuple[Reference, Any]], dialect: str) -> list[str | Bound]:
    parts: list[str | Bound] = []
    done, seen = 0, set()
    pattern = re.compile("|".join(sorted(values, key=len, reverse=True))) if values else None
    end = tokens[-1].end + 1
    for index, token in enumerate(tokens):
        inside = pattern.findall(plain[token.start : token.end + 1]) if pattern else []
        if not inside:
            continue
        seen.update(inside)
        bound = _bound(token, plain, values)
        if bound is None:
            message = (
                "A reference may stand for a value, or within a text in single quotes, and nowhere else: not for the name of a table or a column."
            )
            raise _error(text, values[inside[0]][0].start, message)
        start = token.start
        before = tokens[index - 1] if index else None
        if token.token_type == TokenType.STRING and before is not None and before.text.upper() in _TYPED and _rewrites(before, dialect):
            bound, start = Bound(bound.value, before.text.upper()), before.start
        parts += [plain[done:start], bound]
        done = token.end + 1
    rest = plain[done:end]
    # Of references in comments nothing is left but the comment.
    return [*(_without_names(part, values) if isinstance(part, str) else part for part in parts), _without_names(rest, values)]


def _rewrites(before: Token, dialect: str) -> bool:
    # MySQL's INTERVAL takes any value before its unit; there it is no mark of a type.
    return not (dialect == "mysql" and before.text.upper() == "INTERVAL")


def _bound(token: Token, plain: str, values: dict[str, tuple[Reference, Any]]) -> Bound | None:
    raw = plain[token.start : token.end + 1]
    if raw in values:
        value = values[raw][1]
        return Bound(as_text(value) if isinstance(value, dict | list) else value)
    if token.token_type != TokenType.STRING or not (raw.startswith("'") and raw.endswith("'")):
        return None
    if token.text in values and values[token.text][1] is None:
        return Bound(None)
    pattern = re.compile("|".join(sorted(values, key=len, reverse=True)))
    return Bound(pattern.sub(lambda match: as_text(values[match[0]][1]), token.text))


def _without_names(part: str, values: dict[str, tuple[Reference, Any]]) -> str:
    for name in values:
        part = part.replace(name, "reference")
    return part
