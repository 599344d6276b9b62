"""`wait`: looks whether something is there, and parks until it is. Its input passes through unchanged.

Each execution is one look. What is not there yet makes it return `Parked`: the executor gives its place to others and executes it again.
"""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from django.conf import settings
from pydantic import BeforeValidator, Field, WithJsonSchema

from brokoli_site.common import outbound
from brokoli_site.common.addresses import AddressRefused, UnknownHost
from brokoli_site.common.errors import NodeError, NodeTimeout
from brokoli_site.common.time import human_duration
from pipelines import durations, references
from pipelines.assets import naming
from pipelines.assets.values import Assets, Databases, text
from pipelines.nodes.base import Analysis, Column, NodeConfig, NodeContext, NodeType, Parked, PassThrough, Ports, Query, Result, Schema
from pipelines.nodes.files import MissingFile
from pipelines.problems import Problem
from pipelines.spec import LONGEST_TIMEOUT_SECONDS, NodeSpec

DEFAULT_POLL_SECONDS = 30.0
LONGEST_POLL_SECONDS = 3600.0
DEFAULT_WAIT_SECONDS = 6 * 3600.0
_LOOK_SECONDS = 10.0  # that a server gets to answer one look
_REDIRECTS = 5
_NOTHING = (Column("waited_for", "VARCHAR"),)

_Duration = Annotated[float, BeforeValidator(durations.seconds_of), WithJsonSchema({"type": ["string", "number"], "examples": ["30s", "1h30m", 90]})]


class WaitConfig(NodeConfig):
    """What to wait for. Durations are texts such as `30s` or `1h30m`, or numbers of seconds."""

    condition: Literal["file_exists", "http", "interval_elapsed", "pipeline"] = Field(
        description="`file_exists`: `path` is there. `http`: `url` answers `expect_status`. `interval_elapsed`: the end of the run's interval (or "
        "the beginning of its date) is `offset` ago. `pipeline`: a run of `pipeline_id` succeeded."
    )
    path: str = Field(default="", description="For `file_exists`: a file in the data folders, or a pattern such as `in/*.csv`.")
    non_empty: bool = Field(default=False, description="For `file_exists`: whether every file that matches must hold something.")
    url: str = Field(default="", description="For `http`: the address to ask.")
    method: Literal["GET", "HEAD"] = Field(default="GET", description="For `http`.")
    expect_status: int = Field(default=200, ge=100, le=599, description="For `http`: the status that is waited for.")
    offset: _Duration = Field(default=0.0, description="For `interval_elapsed`: how long after the end of the interval.")
    pipeline_id: str = Field(default="", description="For `pipeline`: the id or the slug of the other pipeline.")
    match: Literal["latest", "date", "interval"] = Field(
        default="latest",
        description="For `pipeline`: its newest run must have succeeded, or the newest for the same date, or interval.",
    )
    poll_interval: _Duration = Field(default=DEFAULT_POLL_SECONDS, ge=1, le=LONGEST_POLL_SECONDS, description="Between two looks: `1s` to `1h`.")
    timeout: _Duration = Field(
        default=DEFAULT_WAIT_SECONDS, le=LONGEST_TIMEOUT_SECONDS, description="After which the node fails: `6h` when left out, `168h` at most."
    )


@dataclass(frozen=True, slots=True)
class _Look:
    """What one look found. `awaited` goes on from "Waiting for …"; `found` says what is there, "" while it is not. `seconds`: to the next look."""

    awaited: str
    found: str = ""
    seconds: float | None = None


class Wait(NodeType):
    name = "wait"
    label = "Wait"
    category = "control"
    help = "Waits for a file, a web address, a moment or another pipeline, and keeps no worker meanwhile."
    ports = Ports(0, 1)
    Config = WaitConfig
    trusted = True  # for the files; no SQL of people is run
    connection_keys = frozenset()
    pipeline_keys = frozenset({"pipeline_id"})

    def analyse(self, node: NodeSpec, config: WaitConfig, inputs: Sequence[Schema | None]) -> Analysis:
        problems = [Problem(f"Field '{field}' {sentence}.", field=field) for field, sentence in _faults(config).items()]
        return Analysis(tuple(problems), inputs[0] if inputs else _NOTHING)

    def assets(self, config: Mapping[str, Any], databases: Databases) -> Assets:
        looks_at = {"file_exists": naming.file(text(config, "path")), "http": naming.api(text(config, "url"))}
        found = looks_at.get(text(config, "condition"))
        return Assets(reads=(found,) if found else ())

    def run(self, context: NodeContext) -> Result:
        """Errors: `NodeTimeout` naming what never came; `NodeError` for what no waiting will mend."""
        config: WaitConfig = context.config
        for field, sentence in _faults(config).items():
            raise NodeError(f"Field '{field}' {sentence}.")
        look = _LOOKS[config.condition](context, config)
        if look.found:
            context.log.info(look.found)
            return _passed(context)
        left = (config.timeout or DEFAULT_WAIT_SECONDS) - context.waited_seconds
        if left <= 0:
            waited = human_duration(round(context.waited_seconds * 1000))
            raise NodeTimeout(f"Waited {waited} for {look.awaited}, in vain.")
        return Parked(min(left, config.poll_interval if look.seconds is None else look.seconds), look.awaited)

    def dry_run(self, context: NodeContext) -> Result:
        """Waits for nothing, and does not look either: a look may be a request."""
        config: WaitConfig = context.config
        for field, sentence in _faults(config).items():
            raise NodeError(f"Field '{field}' {sentence}.")
        context.log.info("A dry run does not wait.")
        return _passed(context)


