"""Executes one leased run: walks its DAG by readiness, submits nodes, and writes what becomes of them. No HTTP, no queue.

One thread owns a run: it alone writes to the database, always inside `transitions.fenced`. Nodes run in a
`concurrent.futures.Executor` and touch no database; what they finish comes back through an inbox, many at a time, so that one
transaction carries the ends, the starts that they allow and the log lines between.
"""

import contextlib
import datetime as dt
import itertools
import queue
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import TypeVar
from uuid import UUID

import structlog
from django.db import InterfaceError, OperationalError, connection, transaction
from django.utils import timezone

from brokoli_site.common import tracing
from brokoli_site.common.errors import NodeCancelled, NodeError, NodeTimeout
from brokoli_site.common.time import human_duration
from pipelines import parameters, stored
from pipelines.branches import Branches
from pipelines.graph import Graph
from pipelines.models import PipelineVersion
from pipelines.nodes.base import Parked, RunFacts, Stop
from pipelines.spec import NodeSpec, PipelineSpec, from_document
from runs import log, other_pipelines, pools, reuse, transitions
from runs.control import Control, Ended, Outcome, Resources
from runs.engine import NodeResult, NodeTask, RunSession
from runs.models import LogEntry, NodeOutput, NodeRun, Run
from runs.progress import LONGEST_LOOK_SECONDS, Progress, retry_delay
from runs.querysets import LONGEST_PARK
from runs.slots import Slots
from runs.states import NODE_DONE, EntryKind, NodeStatus, RunStatus
from runs.transitions import Lease, LeaseLost

logger = structlog.get_logger(__name__)
T = TypeVar("T")

_FLUSH_SECONDS = 0.25  # how long a log line may wait for company
_ABANDON_SECONDS = 10.0  # a stopped query ends within milliseconds; this bounds what does not
_LEAST_PARK_SECONDS = 0.5  # for which a run leaves its worker; leaving and coming back costs some ten queries
_DATABASE_BACKOFF_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0)


@lru_cache(maxsize=256)
def _definition(pipeline_id: UUID, number: int) -> tuple[PipelineSpec, Graph, Branches]:
    """Versions are immutable, so each is read and parsed once a process."""
    spec = from_document(PipelineVersion.objects.get(pipeline_id=pipeline_id, number=number).document)
    graph = Graph(spec)
    return spec, graph, Branches.of(spec, graph)


def _seconds_left(timeout_seconds: float | None, started_at: dt.datetime | None) -> float:
    """Of a run's timeout, which counts from its first start, on whichever machine that was. A clock that steps can give it none or all, not more."""
    if timeout_seconds is None or started_at is None:
        return float("inf")
    return min(timeout_seconds, max(0.0, timeout_seconds - (timezone.now() - started_at).total_seconds()))


# What a look that finds nothing may leave in the log.
_OF_A_LOOK = frozenset({EntryKind.LOG, EntryKind.NODE_WAITING})


def _waited_seconds(attempt: NodeRun) -> float:
    """Since the attempt first started, by the clocks of whoever looked: one that steps makes it longer or shorter."""
    if attempt.parked_until is None or attempt.started_at is None:
        return 0.0
    return max(0.0, (timezone.now() - attempt.started_at).total_seconds())


