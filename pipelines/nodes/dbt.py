"""`dbt`: commands of the user's own dbt, in a process of its own."""

import dataclasses
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from brokoli_site.common.errors import NodeError, TransientNodeError
from pipelines.assets import naming, tables
from pipelines.assets.values import Assets, Databases, text
from pipelines.dbt import profiles, programs, results
from pipelines.dbt.messages import Messages
from pipelines.expressions import literal
from pipelines.nodes import confinement
from pipelines.nodes.base import Analysis, Column, NodeConfig, NodeContext, NodeType, PassThrough, Ports, Query, Result, Schema
from pipelines.nodes.dbt_output import table_of
from pipelines.problems import Problem
from pipelines.processes import running
from pipelines.references import is_unresolved
from pipelines.spec import NodeSpec

COMMANDS = ("build", "compile", "debug", "ls", "parse", "run", "seed", "snapshot", "test")
_FLAGS = ("--full-refresh", "--fail-fast", "--no-partial-parse", "--store-failures")
_NO_CONNECTION = "needs `conn_id`, the connection to read the model's table from"
_TARGET = "brokoli"  # of a profile that is made from a connection
_OUTPUT = (
    Column("unique_id", "VARCHAR"),
    Column("name", "VARCHAR"),
    Column("resource_type", "VARCHAR"),
    Column("status", "VARCHAR"),
    Column("execution_time", "DOUBLE"),
    Column("message", "VARCHAR"),
)


