"""Dry runs: what a pipeline would do with the first rows of its sources. Nothing is written anywhere, no row of ours either."""

import datetime as dt
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from django.conf import settings

from brokoli_site.common.errors import NotFound, OutOfTime, Unavailable
from brokoli_site.common.private_paths import private_paths
from brokoli_site.common.time import iso
from pipelines import definitions, documents, object_rules, parameters, stored, validation
from pipelines.nodes.base import RunFacts
from pipelines.object_rules import User
from pipelines.parameters import InvalidParams
from pipelines.spec import InvalidPipeline, PipelineSpec
from pipelines.vault import Vault
from runs.dry_run_engine import blank
from runs.dry_run_processes import Crashed, DryRunProcesses, processes

SECONDS = 30.0  # for all of it
MEMORY_BYTES = 512 * 1024**2  # of the data engine, for each
_THREADS = 2
_ANSWER_CHARACTERS = 32 * 1024**2  # of rows; nodes beyond them show none

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Draft:
    """A pipeline to try: saved or not."""

    document: Mapping[str, Any]
    params: Mapping[str, Any] = field(default_factory=dict)
    pipeline_id: str = ""  # of a saved one

    @classmethod
    def unsaved(cls, document: Mapping[str, Any]) -> "Draft":
        """What a client sent, with aliases replaced as saving would; its own `params` are what is tried."""
        return cls({**documents.normalised(document), "pipeline_id": document.get("pipeline_id")})


def dry_run(draft: Draft, *, user: User | None = None, seconds: float = SECONDS, pool: DryRunProcesses = processes) -> dict[str, dict[str, Any]]:
    """What becomes of each node, by its id, in the order of the document. See `dry_run_engine.DryRun.walk`.

    A node that fails, for its config or its data, hides only those below it. Errors: `InvalidPipeline` with every problem when the
    structure is not right; `MayNotName` when the draft uses what the user may not; `OutOfTime`; `Unavailable` when too many are dry-running.
    """
    deadline = time.monotonic() + seconds
    checked = _check(draft.document)
    object_rules.refuse_uses(checked, user, earlier=_stored(draft))
    object_rules.refuse_params(checked, draft.params, user)
    answers = {node.id: blank(node) for node in checked.nodes}
    unheard, executing, budget = set(answers), "", _ANSWER_CHARACTERS
    try:
        for event in pool.events(_job(draft, checked), deadline):
            if "started" in event:
                executing = event["started"]
                continue
            unheard.discard(event["node_id"])
            budget -= len(str(event["rows"]))
            answers[event["node_id"]] = _public(event) if budget >= 0 else _public(event) | {"rows": [], "truncated": True}
    except OutOfTime as error:
        at = f"; node '{checked.node(executing).name}' was executing" if executing else ""
        raise OutOfTime(f"The dry run took longer than {seconds:g} seconds and was ended{at}.") from error
    except Crashed as error:
        if not executing:
            raise Unavailable("The process for dry runs could not be started; the server's log says more.") from error
        for node_id in unheard:
            answers[node_id] |= {"error": "The dry run ended before this node."}
        if executing in unheard:
            answers[executing] |= {"status": "failed", "error": "The data engine ended in this node, most likely for lack of memory."}
        _log.warning("dry run crashed", pipeline_id=draft.pipeline_id, node_id=executing)
    return answers


def _check(document: Mapping[str, Any]) -> PipelineSpec:
    """Errors: `InvalidPipeline` with every problem, those of configs too, when the structure is not right."""
    try:
        found = validation.check_structure(document)
    except InvalidPipeline as error:
        problems = [*error.problems, *(problem for problem in validation.validate(document).errors if problem not in error.problems)]
        raise InvalidPipeline(problems) from error
    if not found.nodes:
        raise InvalidPipeline(validation.validate(document).errors)
    return found


def _stored(draft: Draft) -> Mapping[str, Any] | None:
    """The document that is stored of the pipeline that the draft is of; None for one that is new."""
    if draft.pipeline_id:
        return draft.document
    key = draft.document.get("pipeline_id")
    pipeline_id = definitions.identify(key) if key else None
    try:
        return definitions.find(pipeline_id).document
    except NotFound:
        return None


def _params(draft: Draft, checked: PipelineSpec) -> dict[str, Any]:
    """What nodes see. One that is missing fails the nodes that refer to it, and no other.

    Errors: `InvalidParams` with every param that was given and does not fit what is declared.
    """
    try:
        parameters.check(checked.parameters, checked.params, draft.params)
    except InvalidParams as error:
        lacking = {parameter.name for parameter in parameters.missing(checked.parameters, checked.params, draft.params)}
        wrong = [problem for problem in error.problems if problem.field not in lacking]
        if wrong:
            raise InvalidParams(wrong) from error
    return parameters.resolved(checked.parameters, checked.params, draft.params)


def _public(event: dict[str, Any]) -> dict[str, Any]:
    trace = event.pop("trace", "")
    if trace:
        _log.error("node type failed unexpectedly", node_id=event["node_id"], node_type=event["type"], trace=trace)
    return event


def _job(draft: Draft, checked: PipelineSpec) -> dict[str, Any]:
    """All that the process gets to know. It has no keys: what nodes name of secrets goes in the open, through a pipe that is theirs alone."""
    facts = RunFacts("dry-run", draft.pipeline_id, checked.name, _params(draft, checked), started_at=dt.datetime.now(dt.UTC))
    vaults = stored.vaults_for(checked.nodes, facts)
    everything = Vault(
        {key: found for vault in vaults.values() for key, found in vault.variables.items()},
        {name: found for vault in vaults.values() for name, found in vault.connections.items()},
    )
    return {
        "document": draft.document,
        "facts": {
            "run_id": facts.run_id,
            "pipeline_id": facts.pipeline_id,
            "pipeline_name": facts.pipeline_name,
            "params": facts.params,
            "started_at": iso(facts.started_at),
        },
        "vault": everything.exported(),
        "named": {node_id: {"variables": list(vault.variables), "connections": list(vault.connections)} for node_id, vault in vaults.items()},
        "allowed": {"networks": [str(network) for network in settings.ALLOWED_NETWORKS.networks], "hosts": sorted(settings.ALLOWED_NETWORKS.hosts)},
        "data_dirs": [str(path) for path in settings.DATA_DIRS],
        "forbidden": [str(path) for path in private_paths()],
        "disabled_node_types": list(settings.DISABLED_NODE_TYPES),
        "memory_bytes": min(MEMORY_BYTES, settings.MEMORY_LIMIT),
        "threads": min(_THREADS, settings.ENGINE_THREADS),
    }
