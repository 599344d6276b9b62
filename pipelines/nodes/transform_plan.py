"""Rules into one SQL statement: a chain of WITH entries, one a rule, and what is known of the columns after each.

Rows keep their order: DuckDB keeps it through filters and projections, and where a rule would lose it (`sort` among equal rows,
`deduplicate`, `first`), that rule alone numbers the rows it gets. A row number costs a single-threaded pass (0.06 s for a
million rows), so no other rule has one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

# ruff: noqa: S608 - all that goes into the statement was written by `quote`, `literal` or the expression checker
from pipelines.expressions import BindingProblem, ExpressionError, Scalar, describe, parse_scalar, quote
from pipelines.nodes.base import Column, Schema
from pipelines.nodes.columns import unknown_column
from pipelines.problems import Problem
from pipelines.references import References
from pipelines.references import find as find_references

INPUT = "input"
# Looking for a name that is close takes its time in wide data; nobody reads that much advice.
_PROBLEMS_WITH_ADVICE = 20
# Where a person would look for what is wrong with a rule as a whole.
_MAIN_KEYS = {"add_column": "expression", "filter_rows": "condition", "apply_function": "function", "fill_null": "value", "cast": "to"}


@dataclass(frozen=True, slots=True)
class Effect:
    """What a rule does. `changes_rows`: their number; `is_light`: counting the rows after it costs a scan of few columns."""

    number: int  # from 1
    rule_type: str
    columns: str  # "+ total", "a → b", …
    changes_rows: bool
    is_light: bool
    field: str  # of the config, for what DuckDB objects to


@dataclass(slots=True)
class Plan:
    """The statement, built rule by rule. `columns` None: unknown (only when a pipeline is saved). Problems are collected."""

    input: Schema | None
    references: References | None = None
    columns: list[Column] | None = None
    steps: list[str] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    doubts: list[Problem] = field(default_factory=list)  # warnings
    _path: str = ""  # of the current rule in the config
    _start: int = 0  # of the current expression within a rule that is written as a text
    _text: str = ""
    _is_open_ended: bool = False  # a column's name is a reference: from here on, columns are known only in a run

    _is_bindable: bool = True  # False: even asking for the columns may compute something large
    _described: tuple[int, Schema] = (0, ())  # after so many rules, the columns were these
    _indexed: list[Column] | None = None
    _index: dict[str, Column] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.columns = None if self.input is None else list(self.input)
        self._described = (0, self.input or ())

    # The statement

    @property
    def sql(self) -> str:
        return self._between(0, len(self.steps))

    def chain(self, count: int, first: int = 0) -> str:
        """The WITH clause of the rules after `first`, up to `count`."""
        named = enumerate(self.steps[first:count], start=first + 1)
        return "WITH " + ", ".join(f"{quote(_table(number))} AS ({sql})" for number, sql in named)

    def count_after(self, count: int) -> str:
        """A query, for use behind `chain`, of how many rows there are after the first `count` rules."""
        return f"SELECT count(*) FROM {quote(_table(count))}"

    def _between(self, first: int, count: int) -> str:
        return (self.chain(count, first) + " " if count > first else "") + f"SELECT * FROM {quote(_table(count))}"

    @property
    def source(self) -> str:
        """The table that the current rule reads."""
        return quote(_table(len(self.steps)))

    # What DuckDB says of it

    def bind(self) -> Schema | None:
        """The output's columns, as DuckDB sees them. What DuckDB objects to becomes a problem of the rule at fault, and the answer None."""
        if not self.input or self.columns is None or self.problems or not self._is_bindable:
            return None
        try:
            return self._describe(len(self.steps))
        except BindingProblem as problem:
            self.problems.append(Problem(problem.message, field=self.effects[self._first_that_fails()].field))
            return None

    def _describe(self, count: int) -> Schema:
        """The columns after `count` rules, from those of the last rule where they were asked for. Errors: `BindingProblem`."""
        first, schema = self._described
        if count > first:
            schema = describe(self._between(first, count), {_table(first): schema})
            self._described = (count, schema)
        return schema

    def _first_that_fails(self) -> int:
        for count in range(self._described[0] + 1, len(self.steps)):
            try:
                self._describe(count)
            except BindingProblem:
                return count - 1
        return len(self.steps) - 1

    def _learn_types(self, text: str | None) -> None:
        """Ask DuckDB for the types of computed columns, when an expression reads one: what it means may depend on them."""
        if not self.input or self.columns is None or self.problems or (self.references is None and not self._is_bindable):
            return
        unknown = {column.name for column in self.columns if not column.type}
        try:
            if text is not None and not unknown & parse_scalar(text, self.columns, self.references).columns:
                return
            self.columns = list(self._describe(len(self.steps)))
        except (ExpressionError, BindingProblem):
            return  # it is reported where it is asked for

    # Rules

    def begin(self, index: int, text: str = "", start: int = 0) -> None:
        """The rule `rules.index` comes next. When it is written as a text: that text, and where its expression starts in it."""
        self._path, self._text, self._start = f"rules.{index}", text, start

    def append(self, rule_type: str, columns: str, sql: str, *, changes_rows: bool = False, is_light: bool = True) -> None:
        """The current rule is `sql`. For the log: what it does to columns, and whether it changes the number of rows."""
        self.steps.append(sql)
        if self._is_open_ended:
            self.columns = None
        key = "expression" if self._text else _MAIN_KEYS.get(rule_type, "")
        path = f"{self._path}.{key}" if key else self._path
        self.effects.append(Effect(len(self.steps), rule_type, columns, changes_rows, is_light, path))

    # Looking things up

    def problem(self, key: str, message: str, error: ExpressionError | None = None) -> None:
        self.problems.append(self._about(key, message, error, "error"))

    def _about(self, key: str, message: str, error: ExpressionError | None, severity: Literal["error", "warning"]) -> Problem:
        path = f"{self._path}.{'expression' if self._text else key}"
        line, column = (None, None) if error is None else self._place(error)
        return Problem(message, field=path, line=line, column=column, severity=severity)

    def _place(self, error: ExpressionError) -> tuple[int, int]:
        """Line and column in the field's own text, which for a rule written as a text has more before the expression."""
        before = self._text[: self._start]
        lines = before.count("\n")
        if error.line > 1:
            return error.line + lines, error.column
        return lines + 1, error.column + len(before) - (before.rfind("\n") + 1)

    def column(self, name: str, key: str) -> Column | None:
        """The column of that name in what the current rule reads; a problem and None when there is none."""
        if self.is_open(name):
            self._is_open_ended = True
        if self.columns is None or self._is_open_ended:
            return Column(name, "")
        found = self._find(name)
        if found is None:
            few = len(self.problems) < _PROBLEMS_WITH_ADVICE
            self.problem(key, unknown_column(name, tuple(self.columns)) if few else f"There is no column '{name}'.")
        return found

    def _find(self, name: str) -> Column | None:
        """As `columns.find`, for many lookups in wide data."""
        if self._indexed is not self.columns:
            self._indexed = self.columns
            columns = self.columns or []
            self._index = {column.name.casefold(): column for column in reversed(columns)} | {column.name: column for column in columns}
        return self._index.get(name) or self._index.get(name.casefold())

    def all_columns(self, names: Sequence[str], key: str) -> list[Column]:
        return [column for name in names if (column := self.column(name, key)) is not None]

    def is_open(self, text: object) -> bool:
        """Whether it holds a reference that only a run resolves."""
        return self.references is None and isinstance(text, str) and any(True for _ in find_references(text))

    def scalar(self, text: str, key: str) -> Scalar | None:
        """A checked expression over the current columns; a problem and None when it is wrong."""
        if self.columns is not None and any(not column.type for column in self.columns):
            self._learn_types(text)
        try:
            scalar = parse_scalar(text, self.columns, self.references)
        except ExpressionError as error:
            self.problem(key, error.sentence, error)
            return None
        for doubt in scalar.doubts:
            self.doubts.append(self._about(key, doubt.sentence, doubt, "warning"))
        if self.input is not None and scalar.folds_much:
            self._is_bindable = False
        return scalar

    def sql_of(self, scalar: Scalar | None) -> str:
        """Its SQL. Where the input is unknown the statement is never used, and rendering half of what a check costs."""
        return "NULL" if scalar is None or self.input is None else scalar.sql

    def typed(self, column: Column) -> Column:
        """`column` with its type, where it can be known."""
        if column.type or self.columns is None:
            return column
        self._learn_types(None)
        return self._find(column.name) or column


def _table(number: int) -> str:
    """What the rows after that many rules are called."""
    return f"brokoli_rule_{number}" if number else INPUT
