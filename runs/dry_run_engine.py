"""Executes a pipeline on the first rows of its sources, in memory alone: tables of DuckDB take the place of artifacts.

As in a real run, nodes with SQL of people work in a locked instance that reaches no file, and the trusted ones in another
(`duckdb_instances.py`); each has a connection of its own with a view for each input. Prepared, run and failed they are as ever:
by the registry, by their type, with the sentences of `faults.py`. Nothing here asks a database of ours.
"""

import os
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb
from duckdb import DuckDBPyConnection
from duckdb.sqltypes import DuckDBPyType

from brokoli_site.common.errors import NodeError
from pipelines.branches import Branches
from pipelines.expressions import quote
from pipelines.graph import Graph
from pipelines.nodes import registry
from pipelines.nodes.base import (
    NOT_FOR_NODES,
    Column,
    DryResult,
    Input,
    NodeConfig,
    NodeContext,
    NodeLogger,
    NodeType,
    NotExecuted,
    PassThrough,
    Query,
    RunFacts,
    Schema,
    Stop,
    WouldWrite,
    Written,
)
from pipelines.nodes.files import DataFolders
from pipelines.spec import NodeSpec, PipelineSpec
from pipelines.vault import Vault
from runs import dry_run_guard, duckdb_instances, faults, preview
from runs.dry_run_guard import DryRunEffect
from runs.redaction import RedactingLog

SOURCE_ROWS = 10  # that a node without inputs gives
MOST_ROWS = 10_000  # that any other node gives to those below it
SHOWN_ROWS = 10
_LOG_LINES, _LOG_CHARACTERS = 50, 500
_OUT_OF_MEMORY = "The node needs more memory than a dry run may use, and a dry run spills nothing to disk. Let it handle fewer or narrower rows."
# Parquet, which keeps the outputs of real runs, has no such types; this is how they come back from it.
_KEPT = {"bit": "VARCHAR", "enum": "VARCHAR", "timestamp_s": "TIMESTAMP", "timestamp_ms": "TIMESTAMP"}
_WIDE = frozenset({"hugeint", "uhugeint"})

Prepare = Callable[[NodeSpec, RunFacts], tuple[NodeType, NodeConfig]]


@dataclass(slots=True)
class Held:
    """An output: a table of one instance, and copies of it in others where they were asked for."""

    schema: Schema
    row_count: int
    truncated: bool
    tables: "dict[Instance, str]"


class Instance:
    """One in-memory DuckDB, started with the first node that needs it."""

    def __init__(self, memory_bytes: int, threads: int, *, locked: bool) -> None:
        self._memory_bytes, self._threads, self._locked = memory_bytes, threads, locked
        self._root: DuckDBPyConnection | None = None
        self._tables = 0

    def cursor(self) -> DuckDBPyConnection:
        if self._root is None:
            self._root = duckdb_instances.in_memory(self._memory_bytes, self._threads, locked=self._locked)
        return self._root.cursor()

    def new_table(self) -> str:
        """A name that no node's SQL can mean, as SQL."""
        self._tables += 1
        return f"memory.main.{quote(f'output {self._tables}')}"

    def close(self) -> None:
        if self._root is not None:
            self._root.close()
            self._root = None

    def table_of(self, held: Held) -> str:
        """The output as a table of this instance, copied from another where it has to be."""
        if self not in held.tables:
            other, source = next(iter(held.tables.items()))
            with closing(other.cursor()) as giver, closing(self.cursor()) as taker:
                taker.register("given", giver.sql(f"FROM {source}").to_arrow_table())
                held.tables[self] = self.new_table()
                taker.execute(f"CREATE TABLE {held.tables[self]} AS FROM given")
                taker.unregister("given")
        return held.tables[self]


class Lines:
    """What a node logs: its first lines."""

    def __init__(self) -> None:
        self.kept: list[dict[str, str]] = []

    def info(self, message: str) -> None:
        self._keep("info", message)

    def warning(self, message: str) -> None:
        self._keep("warning", message)

    def error(self, message: str) -> None:
        self._keep("error", message)

    def progress(self, fraction: float, message: str = "") -> None:
        """Nobody watches."""

    def _keep(self, level: str, message: str) -> None:
        if len(self.kept) < _LOG_LINES:
            self.kept.append({"level": level, "message": preview.clean(message[:_LOG_CHARACTERS])})


