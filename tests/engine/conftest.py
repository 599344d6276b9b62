"""A data engine in a temporary folder, and nodes that do what a test says."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pipelines.nodes.base import Category, NodeConfig, NodeContext, NodeType, Ports, Query, Result, RunFacts, Stop
from pipelines.nodes.files import DataFolders
from pipelines.spec import NodeSpec
from runs.artifacts import ArtifactStore
from runs.engine import DataEngine, EngineLimits, InputArtifact, NodeResult, NodeTask, RunSession, schema_of

MIB = 1024**2
Work = Callable[[NodeContext], Result]


class ScriptedNode(NodeType):
    """Runs what its config holds: a query's text, or a function of the context."""

    name: ClassVar[str] = "scripted"
    label: ClassVar[str] = "Scripted"
    category: ClassVar[Category] = "transform"
    help: ClassVar[str] = "For tests."
    ports: ClassVar[Ports] = Ports(0, None)
    Config: ClassVar[type[NodeConfig]] = NodeConfig

    def run(self, context: NodeContext) -> Result:
        work: str | Work = context.node.config["work"]
        return Query(work) if isinstance(work, str) else work(context)


class TrustedNode(ScriptedNode):
    trusted: ClassVar[bool] = True


@dataclass
class Log:
    lines: list[str] = field(default_factory=list)

    def info(self, message: str) -> None:
        self.lines.append(message)

    warning = error = info

    def progress(self, fraction: float, message: str = "") -> None:
        self.lines.append(f"{fraction} {message}")


def prepare(node: NodeSpec, facts: RunFacts) -> tuple[NodeType, NodeConfig]:
    return (TrustedNode() if node.type == "trusted" else ScriptedNode()), NodeConfig()


@dataclass
class Plant:
    """An engine and shorthands."""

    engine: DataEngine
    root: Path

    @property
    def store(self) -> ArtifactStore:
        return self.engine.store

    def run(self, session: RunSession, work: str | Work, *inputs: NodeResult, stop: Stop | None = None, **options: Any) -> NodeResult:
        """Execute a node. `inputs` are results of earlier ones. Options: `key`, `trusted`."""
        sources = tuple(
            InputArtifact(f"n{number}", f"Node {number}", one.output.artifact, schema_of(one.output.schema), one.row_count)
            for number, one in enumerate(inputs, start=1)
            if one.output is not None
        )
        node = NodeSpec("node", "trusted" if options.get("trusted") else "scripted", "The node", {"work": work})
        task = NodeTask(RunFacts("run", "pipeline", "The pipeline", {}), node, sources, options.get("key", "run/1.1.parquet"))
        result = session.execute(task, Log(), stop or Stop())
        assert isinstance(result, NodeResult)
        return result

    def rows(self, result: NodeResult) -> list[list[Any]]:
        assert result.output is not None
        rows: list[list[Any]] = result.output.preview["rows"]
        return rows

    def files(self) -> list[str]:
        """Everything in the store, without the folders of living processes."""
        return sorted(str(path.relative_to(self.store.root)) for path in self.store.root.rglob("*") if path.is_file() and ".work" not in path.parts)


def make_plant(root: Path, **limits: Any) -> Plant:
    (root / "data").mkdir(parents=True)
    store = ArtifactStore(root / "artifacts")
    given = {"memory_bytes": 2048 * MIB, "threads": 2, "concurrent_runs": 2} | limits
    return Plant(DataEngine(store, DataFolders((root / "data",)), EngineLimits(**given), prepare), root)


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    made = make_plant(tmp_path)
    yield made
    made.engine.close()


@pytest.fixture
def session(plant: Plant) -> Iterator[RunSession]:
    with plant.engine.open_run("run") as opened:
        yield opened
