"""A place where a node can be run as a worker runs it: through the data engine, with artifacts and data folders of its own."""

import dataclasses
import functools
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pytest
from pydantic import ValidationError

from brokoli_site.common.errors import NodeError
from pipelines.config_problems import config_problems
from pipelines.nodes import registry, testing
from pipelines.nodes.base import Column, NodeConfig, NodeContext, NodeType, Parked, Ports, Query, RunFacts, Schema, Stop
from pipelines.nodes.files import DataFolders
from pipelines.problems import Problem
from pipelines.spec import EdgeSpec, NodeSpec, PipelineSpec
from runs.artifacts import ArtifactStore
from runs.dry_run_engine import DryRun
from runs.engine import DataEngine, EngineLimits, InputArtifact, NodeResult, NodeTask, schema_of
from tests.contracts.case import Given, Row

MIB = 1024**2


class Log(testing.Log):
    """With all of it as one text."""

    @property
    def text(self) -> str:
        return "\n".join(f"{level}: {message}" for level, message in self.lines)


@dataclass
class Outcome:
    """What a node gave: its output's columns and rows, or of a sink those of its input; `result` is the engine's.

    `sql` is what to select from to get the rows; "" for a sink without inputs.
    """

    result: NodeResult
    schema: Schema
    sql: str
    log: Log
    workshop: "Workshop"

    @functools.cached_property
    def rows(self) -> list[Row]:
        return self.workshop.rows(f"FROM {self.sql}") if self.sql else []

    @property
    def columns(self) -> list[str]:
        return [column.name for column in self.schema]


@dataclass
class Running:
    """A node at work in a thread of its own."""

    thread: threading.Thread
    stop: Stop
    entered: threading.Event
    log: Log
    errors: list[BaseException] = field(default_factory=list)


class _TableConfig(NodeConfig):
    sql: str


class _Table(NodeType):
    """Gives the rows of any SQL."""

    name = "table"
    label = "Table"
    category = "source"
    help = "For tests."
    ports = Ports(0, 0)
    Config = _TableConfig
    trusted = True

    def run(self, context: NodeContext) -> Query:
        return Query(context.config.sql)


class _SandboxedTable(_Table):
    """In the instance of those that read it, which saves a second one."""

    name = "sandboxed_table"
    trusted = False


def _prepare_for_dry_run(node: NodeSpec, facts: RunFacts) -> tuple[NodeType, NodeConfig]:
    table = {_Table.name: _Table, _SandboxedTable.name: _SandboxedTable}.get(node.type)
    return (table(), _TableConfig.model_validate(node.config)) if table else registry.prepare(node, facts)


@functools.cache
def _maker() -> duckdb.DuckDBPyConnection:
    """What makes inputs and looks at outputs. To start an instance takes 25 ms of the processor, more than most tests need for all they do."""
    instance = duckdb.connect()
    instance.execute("SET GLOBAL TimeZone = 'UTC'")
    return instance


