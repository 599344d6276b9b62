"""The worker's side: has the files converted, and reads what came of it with the types that were found."""

import json
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
from django.conf import settings

from brokoli_site.common.errors import NodeError
from pipelines.conversion import child, kinds
from pipelines.conversion.faults import BadFile
from pipelines.conversion.tables import PART_ROWS, PLACE, Parts
from pipelines.expressions import quote
from pipelines.nodes import reading
from pipelines.nodes.base import Column, NodeContext
from pipelines.nodes.reading import Declared, SourceFile
from pipelines.processes import running

_PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from pipelines.conversion import child; del sys.path[0]; child.main(sys.argv[2])"
_JOB = "conversion.json"
_DRY_RUN_BYTES = 256 * 1024**2  # that a workbook may unpack to in a dry run, which reads it within itself
_KEPT_LINES = 20
_INTEGER = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?")
_NO_MEMORY = 9  # the child's exit status


@dataclass(frozen=True, slots=True)
class Converted:
    """What came of one file: its Parquet parts, and the types that were seen in each column."""

    file: SourceFile
    parts: tuple[Path, ...]
    found: Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Conversion:
    """How to read the files. `kind` is "xml" or a workbook's; `options` are the fields of `Document` or `Sheet` without the file's."""

    kind: str
    options: Mapping[str, Any]
    null_values: tuple[str, ...] = ()
    memory_mb: int = 2048
    unit: str = "row"

    def convert(self, context: NodeContext, file: SourceFile) -> Converted:
        """In a child with a memory limit; in a dry run here, and no more than its first rows. Errors: `NodeError` naming the file and the place."""
        if context.memory_file is not None:
            return self._within(context, file)
        folder = context.scratch()
        job = folder / _JOB
        job.write_text(json.dumps(self._job(file)))
        self._execute(context, file, folder, job)
        result = json.loads((folder / child.RESULT).read_text())
        if "error" in result:
            raise NodeError(result["error"])
        for line in result["warnings"]:
            context.log.warning(line)
        found = {name: frozenset(types) for name, types in result["found"].items()}
        return Converted(file, tuple(folder / name for name in result["parts"]), found)

    def _job(self, file: SourceFile) -> dict[str, Any]:
        options = {**self.options, "path": str(file.path), "shown": file.shown}
        return {"kind": self.kind, "options": options, "null_values": list(self.null_values)}

    def _within(self, context: NodeContext, file: SourceFile) -> Converted:
        assert context.memory_file is not None
        parts = Parts(context.memory_file, frozenset(self.null_values), PART_ROWS)
        job = self._job(file)
        job["options"] |= {"partial": True} if self.kind == "xml" else {"most_bytes": _DRY_RUN_BYTES}
        try:
            child.convert(job, parts, context.log.warning, context.log.progress)
        except BadFile as error:
            raise NodeError(str(error)) from error
        return Converted(file, tuple(parts.files), {name: frozenset(types) for name, types in parts.found.items()})

    def _execute(self, context: NodeContext, file: SourceFile, folder: Path, job: Path) -> None:
        limits = running.ProcessLimits.within(settings.LEASE_SECONDS, self.memory_mb, None)
        arguments = [sys.executable, "-I", "-c", _PROGRAM, str(running.ROOT), str(job)]
        words = _Printed(context, file.shown)
        ended = running.run(running.Job.command(folder, limits, arguments, {}), context.stop, context.log, words)
        short = ended.limit == "memory" or ended.status == _NO_MEMORY or ended.signal == signal.SIGABRT
        if short or (ended.status and any("MemoryError" in line for line in words.errors)):
            hint = "Raise it, split the file, or, in a workbook, remove the cell far away from all others that makes a sheet so large."
            raise NodeError(f"{file.shown} takes more than {self.memory_mb} MB of memory to read (max_memory_mb). {hint}")
        if complaint := ended.complaint("reader of the file", limits):
            raise complaint
        if ended.status:
            raise NodeError(f"{file.shown} cannot be read: {words.errors[-1] if words.errors else 'its reader ended without a reason'}.")