def _passed(context: NodeContext) -> Result:
    return PassThrough() if context.inputs else Query("SELECT CAST(NULL AS VARCHAR) AS waited_for WHERE false")


def _faults(config: WaitConfig) -> dict[str, str]:
    """What is wrong with fields that only some conditions need: a sentence by field."""
    needed = {"file_exists": "path", "http": "url", "pipeline": "pipeline_id"}.get(config.condition)
    if needed and not getattr(config, needed).strip():
        return {needed: f"must not be empty when the condition is {config.condition}"}
    if config.condition == "http" and not references.is_unresolved(config.url) and (fault := outbound.check_url(config.url)):
        return {"url": f"is no address to ask: {fault.rstrip('.')}"}
    return {}


# --- looks --------------------------------------------------------------------------------------------------------


def _file(context: NodeContext, config: WaitConfig) -> _Look:
    awaited = f"a file '{config.path}'"
    try:
        files = context.files.resolve_read(config.path)
        empty = sum(path.stat().st_size == 0 for path in files) if config.non_empty else 0
    except (MissingFile, FileNotFoundError):
        return _Look(awaited)
    if empty:
        return _Look(f"{awaited} that holds something ({empty} of {len(files)} are empty)")
    return _Look(awaited, f"There is '{config.path}'" + (f": {len(files)} files" if len(files) > 1 else ""))


def _http(context: NodeContext, config: WaitConfig) -> _Look:
    if references.param_in_host(str(context.node.config.get("url", ""))) and references.names_secret(context.node.config, context.run.vault):
        raise NodeError("Field 'url': a param cannot be a part of the host beside a secret.")
    shown = config.url.split("?", maxsplit=1)[0].split("#", maxsplit=1)[0]
    awaited = f"{shown} to answer {config.expect_status}"
    # A status of redirection is waited for itself.
    redirects = 0 if 300 <= config.expect_status < 400 else _REDIRECTS
    with outbound.Client(outbound.Limits(_LOOK_SECONDS, redirects, settings.ALLOWED_NETWORKS)) as client:
        context.stop.on_stop(client.break_off)
        try:
            with client.opened(config.method, config.url) as answer:
                status = answer.status
        except AddressRefused as error:
            raise NodeError(f"{shown} may not be asked: {_lowered(error.message)}.") from error
        except (outbound.NotReached, outbound.TooSlow, UnknownHost) as error:
            context.stop.check()
            return _Look(f"{awaited} ({_lowered(error.message)})")
        except outbound.OutboundError as error:
            context.stop.check()
            raise NodeError(f"{shown} cannot be asked: {_lowered(error.message)}.") from error
    if status != config.expect_status:
        return _Look(f"{awaited} (it answers {status})")
    return _Look(awaited, f"{shown} answers {status}")


def _lowered(message: str) -> str:
    return message[:1].lower() + message[1:].rstrip(".")


def _interval(context: NodeContext, config: WaitConfig) -> _Look:
    end = context.run.interval_end
    if end is None and context.run.logical_date is not None:
        end = dt.datetime.combine(context.run.logical_date, dt.time(), dt.UTC)
    if end is None:
        return _Look("", "The run has no interval and no date, so there is none to wait for")
    moment = end + dt.timedelta(seconds=config.offset)
    left = (moment - dt.datetime.now(dt.UTC)).total_seconds()
    awaited = _moment(moment)
    if left <= 0:
        return _Look(awaited, f"It is past {awaited}")
    return _Look(awaited, seconds=left)


def _moment(moment: dt.datetime | None) -> str:
    return f"{moment.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S} UTC" if moment else ""


def _pipeline(context: NodeContext, config: WaitConfig) -> _Look:
    other = context.run.pipelines.get(config.pipeline_id)
    if other is None:
        raise NodeError(f"Field 'pipeline_id': there is no pipeline '{config.pipeline_id}'. Was it deleted? Name one by its id or its slug.")
    if config.match == "interval" and context.run.interval_end is None:
        raise NodeError("Field 'match': this run has no interval; only runs that a schedule or a backfill of its intervals made have one.")
    which, status = {
        "latest": ("the latest run", other.latest),
        "date": (f"the run for {context.run.logical_date}", other.of_date),
        "interval": (f"the run for the interval that ends at {_moment(context.run.interval_end)}", other.of_interval),
    }[config.match]
    awaited = f"{which} of pipeline '{other.name}' to succeed"
    if status == "success":
        return _Look(awaited, f"{which[:1].upper()}{which[1:]} of pipeline '{other.name}' succeeded")
    return _Look(f"{awaited} ({f'it is {status}' if status else 'there is none yet'})")


_LOOKS: Mapping[str, Callable[[NodeContext, WaitConfig], _Look]] = {
    "file_exists": _file,
    "http": _http,
    "interval_elapsed": _interval,
    "pipeline": _pipeline,
}
