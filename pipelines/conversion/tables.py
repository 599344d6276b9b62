"""Rows of texts, written as Parquet a part at a time, so that a file of any length takes the memory of one part.

A part has the columns that its rows have; DuckDB puts parts together by name. Every value is text: the types are known only when
all were seen, and casting is what DuckDB is quick at. The column `PLACE` tells where in the file a row is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.conversion import kinds
from pipelines.conversion.faults import BadFile

PLACE = "__place"
PART_ROWS = 20_000
MOST_COLUMNS = 16_384

Texts = Sequence[str | None]


@dataclass(slots=True)
class Names:
    """Column names that differ in more than case, as DuckDB makes them of a CSV header: `id, id_1`, and `column2` for none."""

    shown: str
    _taken: set[str] = field(default_factory=lambda: {PLACE})
    _given: dict[str, int] = field(default_factory=dict)

    def unique(self, name: str) -> str:
        """Errors: `BadFile` when there are too many."""
        if len(self._taken) > MOST_COLUMNS:
            raise BadFile(f"{self.shown} has more than {MOST_COLUMNS:,} columns.")
        key = name.casefold()
        found = name
        while found.casefold() in self._taken:
            self._given[key] = self._given.get(key, 0) + 1
            found = f"{name}_{self._given[key]}"
        self._taken.add(found.casefold())
        return found


@dataclass(slots=True)
class Parts:
    """Where the parts go. `new_file` makes the path of the next; `most_rows` ends the reading early, for a dry run."""

    new_file: Callable[[], Path]
    null_values: frozenset[str] = frozenset()
    most_rows: int | None = None
    files: list[Path] = field(default_factory=list)
    rows: int = 0
    found: dict[str, set[str]] = field(default_factory=dict)  # types seen, by column, in order

    @property
    def full(self) -> bool:
        return self.most_rows is not None and self.rows >= self.most_rows

    def write(self, columns: Mapping[str, Texts], places: Sequence[int], known: Mapping[str, set[str]] | None = None) -> None:
        """Add rows. `known` are the types of columns whose texts need not be looked at. Errors: `OSError`."""
        arrays: dict[str, pa.Array] = {}
        for name, given in columns.items():
            texts = [None if text in self.null_values else text for text in given] if self.null_values else given
            seen = self.found.setdefault(name, set())
            if known is not None and name in known:
                seen |= known[name]
            elif kinds.TEXT not in seen:
                seen |= kinds.of_texts(texts)
            arrays[name] = pa.array(texts, pa.string())
        arrays[PLACE] = pa.array(places, pa.int64())
        path = self.new_file()
        with path.open("wb") as file:
            pq.write_table(pa.table(arrays), file)
        self.files.append(path)
        self.rows += len(places)