@dataclass
class Execution:
    """One claim of one run, from its lease to its outcome."""

    lease: Lease
    resources: Resources
    control: Control
    _executing: dict[str, tuple[Stop, log.NodeLog]] = field(default_factory=dict)  # attempts that have a thread
    _lines: list[LogEntry] = field(default_factory=list)  # taken from the nodes, not yet committed
    _deadline: float = float("inf")  # monotonic time at which the run's own timeout is over
    _late: str = ""  # once it is: what people are told
    _announced: bool = False  # whether the log says that the run executes

    def run(self) -> Outcome:
        """Execute until nothing is left to do. Errors: `LeaseLost`, after every node was told to stop."""
        self._announced = self.lease.announced
        fresh = self._patiently(self._load)
        if not fresh:
            self._commit(partial(self._progress.keep_finished, is_whole=self._is_whole))
        with self.resources.engine.open_run(str(self.lease.run_id)) as session, self._listening():
            try:
                return self._walk(session)
            finally:
                self._abandon()

    def _listening(self) -> contextlib.AbstractContextManager[None]:
        """For slots that other runs of this process give back, where this one may need one."""
        if not self._slots:
            return contextlib.nullcontext()
        return self.resources.bell.heard_by(partial(self.control.tell, self.control.slot_free))

    # --- what is there already ---

    def _load(self) -> bool:
        """Read the run, its definition and its state. True when nothing of it can be there yet: a first claim that resumes no run."""
        run = Run.objects.select_related("pipeline", "version").defer("version__document").get(id=self.lease.run_id)
        self._spec, graph, branches = _definition(run.pipeline_id, run.version.number)
        self._progress = Progress(run.id, self._spec, graph, branches)
        self._nodes = {node.id: node for node in self._spec.nodes}
        self._facts = RunFacts(
            run_id=str(run.id),
            first_run_id=reuse.first_of(run),
            pipeline_id=str(run.pipeline_id),
            pipeline_name=run.pipeline.name,
            params=parameters.resolved(self._spec.parameters, self._spec.params, run.params),
            logical_date=run.logical_date or run.created_at.date(),
            started_at=run.started_at,
            interval_start=run.interval_start,
            interval_end=run.interval_end,
        )
        self._slots = Slots(run.id, {node.id: node.pool for node in self._spec.nodes if node.pool})
        self._deadline = time.monotonic() + _seconds_left(self._spec.timeout_seconds, run.started_at)
        fresh = run.epoch == 1 and run.resumed_from_id is None
        self._reload(fresh=fresh)
        return fresh

    def _reload(self, *, fresh: bool = False) -> None:
        """Take the state from the database, which is right whatever became of the last transaction."""
        self._progress.reload(fresh=fresh)
        if not fresh:
            self._slots.reload()

    def _is_whole(self, output: NodeOutput) -> bool:
        return self.resources.store.verify(output.artifact, output.byte_count)

    # --- the walk ---

    def _walk(self, session: RunSession) -> Outcome:
        ended: list[Ended] = []
        while True:
            if self.control.forced.is_set():
                self._stop_executing(NodeCancelled("its run was cancelled by force"))
            elif self.control.halted.is_set():
                self._stop_executing(NodeCancelled("its worker was told to stop"))
            self._watch_deadline()
            try:
                self._check_lease()
                if ended or self._may_go_on() or self._gather_lines() or self._progress.to_skip():
                    self._commit(partial(self._advance, ended))
            finally:  # also when the lease is lost: nobody is to wait for a node that has come back
                for item in ended:
                    self._executing.pop(item.node_id, None)
            if self._slots.take_news():
                self.resources.bell.ring()
            self._submit_started(session)
            due = self._next_due()
            if not self._executing and due is None:
                return self._outcome()
            if (parked := self._parked_seconds(due)) is not None:
                return Outcome(RunStatus.PENDING, "it waits", parked, self._announced)
            ended = self._listen(due)

    def _parked_seconds(self, due: float | None) -> float | None:
        """For how long there is nothing to do but wait for what a node looks for; None while there is more, or it is hardly worth leaving."""
        if self._executing or due is None or self._slots.waiting or not self._progress.is_looking():
            return None
        seconds = min(due, self._deadline) - time.monotonic()
        return min(seconds, LONGEST_PARK.total_seconds()) if seconds >= _LEAST_PARK_SECONDS else None

    def _watch_deadline(self) -> None:
        if time.monotonic() >= self._deadline:
            self._late = f"The run took longer than its timeout of {human_duration(round((self._spec.timeout_seconds or 0) * 1000))} and was stopped."
            self._stop_executing(NodeTimeout(self._late))

    def _listen(self, due: float | None) -> list[Ended]:
        """Wait for news and take all that is there. Nothing: look at the clock, the lines and the control again."""
        now = time.monotonic()
        moments = [now + _FLUSH_SECONDS] if self._executing else []
        # A retry that is due and was not started waits for a free place or for its inputs: what executes will tell.
        if due is not None and (due > now or not self._executing):
            moments.append(due)
        if not self._late:
            moments.append(self._deadline)
        ended = []
        try:
            item = self.control.inbox.get(timeout=max(0.0, min(moments) - now))
            while True:
                if item is not None:
                    ended.append(item)
                item = self.control.inbox.get_nowait()
        except queue.Empty:
            return ended

    def _may_start(self) -> bool:
        return not (self._late or self.control.cancelled.is_set() or self.control.draining.is_set() or self.control.must_give_up)

    def _next_due(self) -> float | None:
        """When the next waiting retry may start, or a slot may be free; None when none waits (or none will be started)."""
        if not self._may_start():
            return None
        waiting = self._progress.due()
        if self._slots.waiting:
            now = time.monotonic()  # what is due already waits for a slot, or behind one that does
            waiting = [self._slots.look_at, *(due for due in waiting if due > now)]
        return min(waiting, default=None)

    def _may_go_on(self) -> bool:
        """Whether nodes may start, as far as memory tells, or a slot is free for one that waits."""
        places, ready = self._startable()
        if not self._slots:
            return bool(ready)
        rung = self.control.slot_free.is_set()
        self.control.slot_free.clear()
        return self._slots.must_ask(ready, places) or self._patiently(lambda: self._slots.has_turn(now=rung))

    def _startable(self) -> tuple[int, list[str]]:
        """How many nodes may start now, and those whose inputs are there and whose retry is due, in order."""
        if not self._may_start():
            return 0, []
        places = self.resources.node_concurrency - sum(1 for _ in self._progress.running())
        return (places, self._progress.ready()) if places > 0 else (0, [])

    def _submit_started(self, session: RunSession) -> None:
        if self.control.draining.is_set() or self.control.must_give_up:
            return  # what was just started ends as lost with this claim, and another follows
        for attempt in self._progress.running():
            if (node_id := attempt.node_id) not in self._executing:
                node = self._nodes[node_id]
                stop, node_log = Stop(node.timeout_seconds, self.control.lease_is_held), log.NodeLog(self.lease.run_id, node_id, attempt.attempt)
                facts = self._facts_for(node)
                artifact = f"{self.lease.run_id}/{attempt.position}.{attempt.attempt}.parquet"
                task = NodeTask(facts, node, self._progress.inputs(node_id), artifact, _waited_seconds(attempt))
                self._executing[node_id] = (stop, node_log)
                self.resources.pool.submit(_execute, session, task, attempt.attempt, node_log, stop, self.control, tracing.current())

    def _facts_for(self, node: NodeSpec) -> RunFacts:
        """With what the node's config names of variables, connections and pipelines, as they are now. The node's own thread asks no database."""
        vault = self._patiently(lambda: stored.vault_for(node, self._facts))
        facts = self._facts if vault is None else replace(self._facts, vault=vault)
        others = self._patiently(lambda: other_pipelines.seen_by(node, facts))
        return replace(facts, pipelines=others) if others else facts

    def _stop_executing(self, reason: NodeCancelled | NodeTimeout) -> None:
        for stop, _ in self._executing.values():
            stop.stop(reason)

    def _abandon(self) -> None:
        """When the walk ends early: nodes must not outlive the session that they use."""
        self._stop_executing(NodeCancelled("its worker gave the run up"))
        deadline = time.monotonic() + _ABANDON_SECONDS
        while self._executing and (left := deadline - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                item = self.control.inbox.get(timeout=left)
                if item is not None:
                    self._executing.pop(item.node_id, None)

    # --- what is written, each inside `_commit` ---

    def _commit(self, change: Callable[[Run], None]) -> None:
        """Do `change` in a fenced transaction, again while the database is away. Errors: `LeaseLost`.

        `change` must work from the state in memory alone: after a failure that is read anew, whether or not the lost
        transaction was committed.
        """
        in_doubt = False

        def attempt() -> None:
            nonlocal in_doubt
            if in_doubt:
                self._recover()
            in_doubt = True
            with transitions.fenced(self.lease) as run:
                change(run)

        self._patiently(attempt)

    def _patiently(self, attempt: Callable[[], T]) -> T:
        """What `attempt` gives; it is made again while the database is away. Errors: `LeaseLost`."""
        for tries in itertools.count():
            try:
                return attempt()
            except (OperationalError, InterfaceError) as error:
                self.control.lost.wait(_DATABASE_BACKOFF_SECONDS[min(tries, len(_DATABASE_BACKOFF_SECONDS) - 1)])
                if self.control.must_give_up:
                    raise LeaseLost(f"run {self.lease.run_id}: the database was away for longer than the lease") from error
                logger.warning("database away", run_id=str(self.lease.run_id), error=type(error).__name__, tries=tries + 1)
                connection.close()
        raise AssertionError("unreachable")

    def _recover(self) -> None:
        """Take state and lines as the database has them, whatever became of the last transaction."""
        self._reload()
        # Of this run: a number that was rolled back may have gone to another's line.
        written = LogEntry.objects.filter(run_id=self.lease.run_id, seq__in=[line.seq for line in self._lines if line.seq])
        stored = set(written.values_list("seq", flat=True))
        self._lines = [line for line in self._lines if line.seq not in stored]
        for line in self._lines:
            line.seq = None  # unsaved again
        if not self._announced:
            started = LogEntry.objects.filter(run_id=self.lease.run_id, kind=EntryKind.RUN_STARTED, data__epoch=self.lease.epoch)
            self._announced = started.exists()

    def _gather_lines(self) -> bool:
        for _, node_log in self._executing.values():
            self._lines += node_log.drain()
        return bool(self._lines)

    def _advance(self, ended: list[Ended], run: Run) -> None:
        """One step: the lines that nodes wrote, what ended, what that skips, and what may start now."""
        if run.cancel_requested:
            self.control.cancelled.set()
        self._gather_lines()
        for item in ended:
            self._lines += self._executing[item.node_id][1].drain(last=True)
        entries = list(self._lines)
        for item in ended:
            attempt = self._progress.attempts[item.node_id]
            was_executing = self._is_executing(attempt, item)
            entries += self._end(item, run)
            if was_executing and attempt.status != NodeStatus.RUNNING:
                self._slots.give_back([item.node_id])
        entries += [*self._skip_left_out(), *self._start()]
        if not self._announced and any(entry.kind not in _OF_A_LOOK for entry in entries):
            entries.insert(0, transitions.started_entry(self.lease))
            transaction.on_commit(self._note_announced)
        log.append(entries, self.lease.epoch)
        transaction.on_commit(self._lines.clear)

    def _note_announced(self) -> None:
        self._announced = True

    def _skip_left_out(self) -> list[LogEntry]:
        attempts, nodes = self._progress.attempts, self._nodes
        return [
            transitions.skip_node(attempts[node_id], why.reason(nodes[why.condition].name), condition=why.condition, branch=why.decision)
            for node_id, why in self._progress.to_skip().items()
        ]

    def _start(self) -> list[LogEntry]:
        places, ready = self._startable()
        waited = set(self._slots.waiting)
        chosen = self._slots.choose(ready, places) if self._slots else ready[:places]
        entries = [self._note_wait(node_id, pool) for node_id, pool in self._slots.waiting.items() if node_id not in waited]
        for node_id in chosen:
            attempt = self._progress.attempts[node_id]
            if attempt.parked_until is None:
                entries.append(transitions.start_node(attempt))
            else:
                transitions.look_again(attempt)
        return entries

    def _note_wait(self, node_id: str, pool: str) -> LogEntry:
        attempt = self._progress.attempts[node_id]
        attempt.ready_at = attempt.ready_at or timezone.now()  # written when it starts
        message = f"Waiting for a slot of pool '{pool}' ({pools.taken_of(pool)})"
        return log.entry(self.lease.run_id, EntryKind.LOG, message, node_id=node_id, attempt=attempt.attempt)

    @staticmethod
    def _is_executing(attempt: NodeRun, item: Ended) -> bool:
        return attempt.attempt == item.attempt and attempt.status == NodeStatus.RUNNING

    def _end(self, item: Ended, run: Run) -> list[LogEntry]:
        attempt = self._progress.attempts[item.node_id]
        if not self._is_executing(attempt, item):
            return []  # written by a transaction whose commit was in doubt
        if isinstance(item.result, Parked):
            return self._park(attempt, item.result)
        if isinstance(item.result, NodeResult):
            output = self._progress.output(item.node_id, item.result)
            entry = transitions.complete_node(attempt, item.result.row_count, output)
            self._progress.outputs[item.node_id] = output
            return [entry]
        if isinstance(item.result, NodeCancelled):
            if run.cancel_requested:
                return [transitions.cancel_node(attempt, item.result.message)]
            if self.control.draining.is_set() or self.control.must_give_up:
                return []  # releasing the run ends the attempt as lost, and another follows
        return self._fail(attempt, item.result, run)

    def _park(self, attempt: NodeRun, parked: Parked) -> list[LogEntry]:
        seconds = min(max(parked.seconds, _LEAST_PARK_SECONDS), LONGEST_LOOK_SECONDS)
        entry = transitions.park_node(attempt, seconds, log.clean(parked.reason))
        self._progress.wait(attempt.node_id, seconds)
        return [entry] if entry else []

    def _fail(self, attempt: NodeRun, error: NodeError, run: Run) -> list[LogEntry]:
        policy = self._nodes[attempt.node_id].retry
        entries = [transitions.fail_node(attempt, error.message)]
        self._progress.failures[attempt.node_id] += 1
        failures = self._progress.failures[attempt.node_id]
        if error.retryable and failures <= policy.max_retries and not (self._late or self.control.cancelled.is_set()):
            delay = retry_delay(policy, failures)
            following, entry = transitions.retry_node(attempt, delay)
            self._progress.attempts[attempt.node_id] = following
            self._progress.wait(attempt.node_id, delay)
            return [*entries, entry]
        transitions.note_failed_node(run, attempt)
        for below in self._progress.graph.below(attempt.node_id):
            waiting = self._progress.attempts[below]
            if waiting.status == NodeStatus.PENDING:
                entries.append(transitions.skip_node(waiting, f"node '{attempt.name}', which it needs, failed"))
        return entries

    def _check_lease(self) -> None:
        if self.control.must_give_up:
            raise LeaseLost(f"run {self.lease.run_id} was given to another worker")

    def _outcome(self) -> Outcome:
        self._check_lease()  # or nothing was started for that reason, and what there is says nothing
        statuses = {attempt.status for attempt in self._progress.attempts.values()}
        if self.control.cancelled.is_set():
            return Outcome(RunStatus.CANCELLED)
        if statuses <= NODE_DONE:
            return Outcome(RunStatus.SUCCESS)
        if NodeStatus.RUNNING in statuses or (NodeStatus.PENDING in statuses and self.control.draining.is_set() and not self._late):
            return Outcome(RunStatus.PENDING, "its worker was told to stop")
        if self._late:
            return Outcome(RunStatus.FAILED, self._late)
        failed = [attempt for attempt in self._progress.attempts.values() if attempt.status == NodeStatus.FAILED]
        assert failed, f"nothing is left to start, yet nodes are {statuses}"
        others = f" ({len(failed) - 1} more failed)" if len(failed) > 1 else ""
        return Outcome(RunStatus.FAILED, f"Node '{failed[0].name}' failed: {failed[0].error}{others}")


def _execute(session: RunSession, task: NodeTask, attempt: int, node_log: log.NodeLog, stop: Stop, control: Control, parent: str) -> None:
    """In a thread of the pool: the boundary behind which a node may do what it likes. `parent`: the span of the run."""
    result: NodeResult | Parked | NodeError
    structlog.contextvars.clear_contextvars()  # of the node that the thread executed before
    structlog.contextvars.bind_contextvars(run_id=task.run.run_id, node_id=task.node.id, attempt=attempt)
    try:
        with tracing.span(f"node {task.node.type}", parent=parent, brokoli__node__id=task.node.id, brokoli__node__attempt=attempt):
            result = session.execute(task, node_log, stop)
    except NodeError as error:
        result = error
    except BaseException as error:
        # A bug in a node type (`sys.exit` too) must end the node, not its worker, and the run waits for an answer. The process
        # log has the traceback, unless the node was given secrets, which an error may hold; people get the kind of error.
        logger.error("node crashed", exc_info=not task.run.vault, kind=type(error).__name__)  # noqa: TRY400
        result = NodeError(f"The node type {task.node.type} has a bug ({type(error).__name__}); the worker's log says where.")
    control.inbox.put(Ended(task.node.id, attempt, result))
