"""Scalar expressions: conditions, computed columns. `parse_scalar` is the way in."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property

from pipelines.expressions import checking, parser
from pipelines.expressions.checking import Refused
from pipelines.expressions.embedding import Embedded
from pipelines.expressions.errors import ExpressionError
from pipelines.expressions.folding import folds_much
from pipelines.expressions.legacy import rewrite, rewrite_simple
from pipelines.expressions.parser import SyntaxProblem, Tree
from pipelines.expressions.rewriting import Rewriter, modernise_lambdas
from pipelines.expressions.source import Edit, Source
from pipelines.nodes.base import Column
from pipelines.references import References

_PREFIX = "SELECT "


class Scalar:
    """A checked expression. `columns`: the input's columns that it reads, as the schema spells them. `doubts`: what may be meant otherwise."""

    def __init__(self, text: str, statement: Tree, columns: frozenset[str], doubts: tuple[ExpressionError, ...] = ()) -> None:
        self.text = text
        self.columns = columns
        self.doubts = doubts
        self._statement = statement

    @cached_property
    def sql(self) -> str:
        """DuckDB SQL in parentheses, for use in a larger statement. Written from the tree, never from the text."""
        try:
            return f"({parser.render([self._statement])[len(_PREFIX) :]})"
        except SyntaxProblem as problem:
            raise ExpressionError(problem.message) from problem

    @property
    def folds_much(self) -> bool:
        """Whether DuckDB may compute something large by merely binding it: see `folding.py`."""
        return folds_much(self._statement)

    def __repr__(self) -> str:
        return f"Scalar({self.text!r})"


def parse_scalar(text: str, columns: Sequence[str | Column] | None, references: References | None = None) -> Scalar:
    """Check a scalar expression and bring the older forms into SQL.

    `columns` are the input's: give a schema (`Column`s) where it is known, because what `+` and comparisons with numbers mean
    depends on types; names alone are checked, None means that nothing is known. Without `references` (when a pipeline is
    saved) `${…}` stands for NULL. Errors: `ExpressionError` with line and column.
    """
    types = None if columns is None else {c.name: c.type for c in columns if isinstance(c, Column)} | {c: "" for c in columns if isinstance(c, str)}
    embedded = Embedded(Source.of(text))
    try:
        return _parse(text, rewrite(embedded.source), types, embedded, references)
    except ExpressionError:
        simple = rewrite_simple(embedded.source, types or {})
        if simple is None:
            raise
        return _parse(text, simple, types, embedded, references)


def parse_ahead(texts: Iterable[str]) -> None:
    """Parse several expressions at once, which takes half the time; `parse_scalar` then finds them. Wrong ones are left to it."""
    wanted = []
    for text in texts:
        try:
            wanted.append(_PREFIX + rewrite(Embedded(Source.of(text)).source).text)
        except ExpressionError:
            continue
    parser.parse_ahead(wanted)


def _parse(text: str, source: Source, types: Mapping[str, str] | None, embedded: Embedded, references: References | None) -> Scalar:
    return parse_source(text, source, types, embedded, references)[0]


def parse_source(
    text: str,
    source: Source,
    types: Mapping[str, str] | None,
    embedded: Embedded,
    references: References | None,
    prepare: Callable[[Tree], None] | None = None,
) -> tuple[Scalar, Tree, Source]:
    """The expression with its statement, and the text to which the positions in that refer. `prepare` may change the tree before it is checked.

    Errors: `ExpressionError`.
    """
    source = source.edited([Edit(0, 0, _PREFIX)])
    try:
        statement = _single_expression(parser.parse(source.text))
        tree = statement["node"]["select_list"][0]
        embedded.insert(tree, references)
        if prepare is not None:
            prepare(tree)
        checking.check_scalar(tree)
        modernise_lambdas(tree)
        rewriter = Rewriter(source, types)
        rewriter.rewrite(tree)
    except (SyntaxProblem, Refused) as problem:
        raise source.error_at_byte(embedded.in_words(problem.message), problem.position) from problem
    except RecursionError as error:
        raise ExpressionError("the expression is nested too deeply") from error
    doubts = tuple(source.error_at_byte(doubt.message, doubt.position) for doubt in rewriter.doubts)
    return Scalar(text, statement, frozenset(rewriter.columns), doubts), statement, source


def _single_expression(statements: list[Tree]) -> Tree:
    """The one statement, when it is `SELECT expression` and nothing else."""
    if len(statements) != 1:
        raise Refused("one expression is allowed, not several statements")
    node = statements[0]["node"]
    is_bare = (
        node["type"] == "SELECT_NODE"
        and node["from_table"]["type"] == "EMPTY"
        and not any(node[key] for key in ("modifiers", "where_clause", "group_expressions", "group_sets", "having", "sample", "qualify"))
        and not node["cte_map"]["map"]
    )
    if not is_bare:
        raise Refused("an expression is expected here, not a query: leave out FROM, WHERE, ORDER BY and the like")
    if len(node["select_list"]) != 1:
        raise Refused("one expression is expected here, not several", parser.position_of(node["select_list"][1]))
    if node["select_list"][0].get("alias"):
        raise Refused(f"an expression takes no name (AS {node['select_list'][0]['alias']}): leave it out, or put quotes around a text")
    return statements[0]
