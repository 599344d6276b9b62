"""Conditions: one yes or no about a whole data set. `parse_condition` is the way in.

Any scalar expression whose columns stand within aggregates, and some words of Brokoli's own: `row_count`, `null_pct("c")`,
`column_exists("c")`, `always_true`, `always_false`. Those are replaced in the syntax tree, so what they become is never made of text.
"""

import copy
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from pipelines.expressions import checking, parser, trees
from pipelines.expressions.binding import BindingProblem, describe
from pipelines.expressions.checking import Refused, function_name
from pipelines.expressions.embedding import Embedded
from pipelines.expressions.errors import ExpressionError
from pipelines.expressions.legacy import rewrite
from pipelines.expressions.parser import SyntaxProblem, Tree, position_of
from pipelines.expressions.scalars import parse_source
from pipelines.expressions.source import Source
from pipelines.nodes.base import Column, Schema
from pipelines.references import References

_MOST_VALUES = 10
_LONGEST_VALUE = 100
_ANSWER = "SELECT 1 AS answer, count(*) AS row_count, 1 AS value FROM input"
# No rows: none of them lacks a value.
_NULL_PCT = "SELECT coalesce(1e2 * (count(*) - count(x)) / nullif(count(*), 0), 0)"


@dataclass(frozen=True, slots=True)
class Condition:
    """A checked condition over the view `input`.

    `sql` gives one row: the answer, the number of rows, and the text of each value that `asked` names as people wrote it.
    """

    sql: str
    asked: tuple[str, ...]
    folds_much: bool
    _error_at: Callable[[str, str], ExpressionError] = field(repr=False)

    def bind(self, schema: Schema) -> None:
        """Errors: `ExpressionError` for what DuckDB cannot make sense of, and for what gives anything but one true or false."""
        try:
            answer = describe(self.sql, {"input": schema})[0]
        except BindingProblem as problem:
            message, name = _one_answer(problem)
            raise self._error_at(message, name) from problem
        if answer.type != "BOOLEAN":
            raise self._error_at(f"the condition gives {answer.type}, not true or false; compare it with something", "")


def _one_answer(problem: BindingProblem) -> tuple[str, str]:
    """The message, in words that help where a value of each row is the problem, and the name that it is about."""
    if "GROUP BY" not in problem.message:
        return problem.message, problem.name
    found = re.search(r'column "((?:[^"]|"")+)"', problem.message)
    name = found[1] if found else "amount"
    return (
        f'"{name}" has a value in each row, and a condition is one answer about all of them: put it into an aggregate, such as max("{name}"), '
        f'or bool_and("{name}" > 0) for all rows and bool_or("{name}" > 0) for any',
        name,
    )


def parse_condition(text: str, columns: Sequence[Column] | None, references: References | None = None) -> Condition:
    """Check a condition. `columns` are the input's, None where they are not known; `references` as in `parse_scalar`.

    Errors: `ExpressionError` with line and column.
    """
    embedded = Embedded(Source.of(text))
    words = _Words(None if columns is None else {column.name.lower() for column in columns})
    types = None if columns is None else {column.name: column.type for column in columns}
    scalar, statement, source = parse_source(text, rewrite(embedded.source), types, embedded, references, words.replace)

    def error_at(message: str, name: str) -> ExpressionError:
        places = (position_of(tree) for tree in checking.walk(statement) if name and name in tree.get("column_names", ()))
        return source.error_at_byte(embedded.in_words(message), next(places, None))

    tree = statement["node"]["select_list"][0]
    values: dict[str, Tree] = {}
    for value in _values(tree, words.replaced):
        values.setdefault(embedded.in_words(words.replaced.get(id(value)) or _text_of(value, source)), value)
    asked = dict(list(values.items())[:_MOST_VALUES])
    return Condition(_rendered(tree, list(asked.values())), tuple(asked), scalar.folds_much, error_at)


def _rendered(answer: Tree, values: Sequence[Tree]) -> str:
    statement = parser.parse(_ANSWER)[0]
    items = statement["node"]["select_list"]
    trees.replace(items[0], answer)
    shown = [trees.call("left", trees.cast(copy.deepcopy(value), "VARCHAR"), trees.constant(_LONGEST_VALUE)) for value in values]
    statement["node"]["select_list"] = [*items[:2], *shown]
    try:
        return parser.render([statement])
    except SyntaxProblem as problem:
        raise ExpressionError(problem.message) from problem


