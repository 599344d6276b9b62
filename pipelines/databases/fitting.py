"""Whether rows fit a table: every column there, every one that the table needs given, and types that hold the values. Pure."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from brokoli_site.common.errors import NodeError
from pipelines.databases.kinds import Kind, kind_of
from pipelines.nodes.base import Column
from pipelines.nodes.columns import listed

_NUMBERS = frozenset({Kind.DECIMAL, Kind.FLOAT})
# By the kind of the input's column: the kinds of table columns that take its values as they are. TEXT takes anything that has a text.
_TAKEN: dict[Kind, frozenset[Kind]] = {
    Kind.BOOLEAN: frozenset({Kind.BOOLEAN, Kind.INTEGER, Kind.TEXT}),  # MySQL's booleans are integers
    Kind.INTEGER: frozenset({Kind.INTEGER, Kind.TEXT}) | _NUMBERS,
    Kind.DECIMAL: frozenset({Kind.TEXT}) | _NUMBERS,
    Kind.FLOAT: frozenset({Kind.TEXT}) | _NUMBERS,
    Kind.TEXT: frozenset({Kind.TEXT, Kind.JSON, Kind.UUID}),
    Kind.BINARY: frozenset({Kind.BINARY}),
    Kind.DATE: frozenset({Kind.DATE, Kind.TIMESTAMP, Kind.TEXT}),
    Kind.TIME: frozenset({Kind.TIME, Kind.TEXT}),
    Kind.TIMESTAMP: frozenset({Kind.TIMESTAMP, Kind.TIMESTAMP_TZ, Kind.TEXT}),
    Kind.TIMESTAMP_TZ: frozenset({Kind.TIMESTAMP_TZ, Kind.TIMESTAMP, Kind.TEXT}),
    Kind.UUID: frozenset({Kind.UUID, Kind.TEXT}),
    Kind.INTERVAL: frozenset({Kind.INTERVAL, Kind.TEXT}),
    Kind.JSON: frozenset({Kind.JSON, Kind.TEXT}),
}
# What to cast to in a transform, for the sentence.
_CASTS = {
    Kind.BOOLEAN: "BOOLEAN",
    Kind.INTEGER: "BIGINT",
    Kind.DECIMAL: "DECIMAL(18, 4)",
    Kind.FLOAT: "DOUBLE",
    Kind.BINARY: "BLOB",
    Kind.DATE: "DATE",
    Kind.TIME: "TIME",
    Kind.TIMESTAMP: "TIMESTAMP",
    Kind.TIMESTAMP_TZ: "TIMESTAMP WITH TIME ZONE",
    Kind.INTERVAL: "INTERVAL",
}
_MOST_NAMED = 10


@dataclass(frozen=True, slots=True)
class TargetColumn:
    """A column of a table. `type` as its database names it; `kind` None where anything goes, or only the database can tell.

    `base` is the driver's own word for the type, for whoever fills it. `needed`: it takes no NULL and has no default.
    """

    name: str
    type: str
    kind: Kind | None
    needed: bool = False
    generated: bool = False
    base: str = ""


@dataclass(frozen=True, slots=True)
class Fit:
    """A column of the input, and the column of the table that takes it."""

    source: Column
    target: TargetColumn


def fit(system: str, table: str, columns: Sequence[TargetColumn], schema: Sequence[Column]) -> tuple[Fit, ...]:
    """Each column of the input with its column of the table, in the input's order.

    Names are matched as they are spelled, or else without regard to case. Errors: `NodeError` naming every column that does not fit.
    """
    fits, unknown = [], []
    for column in schema:
        target = _find(columns, column.name)
        if target is None:
            unknown.append(column.name)
        else:
            fits.append(Fit(column, target))
    problems = [_unknown(table, unknown, columns)] if unknown else []
    problems += _twice(fits)
    given = {one.target.name for one in fits}
    lacking = [column.name for column in columns if column.needed and column.name not in given]
    if lacking:
        problems.append(f"'{table}' needs a value for {_names(lacking)}, which the input does not have: add the column, or give it a default there.")
    generated = [one.target.name for one in fits if one.target.generated]
    if generated:
        problems.append(f"{system} computes {_names(generated)} itself: drop the column in a transform.")
    problems += [_mismatch(table, one) for one in fits if not _takes(one)][:_MOST_NAMED]
    if problems:
        raise NodeError(" ".join(problems))
    return tuple(fits)


def missing_keys(table: str, fits: Sequence[Fit], keys: Sequence[str]) -> None:
    """Errors: `NodeError` for key columns that the input lacks."""
    names = [one.source.name for one in fits]
    lacking = [key for key in keys if key.casefold() not in {name.casefold() for name in names}]
    if lacking:
        raise NodeError(f"The key column {_names(lacking)} of the upsert into '{table}' is not in the input. {listed(names)}")


def _find(columns: Sequence[TargetColumn], name: str) -> TargetColumn | None:
    same = [column for column in columns if column.name.casefold() == name.casefold()]
    return next((column for column in same if column.name == name), same[0] if len(same) == 1 else None)


def _takes(one: Fit) -> bool:
    return one.target.kind is None or one.target.kind in _TAKEN[kind_of(one.source.type).kind]


def _unknown(table: str, names: Sequence[str], columns: Sequence[TargetColumn]) -> str:
    known = [column.name for column in columns]
    near = difflib.get_close_matches(names[0].casefold(), [name.casefold() for name in known], n=1, cutoff=0.6)
    hint = f" Is '{names[0]}' the table's '{next(name for name in known if name.casefold() == near[0])}'?" if near else ""
    return f"'{table}' has no column {_names(names)}.{hint} {listed(known)} Drop or rename it in a transform, or add it to the table."


def _twice(fits: Sequence[Fit]) -> list[str]:
    names = [one.target.name for one in fits]
    return [f"Several columns of the input go by the name '{name}' in the table: rename one." for name in sorted(set(names)) if names.count(name) > 1]


def _mismatch(table: str, one: Fit) -> str:
    wanted = _CASTS.get(one.target.kind) if one.target.kind else None
    advice = f" Cast it to {wanted} in a transform before." if wanted else ""
    return f"Column '{one.source.name}' is {one.source.type}, which {one.target.type}, its type in '{table}', does not hold as it is.{advice}"


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(f"'{name}'" for name in names[:_MOST_NAMED]) + more
