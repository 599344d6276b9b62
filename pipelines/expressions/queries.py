"""Whole queries: one SELECT over the node's inputs. `parse_query` is the way in."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from pipelines.expressions import checking, parser
from pipelines.expressions.binding import BindingProblem
from pipelines.expressions.checking import Refused
from pipelines.expressions.embedding import Embedded
from pipelines.expressions.errors import ExpressionError
from pipelines.expressions.folding import folds_much
from pipelines.expressions.parser import SyntaxProblem, Tree, position_of
from pipelines.expressions.rewriting import modernise_lambdas
from pipelines.expressions.source import Source
from pipelines.nodes.base import Schema
from pipelines.references import References


@dataclass(frozen=True)
class ParsedQuery:
    """A checked query. `tables` are the inputs that it reads, as `tables` spelt them."""

    text: str
    tables: frozenset[str]
    _source: Source
    _statement: Tree

    @cached_property
    def sql(self) -> str:
        """DuckDB SQL, written from the tree, never from the text."""
        try:
            return parser.render([self._statement])
        except SyntaxProblem as problem:
            raise ExpressionError(problem.message) from problem

    @property
    def folds_much(self) -> bool:
        """Whether DuckDB may compute something large by merely binding it: see `folding.py`."""
        return folds_much(self._statement)

    def error_about(self, problem: BindingProblem) -> ExpressionError:
        """What DuckDB objected to in `sql`, at its place in the text that the user wrote."""
        wanted = problem.name.lower()
        for node in checking.walk(self._statement) if wanted else ():
            names = [str(part).lower() for part in node.get("column_names", ())]
            if wanted in (names[-1:] and names[-1], ".".join(names)) or (node.get("class") == "FUNCTION" and checking.function_name(node) == wanted):
                return self._source.error_at_byte(problem.message, position_of(node))
        return self._source.error(problem.message)


def parse_query(
    text: str,
    tables: Mapping[str, Schema | None] | None,
    references: References | None = None,
    views: Mapping[str, str] | None = None,
) -> ParsedQuery:
    """Check a query: a single SELECT that reads `tables` and what it defines itself, nothing else.

    `tables` None: what the inputs are called is unknown (when a pipeline is saved), and any plain name may be one.

    `views` renames: where it has an entry for a table, the SQL reads that view instead, under the name that the query used.
    Without `references` `${…}` stands for NULL. Errors: `ExpressionError` with line and column.
    """
    embedded = Embedded(Source.of(text))
    source = embedded.source
    try:
        statement = _single_statement(parser.parse(source.text))
        embedded.insert(statement, references)
        checking.check_query(statement)
        modernise_lambdas(statement)
        reader = _TableReader(tables, views or {})
        reader.read_statement(statement)
    except (SyntaxProblem, Refused) as problem:
        raise source.error_at_byte(embedded.in_words(problem.message), problem.position) from problem
    except RecursionError as error:
        raise ExpressionError("the query is nested too deeply") from error
    return ParsedQuery(text, frozenset(reader.found), source, statement)


def parse_queries_ahead(texts: Iterable[object]) -> None:
    """Parse several queries at once; `parse_query` then finds them. Wrong ones are left to it."""
    wanted = []
    for text in texts:
        try:
            wanted.append(Embedded(Source.of(text)).source.text)
        except ExpressionError:
            continue
    parser.parse_ahead(wanted)


def _single_statement(statements: list[Tree]) -> Tree:
    if len(statements) != 1:
        raise Refused("one SELECT is allowed, not several statements")
    return statements[0]


class _TableReader:
    """Walks a query with the names that its WITH clauses define in scope; every other table must be an input."""

    def __init__(self, tables: Mapping[str, Schema | None] | None, views: Mapping[str, str]) -> None:
        self._tables = None if tables is None else {name.lower(): name for name in tables}
        self._views = views
        self._own_names: frozenset[str] = frozenset()
        self.found: set[str] = set()

    def read_statement(self, statement: Tree) -> None:
        """Errors: `Refused` for a table that is no input."""
        self._own_names = frozenset(str(entry["key"]).lower() for node in checking.walk(statement) for entry in _with_entries(node))
        self._read(statement, frozenset())

    def _read(self, tree: Tree, scope: frozenset[str]) -> None:
        if "class" not in tree and tree.get("type") == "BASE_TABLE":
            self._table(tree, scope)
        for entry in _with_entries(tree):
            # A WITH entry sees those before it, and itself when it is recursive: only then does the parser make it a recursive node.
            name = str(entry["key"]).lower()
            own = {name} if entry["value"]["query_node"].get("type") == "RECURSIVE_CTE_NODE" else set[str]()
            self._read(entry["value"], scope | own)
            scope = scope | {name}
        for child in checking.children({key: value for key, value in tree.items() if key != "cte_map"}):
            self._read(child, scope)

    def _table(self, tree: Tree, scope: frozenset[str]) -> None:
        path = [str(part) for part in (tree.get("qualified_name") or {}).get("path") or [tree["table_name"]]]
        if len(path) > 1:
            raise Refused(f"the table {'.'.join(path)} cannot be read: {self._available()}", position_of(tree))
        if path[0].lower() in scope:
            return
        name = path[0] if self._tables is None else self._tables.get(path[0].lower())
        if name is None:
            raise Refused(f'unknown table "{path[0]}": {self._available()}', position_of(tree))
        self.found.add(name)
        view = self._views.get(name)
        if view is not None:
            if view.lower() != path[0].lower():
                tree["alias"] = tree["alias"] or path[0]
            # A WITH entry of the view's name must not take its place: then the view is named in full.
            path = ["temp", "main", view] if view.lower() in self._own_names else [view]
            tree.update(zip(("table_name", "schema_name", "catalog_name"), [*reversed(path), "", ""], strict=False), qualified_name={"path": path})

    def _available(self) -> str:
        if self._tables is None:
            return "a query reads its inputs only"
        names = ", ".join(f'"{name}"' for name in self._tables.values())
        return f"a query reads its inputs only, here {names}" if names else "the node has no inputs"


def _with_entries(tree: Tree) -> list[Tree]:
    entries: list[Tree] = (tree.get("cte_map") or {}).get("map", [])
    return entries