class DbtConfig(NodeConfig):
    """Which command of dbt, on which project and database."""

    command: str = Field("run", description=f"One of {', '.join(COMMANDS)}; {', '.join(_FLAGS)} may follow.")
    project_dir: str = Field(min_length=1, description="Folder of the project (dbt_project.yml) in a data folder.")
    profiles_dir: str = Field("", description="Folder of a profiles.yml in a data folder. Empty: the project's, or a profile made from `conn_id`.")
    target: str = Field("", pattern=r"^[A-Za-z0-9_]*$", description="Target of the profile. Empty: its default.")
    select: tuple[str, ...] = Field((), description="What to run, in dbt's words, such as `staging.events+ tag:daily`. Empty: everything.")
    vars: str = Field("", description="Variables for the project, as JSON or YAML. An object is taken too.")
    conn_id: str = Field("", description="Connection (postgres, mysql, sqlite) to make the profile from; an explicit `profiles_dir` wins.")
    target_schema: str = Field("", description="Schema that the made profile builds into. Empty: public, main, or the connection's database.")
    output_model: str = Field("", description="Model whose table flows on; needs `conn_id`.")
    env: dict[str, str] = Field(default_factory=dict, description="Variables for the project's `env_var()`; secrets belong here, not in `vars`.")
    max_memory_mb: int = Field(2048, ge=256, le=1_048_576, description="Memory of dbt and what it starts, in MB.")
    max_cpu_seconds: int | None = Field(None, ge=1, le=1_000_000, description="Processor time of each process. Empty: as long as its timeout allows.")
    max_disk_mb: int = Field(running.MOST_DISK_MB, ge=1, le=1_048_576, description="What dbt may write, in MB.")

    @field_validator("command")
    @classmethod
    def _known(cls, value: str) -> str:
        words = value.split()
        if not words or words[0] not in COMMANDS:
            raise ValueError(f"'{value[:100]}' is not a command that is run here. Known: {', '.join(COMMANDS)}")
        strange = [word for word in words[1:] if word not in _FLAGS]
        if strange:
            raise ValueError(f"'{strange[0][:100]}' cannot follow the command. Known: {', '.join(_FLAGS)}; use the other fields for the rest")
        return " ".join(words)

    @field_validator("select", mode="before")
    @classmethod
    def _words(cls, value: object) -> object:
        return value.split() if isinstance(value, str) else value

    @field_validator("select")
    @classmethod
    def _no_options(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for word in value:
            if word.startswith("-") or not word.isprintable():
                raise ValueError(f"'{word[:100]}' is no selector of dbt")
        return value

    @field_validator("vars", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        return json.dumps(value, sort_keys=True) if isinstance(value, Mapping) else value

    @field_validator("env")
    @classmethod
    def _names(cls, value: dict[str, str]) -> dict[str, str]:
        for name, content in value.items():
            if not name.isidentifier() or not name.isascii() or "\0" in content:
                raise ValueError(f"'{name[:100]}' cannot be a variable")
        return value


class Dbt(NodeType):
    name = "dbt"
    label = "dbt"
    category = "transform"
    help = "Runs a command of dbt. Its input passes through; without one, the output is what became of each model, or the table of one."
    ports = Ports(0, 1)
    Config = DbtConfig
    trusted = True  # the only SQL is ours, and dbt's name of a table, for the database
    effects = True

    def analyse(self, node: NodeSpec, config: DbtConfig, inputs: Sequence[Schema | None]) -> Analysis:
        problems = [Problem(sentence, field="max_memory_mb") for sentence in confinement.too_much(config)]
        for field in ("project_dir", "profiles_dir"):
            folder = getattr(config, field)
            if ".." in folder.split("/") and not is_unresolved(folder):
                problems.append(Problem("must not contain '..'; projects lie in the data folders", field=field))
        if config.output_model and not config.conn_id:
            problems.append(Problem(_NO_CONNECTION, field="output_model"))
        if config.output_model:
            return Analysis(tuple(problems))
        return Analysis(tuple(problems), inputs[0] if inputs else _OUTPUT)

    def assets(self, config: Mapping[str, Any], databases: Databases) -> Assets:
        project = naming.file(text(config, "project_dir"))
        model = ".".join(filter(None, (text(config, "target_schema"), text(config, "output_model"))))
        built = (tables.named(model, text(config, "conn_id"), "", databases),) if text(config, "output_model") and text(config, "conn_id") else ()
        return Assets(reads=(project,), writes=built)

    def run(self, context: NodeContext) -> Result:
        """Errors: `NodeError` naming the models that failed, with dbt's message; or the limit that was exceeded."""
        config: DbtConfig = context.config
        if config.output_model and not config.conn_id:
            raise NodeError(f"Field 'output_model' {_NO_CONNECTION}.")
        _refuse_secrets(context)
        program = programs.found()
        project = _folder(context, "project_dir")
        scratch = context.scratch()
        found = _execute(context, program, project, scratch)
        if config.output_model:
            return table_of(context, results.relation_of(scratch / "target", config.output_model))
        return PassThrough() if context.inputs else _table(found)


def _refuse_secrets(context: NodeContext) -> None:
    """Errors: `NodeError` for a secret among the arguments of the program."""
    for field in ("vars", "select", "target"):
        value = getattr(context.config, field)
        text = value if isinstance(value, str) else " ".join(value)
        if text != context.run.vault.redact(text):
            raise NodeError(
                f"Field '{field}' holds a secret, which everybody on the machine could read. Give it in `env`, and read it with env_var()."
            )


def _execute(context: NodeContext, program: Path, project: Path, scratch: Path) -> list[results.Outcome]:
    config: DbtConfig = context.config
    limits = confinement.limits_of(config)
    profile_folder, environment = _profile(context, project, scratch)
    arguments = [str(program), "--log-format", "json", *config.command.split(), *_options(config)]
    variables = {
        **config.env,
        **environment,
        "DBT_PROJECT_DIR": str(project),
        "DBT_PROFILES_DIR": str(profile_folder or project),
        "DBT_TARGET_PATH": str(scratch / "target"),
        "DBT_LOG_PATH": str(scratch / "logs"),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "DBT_VERSION_CHECK": "false",
        "DBT_USE_COLORS": "false",
    }
    messages = Messages(context.log)
    context.log.info(shlex.join(["dbt", *arguments[3:]]))
    ended = running.run(
        running.Job.command(scratch, limits, arguments, variables, project, _reach(context, program, project)), context.stop, context.log, messages
    )
    if complaint := ended.complaint("dbt command", limits):
        raise complaint
    found = results.outcomes(scratch / "target")
    failed = results.complaint(found)
    if ended.status or failed:
        reason = failed or " ".join(messages.errors[-1:]) or " ".join(ended.last_words) or f"it ended with exit code {ended.status}"
        raise TransientNodeError(f"dbt {config.command.split()[0]} failed. {reason}")
    return found


def _profile(context: NodeContext, project: Path, scratch: Path) -> tuple[Path | None, Mapping[str, str]]:
    """The folder of the profiles.yml (None: the project's own) and the variables that it refers to."""
    config: DbtConfig = context.config
    if config.profiles_dir:
        return _folder(context, "profiles_dir"), {}
    if not config.conn_id:
        return None, {}
    details = context.run.vault.connection(config.conn_id, accepted=profiles.ACCEPTED)
    profile = profiles.of_connection(context, details, profiles.name_in(project), config.target or _TARGET, config.target_schema)
    folder = scratch / "profiles"
    folder.mkdir(mode=0o700)
    (folder / "profiles.yml").write_text(profile.text)
    return folder, profile.environment


def _options(config: DbtConfig) -> list[str]:
    made = config.conn_id and not config.profiles_dir
    options = ["--target", config.target or _TARGET] if config.target or made else []
    if config.select and config.command.split()[0] != "debug":
        options += ["--select", *config.select]
    return [*options, "--vars", config.vars] if config.vars else options


def _reach(context: NodeContext, program: Path, project: Path) -> running.Reach | None:
    reach = confinement.reach_of(context)
    return None if reach is None else dataclasses.replace(reach, read=[*reach.read, program, *programs.folders_of(program)])


def _folder(context: NodeContext, field: str) -> Path:
    try:
        return context.files.resolve_folder(getattr(context.config, field))
    except NodeError as error:
        raise NodeError(f"Field '{field}': {error.message}") from error


def _table(found: Sequence[results.Outcome]) -> Query:
    """What became of each node, as rows."""
    rows = [
        {
            "unique_id": one.unique_id,
            "name": one.name,
            "resource_type": one.kind,
            "status": one.status,
            "execution_time": one.seconds,
            "message": one.message,
        }
        for one in found
    ]
    shape = json.dumps([{column.name: column.type for column in _OUTPUT}])
    unnested = f"SELECT one.* FROM (SELECT unnest(from_json($rows, {literal(shape)})) AS one)"  # noqa: S608 - our own names
    return Query(unnested, {"rows": json.dumps(rows)})
