"""Runs the script of a `code` node, in a child process that is its alone.

A name that the script does not use is not made: `rows` of a million rows cost seconds and half a gigabyte. What the script
left in `output_data` is written as an Arrow file, and what became of it as JSON, both into the job's folder.
"""

import __future__

import ast
import contextlib
import importlib.util
import io
import json
import linecache
import os
import random
import re
import site
import sys
import sysconfig
import threading
import traceback
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.processes import tables
from pipelines.processes.protocol import OUTPUT, RESULT

NAME = "script.py"  # what tracebacks call the script
LOST = 1  # exit status of a script whose result tells what went wrong
_DYNAMIC = {"globals", "locals", "vars", "eval", "exec"}
_MOST_FRAMES = 40
_LONGEST_LINE = 2_000  # characters, of a traceback
_LONGEST_MESSAGE = 10_000  # of an error: the worker reads it, and a script may put its data into it
_BATCH_ROWS = 122_880  # as many as DuckDB's row groups have


def run(job: dict[str, Any], folder: str) -> int:
    """Run `job["script"]`; the exit status. The result stands in the job's folder afterwards."""
    _open_streams()
    _forget_the_server()
    public = _Public(folder)
    try:
        result = _outcome(job, Path(folder))
    except BaseException as error:
        result = {"error": public.failure(error)}
    try:
        (Path(folder) / RESULT).write_text(json.dumps(result, ensure_ascii=False), "utf-8", "replace")
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # closed by the script
                stream.flush()
    except OSError as error:
        os.write(2, f"The result could not be written: {error.strerror}\n".encode())
        return LOST
    return LOST if "error" in result else 0


