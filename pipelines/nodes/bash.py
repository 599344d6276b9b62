"""`bash`: a shell command in a process of its own. Off unless the operator allows it.

Its text is executed as it stands: references are replaced in `env` alone, whose values the command reads as variables, so no
value of a run ever becomes a part of the command.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from brokoli_site.common.errors import NodeError, TransientNodeError
from pipelines.nodes import confinement
from pipelines.nodes.base import Analysis, Column, NodeConfig, NodeContext, NodeType, PassThrough, Ports, Query, Result, Schema
from pipelines.nodes.printed import PrintedLines
from pipelines.problems import Problem
from pipelines.processes import running
from pipelines.references import is_unresolved
from pipelines.spec import NodeSpec

_SHELL = "/bin/bash"
_KEPT_LINES = 100
_OUTPUT = (Column("exit_code", "INTEGER"), Column("stdout", "VARCHAR"))


class BashConfig(NodeConfig):
    """The command and what it may use."""

    command: str = Field(min_length=1, description="What bash executes, as it stands: references such as `${…}` are not replaced in it.")
    working_dir: str = Field("", description="Folder in a data folder where the command starts. Empty: an empty folder of its own.")
    env: dict[str, str] = Field(default_factory=dict, description="Variables for the command. References are replaced in their values.")
    max_memory_mb: int = Field(1024, ge=64, le=1_048_576, description="Memory of the command and what it starts, in MB.")
    max_cpu_seconds: int | None = Field(None, ge=1, le=1_000_000, description="Processor time of each process. Empty: as long as its timeout allows.")

    max_disk_mb: int = Field(
        running.MOST_DISK_MB, ge=1, le=1_048_576, description="What the command may write into its own folder, its output too, and any file, in MB."
    )

    @field_validator("command")
    @classmethod
    def _without_nul(cls, value: str) -> str:
        if "\0" in value:
            raise ValueError("must not contain a NUL character")
        return value

    @field_validator("env", mode="before")
    @classmethod
    def _texts(cls, value: object) -> object:
        """Numbers and truth values are written as JSON writes them."""
        if not isinstance(value, Mapping):
            return value
        return {name: _as_text(one) for name, one in value.items()}

    @field_validator("env")
    @classmethod
    def _names(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not name.isidentifier() or not name.isascii():
                raise ValueError(f"'{name[:100]}' cannot be the name of a variable")
            if "\0" in text:
                raise ValueError(f"'{name[:100]}' must not contain a NUL character")
        return value


def _as_text(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


class Bash(NodeType):
    name = "bash"
    label = "Bash"
    category = "control"
    help = "Runs a shell command. Its input passes through; without one, the output is its exit code and what it printed."
    ports = Ports(0, 1)
    Config = BashConfig
    trusted = True  # the only SQL is ours
    raw_keys = frozenset({"command"})
    effects = True  # nobody can tell what it does

    def analyse(self, node: NodeSpec, config: BashConfig, inputs: Sequence[Schema | None]) -> Analysis:
        problems = tuple(Problem(sentence, field="max_memory_mb") for sentence in confinement.too_much(config))
        if ".." in config.working_dir.split("/") and not is_unresolved(config.working_dir):
            problems += (Problem("must not contain '..'; commands start only in the data folders", field="working_dir"),)
        return Analysis(problems, inputs[0] if inputs else _OUTPUT)

    def run(self, context: NodeContext) -> Result:
        """Errors: `NodeError` with the last lines of stderr when the command fails, or the limit that was exceeded."""
        config: BashConfig = context.config
        start = _folder(context)
        limits = confinement.limits_of(config)
        arguments = [_SHELL, "--noprofile", "--norc", "-c", config.command]
        job = running.Job.command(context.scratch(), limits, arguments, config.env, start, confinement.reach_of(context))
        printed = _Printed(context)
        ended = running.run(job, context.stop, context.log, printed)
        if complaint := ended.complaint("command", limits):
            raise complaint
        if ended.status:
            words = "".join(f"\n{line}" for line in ended.last_words)
            raise TransientNodeError(f"The command ended with exit code {ended.status}{':' if words else '.'}{words}")
        if ended.left_behind:
            context.log.warning(f"The command left {ended.left_behind} processes running; they were ended.")
        if context.inputs:
            return PassThrough()
        row: dict[str, Any] = {"exit_code": ended.status, "stdout": "\n".join(printed.kept)}
        return Query("SELECT CAST($exit_code AS INTEGER) AS exit_code, CAST($stdout AS VARCHAR) AS stdout", row)


def _folder(context: NodeContext) -> Path | None:
    asked = context.config.working_dir
    try:
        return context.files.resolve_folder(asked) if asked else None
    except NodeError as error:
        raise NodeError(f"Field 'working_dir': {error.message}") from error


class _Printed:
    """Logs the lines, and keeps the last ones of stdout."""

    def __init__(self, context: NodeContext) -> None:
        self._lines = PrintedLines(context.log)
        self.kept: list[str] = []

    def __call__(self, stream: str, line: str) -> None:
        self._lines(stream, line)
        if stream == "stdout":
            self.kept = [*self.kept, line.replace("\0", "�")][-_KEPT_LINES:]
