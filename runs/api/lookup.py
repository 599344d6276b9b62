"""From what a URL names to the row that it means, or a `NotFound` that says what there is not."""

from typing import Any, NoReturn

from django.db.models import F

from brokoli_site.common.errors import NotFound
from brokoli_site.common.ids import parse_id
from pipelines.models import Pipeline
from runs.models import Backfill, NodeOutput, NodeRun, Run
from runs.querysets import RunQuerySet
from runs.states import NodeStatus

_NO_OUTPUT = {
    NodeStatus.PENDING: "it waits for its inputs; ask again when it has run",
    NodeStatus.RUNNING: "it is executing; ask again when it has finished",
    NodeStatus.SUCCESS: "it produced none, or the output was purged",
    NodeStatus.FAILED: "it failed; its error is in the run and in the logs",
    NodeStatus.SKIPPED: "it was skipped",
    NodeStatus.CANCELLED: "it was cancelled before it finished",
}


def shown_runs() -> RunQuerySet:
    """Runs with what `RunSerializer` shows of their pipeline and version, and without the version's document."""
    return Run.objects.annotate(pipeline_name=F("pipeline__name"), pipeline_version=F("version__number"))


def find_run(run_id: str) -> Run:
    """A run as `RunSerializer` shows it. Errors: `NotFound`."""
    key = parse_id(run_id)
    run = shown_runs().filter(id=key).first() if key else None
    return run or _no_run()


def check_run(run_id: str) -> Any:
    """The id of a run that exists, without its row. Errors: `NotFound`."""
    key = parse_id(run_id)
    if key is None or not Run.objects.filter(id=key).exists():
        _no_run()
    return key


def check_backfill(backfill_id: str) -> Backfill:
    """A backfill with its pipeline. Errors: `NotFound`."""
    key = parse_id(backfill_id)
    found = Backfill.objects.select_related("pipeline").filter(id=key).first() if key else None
    if found is None:
        raise NotFound("There is no backfill with this id.")
    return found


def find_pipeline(key: str, *, deleted: bool = False) -> Pipeline:
    """The pipeline that an id or a slug names; a deleted one only by its id, and only when asked. Errors: `NotFound`."""
    pipelines = Pipeline.objects.all() if deleted else Pipeline.objects.live()
    pipeline_id = parse_id(key)
    found = pipelines.filter(id=pipeline_id).first() if pipeline_id else None
    found = found or Pipeline.objects.live().filter(pipeline_id=key).first()
    if found is None:
        raise NotFound("There is no pipeline with this id.")
    return found


def find_output(run_id: str, node_id: str, *fields: str) -> NodeOutput:
    """The output of a node, with `fields` loaded. Errors: `NotFound`, saying whether run, node or output is missing."""
    key = parse_id(run_id)
    output = NodeOutput.objects.filter(run_id=key, node_id=node_id).only(*fields).first() if key else None
    return output or _no_output(run_id, node_id)


def _no_run() -> NoReturn:
    raise NotFound("There is no run with this id. Runs that were purged are gone for good.")


def _no_output(run_id: str, node_id: str) -> NoReturn:
    attempts = NodeRun.objects.filter(run_id=check_run(run_id), node_id=node_id)
    status = attempts.order_by("-attempt").values_list("status", flat=True).first()
    if status is None:
        raise NotFound("The run has no node with this id.")
    raise NotFound(f"The node has no output: {_NO_OUTPUT[NodeStatus(status)]}.")
