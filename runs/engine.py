"""Runs one node: gives it its inputs as views over Parquet, writes what it returns, and measures what was written.

Two kinds of DuckDB instance. One *trusted* instance a process serves the nodes that reach files (`NodeType.trusted`); their
SQL is built by us alone. One *sandbox* a run (`sandboxes.py`) serves all others: a node in it can read its inputs and nothing
else. Every node gets a connection of its own, so that its views and its interruption concern no other.

An output is written to a draft, made durable and renamed (`artifacts.py`) before `execute` returns; the caller registers it.
"""

import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import structlog
from duckdb import DuckDBPyConnection

from brokoli_site.common.errors import NodeCancelled, NodeError
from pipelines import column_lineage
from pipelines.column_lineage import Facts
from pipelines.expressions import quote
from pipelines.nodes import registry
from pipelines.nodes.base import (
    Column,
    Input,
    NodeConfig,
    NodeContext,
    NodeLogger,
    NodeType,
    Parked,
    PassThrough,
    Query,
    RunFacts,
    Schema,
    Stop,
    Written,
)
from pipelines.nodes.files import DataFolders
from pipelines.spec import NodeSpec
from runs import duckdb_instances, faults, output
from runs.artifacts import ArtifactStore, relation
from runs.duckdb_instances import EngineLimits
from runs.output import OutputFacts
from runs.redaction import RedactingLog
from runs.sandboxes import Sandbox, SandboxPool
from runs.watchdog import Watchdog

__all__ = ["DataEngine", "EngineLimits", "InputArtifact", "NodeResult", "NodeTask", "OutputFacts", "RunSession"]

_log = structlog.get_logger(__name__)

Prepare = Callable[[NodeSpec, RunFacts], tuple[NodeType, NodeConfig]]


@dataclass(frozen=True, slots=True)
class InputArtifact:
    """The output of an upstream node, in edge order. `artifact` is its key; `name` the node's name as people wrote it."""

    node_id: str
    name: str
    artifact: str
    schema: Schema
    row_count: int


@dataclass(frozen=True, slots=True)
class NodeTask:
    """One attempt of one node. `artifact` is the key to write its output under, unique per attempt."""

    run: RunFacts
    node: NodeSpec
    inputs: tuple[InputArtifact, ...]
    artifact: str
    waited_seconds: float = 0.0  # since the attempt first looked for what it waits for


@dataclass(frozen=True, slots=True)
class NodeResult:
    """What a node did. `row_count` is its output's, or the rows that a sink wrote.

    Either `output` holds a new output, or `reuses` names the input node whose output is this node's too (it passed the data
    through, or it is a sink). `checks` is what a quality check found, to be kept
    as `checks` in the profile of its output.
    """

    row_count: int
    output: OutputFacts | None = None
    reuses: str | None = None
    checks: tuple[Mapping[str, Any], ...] = ()
    branch: bool | None = None  # what a condition decided
    lineage: Facts | None = None  # which columns of the inputs the output's come from


class DataEngine:
    """The data engine of one worker process. Thread-safe: any number of runs, any number of nodes of each, at the same time."""

    def __init__(self, store: ArtifactStore, folders: DataFolders, limits: EngineLimits, prepare: Prepare = registry.prepare) -> None:
        self.store = store
        self.folders = folders
        self.limits = limits
        self.prepare = prepare
        self.watchdog = Watchdog()
        self.workspace = store.workspace()
        self.sandboxes = SandboxPool(limits, self.workspace)
        self._lock = threading.Lock()
        self._trusted: DuckDBPyConnection | None = None

    def warm(self) -> None:
        """Start what the first run would otherwise wait for. May be called from any thread."""
        self.trusted_cursor().close()
        self.sandboxes.release(self.sandboxes.acquire())

    @contextmanager
    def open_run(self, run_id: str) -> "Iterator[RunSession]":
        """The session in which a run's nodes execute."""
        session = RunSession(self)
        try:
            yield session
        finally:
            session.close()

    def trusted_cursor(self) -> DuckDBPyConnection:
        """A connection to the trusted instance, which starts with the first."""
        with self._lock:
            if self._trusted is None:
                self._trusted = duckdb_instances.trusted(self.limits, self.workspace.folder())
            return self._trusted.cursor()

    def close(self) -> None:
        """End the instances and remove what they spilled. No node may be executing."""
        self.watchdog.close()
        with self._lock:
            if self._trusted is not None:
                self._trusted.close()
                self._trusted = None
        self.sandboxes.close()
        self.workspace.close()


