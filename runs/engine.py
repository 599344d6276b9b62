"""Runs one node: gives it its inputs as views over Parquet, writes what it returns, and measures what was written.

Two kinds of DuckDB instance. One *trusted* instance a process serves the nodes that reach files (`NodeType.trusted`); their
SQL is built by us alone. One *sandbox* a run, made when first needed, serves all others: it can read the artifacts of its run
(and of runs whose outputs are reused) and nothing else. Every node gets a connection of its own, so that its views and its
interruption concern no other.

An output is written to a draft, made durable and renamed (`artifacts.py`) before `execute` returns; the caller registers it.
"""

import shutil
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import structlog
from duckdb import DuckDBPyConnection

from brokoli_site.common.errors import BrokoliError, NodeCancelled, NodeError
from pipelines.expressions import quote
from pipelines.nodes import registry
from pipelines.nodes.base import (
    Column,
    Input,
    NodeConfig,
    NodeContext,
    NodeLogger,
    NodeType,
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
from runs.artifacts import ArtifactMissing, ArtifactStore, relation
from runs.duckdb_instances import EngineLimits
from runs.output import OutputFacts
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


@dataclass(frozen=True, slots=True)
class NodeResult:
    """What a node did. `row_count` is its output's, or the rows that a sink wrote.

    Either `output` holds a new output, or `reuses` names the input node whose output is this node's too (it passed the data
    through, or it is a sink); both are empty for a sink without inputs. `checks` is what a quality check found, to be kept
    as `checks` in the profile of its output.
    """

    row_count: int
    output: OutputFacts | None = None
    reuses: str | None = None
    checks: tuple[Mapping[str, Any], ...] = ()


class DataEngine:
    """The data engine of one worker process. Thread-safe: any number of runs, any number of nodes of each, at the same time."""

    def __init__(self, store: ArtifactStore, folders: DataFolders, limits: EngineLimits, prepare: Prepare = registry.prepare) -> None:
        self.store = store
        self.folders = folders
        self.limits = limits
        self.prepare = prepare
        self.watchdog = Watchdog()
        self._workspace = store.workspace()
        self._lock = threading.Lock()
        self._trusted: DuckDBPyConnection | None = None

    @contextmanager
    def open_run(self, run_id: str, also_readable: Collection[str] = ()) -> "Iterator[RunSession]":
        """The session in which a run's nodes execute. `also_readable` are the runs whose artifacts it reuses."""
        session = RunSession(self, run_id, also_readable)
        try:
            yield session
        finally:
            session.close()

    def trusted_cursor(self) -> DuckDBPyConnection:
        """A connection to the trusted instance, which starts with the first."""
        with self._lock:
            if self._trusted is None:
                self._trusted = duckdb_instances.trusted(self.limits, self.scratch())
            return self._trusted.cursor()

    def scratch(self) -> Path:
        """A new folder on the artifacts' disk."""
        return self._workspace.folder()

    def close(self) -> None:
        """End the instances and remove what they spilled. No node may be executing."""
        self.watchdog.close()
        with self._lock:
            if self._trusted is not None:
                self._trusted.close()
                self._trusted = None
        self._workspace.close()


class RunSession:
    """Executes the nodes of one run."""

    def __init__(self, engine: DataEngine, run_id: str, also_readable: Collection[str]) -> None:
        self._engine = engine
        self._readable = [engine.store.make_run_folder(run_id), *(engine.store.run_folder(other) for other in also_readable)]
        self._lock = threading.Lock()
        self._sandbox: DuckDBPyConnection | None = None
        self._spill: Path | None = None

    def execute(self, task: NodeTask, log: NodeLogger, stop: Stop) -> NodeResult:
        """Run the node to its end, its deadline (`stop`) or its cancellation; its output is durable when this returns.

        Errors: `NodeError` and its subclasses only; nothing is left under the task's key then.
        """
        names = self._public_names(task)
        try:
            return self._execute(task, log, stop)
        except NodeError:
            raise
        except BrokoliError as error:
            raise NodeError(error.message) from error
        except duckdb.InterruptException as error:
            raise stop.reason or NodeCancelled() from error
        except ArtifactMissing as error:
            raise NodeError(f"The output of {names.called(str(error.args[0]))} is gone from the artifact store; run that node again.") from error
        except duckdb.Error as error:
            raise faults.of_duckdb(error, names) from error
        except OSError as error:
            raise faults.of_system(error, names) from error
        except MemoryError as error:
            raise NodeError(faults.OUT_OF_MEMORY) from error
        except Exception as error:  # the node boundary: whatever a node type gets wrong fails the node, not the worker
            _log.exception("node type failed unexpectedly", node_type=task.node.type, node_id=task.node.id)
            raise NodeError(f"The node type '{task.node.type}' failed unexpectedly ({type(error).__name__}); the server's log says more.") from error

    def close(self) -> None:
        with self._lock:
            if self._sandbox is not None:
                self._sandbox.close()
                self._sandbox = None
            if self._spill is not None:
                shutil.rmtree(self._spill, ignore_errors=True)

    def _execute(self, task: NodeTask, log: NodeLogger, stop: Stop) -> NodeResult:
        node_type, config = self._engine.prepare(task.node, task.run)
        stop.check()
        with self._connection(trusted=node_type.trusted) as connection, self._engine.watchdog.watch(stop, connection.interrupt):
            scratch = self._engine.scratch()
            try:
                context = NodeContext(
                    node=task.node,
                    config=config,
                    inputs=self._attach(connection, task.inputs),
                    connection=connection,
                    files=self._engine.folders,
                    log=log,
                    stop=stop,
                    run=task.run,
                    scratch=scratch,
                )
                return self._finish(task, context, node_type.run(context), trusted=node_type.trusted)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)

    def _finish(self, task: NodeTask, context: NodeContext, result: object, *, trusted: bool) -> NodeResult:
        match result:
            case Query():
                context.stop.check()
                facts = output.write(self._engine.store, context.connection, result, task.artifact, context.stop, narrow=not trusted)
                if result.after is not None:
                    result.after(facts.row_count)
                return NodeResult(facts.row_count, output=facts)
            case PassThrough(index=index, checks=checks):
                source = task.inputs[index]
                return NodeResult(source.row_count, reuses=source.node_id, checks=checks)
            case Written(row_count=row_count):
                return NodeResult(row_count, reuses=task.inputs[0].node_id if task.inputs else None)
        raise NodeError(f"The node type '{task.node.type}' returned {type(result).__name__}, which is no result.")

    @contextmanager
    def _connection(self, *, trusted: bool) -> Iterator[DuckDBPyConnection]:
        """A connection of the node's own; what it made there (views) goes with it."""
        connection = self._engine.trusted_cursor() if trusted else self._sandbox_cursor()
        try:
            yield connection
        finally:
            connection.close()

    def _sandbox_cursor(self) -> DuckDBPyConnection:
        with self._lock:
            if self._sandbox is None:
                self._spill = self._spill or self._engine.scratch()
                self._sandbox = duckdb_instances.sandbox(self._engine.limits, self._spill, self._readable)
            return self._sandbox.cursor()

    def _attach(self, connection: DuckDBPyConnection, artifacts: Sequence[InputArtifact]) -> tuple[Input, ...]:
        """A temporary view for each input: `input`, `input_2`, …"""
        inputs = []
        for number, source in enumerate(artifacts, start=1):
            view = "input" if number == 1 else f"input_{number}"
            self._engine.store.size(source.artifact)  # a missing file is our error, with the node's name
            path = self._engine.store.path(source.artifact)
            connection.execute(f"CREATE TEMP VIEW {quote(view)} AS SELECT * FROM {relation(path)}")  # noqa: S608 - our own path
            inputs.append(Input(source.node_id, source.name, view, source.schema, source.row_count))
        return tuple(inputs)

    def _public_names(self, task: NodeTask) -> faults.PublicNames:
        store = self._engine.store
        names = {source.artifact: f"node '{source.name}'" for source in task.inputs}
        names |= {str(store.path(source.artifact)): f"the output of node '{source.name}'" for source in task.inputs}
        return faults.PublicNames(names, (str(store.root), *(str(root) for root in self._engine.folders.roots)))


def schema_of(columns: Sequence[dict[str, Any]]) -> Schema:
    """A registered schema (`[{name, type}]`) as node types take it."""
    return tuple(Column(column["name"], column["type"]) for column in columns)