class MemoryFiles:
    """Files of one node that are on no disk."""

    def __init__(self) -> None:
        self._descriptors: list[int] = []

    def new(self) -> Path:
        """Errors: `NodeError` where the system has no such files."""
        if not hasattr(os, "memfd_create"):
            raise NodeError("A dry run cannot unpack files on this system; it needs Linux.")
        dry_run_guard.open_memory_files()
        self._descriptors.append(os.memfd_create("dry-run"))
        return Path(f"/proc/self/fd/{self._descriptors[-1]}")

    def close(self) -> None:
        dry_run_guard.seal_memory_files()
        while self._descriptors:
            os.close(self._descriptors.pop())


@dataclass(frozen=True, slots=True)
class ReadOnlyFolders:
    """The data folders, for looking only. Implements `base.FileAccess`."""

    folders: DataFolders

    @property
    def roots(self) -> Sequence[Path]:
        return self.folders.roots

    @property
    def forbidden(self) -> Sequence[Path]:
        return self.folders.forbidden

    def resolve_read(self, path: str) -> Sequence[Path]:
        return self.folders.resolve_read(path)

    def resolve_target(self, path: str) -> Path:
        return self.folders.resolve_target(path)

    def resolve_folder(self, path: str) -> Path:
        return self.folders.resolve_folder(path)

    def resolve_write(self, path: str) -> Path:
        raise DryRunEffect(f"A dry run does not execute this node: it would write '{path}'.")