class RunSession:
    """Executes the nodes of one run."""

    def __init__(self, engine: DataEngine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._sandbox: Sandbox | None = None
        self._users = 1  # of the sandbox: the session itself, and each node that executes

    def execute(self, task: NodeTask, log: NodeLogger, stop: Stop) -> NodeResult | Parked:
        """Run the node to its end, its deadline (`stop`) or its cancellation; its output is durable when this returns.

        A node that waits gives `Parked`: nothing is written, and it is executed again later.

        Errors: `NodeError` and its subclasses only; nothing is left under the task's key then.
        """
        names = self._public_names(task)
        vault = task.run.vault
        with self._lock:
            self._users += 1
        try:
            return self._execute(task, RedactingLog(log, vault), stop, names)
        except duckdb.InterruptException as error:
            raise stop.reason or NodeCancelled() from error
        except Exception as error:  # the node boundary: whatever a node type gets wrong fails the node, not the worker
            known = faults.of(error, names)
            if known is None:
                # The traceback holds the error's own words, which may be a secret: of a node that was given one, only the kind is logged.
                _log.error(
                    "node type failed unexpectedly", node_type=task.node.type, node_id=task.node.id, exc_info=not vault, kind=type(error).__name__
                )
                known = faults.unforeseen(error, task.node.type)
            known.args = (vault.redact(known.message),)
            if known is error:
                raise
            raise known from error
        finally:
            self._leave()

    def close(self) -> None:
        """End the session. A node that is still ending (it was told to stop) keeps the sandbox until it has."""
        self._leave()

    def _execute(self, task: NodeTask, log: NodeLogger, stop: Stop, names: faults.PublicNames) -> NodeResult | Parked:
        node_type, config = self._engine.prepare(task.node, task.run)
        stop.check()
        with ExitStack() as cleanup:
            sandbox = None if node_type.trusted else self._own_sandbox()
            connection = cleanup.enter_context(closing(sandbox.cursor() if sandbox else self._engine.trusted_cursor()))
            files = self._reachable(task.inputs, sandbox, cleanup)
            names.add({str(path): names.called(source.artifact) for path, source in zip(files, task.inputs, strict=True)})
            cleanup.enter_context(self._engine.watchdog.watch(stop, connection.interrupt))
            context = NodeContext(
                node=task.node,
                config=config,
                inputs=_views(connection, task.inputs, files),
                connection=connection,
                files=self._engine.folders,
                log=log,
                stop=stop,
                run=task.run,
                scratch=lambda: self._scratch(cleanup),
                waited_seconds=task.waited_seconds,
            )
            stop.check()
            return self._finish(task, context, node_type.run(context), sandbox)

    def _finish(self, task: NodeTask, context: NodeContext, result: object, sandbox: Sandbox | None) -> NodeResult | Parked:
        match result:
            case Query():
                try:
                    return self._written(task, context, result, sandbox)
                finally:
                    if result.close is not None:
                        result.close()
            case PassThrough(index=index, checks=checks, branch=branch):
                source = task.inputs[index]
                return NodeResult(source.row_count, reuses=source.node_id, checks=checks, branch=branch, lineage=_unchanged(source))
            case Parked(seconds=seconds, reason=reason):
                context.stop.check()
                return Parked(seconds, task.run.vault.redact(reason))
            case Written(row_count=row_count):
                if not task.inputs:
                    return self._noted(task, context, row_count, sandbox)
                return NodeResult(row_count, reuses=task.inputs[0].node_id, lineage=_unchanged(task.inputs[0]))
        raise NodeError(f"The node type '{task.node.type}' returned {type(result).__name__}, which is no result.")

    def _written(self, task: NodeTask, context: NodeContext, query: Query, sandbox: Sandbox | None) -> NodeResult:
        context.stop.check()
        # What runs in a sandbox can look at nothing while it writes but its own folder.
        draft = self._engine.store.draft(task.artifact, sandbox.folder if sandbox else None)
        facts = output.write(draft, context.connection, query, task.artifact, context.stop, narrow=sandbox is not None, inputs=context.inputs)
        if query.after is not None:
            query.after(facts.row_count)
        return NodeResult(facts.row_count, output=facts, lineage=facts.lineage)

    def _noted(self, task: NodeTask, context: NodeContext, row_count: int, sandbox: Sandbox | None) -> NodeResult:
        """Of a sink without inputs: its output says how many rows it wrote, so that what follows, and a run that resumes, find it done."""
        note = Query(f"SELECT CAST({row_count:d} AS BIGINT) AS rows_written")
        draft = self._engine.store.draft(task.artifact, sandbox.folder if sandbox else None)
        facts = output.write(draft, context.connection, note, task.artifact, context.stop, narrow=False)
        return NodeResult(row_count, output=facts)

    def _leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._sandbox is not None:
                self._engine.sandboxes.release(self._sandbox)
                self._sandbox = None

    def _own_sandbox(self) -> Sandbox:
        """The run's sandbox, taken from the pool by its first node that needs one."""
        with self._lock:
            if self._sandbox is None:
                self._sandbox = self._engine.sandboxes.acquire()
            return self._sandbox

    def _reachable(self, inputs: Sequence[InputArtifact], sandbox: Sandbox | None, cleanup: ExitStack) -> list[Path]:
        """The inputs' files where the node's connection can read them. Errors: `NodeError` when one is gone."""
        for source in inputs:
            if not self._engine.store.exists(source.artifact):
                raise NodeError(f"The output of node '{source.name}' is gone from the artifact store; run that node again.")
        paths = [self._engine.store.path(source.artifact) for source in inputs]
        return cleanup.enter_context(sandbox.linked(*paths)) if sandbox else paths

    def _scratch(self, cleanup: ExitStack) -> Path:
        folder = self._engine.workspace.folder()
        cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
        return folder

    def _public_names(self, task: NodeTask) -> faults.PublicNames:
        names = {source.artifact: f"the output of node '{source.name}'" for source in task.inputs}
        roots = (str(self._engine.store.root), *(str(root) for root in self._engine.folders.roots))
        return faults.PublicNames(names, roots, task.run.vault.redact)


def _views(connection: DuckDBPyConnection, sources: Sequence[InputArtifact], files: Sequence[Path]) -> tuple[Input, ...]:
    """A temporary view for each input: `input`, `input_2`, …"""
    inputs = []
    for number, (source, path) in enumerate(zip(sources, files, strict=True), start=1):
        view = "input" if number == 1 else f"input_{number}"
        connection.execute(f"CREATE TEMP VIEW {quote(view)} AS SELECT * FROM {relation(path)}")  # noqa: S608 - our own path
        inputs.append(Input(source.node_id, source.name, view, source.schema, source.row_count, path))
    return tuple(inputs)


def _unchanged(source: InputArtifact) -> Facts:
    return column_lineage.identity(source.node_id, source.schema)


def schema_of(columns: Sequence[dict[str, Any]]) -> Schema:
    """A registered schema (`[{name, type}]`) as node types take it."""
    return tuple(Column(column["name"], column["type"]) for column in columns)