class Workshop:
    """One run in an engine of its own. `folder` is the data folder that nodes may read and write."""

    run_id = "run"

    def __init__(self, root: Path, memory_mib: int = 1024, threads: int = 2) -> None:
        self.root = root
        self.folder = root / "data"
        self.folder.mkdir()
        self.store = ArtifactStore(root / "artifacts")
        self.entered = threading.Event()
        self.engine = DataEngine(
            self.store,
            DataFolders((self.folder,), (self.store.root,)),
            EngineLimits(memory_bytes=memory_mib * MIB, threads=threads, concurrent_runs=1),
            self._prepare,
        )
        self.maker = _maker().cursor()
        self._inputs: dict[str, InputArtifact] = {}
        self._attempts = 0
        self._kept = ExitStack()

    def keep(self, resource: AbstractContextManager[object]) -> None:
        """Until the workshop closes."""
        self._kept.enter_context(resource)

    def clear(self) -> None:
        """As new, but for the engine: it serves the next test as a worker's serves its next run."""
        self._kept.close()
        self.maker.close()
        self.maker = _maker().cursor()
        self._inputs.clear()
        self._attempts = 0
        for path in (*(path for path in self.root.iterdir() if path != self.store.root), self.store.run_folder(self.run_id)):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        self.folder.mkdir()

    def close(self) -> None:
        self._kept.close()
        self.engine.close()
        self.maker.close()

    def _prepare(self, node: NodeSpec, facts: RunFacts) -> tuple[NodeType, NodeConfig]:
        prepared = registry.prepare(node, facts)
        self.entered.set()
        return prepared

    # --- inputs ---------------------------------------------------------------------------------------------------

    def table(self, sql: str) -> InputArtifact:
        """The data set of that SQL as an upstream node's output."""
        if sql not in self._inputs:
            number = len(self._inputs) + 1
            key = f"{self.run_id}/input{number}.parquet"
            with self.store.draft(key) as draft:
                self.maker.execute(f"COPY ({sql}) TO '{draft}' (FORMAT parquet, PARQUET_VERSION v2)")
            path = self.store.path(key)
            schema = tuple(Column(row[0], row[1]) for row in self.maker.execute(f"DESCRIBE FROM read_parquet('{path}')").fetchall())
            (count,) = self.maker.execute(f"SELECT count(*) FROM read_parquet('{path}')").fetchall()[0]
            self._inputs[sql] = InputArtifact(f"node{number}", f"Node {number}", key, schema, count)
        return self._inputs[sql]

    def task(self, type_name: str, given: Given, params: Mapping[str, Any] | None = None, node_id: str = "") -> NodeTask:
        """Another node each time, or another attempt of the node `node_id`."""
        self._attempts += 1
        node = NodeSpec(id=node_id or f"step{self._attempts}", type=type_name, name="The node", config=dict(given.config))
        facts = RunFacts(self.run_id, "pipeline", "The pipeline", params or {}, vault=given.vault)
        return NodeTask(facts, node, tuple(self.table(sql) for sql in given.inputs), f"{self.run_id}/node-{self._attempts}.parquet")

    # --- running --------------------------------------------------------------------------------------------------

    def run(self, type_name: str, given: Given, params: Mapping[str, Any] | None = None, stop: Stop | None = None, node_id: str = "") -> Outcome:
        """Errors: `NodeError`; whatever else a node raises is a fault of the node (or of the engine)."""
        task, log = self.task(type_name, given, params, node_id), Log()
        with self.engine.open_run(self.run_id) as session:
            result = session.execute(task, log, stop or Stop())
        assert isinstance(result, NodeResult), f"the node waits for {result.reason}"
        if result.output is not None:
            schema, key = schema_of(result.output.schema), result.output.artifact
        elif task.inputs:
            source = next(one for one in task.inputs if one.node_id == result.reuses)
            schema, key = source.schema, source.artifact
        else:
            return Outcome(result, (), "", log, self)
        return Outcome(result, schema, f"read_parquet('{self.store.path(key)}')", log, self)

    def look(self, type_name: str, given: Given, waited_seconds: float = 0.0, **facts: Any) -> tuple[Parked, Log]:
        """What a node that waits answers while what it waits for is not there. `facts`: of its run."""
        task, log = self.task(type_name, given), Log()
        task = dataclasses.replace(task, waited_seconds=waited_seconds, run=dataclasses.replace(task.run, **facts))
        with self.engine.open_run(self.run_id) as session:
            result = session.execute(task, log, Stop())
        assert isinstance(result, Parked), log.text
        return result, log

    def dry_run(self, type_name: str, given: Given, params: Mapping[str, Any] | None = None, *, across: bool = False) -> dict[str, Any]:
        """What a dry run answers for the node. Its inputs are the first rows of the data sets; `across`: they come from another instance."""
        table = _Table if registry.get(type_name).trusted != across else _SandboxedTable
        sources = tuple(NodeSpec(f"node{number}", table.name, f"Node {number}", {"sql": sql}) for number, sql in enumerate(given.inputs, start=1))
        node = NodeSpec(id="node", type=type_name, name="The node", config=dict(given.config))
        spec = PipelineSpec("The pipeline", (*sources, node), tuple(EdgeSpec(source.id, node.id) for source in sources))
        facts = RunFacts(self.run_id, "pipeline", "The pipeline", params or {}, vault=given.vault)
        events = list(DryRun(spec, facts, self.engine.folders, 512 * MIB, 2, _prepare_for_dry_run, {node.id: given.vault}).walk())
        return next(event for event in events if event.get("node_id") == node.id)

    @contextmanager
    def running(self, type_name: str, given: Given, stop: Stop) -> Iterator[Running]:
        """The node at work; the block is entered when its config is ready and it is about to start."""
        task, log = self.task(type_name, given), Log()
        self.entered.clear()
        running = Running(threading.Thread(target=lambda: self._execute(task, running)), stop, self.entered, log)
        running.thread.start()
        assert self.entered.wait(30), "the node never started"
        yield running
        running.thread.join(30)
        assert not running.thread.is_alive(), "the node never ended"

    def _execute(self, task: NodeTask, running: Running) -> None:
        try:
            with self.engine.open_run(self.run_id) as session:
                session.execute(task, running.log, running.stop)
        except NodeError as error:
            running.errors.append(error)

    def rows(self, sql: str) -> list[Row]:
        """Rows as plain values; times with a zone as text, which needs no time zone database."""
        described = self.maker.execute(f"DESCRIBE {sql}").fetchall()
        casts = [f'CAST("{name}" AS VARCHAR) AS "{name}"' for name, kind, *_ in described if kind == "TIMESTAMP WITH TIME ZONE"]
        replaced = f"SELECT * REPLACE ({', '.join(casts)}) FROM ({sql})" if casts else sql
        return list(self.maker.execute(replaced).fetchall())

    # --- what is there --------------------------------------------------------------------------------------------

    def artifacts(self) -> set[str]:
        """The artifacts and drafts of the run, without the inputs."""
        folder = self.store.run_folder(self.run_id)
        inputs = {self.store.path(one.artifact).name for one in self._inputs.values()}
        return {path.name for path in folder.iterdir()} - inputs if folder.exists() else set()

    def files(self) -> dict[str, bytes]:
        """The files of the data folder, hidden ones too."""
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in sorted(self.folder.rglob("*")) if path.is_file()}


def problems_at_save(type_name: str, config: Mapping[str, Any], inputs: Sequence[Schema | None]) -> list[Problem]:
    """What is said against a config when a pipeline is saved, warnings left out."""
    node_type = registry.get(type_name)
    normalised = node_type.normalise(config)
    try:
        model = node_type.Config.model_validate(normalised)
    except ValidationError as error:
        return [Problem(f"Field '{field}' {sentence}.", field=field) for field, sentence, _ in config_problems(error, normalised)]
    analysis = node_type.analyse(NodeSpec("node", type_name, "The node", normalised), model, inputs)
    return [problem for problem in analysis.problems if problem.severity == "error"]


@pytest.fixture(scope="session")
def kept_workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    made = Workshop(tmp_path_factory.mktemp("workshop"))
    yield made
    made.close()


@pytest.fixture
def workshop(kept_workshop: Workshop) -> Iterator[Workshop]:
    """One whose engine served other tests before. Who looks at the engine itself, or leaves a node at work, makes a `Workshop` of its own."""
    yield kept_workshop
    kept_workshop.clear()
