"""Use cases that make or end runs: trigger, cancel, resume. REST, the admin, commands and pages all call these."""

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, Literal
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone

from brokoli_site.common import audit
from brokoli_site.common.errors import BadRequest, Conflict, NotFound
from pipelines import object_rules, parameters
from pipelines.graph import Graph
from pipelines.hooks import stored
from pipelines.models import Pipeline, PipelineVersion
from pipelines.object_rules import User
from pipelines.spec import InvalidPipeline, PipelineSpec
from pipelines.validation import check
from runs import dependencies, transitions
from runs.models import NodeRun, Run
from runs.states import ACTIVE, RunStatus, Trigger

MAX_PRIORITY = 100
_TRIES = 5
# What the clock and the ends of other runs make is in the runs' own logs; a backfill has one entry for all its runs.
_AUDITED = frozenset({Trigger.API, Trigger.ADMIN, Trigger.WEBHOOK})


def run(
    pipeline: Pipeline,
    *,
    params: Mapping[str, Any] | None = None,
    priority: int = 0,
    trigger: Trigger = Trigger.API,
    ignore_dependencies: bool = False,
    user: User | None = None,
    **made_for: Any,
) -> Run:
    """Accept a run of the pipeline's current version; it is committed when this returns.

    `made_for`: what the run is made for, as its columns say it (`logical_date`, `interval_start`, `interval_end`, `upstream_run`).
    `user`: who asks for it; None: a schedule, a webhook, a command. Errors: `MayNotName`; `DependencyUnmet` naming every gate that does
    not hold, unless they are ignored; `InvalidPipeline` with every problem when the pipeline cannot run; `InvalidParams` with every param
    that does not fit what it declares; `BadRequest` for a priority out of range.
    """
    check_priority(priority)
    version = current_version(pipeline)
    spec, _ = _runnable(version.pipeline_id, version.number)
    refuse_params(version, params or {}, user)
    if not ignore_dependencies and any(rule.mode == "gate" for rule in spec.dependencies):
        dependencies.check_gates(pipeline.id)
    return _accept(version, Run(pipeline=pipeline, version=version, params=dict(params or {}), priority=priority, trigger=trigger, **made_for))


def cancel(run_id: UUID, *, force: bool = False, audited: bool = True) -> Run:
    """Cancel at once what waits; ask a running run to end (`force`: stop its executing nodes too). `audited`: somebody asked for it.

    Returns the run as it is afterwards. Errors: `NotFound`; `Conflict` when it has ended.
    """
    # The run may be claimed, requeued or ended between the read and the write: the guarded write says, and we look again.
    while True:
        found = Run.objects.select_related("pipeline").filter(id=run_id).first()
        if found is None:
            raise NotFound("No such run.")
        if found.status not in ACTIVE:
            raise Conflict(f"The run has already ended ({found.status}); there is nothing to cancel.")
        waiting = found.status == RunStatus.PENDING
        also = partial(_tell_cancelled, found, force=force) if audited else transitions.nothing_else
        if transitions.cancel_pending_run(found, also) if waiting else transitions.request_cancel(found, force=force, also=also):
            found.refresh_from_db()
            return found


def _tell_cancelled(run: Run, *, force: bool) -> None:
    after = {"status": RunStatus.CANCELLED} if run.status == RunStatus.PENDING else {"status": run.status, "cancel_requested": True, "force": force}
    audit.record("run.cancelled", "run", run.id, run.pipeline.name, before={"status": run.status}, after=after)


def resume(
    run_id: UUID,
    *,
    from_node: str = "",
    version: Literal["same", "latest"] = "same",
    trigger: Trigger = Trigger.RESUME,
    user: User | None = None,
) -> Run:
    """A new run that goes on where a failed one ended: what succeeded is skipped and its outputs are reused.

    `from_node` re-runs that node and everything below it; `version="latest"` runs the current definition for what is re-run.
    Errors: `NotFound`; `Conflict` unless the run failed, or while another resume of it is active; `BadRequest` for an unknown node;
    `InvalidParams` when the latest version declares others, `MayNotName` when one of them chooses a connection there, which `user` may not.
    """
    failed = Run.objects.select_related("pipeline", "version").filter(id=run_id).first()
    if failed is None:
        raise NotFound("No such run.")
    if failed.status != RunStatus.FAILED:
        raise Conflict(f"Only failed runs can be resumed; this one is {failed.status}.")
    if failed.pipeline.deleted_at is not None:
        raise Conflict("The pipeline was deleted, so its runs cannot be resumed.")
    pinned = failed.version
    if version == "latest":
        pinned = PipelineVersion.objects.get(pipeline=failed.pipeline, number=failed.pipeline.version)
        refuse_params(pinned, failed.params, user)
    resumed = Run(
        pipeline=failed.pipeline,
        version=pinned,
        params=failed.params,
        priority=failed.priority,
        trigger=trigger,
        logical_date=failed.logical_date,
        interval_start=failed.interval_start,
        interval_end=failed.interval_end,
        backfill_id=failed.backfill_id,
        resumed_from=failed,
        resume_from_node=from_node,
    )
    return _go_on(failed, resumed)