@dataclass(slots=True)
class DryRun:
    """One dry run of a pipeline whose structure is right. `memory_bytes` is for all of the data engine."""

    spec: PipelineSpec
    facts: RunFacts
    folders: DataFolders
    memory_bytes: int
    threads: int
    prepare: Prepare = registry.prepare
    vaults: Mapping[str, Vault] = field(default_factory=dict)  # what each node names of variables and connections, by its id
    _outputs: dict[str, Held] = field(default_factory=dict)
    _missing: dict[str, str] = field(default_factory=dict)  # why a node has no output
    _decisions: dict[str, bool] = field(default_factory=dict)  # of condition nodes
    _branches: Branches = field(init=False)

    def walk(self) -> Iterator[dict[str, Any]]:
        """What becomes of each node, sources first. Before it executes one it yields `{started: node id}`, in case that is the end.

        Then `{node_id, name, type, status, columns, schema, rows, row_count, truncated, log}`, safe for JSON, with `error`,
        `would_write`, `checks` and (for the server's log) `trace` where there is such a thing.
        """
        trusted = Instance(self.memory_bytes // 4, self.threads, locked=False)
        sandbox = Instance(self.memory_bytes * 3 // 4, self.threads, locked=True)
        nodes = {node.id: node for node in self.spec.nodes}
        with ExitStack() as cleanup:
            cleanup.callback(trusted.close)
            cleanup.callback(sandbox.close)
            graph = Graph(self.spec)
            self._branches = Branches.of(self.spec, graph)
            for node_id in graph.order:
                yield {"started": node_id}
                yield self._node(nodes[node_id], trusted, sandbox)

    def _node(self, node: NodeSpec, trusted: Instance, sandbox: Instance) -> dict[str, Any]:
        answer = blank(node)
        why = self._branches.left_out(self._decisions).get(node.id)
        if why is not None:
            self._missing[node.id] = "was skipped"
            return answer | {"status": "skipped", "error": f"Not on the branch taken: {why.reason(self.spec.node(why.condition).name)}."}
        above = next((source for source in self._branches.before(node.id, self._decisions) if source not in self._outputs), None)
        if above is not None:
            self._missing[node.id] = "was skipped"
            return answer | {"status": "skipped", "error": f"Node '{self.spec.node(above).name}', which it needs, {self._missing[above]}."}
        lines, vault = Lines(), self.vaults.get(node.id, Vault())
        names = faults.PublicNames(roots=tuple(str(root) for root in self.folders.roots), redact=vault.redact)
        facts = replace(self.facts, vault=vault)
        try:
            answer |= self._execute(node, facts, trusted, sandbox, RedactingLog(lines, vault))
        except DryRunEffect as error:
            self._missing[node.id] = "was not executed"
            answer |= {"status": "skipped", "error": error.message}
        except duckdb.OutOfMemoryException:
            answer |= {"status": "failed", "error": _OUT_OF_MEMORY}
        except Exception as error:  # the node boundary: whatever a node type gets wrong must not hide the other nodes
            answer |= {"status": "failed"} | _failure(node, error, names)
        if answer["status"] == "failed":
            self._missing[node.id] = "failed"
        return _redacted(answer, vault) | {"log": lines.kept}

    def _execute(self, node: NodeSpec, facts: RunFacts, trusted: Instance, sandbox: Instance, log: NodeLogger) -> dict[str, Any]:
        node_type, config = self.prepare(node, facts)
        given = [(source, self._outputs[source]) for source in self._branches.inputs(node.id, self._decisions)]
        if len(given) < node_type.ports.least:
            needs = "1 input" if node_type.ports.least == 1 else f"{node_type.ports.least} inputs"
            raise NodeError(f"Node '{node.id}' needs {needs} and has {len(given) or 'none'}; draw an edge to it.")
        instance = trusted if node_type.trusted else sandbox
        with closing(instance.cursor()) as connection, closing(MemoryFiles()) as memory_files:
            context = NodeContext(
                node=node,
                config=config,
                inputs=tuple(self._view(connection, instance, number, *one) for number, one in enumerate(given, start=1)),
                connection=connection,
                files=ReadOnlyFolders(self.folders),
                log=log,
                stop=Stop(),
                run=facts,
                scratch=_no_scratch,
                memory_file=memory_files.new,
            )
            try:
                result = node_type.dry_run(context)
            finally:
                dry_run_guard.seal_memory_files()
            return self._finish(node, [held for _, held in given], context, result, instance)

    def _view(self, connection: DuckDBPyConnection, instance: Instance, number: int, source: str, held: Held) -> Input:
        view = "input" if number == 1 else f"input_{number}"
        connection.execute(f"CREATE TEMP VIEW {quote(view)} AS FROM {instance.table_of(held)}")
        return Input(source, self.spec.node(source).name, view, held.schema, held.row_count)

    def _finish(self, node: NodeSpec, given: Sequence[Held], context: NodeContext, result: DryResult, instance: Instance) -> dict[str, Any]:
        extra: dict[str, Any] = {}
        match result:
            case Query():
                try:
                    held = _keep(context.connection, instance, result, MOST_ROWS if given else SOURCE_ROWS)
                finally:
                    if result.close is not None:
                        result.close()
                if result.after is not None:
                    result.after(held.row_count)
            case PassThrough(index=index, checks=checks, branch=branch):
                held = given[index]
                if branch is not None:
                    self._decisions[node.id] = branch
                extra = {"checks": list(checks)} if checks else {}
            case WouldWrite():
                held = given[0] if given else _nothing()
                extra = {"would_write": _written(result)} | ({"error": result.refusal} if result.refusal else {})
            case Written():
                held = given[0] if given else _nothing()
            case NotExecuted(reason=reason):
                self._missing[node.id] = "was not executed"
                return {"status": "skipped", "error": reason}
            case _:
                raise NodeError(f"The node type '{node.type}' returned {type(result).__name__}, which is no result.")
        shown = _shown(held, instance)
        if "error" in extra:
            return shown | extra | {"status": "failed"}
        self._outputs[node.id] = held
        return shown | extra | {"status": "success"}


def blank(node: NodeSpec) -> dict[str, Any]:
    """The answer for a node of which nothing is known."""
    found = {"node_id": node.id, "name": node.name, "type": node.type, "status": "skipped"}
    return found | {"columns": [], "schema": [], "rows": [], "row_count": None, "truncated": False, "log": []}


def _redacted(answer: dict[str, Any], vault: Vault) -> dict[str, Any]:
    """Without the secrets that the node was given, wherever it may say something. Its rows are data, and stay as they are."""
    if not vault:
        return answer
    answer.pop("trace", None)  # the error's own words may be a secret
    if "error" in answer:
        answer["error"] = vault.redact(answer["error"])
    if "would_write" in answer:
        answer["would_write"]["target"] = vault.redact(answer["would_write"]["target"])
    return answer


def _failure(node: NodeSpec, error: Exception, names: faults.PublicNames) -> dict[str, Any]:
    known = faults.of(error, names)
    if known is not None:
        return {"error": preview.clean(known.message)}
    return {"error": faults.unforeseen(error, node.type).message, "trace": "".join(traceback.format_exception(error))}


def _nothing() -> Held:
    """The output of a sink without inputs."""
    return Held((), 0, truncated=False, tables={})


def _no_scratch() -> Path:
    raise DryRunEffect("A dry run does not execute this node: it needs temporary files.")


def _keep(connection: DuckDBPyConnection, instance: Instance, query: Query, most: int) -> Held:
    """The query's first rows as a table. Errors: `duckdb.Error`; `NodeError` of the query's own recovery."""
    while True:
        table = instance.new_table()
        try:
            _fill(connection, table, query, most)
            break
        except NOT_FOR_NODES:
            raise
        except duckdb.Error as error:
            if query.recover is None:
                raise
            query = query.recover(error)
    found = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - our own name
    row_count = found[0] if found else 0
    if row_count > most:
        connection.execute(f"DELETE FROM {table} WHERE rowid >= {most}")  # noqa: S608 - our own name
    schema = tuple(Column(name, str(kind)) for name, kind in preview.types_of(connection, table))
    return Held(schema, min(row_count, most), row_count > most, {instance: table})


def _fill(connection: DuckDBPyConnection, table: str, query: Query, most: int) -> None:
    description = connection.execute(f"SELECT * FROM ({query.sql}) LIMIT 0", query.parameters).description or ()  # noqa: S608 - the node's own query
    casts = {column[0]: kept for column in description if (kept := _kept_type(column[1]))}
    try:
        _create(connection, table, query, most, casts)
    except duckdb.ConversionException:
        if "BIGINT" not in casts.values():
            raise
        # A sum beyond 64 bits, which a real run keeps so as well.
        _create(connection, table, query, most, {name: kind.replace("BIGINT", "DECIMAL(38, 0)") for name, kind in casts.items()})


def _create(connection: DuckDBPyConnection, table: str, query: Query, most: int, casts: Mapping[str, str]) -> None:
    items = ", ".join(f"CAST({quote(name)} AS {kind}) AS {quote(name)}" for name, kind in casts.items())
    replaced = f"* REPLACE ({items})" if items else "*"
    sql = f"CREATE TABLE {table} AS SELECT {replaced} FROM ({query.sql}) LIMIT {most + 1}"  # noqa: S608 - quoted names, the node's own query
    connection.execute(sql, query.parameters)


def _kept_type(kind: DuckDBPyType) -> str | None:
    """The type to cast to, for what the output of a real run would not keep as it is."""
    if kind.id in _WIDE:
        return "BIGINT"
    if kind.id == "array":
        return str(kind).rpartition("[")[0] + "[]"
    return _KEPT.get(kind.id)


def _shown(held: Held, instance: Instance) -> dict[str, Any]:
    """`columns`, `schema`, `rows`, `row_count` and `truncated` of an output."""
    if not held.tables:
        return {"row_count": 0}
    with closing(instance.cursor()) as connection:
        table = instance.table_of(held)
        shown = preview.sample(connection, table, preview.types_of(connection, table), SHOWN_ROWS).shown(held.row_count)
    return {
        "columns": shown["columns"],
        "schema": [{"name": column.name, "type": column.type} for column in held.schema],
        "rows": [dict(zip(shown["columns"], row, strict=True)) for row in shown["rows"]],
        "row_count": held.row_count,
        "truncated": held.truncated,
    }


def _written(result: WouldWrite) -> dict[str, Any]:
    return {
        "rows": result.row_count,
        "columns": [{"name": column.name, "type": column.type} for column in result.columns],
        "target": result.target,
        "mode": result.mode,
        "exists": result.exists,
        "differences": None if result.existing is None else differences(result.existing, result.columns),
    }


def differences(before: Schema, after: Schema) -> dict[str, Any]:
    """`{added: [names], removed: [names], retyped: [{name, from, to}]}`; a type that is not known differs from none."""
    old, new = ({column.name: column.type for column in schema} for schema in (before, after))
    return {
        "added": [name for name in new if name not in old],
        "removed": [name for name in old if name not in new],
        "retyped": [{"name": name, "from": old[name], "to": kind} for name, kind in new.items() if old.get(name) and kind and old[name] != kind],
    }
