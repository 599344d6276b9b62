"""What a node type is: its config, what can be known of it before it runs, and how it runs. No database of ours.

A node type is one class in one module plus one line in `registry.py`. The engine (in `runs`) gives it a `NodeContext` and
takes its `Result`; the node never writes its own output, status or log rows.
"""

import datetime as dt
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import duckdb
from pydantic import BaseModel, ConfigDict

from brokoli_site.common.errors import NodeCancelled, NodeTimeout
from pipelines.assets.values import Assets, Databases
from pipelines.problems import Problem
from pipelines.spec import NodeSpec
from pipelines.vault import Vault

Category = Literal["source", "transform", "quality", "sink", "control"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a data set; `type` as DuckDB names it (`BIGINT`, `VARCHAR`, `DECIMAL(18,3)`, …)."""

    name: str
    type: str


# The columns of a data set in order, or None where they are known only when the node runs.
Schema = tuple[Column, ...]


class NodeConfig(BaseModel):
    """Base of the config models. Unknown keys are kept (a document gives back what it was given) and reported as warnings."""

    model_config = ConfigDict(extra="allow", frozen=True, str_strip_whitespace=False)


class NodeLogger(Protocol):
    """Where a node writes the lines that people read. Each is one log entry."""

    def info(self, message: str) -> None: ...
    def warning(self, message: str) -> None: ...
    def error(self, message: str) -> None: ...
    def progress(self, fraction: float, message: str = "") -> None:
        """How much is done, 0.0 to 1.0."""


def _always() -> bool:
    return True


class Stop:
    """Tells a node to stop: its run was cancelled by force, its time is up, or its worker lost the run.

    `on_stop` runs once, from the thread that stops it. `lease_is_held` must cost next to nothing, and once False stay False.
    """

    def __init__(self, timeout_seconds: float | None = None, lease_is_held: Callable[[], bool] = _always) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []
        self._reason: NodeCancelled | NodeTimeout | None = None
        self._lease_is_held = lease_is_held
        self.deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        self.timeout_seconds = timeout_seconds

    def stop(self, reason: NodeCancelled | NodeTimeout) -> None:
        """Ask the node to end; the first reason stands."""
        with self._lock:
            if self._reason is not None:
                return
            self._reason = reason
            self._event.set()
            callbacks = tuple(self._callbacks)
        for callback in callbacks:
            callback()

    def on_stop(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the node is told to stop; at once if it already was."""
        with self._lock:
            self._callbacks.append(callback)
            stopped = self._reason is not None
        if stopped:
            callback()

    @property
    def reason(self) -> NodeCancelled | NodeTimeout | None:
        return self._reason

    def check(self) -> None:
        """Errors: the reason, once the node was told to stop. Call it between pieces of long work, and right before what is seen outside."""
        # Asked here, not told by another thread: of a worker that was frozen any thread may be the first to run again.
        if self._reason is None and not self._lease_is_held():
            self.stop(NodeCancelled("its worker lost the run to another"))
        if self._reason is not None:
            raise self._reason

    def wait(self, seconds: float) -> bool:
        """Sleep, but not past the stop; True when told to stop."""
        return self._event.wait(seconds)


@dataclass(frozen=True, slots=True)
class Input:
    """One input of a node: the name of the view that holds it on the node's connection, and what is known of it."""

    node_id: str
    name: str  # name of the upstream node, as people wrote it
    view: str  # quoted by whoever builds SQL: `"input"`, `"input_2"`, …
    schema: Schema
    row_count: int
    path: Path | None = None  # its Parquet file, to be read only; none in a dry run


@dataclass(frozen=True, slots=True)
class OtherPipeline:
    """What a node may know of the runs of another pipeline: statuses, "" where there is no such run.

    `latest`: of its newest run. `of_date`, `of_interval`: of the newest one for the same logical date, or the same interval, as this run.
    """

    name: str
    latest: str = ""
    of_date: str = ""
    of_interval: str = ""


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a node may know of the run that it is part of."""

    run_id: str
    pipeline_id: str
    pipeline_name: str
    params: Mapping[str, Any]
    logical_date: dt.date | None = None
    started_at: dt.datetime | None = None
    interval_start: dt.datetime | None = None
    interval_end: dt.datetime | None = None
    first_run_id: str = ""  # of a run that resumes another: the first of that chain; what is written once is written once for all of them
    vault: Vault = field(default_factory=Vault, compare=False)  # the variables and connections that this node's config names
    pipelines: Mapping[str, OtherPipeline] = field(default_factory=dict, compare=False)  # those that this node's config names, if they exist

    @property
    def origin_id(self) -> str:
        """The run that this one goes on with, or itself."""
        return self.first_run_id or self.run_id


class FileAccess(Protocol):
    """The data folders, by resolved real path. The only way for a node to reach a file."""

    @property
    def roots(self) -> Sequence[Path]:
        """The data folders themselves."""

    @property
    def forbidden(self) -> Sequence[Path]:
        """What stays out of reach, be it in a data folder or around one: the server's home, its database, its artifacts."""

    def resolve_read(self, path: str) -> Sequence[Path]:
        """The existing files that `path` (a glob is allowed) names, sorted. Errors: `NodeError` naming `path`, never a host path."""

    def resolve_write(self, path: str) -> Path:
        """Where to write; its parent exists afterwards. Errors: `NodeError`."""

    def resolve_target(self, path: str) -> Path:
        """Where `resolve_write` would lead; nothing is made. Errors: `NodeError`."""

    def resolve_folder(self, path: str) -> Path:
        """An existing folder. Errors: `NodeError`."""


@dataclass(frozen=True, slots=True)
class NodeContext:
    """All that a node gets. `connection` already has a view for each input and can read nothing else but what `trusted` says."""

    node: NodeSpec
    config: Any  # the node type's Config, resolved and validated
    inputs: tuple[Input, ...]
    connection: duckdb.DuckDBPyConnection
    files: FileAccess
    log: NodeLogger
    stop: Stop
    run: RunFacts
    scratch: Callable[[], Path]  # makes a folder of this node's own, which is removed afterwards
    waited_seconds: float = 0.0  # since this attempt first returned `Parked`, or a little more; 0 the first time
    memory_file: Callable[[], Path] | None = None  # in a dry run: makes an empty file that is on no disk and goes with the node


@dataclass(frozen=True, slots=True)
class Query:
    """The output is what this single SELECT gives on the node's connection. `parameters` are bound by the engine.

    `after` is called once the output is written, with its number of rows, for what can only be logged then. `recover` is
    called with DuckDB's complaint when the query fails: it returns what to run instead, or raises the `NodeError` to tell. `close` is
    called in the end, however it came, for what the query reads from (a connection to a database).
    """

    sql: str
    parameters: Mapping[str, Any] | Sequence[Any] | None = None
    after: Callable[[int], None] | None = None
    recover: Callable[[duckdb.Error], "Query"] | None = None
    close: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class PassThrough:
    """The output is the input, unchanged: the engine registers the same artifact again and copies nothing.

    `checks` is what a quality check found, one object a rule, safe for JSON; it is kept with the output's profile.
    `branch` is what a condition decided: edges with the other `condition` are not taken.
    """

    index: int = 0
    checks: tuple[Mapping[str, Any], ...] = ()
    branch: bool | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """A sink wrote this many rows to where its config says; its output, for showing, is its input, or without one a row of `rows_written`."""

    row_count: int


@dataclass(frozen=True, slots=True)
class Parked:
    """What the node waits for is not there yet: its place is given back, and it is asked again in so many seconds."""

    seconds: float
    reason: str


Result = Query | PassThrough | Written | Parked


@dataclass(frozen=True, slots=True)
class WouldWrite:
    """What a sink would do, as a dry run tells it.

    `target` as people wrote it; `existing` are the columns that it has now (type "" where that is not known), None when it
    does not exist or its columns cannot be told. `refusal` is the sentence with which the node would fail.
    """

    row_count: int
    columns: Schema
    target: str
    mode: str
    exists: bool
    existing: Schema | None = None
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class NotExecuted:
    """A dry run leaves this node out, and why."""

    reason: str


DryResult = Result | WouldWrite | NotExecuted

# Complaints of DuckDB that no other query would avoid: they are the engine's to explain.
NOT_FOR_NODES = (duckdb.InterruptException, duckdb.OutOfMemoryException)


@dataclass(frozen=True, slots=True)
class Ports:
    """How many inputs a node takes. `most` None means any number."""

    least: int
    most: int | None


@dataclass(frozen=True, slots=True)
class Analysis:
    """What is known of a node before it runs: what is wrong with it, and the columns that it will produce (None: unknown)."""

    problems: tuple[Problem, ...] = ()
    schema: Schema | None = None


@dataclass(frozen=True, slots=True)
class KnownInput:
    """One input of a node before it runs."""

    node_id: str
    name: str
    schema: Schema | None


class NodeType(ABC):
    """A kind of node. Instances hold no state: one object serves all threads."""

    name: ClassVar[str]  # as documents write it: `source_file`
    label: ClassVar[str]
    category: ClassVar[Category]
    help: ClassVar[str]
    ports: ClassVar[Ports]
    Config: ClassVar[type[NodeConfig]]
    # Trusted nodes run on the worker's own data session and may reach files through `files`; their SQL is built by us alone.
    # All others run in the run's sandbox, which can read its inputs and nothing else.
    trusted: ClassVar[bool] = False
    # Config keys (first level) whose texts hold SQL: `${…}` in them becomes a bound literal, never text. See `references.py`.
    sql_keys: ClassVar[frozenset[str]] = frozenset()
    # Config keys (first level) that are passed as they are: `${…}` in a script is the script's own, and a value put into its text
    # would be executed. Such a node gets its params beside the text.
    raw_keys: ClassVar[frozenset[str]] = frozenset()
    # Config keys (first level) that name a connection, or a list of them, which `context.run.vault` then has.
    connection_keys: ClassVar[frozenset[str]] = frozenset({"conn_id"})
    # Config keys (first level) that name another pipeline, by id or slug, which `context.run.pipelines` then has if it exists.
    pipeline_keys: ClassVar[frozenset[str]] = frozenset()
    # Whether its first input has a role of its own. Where a branch that was not taken leaves inputs out, a node runs with the others if
    # those are enough for its ports; one whose first input leads is skipped without that.
    first_input_leads: ClassVar[bool] = False
    # Whether running it changes anything outside of its run (writes, sends, starts a program). Sinks always do.
    effects: ClassVar[bool] = False
    # Whether its inputs are data to it. For some an edge only says that they come after.
    takes_data: ClassVar[bool] = True

    def normalise(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The config with aliases replaced by the names of the model. Must accept anything: what it cannot read it leaves."""
        return dict(config)

    def expect(self, configs: Iterable[Mapping[str, Any]]) -> None:  # noqa: B027 - most types have nothing to prepare
        """Told which configs (normalised, maybe wrong) `analyse` will be asked about next, for work that is cheaper done for many at once."""

    def analyse(self, node: NodeSpec, config: Any, inputs: Sequence[Schema | None]) -> Analysis:
        """Check a valid config against what is known of the inputs. Problems name fields inside the config."""
        return Analysis()

    def analyse_inputs(self, node: NodeSpec, config: Any, inputs: Sequence[KnownInput]) -> Analysis:
        """`analyse`, for the types to which it matters what the nodes before them are called."""
        return self.analyse(node, config, [known.schema for known in inputs])

    def analyse_faulty(self, node: NodeSpec, inputs: Sequence[KnownInput]) -> tuple[Problem, ...]:
        """What else is wrong with a config that does not fit its model: problems in those parts of it that do."""
        return ()

    def assets(self, config: Mapping[str, Any], databases: Databases) -> Assets:
        """Which files, tables and APIs it reads and writes, for the lineage. `config` is normalised, and may be wrong or hold references.

        No name may hold a secret: see `assets/naming.py`, which makes them.
        """
        return Assets()

    @abstractmethod
    def run(self, context: NodeContext) -> Result:
        """Do the work. Errors: `NodeError` (or a subclass) with a sentence for people; `duckdb.Error` is translated by the engine."""

    def dry_run(self, context: NodeContext) -> DryResult:
        """As `run`, on the first rows and without a trace: no file, no folder, no process, no request that changes anything.

        A type with effects overrides it to tell what it would do; without that, it is not executed. Files may be had from
        `context.memory_file` alone; `context.scratch` refuses. Errors: those of `run`.
        """
        if self.effects or self.category == "sink":
            return NotExecuted(f"A dry run does not execute nodes of type '{self.name}': what they do cannot be undone.")
        return self.run(context)
