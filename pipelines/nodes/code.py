"""`code`: a Python script over the inputs, in a process of its own.

No boundary against a hostile author: the script runs under the account of the worker. What is limited, closed and kept away
protects against mistakes; `docs/code-nodes.md` says what it does not protect against.
"""

import errno
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from django.conf import settings
from pydantic import Field, field_validator

from brokoli_site.common.errors import NodeError, TransientNodeError
from pipelines.nodes import confinement
from pipelines.nodes.base import Analysis, NodeConfig, NodeContext, NodeType, PassThrough, Ports, Query, Result, Schema
from pipelines.nodes.printed import PrintedLines
from pipelines.problems import Problem
from pipelines.processes import leavings, running
from pipelines.processes.leavings import Failure
from pipelines.references import is_unresolved
from pipelines.spec import NodeSpec

_VIEW = "script_output"
_LONGEST_MESSAGE = 2000


class CodeConfig(NodeConfig):
    """The script and what it may use."""

    script: str = Field(
        min_length=1,
        description="Python. It finds `rows` (a list of dicts), `columns`, `df` (with pandas), `table` (Arrow), `inputs`, `config`, `params`, and "
        'sets `output_data` to `{"columns": [...], "rows": [...]}`, a DataFrame or an Arrow table. References such as `${…}` are not replaced in it.',
    )
    language: Literal["python"] = Field("python", description="The language of the script.")
    max_memory_mb: int = Field(1024, ge=64, le=1_048_576, description="Memory of the script and what it starts, in MB.")
    max_cpu_seconds: int | None = Field(None, ge=1, le=1_000_000, description="Processor time of the script. Empty: as long as its timeout allows.")
    max_disk_mb: int = Field(
        running.MOST_DISK_MB, ge=1, le=1_048_576, description="What the script may write into its own folder, its output too, and any file, in MB."
    )
    python_path: str = Field("", description="Another interpreter to run it, one of those in BROKOLI_PYTHON_PATHS. Empty: the server's own.")
    connections: list[str] = Field(
        [], max_length=100, description='Names of connections that the script uses: `connections["name"].password`, `.host`, `.login`, `.extra`.'
    )
    package: Any = Field(None, description="What the Python SDK put into the script besides its function. For people; it does nothing.")
    task_bundle: Any = Field(None, description="A bundle of files that the Python SDK uploads. Not supported by this server.")
    expansion: Any = Field(None, description="Runs a task for each item of a collection in the Python SDK. Not supported by this server.")

    @field_validator("task_bundle")
    @classmethod
    def _no_bundle(cls, value: object) -> object:
        if value is not None:
            raise ValueError('names a bundle of files, which this server does not take; deploy the task with package="auto" or package="module"')
        return value

    @field_validator("expansion")
    @classmethod
    def _no_expansion(cls, value: object) -> object:
        if value is not None:
            raise ValueError("asks for a task run for each item of a collection, which this server does not do; give it all items as rows")
        return value


class Code(NodeType):
    name = "code"
    label = "Code"
    category = "transform"
    help = "Runs a Python script over its inputs."
    ports = Ports(0, None)
    Config = CodeConfig
    trusted = True  # the data engine reads what the script wrote; the only SQL is ours
    raw_keys = frozenset({"script"})
    connection_keys = frozenset({"conn_id", "connections"})
    effects = True  # nobody can tell what it does

    def normalise(self, config: Mapping[str, Any]) -> dict[str, Any]:
        found = dict(config)
        language = found.get("language")
        if isinstance(language, str) and language.strip().lower() in ("", "python", "python3", "py"):
            found["language"] = "python"
        return found

    def analyse(self, node: NodeSpec, config: CodeConfig, inputs: Sequence[Schema | None]) -> Analysis:
        problems = [*_syntax(config.script)]
        if config.python_path and not is_unresolved(config.python_path):
            problems += [Problem(sentence, field="python_path") for sentence in _refused(config.python_path)]
        problems += [Problem(sentence, field="max_memory_mb") for sentence in confinement.too_much(config)]
        return Analysis(tuple(problems))

    def run(self, context: NodeContext) -> Result:
        """Errors: `NodeError` with the line of the script that failed, or the limit that was exceeded."""
        config: CodeConfig = context.config
        for problem in _syntax(config.script):
            raise NodeError(f"Field 'script', line {problem.line}, column {problem.column}: {problem.message}")
        for sentence in _refused(config.python_path):
            raise NodeError(f"Field 'python_path': {sentence}")
        reach = confinement.reach_of(context)
        folder = context.scratch()
        limits = confinement.limits_of(config)
        python = {"python": config.python_path} if config.python_path else {}
        job = running.Job.script(folder, limits, _details(context), reach=reach, **python)
        ended = running.run(job, context.stop, context.log, PrintedLines(context.log))
        said = leavings.said(folder)
        complaint = ended.complaint("script", limits)
        if complaint is not None and (said is None or said.error is None):
            raise complaint
        if said is None:
            words = f" It last said: {ended.last_words[-1]}" if ended.last_words else ""
            raise NodeError(f"The script ended its process with status {ended.status} before its output was taken.{words}")
        if said.error is not None:
            raise _failure(context, said.error, limits, confined=reach is not None)
        if ended.left_behind:
            context.log.warning(f"The script left {ended.left_behind} processes running; they were ended.")
        for sentence in said.warnings:
            context.log.warning(sentence)
        if said.passes is not None and 0 <= said.passes < len(context.inputs):
            return PassThrough(said.passes)
        return _output(context, folder)