@dataclass(slots=True)
class _Printed:
    """Takes what the child prints: progress on stdout, a traceback on stderr."""

    context: NodeContext
    shown: str
    errors: list[str] = field(default_factory=list)

    def __call__(self, stream: str, line: str) -> None:
        if stream == "stderr":
            self.errors = [*self.errors, line][-_KEPT_LINES:] if line.strip() else self.errors
        elif line.strip():
            self.context.log.progress(float(line), f"Reading {self.shown}")


@dataclass(frozen=True, slots=True)
class ConvertedReading:
    """Implements `reading.Reading`."""

    converted: tuple[Converted, ...]
    declared: tuple[Declared, ...] = ()
    unit: str = "row"

    @property
    def files(self) -> Sequence[SourceFile]:
        return [one.file for one in self.converted]

    def relation(self) -> str:
        return _parquet([path for one in self.converted for path in one.parts])

    def select(self, found: Sequence[Column]) -> str:
        columns = [column for column in found if column.name != PLACE]
        reading.projection(self.declared, columns, reading.called(self.files))
        types = self._types()
        wanted = self.declared or tuple(Declared(column.name) for column in columns)
        items = ", ".join(
            f"CAST({quote(column.name)} AS {column.type or types.get(column.name.casefold(), kinds.TEXT)}) AS {quote(column.name)}"
            for column in wanted
        )
        return f"SELECT {items} FROM {self.relation()}"  # noqa: S608 - quoted

    def check_whole_numbers(self, context: NodeContext) -> None:
        """Errors: `NodeError` naming the first fraction in a column that is declared to hold whole numbers: a cast would round it."""
        types = self._types()
        for column in self.declared:
            if _INTEGER.fullmatch(column.type) and types.get(column.name.casefold()) == "DOUBLE":
                for one in self.converted:
                    self._find_fault(one, column, context, f"OR NOT regexp_full_match({quote(column.name)}, '[+-]?[0-9]+')")

    def after(self, error: duckdb.Error, context: NodeContext) -> "ConvertedReading":
        """Only a type that was declared can be one that a value does not have."""
        for one in self.converted:
            for column in self.declared:
                if column.type:
                    self._find_fault(one, column, context)
        file = reading.at_fault(error, self.files).shown
        raise NodeError(f"{file} cannot be read: {reading.shortened(reading.sentence(error, self.files))}.") from error

    def _find_fault(self, one: Converted, column: Declared, context: NodeContext, other: str = "") -> None:
        """Errors: `NodeError` naming the first row whose value has not the type."""
        name = quote(column.name)
        where = f"WHERE {name} IS NOT NULL AND (TRY_CAST({name} AS {column.type}) IS NULL {other}) ORDER BY {quote(PLACE)} LIMIT 1"
        try:
            row = context.connection.execute(f"SELECT {quote(PLACE)}, {name} FROM {_parquet(one.parts)} {where}").fetchone()  # noqa: S608 - quoted
        except duckdb.BinderException:  # this file lacks the column
            return
        if row is not None:
            hint = "Declare another type in `columns`, or add the value to `null_values`."
            value = reading.shortened(str(row[1]))
            raise NodeError(f"{one.file.shown}, {self.unit} {row[0]}: column '{column.name}' holds '{value}', which is not {column.type}. {hint}")

    def _types(self) -> Mapping[str, str]:
        seen: dict[str, set[str]] = {}
        for one in self.converted:
            for name, found in one.found.items():
                seen.setdefault(name.casefold(), set()).update(found)
        return {name: kinds.common(found) for name, found in seen.items()}


def _parquet(parts: Sequence[Path]) -> str:
    listed = reading.paths([SourceFile(path, "") for path in parts])
    return f"read_parquet({listed}{', union_by_name=true' if len(parts) > 1 else ''})"