def _values(tree: Tree, replaced: dict[int, str]) -> Iterator[Tree]:
    """What people want to see of a decision: the words of ours and the aggregates in it, outermost ones, in order."""
    if id(tree) in replaced or (tree.get("class") == "FUNCTION" and function_name(tree) in _aggregates()):
        yield tree
    elif tree.get("class") != "WINDOW":
        for child in checking.children(tree):
            yield from _values(child, replaced)


def _text_of(tree: Tree, source: Source) -> str:
    start = position_of(tree)
    if start is None:
        return function_name(tree)
    return source.text.encode()[start : start + int(tree.get("query_location_length", 0))].decode(errors="replace") or function_name(tree)


@functools.cache
def _aggregates() -> frozenset[str]:
    with parser.cursor() as connection:
        rows = connection.execute("SELECT function_name FROM duckdb_functions() WHERE function_type = 'aggregate'").fetchall()
    return frozenset(str(row[0]) for row in rows)


class _Words:
    """Replaces the words of ours in a tree. `columns` in lower case, None where they are not known."""

    def __init__(self, columns: set[str] | None) -> None:
        self._columns = columns
        self.replaced: dict[int, str] = {}  # the trees that show a value, with the words that they were
        self._missing: set[str] = set()  # columns that were asked for and are not there

    def replace(self, tree: Tree) -> None:
        """Errors: `Refused`."""
        self._walk(tree)
        for node in list(checking.walk(tree)) if self._missing else ():
            # `column_exists("c") AND max("c") > 3` is an answer also where there is no such column.
            if node.get("class") == "COLUMN_REF" and str(node["column_names"][-1]).lower() in self._missing:
                trees.replace(node, trees.constant(None))

    def _walk(self, tree: Tree) -> None:
        match tree.get("class"):
            case "COLUMN_REF" if len(tree["column_names"]) == 1:
                self._word(tree)
                return
            case "FUNCTION":
                name = function_name(tree)
                if name == "column_exists":
                    self._column_exists(tree)
                    return
                if name == "null_pct":
                    self._null_pct(tree)
                    return
                if name in ("min", "max"):
                    self._quoted_name(tree)
                if name in _aggregates():
                    return  # a column may be called `row_count`
        for child in checking.children(tree):
            self._walk(child)

    def _word(self, tree: Tree) -> None:
        match str(tree["column_names"][0]).lower():
            case "row_count":
                trees.replace(tree, trees.call("count_star"))
                self.replaced[id(tree)] = "row_count"
            case "always_true":
                trees.replace(tree, trees.constant(value=True))
            case "always_false":
                trees.replace(tree, trees.constant(value=False))

    def _column_exists(self, tree: Tree) -> None:
        name = self._name(tree)
        exists = self._columns is None or name.lower() in self._columns
        if not exists:
            self._missing.add(name.lower())
        trees.replace(tree, trees.constant(exists))
        self.replaced[id(tree)] = f'column_exists("{name}")'

    def _null_pct(self, tree: Tree) -> None:
        name = self._name(tree)
        share = parser.parse(_NULL_PCT)[0]["node"]["select_list"][0]
        for node in list(checking.walk(share)):
            if node.get("class") == "COLUMN_REF":
                # At its own place in the text, for what is said of an unknown column.
                trees.replace(node, trees.column(name) | {"query_location": tree["arguments"][0]["expression"]["query_location"]})
                node["query_location"] = tree["arguments"][0]["expression"]["query_location"]
        trees.replace(tree, share)
        self.replaced[id(tree)] = f'null_pct("{name}")'

    def _quoted_name(self, tree: Tree) -> None:
        """`max('amount')` means the column: the largest of one text is never asked for."""
        arguments = [argument["expression"] for argument in tree["arguments"]]
        if len(arguments) == 1 and _is_text(arguments[0]):
            name = arguments[0]["literal"]["text"]
            if self._columns is None or name.lower() in self._columns:
                trees.replace(arguments[0], trees.column(name))

    def _name(self, tree: Tree) -> str:
        arguments = [argument["expression"] for argument in tree["arguments"]]
        if len(arguments) == 1 and arguments[0].get("class") == "COLUMN_REF" and len(arguments[0]["column_names"]) == 1:
            return str(arguments[0]["column_names"][0])
        if len(arguments) == 1 and _is_text(arguments[0]):
            return str(arguments[0]["literal"]["text"])
        name = function_name(tree)
        raise Refused(f'{name} takes the name of one column: {name}("amount")', position_of(tree))


def _is_text(tree: Tree) -> bool:
    return tree.get("class") == "CONSTANT" and tree["literal"]["kind"] == "STRING"