def _go_on(failed: Run, resumed: Run) -> Run:
    for tries in range(1, _TRIES + 1):
        try:
            with transaction.atomic():
                # A purge waits for this lock, or was first: then there is nothing left to go on from.
                if not Run.objects.select_for_update(no_key=True).filter(id=failed.id).exists():
                    raise NotFound("No such run.")
                accepted = _accept(resumed.version, resumed)
                new = {"run": str(resumed.id), "from_node": resumed.resume_from_node, "version": resumed.version.number}
                audit.record("run.resumed", "run", failed.id, failed.pipeline.name, after=new)
                return accepted
        except IntegrityError as error:
            # The partial unique index `run_one_active_resume` decides between two resumes at the same moment.
            if Run.objects.active().filter(resumed_from=failed).exists():
                raise Conflict("The run is already being resumed; wait for that run to end.") from error
            if tries == _TRIES:  # else: the one that was in the way has ended since
                raise
    raise AssertionError("unreachable")


def check_priority(priority: int) -> None:
    """Errors: `BadRequest`."""
    if not -MAX_PRIORITY <= priority <= MAX_PRIORITY:
        raise BadRequest(f"The priority must be from {-MAX_PRIORITY} to {MAX_PRIORITY}.", "/priority")


def current_version(pipeline: Pipeline) -> PipelineVersion:
    """The version that a new run executes, without its document. Errors: `NotFound` when the pipeline was deleted."""
    if pipeline.deleted_at is not None:
        raise NotFound("The pipeline was deleted.")
    return PipelineVersion.objects.defer("document").get(pipeline=pipeline, number=pipeline.version)


def warm(pipeline: Pipeline) -> PipelineSpec | None:
    """Check the current definition, so that making a run of it inside a transaction is quick; None when it cannot run."""
    try:
        return _runnable(pipeline.id, pipeline.version)[0]
    except InvalidPipeline:
        return None


@lru_cache(maxsize=256)
def _runnable(pipeline_id: UUID, number: int) -> tuple[PipelineSpec, Graph]:
    """A version that was found fit to run. Versions are immutable, so each is checked once a process. Errors: `InvalidPipeline`."""
    spec = check(PipelineVersion.objects.get(pipeline_id=pipeline_id, number=number).document)
    return spec, Graph(spec)


def _accept(version: PipelineVersion, accepted: Run) -> Run:
    node_runs = prepare(version, [accepted])
    with transaction.atomic():
        transitions.create_runs([accepted], node_runs)
        if accepted.trigger in _AUDITED:
            made = {"trigger": accepted.trigger, "version": version.number, "params": accepted.params, "priority": accepted.priority}
            audit.record("run.created", "run", accepted.id, accepted.pipeline.name, after=made)
    return accepted


def prepare(version: PipelineVersion, accepted: Sequence[Run]) -> list[NodeRun]:
    """Complete unsaved runs of one version, for `transitions.create_runs`; the node runs that they begin with. Writes nothing.

    Errors: `InvalidPipeline`, `InvalidParams`, and `BadRequest` for an unknown `from_node`.
    """
    spec, graph = _runnable(version.pipeline_id, version.number)
    now = timezone.now()
    for run in accepted:
        if run.resume_from_node and run.resume_from_node not in graph.order:
            raise BadRequest(f"The pipeline has no node '{run.resume_from_node}'.", "/from_node")
        if run.resumed_from is None or run.resumed_from.version_id != version.id:  # else they were accepted by the same declarations
            parameters.check(spec.parameters, spec.params, run.params)
        run.created_at = now
        run.hooks = {event: [stored(hook) for hook in hooks] for event, hooks in spec.hooks.items()} or None
    return [node_run for run in accepted for node_run in _node_runs(run, spec, graph)]


def refuse_params(version: PipelineVersion, params: Mapping[str, Any], user: User | None) -> None:
    """Errors: `MayNotName` for params that name a connection, which the user may not; `InvalidPipeline`."""
    object_rules.refuse_params(_runnable(version.pipeline_id, version.number)[0], params, user)


def node_count(version: PipelineVersion) -> int:
    """How many nodes a run of it has. Errors: `InvalidPipeline`."""
    return len(_runnable(version.pipeline_id, version.number)[0].nodes)


def _node_runs(accepted: Run, spec: PipelineSpec, graph: Graph) -> list[NodeRun]:
    nodes = {node.id: node for node in spec.nodes}
    return [
        NodeRun(run_id=accepted.id, node_id=node_id, name=nodes[node_id].name, type=nodes[node_id].type, position=position)
        for position, node_id in enumerate(graph.order)
    ]