def _outcome(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    source = job["script"]
    linecache.cache[NAME] = (len(source), None, source.splitlines(keepends=True), NAME)  # for tracebacks and `inspect`
    module = types.ModuleType("__main__")
    sys.modules["__main__"], sys.argv = module, [NAME]
    inputs = [Input(**known) for known in job["inputs"]]
    # Annotations are left unread, as Python 3.14 does: the SDK's scripts name types in them that they do not carry.
    code = compile(source, NAME, "exec", flags=__future__.annotations.compiler_flag, dont_inherit=True)
    names = module.__dict__
    names["__file__"] = NAME
    names.update(config=job["config"], params=job["params"], parameters=dict(job["params"]), columns=inputs[0].columns if inputs else [])
    names.update(connections={name: Connection(**known) for name, known in job["connections"].items()})
    names.update(_bindings(_used(ast.parse(source)), inputs))
    finished = _execute(code, names)
    if "output_data" not in names:
        left = "" if finished else " before it left"
        raise tables.BadOutput(f"The script did not set output_data{left}. {tables.EXPECTED} To pass the input on: output_data = table.")
    output = names["output_data"]
    for index, one in enumerate(inputs):
        if one.is_read and output is one.table:
            return {"passes": index}
    table, warnings = tables.to_table(output, inputs[0].schema if inputs else None)
    with pa.OSFile(str(folder / OUTPUT), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=_BATCH_ROWS)
    return {"warnings": warnings}


def _execute(code: types.CodeType, names: dict[str, Any]) -> bool:
    """False when the script left early with status 0. Errors: whatever it raises."""
    finished = True
    try:
        exec(code, names)  # noqa: S102 - what a code node is for
    except SystemExit as error:
        if error.code not in (None, 0):
            raise
        finished = False
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    return finished


# --- what the script sees -----------------------------------------------------------------------------------------


class Connection(types.SimpleNamespace):
    """One of the connections that the node names: `conn_id`, `type`, `host`, `port`, `schema`, `login`, `password`, `extra`."""

    def __repr__(self) -> str:
        return f"<connection {self.conn_id!r}: {self.type}>"


class Input:
    """One input. Each form of its data is made when it is first asked for."""

    def __init__(self, node_id: str, name: str, path: str, columns: list[str], intervals: list[str]) -> None:
        self.id = node_id
        self.name = name
        self.columns = columns
        self._path = path
        self._intervals = intervals
        self._table: pa.Table | None = None
        self._rows: list[dict[str, Any]] | None = None

    def __repr__(self) -> str:
        return f"<input {self.name!r}: {', '.join(self.columns)}>"

    @contextlib.contextmanager
    def _open(self) -> Iterator[pq.ParquetFile]:
        """Closed afterwards for certain: a script that writes to every descriptor that it finds must not find this one."""
        with pa.OSFile(self._path) as source, pq.ParquetFile(source) as file:
            yield file

    @property
    def is_read(self) -> bool:
        return self._table is not None

    @property
    def schema(self) -> pa.Schema:
        """The columns as Arrow types. Reads no rows."""
        if self._table is not None:
            return self._table.schema
        with self._open() as file:
            return tables.with_intervals(file.schema_arrow.empty_table(), self._intervals).schema

    @property
    def table(self) -> pa.Table:
        """The rows as an Arrow table."""
        if self._table is None:
            with self._open() as file:
                self._table = tables.with_intervals(file.read(use_threads=False), self._intervals)
        return self._table

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows as dicts."""
        if self._rows is None:
            self._rows = tables.to_rows(self.table)
        return self._rows

    @property
    def df(self) -> Any:
        """The rows as a pandas data frame. Errors: `ImportError` where pandas is not installed."""
        if importlib.util.find_spec("pandas") is None:
            raise ImportError(_NO_PANDAS)
        return self.table.to_pandas(use_threads=self.table.num_rows > _BATCH_ROWS)  # starting threads takes longer than a small table


class Inputs:
    """The inputs, by number from 0, by the id of their node, or by its name."""

    def __init__(self, inputs: list[Input]) -> None:
        self._inputs = inputs

    def __len__(self) -> int:
        return len(self._inputs)

    def __iter__(self) -> Iterator[Input]:
        return iter(self._inputs)

    def __getitem__(self, key: int | str) -> Input:
        if isinstance(key, int):
            return self._inputs[key]
        for one in self._inputs:
            if one.id == key:
                return one
        named = [one for one in self._inputs if one.name == key]
        if len(named) != 1:
            known = ", ".join(repr(one.id) for one in self._inputs) or "none"
            raise KeyError(f"{key} (the inputs are: {known})")
        return named[0]


class _NoPandas:
    """Stands for `df` where there is no pandas: an error where it is used, not where it is mentioned."""

    def __getattr__(self, name: str) -> Any:
        raise ImportError(_NO_PANDAS)

    def __getitem__(self, key: object) -> Any:
        raise ImportError(_NO_PANDAS)

    def __len__(self) -> int:
        raise ImportError(_NO_PANDAS)


_NO_PANDAS = "df needs pandas, which is not installed on the worker. Use rows or table, or install pandas beside Brokoli."


def _bindings(used: set[str], inputs: list[Input]) -> dict[str, Any]:
    first = inputs[0] if inputs else None
    found: dict[str, Any] = {}
    if "inputs" in used:
        found["inputs"] = Inputs(inputs)
    if "rows" in used:
        found["rows"] = first.rows if first else []
    if "table" in used:
        found["table"] = first.table if first else pa.table({})
    if "df" in used:
        if importlib.util.find_spec("pandas") is None:
            found["df"] = _NoPandas()
        else:
            found["df"] = first.df if first else pa.table({}).to_pandas()
    return found


def _used(tree: ast.Module) -> set[str]:
    """The names that the script may read before it has set them itself."""
    used: set[str] = set()
    own: set[str] = set()  # set for certain: by a statement of the module's own level
    for statement in tree.body:
        used |= {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)} - own
        if isinstance(statement, ast.Assign):
            own |= {target.id for target in statement.targets if isinstance(target, ast.Name)}
    if used & _DYNAMIC:  # `globals()["rows"]`
        texts = " ".join(node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
        used |= set(re.findall(r"\w+", texts))
    return used


# --- the process --------------------------------------------------------------------------------------------------


def _open_streams() -> None:
    """Fresh ones: those of the fork server have its buffers. Lines leave as they are printed."""
    sys.stdin = io.TextIOWrapper(io.FileIO(0, "r", closefd=False), encoding="utf-8")
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        raw = io.BufferedWriter(io.FileIO(descriptor, "w", closefd=False))
        stream = io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _forget_the_server() -> None:
    """Nothing of the server is in a script's way, and no two scripts draw the same random numbers."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "pipelines"]:
        del sys.modules[name]
    random.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()


class _Public:
    """Tells what went wrong without paths of the host."""

    def __init__(self, folder: str) -> None:
        found = {folder, sys.prefix, sys.base_prefix, sys.exec_prefix, *sysconfig.get_paths().values(), *site.getsitepackages(), *sys.path}
        self._paths = sorted((path.rstrip("/") for path in found if len(path) > 1), key=len, reverse=True)

    def hide(self, text: str) -> str:
        for path in self._paths:
            text = text.replace(f"{path}/", "").replace(path, ".")
        return text

    def failure(self, error: BaseException) -> dict[str, Any]:
        """`{kind, message, line, trace, number}`: `line` is the last line of the script that was executing, `trace` what Python would print."""
        if isinstance(error, tables.BadOutput):
            return {"kind": "", "message": str(error)[:_LONGEST_MESSAGE], "line": None, "trace": []}
        line = None
        if isinstance(error, SyntaxError) and error.filename == NAME:
            line = error.lineno
        frames = traceback.extract_tb(error.__traceback__)
        start = next((index for index, frame in enumerate(frames) if frame.filename == NAME), len(frames))
        for frame in frames[start:]:
            line = frame.lineno if frame.filename == NAME else line
        shown = frames[start:][-_MOST_FRAMES:]
        trace = [f"{self.hide(frame.filename)}, line {frame.lineno}, in {frame.name}: {frame.line or ''}".rstrip(": ") for frame in shown]
        trace = [one[:_LONGEST_LINE] for one in trace]
        number = error.errno if isinstance(error, OSError) and type(error.errno) is int else None
        kind, message = type(error).__name__[:_LONGEST_LINE], self._message(error)[:_LONGEST_MESSAGE]
        return {"kind": kind, "message": message, "line": line, "trace": trace, "number": number}

    def _message(self, error: BaseException) -> str:
        if isinstance(error, SyntaxError):
            return str(error.msg)
        try:
            return self.hide(str(error)[: 2 * _LONGEST_MESSAGE])  # paths are hidden first, and what is cut then tells no part of one
        except Exception:  # an exception of the script's own may fail at this, too
            return ""
