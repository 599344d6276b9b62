"""What names mean at a place of a query: the tables of its FROM, the aliases of its SELECT list, and those of the queries around it.

The order in which they are looked up is DuckDB's; `tests/unit/test_column_lineage.py` compares.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from pipelines.column_lineage.values import Column, Influence, Untraceable, Value, combined


@dataclass(frozen=True)
class Columns:
    """Columns that are found by their names."""

    columns: tuple[Column, ...]

    @cached_property
    def _by_name(self) -> dict[str, Value | None]:
        found: dict[str, Value | None] = {}
        for column in self.columns:
            if column.name is not None:
                key = column.name.casefold()
                found[key] = None if key in found else column.value
        return found

    @cached_property
    def _has_unnamed(self) -> bool:
        return any(column.name is None for column in self.columns)

    def one(self, name: str) -> Value | None:
        """The value of the column of that name, None when there is none. Errors: `Untraceable` when it may be one of several, or unnamed."""
        key = name.casefold()
        found = self._by_name.get(key)
        if found is None and (key in self._by_name or self._has_unnamed):
            raise Untraceable(f"{name} may be more than one column")
        return found


@dataclass(frozen=True)
class Binding(Columns):
    """A table of a FROM by its alias ("" for a subquery without one)."""

    alias: str = ""


@dataclass(frozen=True)
class From:
    """A FROM. `visible` is what `*` gives, and what names without a table mean: a USING column is there once."""

    bindings: tuple[Binding, ...] = ()
    visible: Columns = Columns(())
    rows: frozenset[Influence] = frozenset()

    def binding(self, alias: str) -> Binding | None:
        found = [one for one in self.bindings if one.alias.casefold() == alias.casefold()]
        if len(found) > 1:
            raise Untraceable(f"two tables are called {alias}")
        return found[0] if found else None


@dataclass(slots=True)
class Scope:
    """`aliases` are those of the SELECT list, as far as it was traced; `outer` is the query around this one."""

    source: From
    outer: "Scope | None" = None
    aliases: dict[str, Value] = field(default_factory=dict)
    prefers_aliases: bool = False  # HAVING, and a bare name in ORDER BY: an alias hides a column
    parameters: frozenset[str] = frozenset()  # of the lambdas around this place

    def within_lambda(self, names: Sequence[str]) -> "Scope":
        return replace(self, parameters=self.parameters | {name.casefold() for name in names})

    def with_aliases_first(self) -> "Scope":
        return replace(self, prefers_aliases=True)

    def with_columns_first(self) -> "Scope":
        return replace(self, prefers_aliases=False)

    def column(self, path: Sequence[str]) -> Value:
        """Errors: `Untraceable` when it is not found, or may be something else."""
        scope: Scope | None = self
        while scope is not None:
            found = scope._here(path)
            if found is not None:
                return found
            scope = scope.outer
        raise Untraceable(f"no column {'.'.join(path)}")

    def _here(self, path: Sequence[str]) -> Value | None:
        if path[0].casefold() in self.parameters:
            return Value()
        alias = self.aliases.get(path[0].casefold())
        if self.prefers_aliases and alias is not None:
            return _field(alias, path[1:])
        return self._of_tables(path) or (None if alias is None else _field(alias, path[1:])) or self._row(path)

    def _of_tables(self, path: Sequence[str]) -> Value | None:
        table = self.source.binding(path[0])
        if len(path) > 1 and table is not None:
            value = table.one(path[1])
            if value is not None:
                return _field(value, path[2:])
        value = self.source.visible.one(path[0])
        return None if value is None else _field(value, path[1:])

    def _row(self, path: Sequence[str]) -> Value | None:
        """A table's name alone is its whole row, as a struct."""
        table = self.source.binding(path[0]) if len(path) == 1 else None
        return None if table is None else combined(column.value for column in table.columns)


def _field(value: Value, path: Sequence[str]) -> Value:
    return value.computed() if path else value
