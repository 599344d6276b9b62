"""What is known of a value, a column and a table while a query is traced."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Transformation = Literal["identity", "expression", "aggregate"]
Source = tuple[str, str]  # (view, column)
Influence = tuple[str, str, str]  # (view, column, how: filter, join, group_by, sort, distinct, window, condition, limit, unnest)

_NOTHING: frozenset[Source] = frozenset()


MOST_COLUMNS = 10_000


class Untraceable(Exception):
    """The query holds something of which it is not known where its columns come from."""


@dataclass(frozen=True, slots=True)
class Value:
    """Where a value comes from: `direct` is computed with, `indirect` decides about it."""

    direct: frozenset[Source] = _NOTHING
    indirect: frozenset[Influence] = frozenset()
    transformation: Transformation = "expression"

    def influences(self, how: str) -> frozenset[Influence]:
        """What it means for rows that this value decides about."""
        return self.indirect | {(view, column, how) for view, column in self.direct}

    def computed(self) -> "Value":
        """As a part of something else."""
        return Value(self.direct, self.indirect) if self.transformation == "identity" else self


@dataclass(frozen=True, slots=True)
class Column:
    """A column; `name` None where DuckDB makes one up (`(a + 1)`), which we do not imitate."""

    name: str | None
    value: Value


@dataclass(frozen=True, slots=True)
class Table:
    """The result of a query, or an input. `rows` decide which rows there are, and in which order."""

    columns: tuple[Column, ...]
    rows: frozenset[Influence] = frozenset()

    def __post_init__(self) -> None:
        """Errors: `Untraceable` for more columns than are followed: a chain of joins with itself has twice as many in each link."""
        if len(self.columns) > MOST_COLUMNS:
            raise Untraceable(f"{len(self.columns)} columns")


def combined(values: Iterable[Value], transformation: Transformation = "expression") -> Value:
    """A value computed of all of these."""
    direct: set[Source] = set()
    indirect: set[Influence] = set()
    for value in values:
        direct |= value.direct
        indirect |= value.indirect
        if value.transformation == "aggregate":
            transformation = "aggregate"
    return Value(frozenset(direct), frozenset(indirect), transformation)


def either(values: Sequence[Value]) -> Value:
    """A value that is one of these, as in a set operation: unchanged when each is."""
    found = combined(values)
    return Value(found.direct, found.indirect, "identity") if all(value.transformation == "identity" for value in values) else found


def deciding(values: Iterable[Value], how: str) -> frozenset[Influence]:
    found: set[Influence] = set()
    for value in values:
        found |= value.influences(how)
    return frozenset(found)


def distinct_names(columns: Sequence[Column], names: Sequence[str] = ()) -> tuple[Column, ...]:
    """The columns of a subquery as those who read it see them: `names` for the first, and a second `a` becomes `a_1`, as in DuckDB."""
    taken: set[str] = set()
    found = []
    for index, column in enumerate(columns):
        name = names[index] if index < len(names) else column.name
        base, number = name, 1
        while name is not None and name.casefold() in taken:
            name, number = f"{base}_{number}", number + 1
        if name is not None:
            taken.add(name.casefold())
        found.append(Column(name, column.value))
    return tuple(found)
