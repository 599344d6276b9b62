"""`chaos_probe`: a node type that writes down when it executes, outside of the database, and fails as its config says.

Each execution appends lines to a file of its process: who, when by the clock of the machine, and what (`start`, `tick`, `end`).
A line is written after `stop.check()`: it says "at this moment I was allowed to work". Two executions of one node whose ticks
overlap were executed twice at the same time, whatever the database says.
"""

import json
import os
import secrets
import time
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from brokoli_site.common.errors import NodeError, TransientNodeError
from pipelines.nodes.base import Category, NodeConfig, NodeContext, NodeType, PassThrough, Ports, Query, Result, Stop
from pipelines.nodes.registry import ENTRY_POINT_GROUP

LEDGER_VARIABLE = "CHAOS_LEDGER"  # folder of the files
_TICK_SECONDS = 0.02


class ProbeConfig(NodeConfig):
    seconds: float = Field(0.1, ge=0, description="How long it works.")
    fail_first: int = Field(0, ge=0, description="How many executions of a run fail, transiently, before one succeeds.")
    needs: str = Field("", description="Fails, for good, until the ledger has a mark of this name.")


class ProbeNode(NodeType):
    name: ClassVar[str] = "chaos_probe"
    label: ClassVar[str] = "Probe"
    category: ClassVar[Category] = "transform"
    help: ClassVar[str] = "Writes down when it executes."
    ports: ClassVar[Ports] = Ports(0, None)
    Config: ClassVar[type[NodeConfig]] = ProbeConfig

    def run(self, context: NodeContext) -> Result:
        config: ProbeConfig = context.config
        folder = Path(os.environ[LEDGER_VARIABLE])
        execution = _Execution(folder, context)
        execution.note("start", context.stop)
        end = time.monotonic() + config.seconds
        while time.monotonic() < end:
            context.stop.wait(_TICK_SECONDS)
            execution.note("tick", context.stop)
        if config.needs and not mark(folder, config.needs).exists():
            raise NodeError(f"the mark {config.needs} is missing")
        if _failures(folder, context.run.run_id, context.node.id, config.fail_first):
            raise TransientNodeError("it fails this time")
        execution.note("end", context.stop)
        return PassThrough() if context.inputs else Query("SELECT i AS id FROM range(10) t(i)")


class _Execution:
    def __init__(self, folder: Path, context: NodeContext) -> None:
        self._path = folder / f"{os.getpid()}.jsonl"
        self._facts = {"id": secrets.token_hex(6), "pid": os.getpid(), "run": context.run.run_id, "node": context.node.id}

    def note(self, what: str, stop: Stop) -> None:
        # The moment is taken before the check: one that stands still in between notes nothing, or a moment that was its own.
        at = time.clock_gettime(time.CLOCK_MONOTONIC)
        stop.check()
        line = json.dumps(self._facts | {"what": what, "at": at}) + "\n"
        # One write of one line: a kill in the middle leaves the other lines whole, and threads do not mix theirs.
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)


def mark(folder: Path, name: str) -> Path:
    """The file that `needs` waits for."""
    return folder / f"{name}.mark"


def _failures(folder: Path, run_id: str, node_id: str, wanted: int) -> bool:
    """Whether this execution is one of the first `wanted`, and so is to fail."""
    for number in range(wanted):
        try:
            mark(folder, f"{run_id}-{node_id}-{number}").touch(exist_ok=False)
        except FileExistsError:
            continue
        return True
    return False


def install(folder: Path) -> None:
    """Make `folder`, once it is on PYTHONPATH, a place where this node type is installed as a third party's package is."""
    package = folder / "chaos_probe-1.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: chaos-probe\nVersion: 1\n")
    (package / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\n{POINT.name} = {POINT.value}\n")


POINT = EntryPoint(ProbeNode.name, f"{__name__}:{ProbeNode.__name__}", ENTRY_POINT_GROUP)
