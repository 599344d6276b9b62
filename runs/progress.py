"""Where a run stands, as the one thread that executes it knows it: attempts, outputs, and what is due when."""

import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from uuid import UUID

from django.utils import timezone

from pipelines.branches import Branches, LeftOut
from pipelines.graph import Graph
from pipelines.nodes.base import Column
from pipelines.spec import PipelineSpec, RetryPolicy
from runs import reuse, transitions
from runs.engine import InputArtifact, NodeResult
from runs.models import NodeOutput, NodeRun, Run
from runs.states import NODE_DONE, NodeStatus

MAX_RETRY_SECONDS = 60.0
LONGEST_LOOK_SECONDS = 3600.0  # between two looks of a node that waits


def retry_delay(policy: RetryPolicy, failures: int) -> float:
    """Seconds to wait before the next attempt: exponential doubles from the delay up to 60 s; jitter keeps retries apart."""
    delay = policy.delay_ms / 1000 * (2 ** (failures - 1) if policy.backoff == "exponential" else 1)
    return min(delay, MAX_RETRY_SECONDS) * random.uniform(0.9, 1.1)  # noqa: S311 - not for secrets


class Progress:
    """Of one run. The database is right whatever this says: after a transaction that failed, `reload`."""

    def __init__(self, run_id: UUID, spec: PipelineSpec, graph: Graph, branches: Branches) -> None:
        self._run_id, self._spec, self.graph, self._branches = run_id, spec, graph, branches
        self._names = {node.id: node.name for node in spec.nodes}
        self.attempts: dict[str, NodeRun] = {}  # the latest of each node
        self.failures: dict[str, int] = {}  # attempts that failed by the node's own fault
        self.outputs: dict[str, NodeOutput] = {}  # registered ones, without previews and profiles
        self._due: dict[str, float] = {}  # monotonic time at which a waiting retry may start

    def reload(self, *, fresh: bool = False) -> None:
        """Take the state from the database. `fresh`: nothing can have an output yet."""
        everything = list(NodeRun.objects.filter(run_id=self._run_id).order_by("position", "attempt"))
        self.attempts = {node_run.node_id: node_run for node_run in everything}
        self.failures = dict.fromkeys(self.attempts, 0)
        for node_run in everything:
            self.failures[node_run.node_id] += node_run.status == NodeStatus.FAILED and not node_run.lost
        self.outputs = {} if fresh else reuse.outputs_of(self._run_id)
        wall = timezone.now()
        self._due = {}
        for node_id, attempt in self.attempts.items():
            moment, most = (attempt.parked_until, LONGEST_LOOK_SECONDS) if attempt.parked_until else (attempt.ready_at, MAX_RETRY_SECONDS)
            if moment is not None and attempt.status == NodeStatus.PENDING:
                self.wait(node_id, min(most, (moment - wall).total_seconds()))

    def keep_finished(self, run: Run, is_whole: Callable[[NodeOutput], bool]) -> None:
        """Let finished work stand: a resumed run takes over outputs; a run claimed again repeats what lost its artifact.

        `is_whole`: whether that output's artifact is there. Call inside `transitions.fenced`.
        """
        # Not by the epoch: a first claim may have died before this, and a commit in doubt may have done it already.
        untouched = all(one.status == NodeStatus.PENDING and one.attempt == 1 and one.started_at is None for one in self.attempts.values())
        if run.resumed_from_id is not None and untouched:
            self.outputs |= reuse.take_over(run, self._spec, self.graph, self._branches, self.attempts, is_whole)
            return
        finished = {node_id for node_id, attempt in self.attempts.items() if attempt.status in NODE_DONE and node_id in self.outputs}
        kept = reuse.standing(self.graph, finished, lambda node_id: is_whole(self.outputs[node_id]), self.left_out)
        # A condition that decides again may take the other branch.
        reopened = self.left_out(finished).keys() - self.left_out(kept).keys()
        again = (finished - kept) | {node_id for node_id in reopened if self.attempts[node_id].status == NodeStatus.SKIPPED}
        repeats = [transitions.next_attempt(self.attempts[node_id]) for node_id in self.graph.order if node_id in again]
        NodeRun.objects.bulk_create(repeats)
        self.attempts |= {attempt.node_id: attempt for attempt in repeats}
        self.outputs = {node_id: output for node_id, output in self.outputs.items() if node_id not in again}

    # --- what may start, and when ---

    def wait(self, node_id: str, seconds: float) -> None:
        """Let the node's attempt start so many seconds from now, not before."""
        self._due[node_id] = time.monotonic() + seconds

    def due(self) -> list[float]:
        """The monotonic times at which the waiting nodes that have their inputs may start."""
        return [moment for node_id, moment in self._due.items() if self.attempts[node_id].status == NodeStatus.PENDING and self._has_inputs(node_id)]

    def ready(self) -> list[str]:
        """The nodes whose inputs are there and whose retry is due, in order."""
        done = {node_id for node_id, attempt in self.attempts.items() if attempt.status in NODE_DONE and node_id in self.outputs}
        started = {node_id for node_id, attempt in self.attempts.items() if attempt.status != NodeStatus.PENDING}
        now = time.monotonic()
        return [node_id for node_id in self.graph.ready(done | self.left_out().keys(), started) if self._due.get(node_id, now) <= now]

    def running(self) -> Iterator[NodeRun]:
        """The attempts that have started and not ended."""
        return (attempt for attempt in self.attempts.values() if attempt.status == NodeStatus.RUNNING)

    def is_looking(self) -> bool:
        """Whether a node that has its inputs waits for what it looks for."""
        parked = (node_id for node_id, attempt in self.attempts.items() if attempt.status == NodeStatus.PENDING and attempt.parked_until)
        return any(self._has_inputs(node_id) for node_id in parked)

    def _has_inputs(self, node_id: str) -> bool:
        """Not so where one was lost while the node waited, and is made anew: its own end is what there is to wait for."""
        return all(self.attempts[upstream].status in NODE_DONE for upstream in self.graph.upstream(node_id))

    # --- branches ---

    def left_out(self, among: Collection[str] | None = None) -> Mapping[str, LeftOut]:
        """The nodes that will not run, by what conditions (those `among` the given nodes) have decided."""
        return self._branches.left_out(reuse.decisions(self.outputs, among)) if self._branches else {}

    def to_skip(self) -> dict[str, LeftOut]:
        """The nodes that a branch that was not taken leaves out, and that nobody has skipped yet."""
        return {node_id: why for node_id, why in self.left_out().items() if self.attempts[node_id].status == NodeStatus.PENDING}

    # --- what nodes get and give ---

    def inputs(self, node_id: str) -> tuple[InputArtifact, ...]:
        """The data sets that the node reads, in the order of its edges."""
        found = []
        sources = self._branches.inputs(node_id, reuse.decisions(self.outputs)) if self._branches else self._spec.inputs_of(node_id)
        for upstream in sources:
            output = self.outputs[upstream]
            schema = tuple(Column(column["name"], column["type"]) for column in output.schema)
            found.append(InputArtifact(upstream, self._names[upstream], output.artifact, schema, output.row_count))
        return tuple(found)

    def output(self, node_id: str, result: NodeResult) -> NodeOutput:
        """The unsaved output that the node's result is."""
        if result.reuses is not None:
            copied = reuse.copy_output(NodeOutput.objects.get(run_id=self._run_id, node_id=result.reuses), self._run_id, node_id)
            # What a quality check found belongs to that node, not to those that reuse its output in turn.
            copied.profile = {key: value for key, value in copied.profile.items() if key != "checks"}
            if result.checks:
                copied.profile["checks"] = list(result.checks)
            copied.branch, copied.lineage = result.branch, result.lineage
            return copied
        facts = result.output
        assert facts is not None
        return NodeOutput(
            run_id=self._run_id,
            node_id=node_id,
            artifact=facts.artifact,
            row_count=facts.row_count,
            byte_count=facts.byte_count,
            schema=facts.schema,
            preview=facts.preview,
            profile=facts.profile,
            lineage=facts.lineage,
            created_at=timezone.now(),
        )
