"""Expression trees, as the Python SDK writes them, into SQL: `{"op": "add", "left": {"op": "column", "path": ["a"]}, "right": …}`.

`docs/expression-trees.md` says what each operator means. Two things differ from SQL, as they do in the SDK's own runtime: a
comparison with null is false (so `not` of it is true), and a division by zero fails instead of giving an infinity.
No text of a tree gets into the SQL but as a quoted name or a literal.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# ruff: noqa: S608 - names and values come from `quote` and `literal`
from pipelines.expressions import BindingProblem, ExpressionError, describe, kinds, literal, quote
from pipelines.nodes.base import Schema
from pipelines.nodes.columns import find, unknown_column
from pipelines.problems import Problem, shortened
from pipelines.references import find as find_references

INPUT = "input"  # the view that the SQL reads
DEEPEST = 100
MOST_OPERATORS = 20_000
LONGEST_SQL = 500_000

_ARITHMETIC = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"}
_COMPARISONS = {"eq": "=", "neq": "<>", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
_WORDS = {kinds.TEXT: "a text", kinds.NUMBER: "a number", kinds.BOOLEAN: "true or false", kinds.OTHER: "neither a text nor a number"}
_MOST_PROBLEMS = 50


@dataclass(frozen=True, slots=True)
class Compiled:
    """The SQL of an expression, what kind of value it gives, where it stands in the config, and what it is made of."""

    sql: str
    kind: str
    path: str
    parts: "tuple[Compiled, ...]" = ()


class _Wrong(Exception):
    """This expression cannot be compiled; the problem is noted."""


class Compiler:
    """Compiles the trees of one node. `schema` None: the columns are unknown. `may_refer`: texts may hold `${…}`, which only a run resolves.

    What is wrong is collected in `problems`; then what was compiled is not to be used.
    """

    def __init__(self, schema: Schema | None, *, may_refer: bool) -> None:
        self.problems: list[Problem] = []
        self._schema = schema
        self._may_refer = may_refer
        self._operators = 0
        self._depth = 0
        self._is_too_deep = False
        self._is_open = False  # some value is known in a run only
        self._conditions: list[Compiled] = []  # whose kind only DuckDB knows

    def value(self, tree: object, path: str) -> Compiled | None:
        """An expression that gives a value; None when it is wrong."""
        return self._top(self._value, tree, path)

    def condition(self, tree: object, path: str) -> Compiled | None:
        """An expression that is true or false, and never null; None when it is wrong."""
        return self._top(self._condition, tree, path)

    def output(self, columns: Sequence[tuple[str, Compiled]], condition: Compiled | None = None) -> Schema | None:
        """The columns of a SELECT of these, as DuckDB sees them; None where that is not known. What DuckDB objects to becomes a problem."""
        expressions = [compiled for _, compiled in columns] + ([condition] if condition else [])
        if sum(len(one.sql) for one in expressions) > LONGEST_SQL:
            self.problems.append(Problem("The expressions are too large together; compute some of them in a node before this one.", field=""))
        if not self._schema or self._is_open or self.problems:
            return None
        tables = {INPUT: self._schema}
        items = ", ".join(f"{one.sql} AS {quote(name)}" for name, one in columns) or "*"
        where = f" WHERE {condition.sql}" if condition else ""
        self._check_conditions()
        if self.problems:
            return None
        try:
            return describe(f"SELECT {items} FROM {quote(INPUT)}{where}", tables)
        except BindingProblem:
            for one in expressions:
                self._locate(one)
            return None

    # What DuckDB says

    def _described(self, compiled: Compiled) -> tuple[str, str]:
        """The type that it gives, and what DuckDB objects to; one of them is empty."""
        assert self._schema is not None
        try:
            (column,) = describe(f"SELECT {compiled.sql} FROM {quote(INPUT)}", {INPUT: self._schema})
        except BindingProblem as problem:
            return "", problem.message
        return column.type, ""

    def _locate(self, compiled: Compiled) -> None:
        """Note what DuckDB objects to at the smallest part that it objects to."""
        _, message = self._described(compiled)
        while message:
            inner = next(((part, fault) for part in compiled.parts if (fault := self._described(part)[1])), None)
            if inner is None:
                self.problems.append(Problem(shortened(message, 500), field=compiled.path))
                return
            compiled, message = inner

    def _check_conditions(self) -> None:
        for one in self._conditions:
            type_name, _ = self._described(one)
            if type_name not in ("", "BOOLEAN"):
                self.problems.append(Problem(f"A condition must be true or false, and this is {type_name}.", field=one.path))

    # Trees

    def _top(self, compile_: Callable[[object, str], Compiled], tree: object, path: str) -> Compiled | None:
        self._depth = 0
        before = len(self.problems)
        try:
            compiled = compile_(tree, path)
        except _Wrong:
            return None
        return compiled if len(self.problems) == before else None

    def _wrong(self, path: str, message: str) -> _Wrong:
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(Problem(message, field=path))
        return _Wrong()

    def _each(self, parts: Sequence[tuple[Callable[[object, str], Compiled], object, str]]) -> tuple[Compiled, ...]:
        """All parts compiled. Errors: `_Wrong`, once each has been looked at."""
        compiled, wrong = [], None
        for compile_, tree, path in parts:
            try:
                compiled.append(compile_(tree, path))
            except _Wrong as error:
                wrong = error
        if wrong is not None:
            raise wrong
        return tuple(compiled)

    def _value(self, tree: object, path: str) -> Compiled:
        given = self._operator(tree, path)
        op = given["op"]
        self._depth += 1
        try:
            if op in _ARITHMETIC:
                return self._arithmetic(op, given, path)
            if op in _COMPARISONS:
                return self._comparison(op, given, path)
            return _BUILDERS[op](self, given, path)
        except ExpressionError as error:
            raise self._wrong(path, error.sentence) from error
        finally:
            self._depth -= 1

    def _operator(self, tree: object, path: str) -> Mapping[str, Any]:
        """`tree`, when it is an object with an operator that there is. Errors: `_Wrong`."""
        self._operators += 1
        if self._operators > MOST_OPERATORS:
            if self._operators == MOST_OPERATORS + 1:
                self._wrong(path, f"The expressions of a node may hold {MOST_OPERATORS:,} operators together, and these hold more.")
            raise _Wrong
        if self._depth >= DEEPEST:
            if not self._is_too_deep:
                self._wrong(path, f"Expressions may be nested {DEEPEST} deep, and this one is nested deeper.")
            self._is_too_deep = True
            raise _Wrong
        if not isinstance(tree, Mapping):
            raise self._wrong(path, 'An expression is an object such as {"op": "column", "path": ["amount"]}.')
        if not isinstance(tree.get("op"), str):
            raise self._wrong(f"{path}.op", f"The operator is missing. Operators: {', '.join(OPERATORS)}.")
        if tree["op"] not in OPERATORS:
            raise self._wrong(f"{path}.op", _unknown_operator(tree["op"]))
        return tree

    def _condition(self, tree: object, path: str) -> Compiled:
        """As `_value`, of something that is true or false; null counts as false."""
        compiled = self._value(tree, path)
        assert isinstance(tree, Mapping)
        if tree["op"] in _CONDITIONS:
            return compiled
        if compiled.kind not in (kinds.BOOLEAN, kinds.UNKNOWN):
            raise self._wrong(path, f"A condition must be true or false, and this is {_WORDS[compiled.kind]}. Compare it with something.")
        if compiled.kind == kinds.UNKNOWN and compiled.sql != "NULL":
            self._conditions.append(compiled)
        return Compiled(f"coalesce({compiled.sql}, false)", kinds.BOOLEAN, path, (compiled,))

    def _sides(self, given: Mapping[str, Any], path: str) -> tuple[Compiled, ...]:
        for side in ("left", "right"):
            if side not in given:
                raise self._wrong(f"{path}.{side}", f"'{given['op']}' needs a left and a right side.")
        return self._each([(self._value, given[side], f"{path}.{side}") for side in ("left", "right")])

    def _column(self, given: Mapping[str, Any], path: str) -> Compiled:
        names = given.get("path")
        if not isinstance(names, (list, tuple)) or not names or not all(isinstance(name, str) and name for name in names) or len(names) > DEEPEST:
            raise self._wrong(f"{path}.path", 'The path is a list of names: the column, and then the fields within it, such as ["address", "city"].')
        if self._refers(names):
            return Compiled("NULL", kinds.UNKNOWN, path)
        column = None if self._schema is None else find(self._schema, names[0])
        if self._schema is not None and column is None:
            raise self._wrong(f"{path}.path", unknown_column(names[0], self._schema))
        if column is not None and len(names) > 1 and not column.type.upper().startswith("STRUCT"):
            raise self._wrong(f"{path}.path", f"The column '{column.name}' is {column.type} and has no field '{shortened(names[1])}'.")
        sql = quote(names[0] if column is None else column.name)
        for name in names[1:]:
            sql = f"struct_extract({sql}, {literal(name)})"
        is_known = column is not None and len(names) == 1
        return Compiled(sql, kinds.of_type(column.type) if is_known and column is not None else kinds.UNKNOWN, path)

    def _literal(self, given: Mapping[str, Any], path: str) -> Compiled:
        if "value" not in given:
            raise self._wrong(f"{path}.value", "A literal needs a value: a text, a number, true, false or null.")
        value = given["value"]
        match value:
            case None:
                return Compiled("NULL", kinds.UNKNOWN, path)
            case bool():
                return Compiled(literal(value), kinds.BOOLEAN, path)
            case int() if -(2**63) <= value < 2**63:
                return Compiled(literal(value), kinds.NUMBER, path)
            case int():
                raise self._wrong(f"{path}.value", "Whole numbers are those of 64 bits, and this one is beyond them.")
            case float():
                return Compiled(f"CAST({literal(value)} AS DOUBLE)", kinds.NUMBER, path)
            case str():
                return Compiled("NULL", kinds.UNKNOWN, path) if self._refers([value]) else Compiled(literal(value), kinds.TEXT, path)
        raise self._wrong(f"{path}.value", "A literal is a text, a number, true, false or null.")

    def _refers(self, texts: Sequence[str]) -> bool:
        """Whether they hold a reference that only a run resolves."""
        found = self._may_refer and any("{" in text and any(True for _ in find_references(text)) for text in texts)
        self._is_open = self._is_open or found
        return found

    def _arithmetic(self, op: str, given: Mapping[str, Any], path: str) -> Compiled:
        left, right = self._sides(given, path)
        for side in (left, right):
            if side.kind in (kinds.TEXT, kinds.BOOLEAN):
                advice = " Cast it in a transform before this node." if side.kind == kinds.TEXT else ""
                raise self._wrong(side.path, f"'{op}' works with numbers, and this is {_WORDS[side.kind]}.{advice}")
        kind = kinds.NUMBER if left.kind == right.kind == kinds.NUMBER else kinds.UNKNOWN
        sql = f"({left.sql} {_ARITHMETIC[op]} {right.sql})"
        if op == "divide":
            message = literal(f"Field '{path}': a division by zero. Guard it with case_when, or filter such rows out before.")
            sql = f"CASE WHEN {right.sql} = 0 THEN error({message}) ELSE {sql} END"
        if len(sql) > LONGEST_SQL:
            raise self._wrong(path, "The expression is too large; compute its divisors in a node before this one.")
        return Compiled(sql, kind, path, (left, right))

    def _concat(self, given: Mapping[str, Any], path: str) -> Compiled:
        left, right = self._sides(given, path)
        return Compiled(f"(CAST({left.sql} AS VARCHAR) || CAST({right.sql} AS VARCHAR))", kinds.TEXT, path, (left, right))

    def _comparison(self, op: str, given: Mapping[str, Any], path: str) -> Compiled:
        left, right = self._sides(given, path)
        left_sql, right_sql = left.sql, right.sql
        # As everywhere in Brokoli, a text that is compared with a number is compared as a number.
        if (left.kind, right.kind) == (kinds.TEXT, kinds.NUMBER):
            left_sql = f"TRY_CAST({left_sql} AS DOUBLE)"
        elif (left.kind, right.kind) == (kinds.NUMBER, kinds.TEXT):
            right_sql = f"TRY_CAST({right_sql} AS DOUBLE)"
        return Compiled(f"coalesce({left_sql} {_COMPARISONS[op]} {right_sql}, false)", kinds.BOOLEAN, path, (left, right))

    def _argument(self, given: Mapping[str, Any], path: str) -> tuple[object, str]:
        if "arg" not in given:
            raise self._wrong(f"{path}.arg", f"'{given['op']}' needs an expression.")
        return given["arg"], f"{path}.arg"

    def _is_null(self, given: Mapping[str, Any], path: str) -> Compiled:
        inner = self._value(*self._argument(given, path))
        return Compiled(f"({inner.sql} IS NULL)", kinds.BOOLEAN, path, (inner,))

    def _not(self, given: Mapping[str, Any], path: str) -> Compiled:
        inner = self._condition(*self._argument(given, path))
        return Compiled(f"(NOT {inner.sql})", kinds.BOOLEAN, path, (inner,))

    def _arguments(self, given: Mapping[str, Any], path: str, compile_: Callable[[object, str], Compiled]) -> tuple[Compiled, ...]:
        arguments = given.get("args")
        if not isinstance(arguments, (list, tuple)) or not arguments:
            raise self._wrong(f"{path}.args", f"'{given['op']}' needs a list of expressions, at least one.")
        return self._each([(compile_, argument, f"{path}.args.{index}") for index, argument in enumerate(arguments)])

    def _all(self, given: Mapping[str, Any], path: str) -> Compiled:
        parts = self._arguments(given, path, self._condition)
        return Compiled("(" + " AND ".join(part.sql for part in parts) + ")", kinds.BOOLEAN, path, parts)

    def _any(self, given: Mapping[str, Any], path: str) -> Compiled:
        parts = self._arguments(given, path, self._condition)
        return Compiled("(" + " OR ".join(part.sql for part in parts) + ")", kinds.BOOLEAN, path, parts)

    def _coalesce(self, given: Mapping[str, Any], path: str) -> Compiled:
        parts = self._arguments(given, path, self._value)
        return Compiled(f"coalesce({', '.join(part.sql for part in parts)})", self._common(parts, path), path, parts)

    def _case_when(self, given: Mapping[str, Any], path: str) -> Compiled:
        branches = given.get("branches")
        if not isinstance(branches, (list, tuple)) or not branches:
            raise self._wrong(f"{path}.branches", "'case_when' needs a list of branches, each with 'when' and 'then'.")
        parts: list[tuple[Callable[[object, str], Compiled], object, str]] = []
        for index, branch in enumerate(branches):
            where = f"{path}.branches.{index}"
            if not isinstance(branch, Mapping) or "when" not in branch or "then" not in branch:
                raise self._wrong(where, "A branch is an object with 'when' and 'then'.")
            parts += [(self._condition, branch["when"], f"{where}.when"), (self._value, branch["then"], f"{where}.then")]
        if given.get("else") is not None:
            parts.append((self._value, given["else"], f"{path}.else"))
        compiled = self._each(parts)
        values = [*compiled[1 : 2 * len(branches) : 2], *compiled[2 * len(branches) :]]
        cases = " ".join(f"WHEN {compiled[2 * index].sql} THEN {compiled[2 * index + 1].sql}" for index in range(len(branches)))
        otherwise = f" ELSE {compiled[-1].sql}" if len(compiled) > 2 * len(branches) else ""
        return Compiled(f"CASE {cases}{otherwise} END", self._common(values, path), path, compiled)

    def _common(self, parts: Sequence[Compiled], path: str) -> str:
        """The kind that all have. Errors: `_Wrong` where texts meet numbers: DuckDB would take a literal's text for a number."""
        found = {part.kind for part in parts} - {kinds.UNKNOWN}
        if kinds.TEXT in found and found & {kinds.NUMBER, kinds.BOOLEAN}:
            mixed = " and ".join(sorted(_WORDS[kind] for kind in found & {kinds.TEXT, kinds.NUMBER, kinds.BOOLEAN}))
            raise self._wrong(path, f"The values must be of one type, and these are {mixed}. Use texts, or numbers, for all of them.")
        return found.pop() if len(found) == 1 and all(part.kind != kinds.UNKNOWN or part.sql == "NULL" for part in parts) else kinds.UNKNOWN


def _unknown_operator(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), OPERATORS, n=1, cutoff=0.6)
    advice = f"Did you mean '{near[0]}'?" if near else f"Operators: {', '.join(OPERATORS)}."
    return f"There is no operator '{shortened(name)}'. {advice}"


_BUILDERS: dict[str, Callable[[Compiler, Mapping[str, Any], str], Compiled]] = {
    "column": Compiler._column,
    "literal": Compiler._literal,
    "concat": Compiler._concat,
    "coalesce": Compiler._coalesce,
    "is_null": Compiler._is_null,
    "not": Compiler._not,
    "and": Compiler._all,
    "or": Compiler._any,
    "case_when": Compiler._case_when,
}
_CONDITIONS = frozenset({*_COMPARISONS, "is_null", "not", "and", "or"})
OPERATORS = (*_BUILDERS, *_ARITHMETIC, *_COMPARISONS)
