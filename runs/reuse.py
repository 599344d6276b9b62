"""Which finished work stands: outputs of an earlier claim of this run, or of the failed run that it resumes."""

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any
from uuid import UUID

from django.utils import timezone

from brokoli_site.common.errors import BrokoliError
from pipelines import parameters, references
from pipelines.branches import Branches
from pipelines.graph import Graph
from pipelines.nodes import registry
from pipelines.spec import NodeSpec, PipelineSpec, from_document
from runs import log, transitions
from runs.models import NodeOutput, NodeRun, Run
from runs.states import NODE_DONE, EntryKind


def _none(_kept: Collection[str]) -> Collection[str]:
    return ()


def standing(
    graph: Graph, finished: Collection[str], available: Callable[[str], bool], left_out: Callable[[Collection[str]], Collection[str]] = _none
) -> frozenset[str]:
    """Of the finished nodes, those that need not run again. Pure.

    A node whose output is needed by a node that will run, but is not `available` (its artifact is gone or damaged), runs
    again, and so does everything below a node that runs again: nothing is ever computed from half-old data.
    `left_out` gives the nodes that do not run while the conditions among those that are kept stand by what they decided.
    """
    kept = set(finished)
    while True:
        kept_before = len(kept)
        idle = frozenset(left_out(kept))
        for node_id in graph.order:
            if node_id in kept and (node_id in idle or not all(upstream in kept or upstream in idle for upstream in graph.upstream(node_id))):
                kept.discard(node_id)
        for node_id in reversed(graph.order):  # so that a chain of lost artifacts is followed up in one round
            needed = any(downstream not in kept and downstream not in idle for downstream in graph.downstream(node_id))
            if node_id in kept and needed and not available(node_id):
                kept.discard(node_id)
        if len(kept) == kept_before:
            return frozenset(kept)


def first_of(run: Run) -> str:
    """The id of the run that a chain of resumes began with."""
    first, before = run.id, run.resumed_from_id
    while before is not None:
        first, before = before, Run.objects.filter(id=before).values_list("resumed_from_id", flat=True).first()
    return str(first)


def outputs_of(run_id: UUID) -> dict[str, NodeOutput]:
    """The registered outputs of a run by node, without their previews, profiles and lineage."""
    return {output.node_id: output for output in NodeOutput.objects.filter(run_id=run_id).defer("preview", "profile", "lineage")}


def copy_output(output: NodeOutput, run_id: UUID, node_id: str) -> NodeOutput:
    """An unsaved output of `node_id` in `run_id` that names the same artifact."""
    return NodeOutput(
        run_id=run_id,
        node_id=node_id,
        artifact=output.artifact,
        row_count=output.row_count,
        byte_count=output.byte_count,
        schema=output.schema,
        preview=output.preview,
        profile=output.profile,
        branch=output.branch,
        lineage=output.lineage,
        created_at=timezone.now(),
    )


def decisions(outputs: Mapping[str, NodeOutput], among: Collection[str] | None = None) -> dict[str, bool]:
    """What condition nodes decided, of all outputs or those `among` them."""
    return {node_id: output.branch for node_id, output in outputs.items() if output.branch is not None and (among is None or node_id in among)}


def take_over(
    run: Run, spec: PipelineSpec, graph: Graph, branches: Branches, attempts: Mapping[str, NodeRun], is_whole: Callable[[NodeOutput], bool]
) -> dict[str, NodeOutput]:
    """Register in a resumed run what stands of the run that it resumes, and skip those nodes. Returns the outputs by node.

    An output stands when its node finished there, is the same in both versions, is not asked to run again
    (`resume_from_node`), and everything above it stands too. Call inside `transitions.fenced`.
    """
    assert run.resumed_from_id is not None
    earlier = Run.objects.select_related("version").get(id=run.resumed_from_id)
    outputs = {output.node_id: output for output in NodeOutput.objects.filter(run_id=earlier.id)}
    finished = {
        node_run.node_id
        for node_run in NodeRun.objects.filter(run_id=earlier.id).last_attempts()
        if node_run.status in NODE_DONE and node_run.node_id in outputs
    }
    again = graph.below(run.resume_from_node) if run.resume_from_node else frozenset()
    candidates = (finished & unchanged(spec, from_document(earlier.version.document), run.params)) - set(again)
    taken = {}
    entries = []

    def is_there(node_id: str) -> bool:
        whole = is_whole(outputs[node_id])
        if not whole:
            message = f"The output of run {earlier.id} is gone or damaged; the node runs again"
            entries.append(log.entry(run.id, EntryKind.LOG, message, node_id=node_id, attempt=attempts[node_id].attempt, level="warning"))
        return whole

    for node_id in standing(graph, candidates, is_there, lambda kept: branches.left_out(decisions(outputs, kept))):
        taken[node_id] = copy_output(outputs[node_id], run.id, node_id)
        entries.append(transitions.skip_node(attempts[node_id], f"its output of run {earlier.id} is reused", taken[node_id]))
    log.append(entries, run.epoch)
    return taken


def unchanged(spec: PipelineSpec, earlier: PipelineSpec, given: Mapping[str, Any]) -> frozenset[str]:
    """Nodes that do the same to the same inputs in both definitions, in a run with these params; their own upstream may still differ."""
    before = {node.id: node for node in earlier.nodes}
    same_params = parameters.resolved(spec.parameters, spec.params, given) == parameters.resolved(earlier.parameters, earlier.params, given)
    return frozenset(
        node.id
        for node in spec.nodes
        if node.id in before
        and (node.type, node.config) == (before[node.id].type, before[node.id].config)
        and _edges_into(spec, node.id) == _edges_into(earlier, node.id)
        and (same_params or not _may_see_params(node))
    )


def _edges_into(spec: PipelineSpec, node_id: str) -> list[tuple[str, bool | None]]:
    return [(edge.source, edge.condition) for edge in spec.edges if edge.target == node_id]


def _may_see_params(node: NodeSpec) -> bool:
    """Whether the config holds a reference, which may be one to a param, or the node is a script, which is given them all."""
    try:
        is_script = bool(registry.get(node.type).raw_keys)
    except BrokoliError:  # turned off since; its attempt is to say so
        return True
    return is_script or any(True for _ in references.find(json.dumps(node.config, default=str)))