def _syntax(script: str) -> list[Problem]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(script, "script.py", "exec", dont_inherit=True)
    except SyntaxError as error:
        return [Problem(f"The script is no valid Python: {error.msg}.", field="script", line=error.lineno or 1, column=error.offset or 1)]
    except (ValueError, RecursionError, MemoryError):
        sentence = "The script is no valid Python: it is nested too deeply, or holds characters that no script may hold."
        return [Problem(sentence, field="script", line=1, column=1)]
    return []


def _refused(python_path: str) -> list[str]:
    """Why this interpreter may not be used."""
    allowed = [str(path) for path in settings.PYTHON_PATHS]
    if not python_path or python_path in allowed:
        return []
    known = f"it may be {', '.join(allowed)}" if allowed else "none is allowed on this server"
    return [f"this interpreter is not allowed: {known}. An operator can allow one in BROKOLI_PYTHON_PATHS."]


def _details(context: NodeContext) -> dict[str, Any]:
    config: CodeConfig = context.config
    inputs = [
        {
            "node_id": one.node_id,
            "name": one.name,
            "path": str(one.path),
            "columns": [column.name for column in one.schema],
            "intervals": [column.name for column in one.schema if column.type == "INTERVAL"],
        }
        for one in context.inputs
    ]
    return {
        "script": config.script,
        "config": config.model_dump(mode="json", exclude={"script"}),
        "params": dict(context.run.params),
        "connections": {name: asdict(context.run.vault.connection(name)) for name in config.connections},
        "inputs": inputs,
    }


def _failure(context: NodeContext, error: Failure, limits: running.ProcessLimits, *, confined: bool) -> NodeError:
    for line in error.trace:
        context.log.error(line)
    message = error.message[:_LONGEST_MESSAGE]
    needs_memory = error.kind == "MemoryError" or "ArrowMemoryError" in error.kind
    if needs_memory:
        message = f"the script needs more than its {limits.memory_mb} MB of memory (max_memory_mb)"
    if error.number == errno.EFBIG:
        message = f"the script wrote more than {limits.disk_mb} MB of files (max_disk_mb)"
    if confined and error.number == errno.EACCES:
        message = f"{message}. {confinement.HINT}"
    if error.kind == "SystemExit":
        message = f"the script ended itself with sys.exit({message})"
    what = f"{error.kind}: {message}" if error.kind and message else error.kind or message
    # An exception may come of a service that is away for a moment; who asks for retries of a script means these.
    failure = NodeError if not error.kind or needs_memory else TransientNodeError
    return failure(what if error.line is None else f"Line {error.line} of the script: {what}")


def _output(context: NodeContext, folder: Path) -> Query:
    """The file that the script's process wrote. Nobody writes to it any more; it is checked, for a script may have written it itself."""
    try:
        table = leavings.table(folder)
    except leavings.Unusable as error:
        raise NodeError("The output of the script cannot be read; something else was written in its place.") from error
    context.connection.register(_VIEW, table)
    return Query(f"SELECT * FROM {_VIEW}")  # noqa: S608 - a constant
