"""The only writer of a status. Each change is one guarded UPDATE and its log entry, in one transaction.

Three guards stand before every write: the old status; for a run that a worker executes, its lease `(owner, epoch)`; and the
number of rows that the UPDATE touched, which says who won.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from brokoli_site.common import tracing
from brokoli_site.common.errors import BrokoliError, Conflict, NotFound
from brokoli_site.common.time import human_duration, milliseconds
from pipelines.models import Pipeline
from runs import dependencies, log, notifications, pools, states, tallies
from runs.models import LogEntry, NodeOutput, NodeRun, Run
from runs.states import TERMINAL, EntryKind, NodeStatus, RunStatus


class LeaseLost(BrokoliError):
    """The run is not this worker's any more; nothing was written."""

    code = "lease_lost"


class StaleTransition(BrokoliError):
    """The object has left the status that this change starts from; nothing was written."""

    status, code = 409, "stale_transition"


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's right to execute a run."""

    run_id: UUID
    owner: str
    epoch: int
    announced: bool = field(default=True, compare=False)  # False: it was claimed for another look, which is not worth an entry


@contextmanager
def fenced(lease: Lease) -> Iterator[Run]:
    """One transaction in which the lease is held from the first statement to the commit. Errors: `LeaseLost`."""
    with transaction.atomic():
        # PostgreSQL locks the row, so that a reaper waits for the commit; SQLite holds its one write lock since BEGIN IMMEDIATE.
        held = Run.objects.select_for_update(no_key=True).leased(lease.owner, lease.epoch).filter(id=lease.run_id)
        # Few columns and no ORDER BY: this is the most frequent query of a worker.
        run = next(
            iter(held.only("status", "epoch", "started_at", "cancel_requested_at", "cancel_force", "resumed_from", "hooks", "pipeline").order_by()),
            None,
        )
        if run is None:
            raise LeaseLost(f"run {lease.run_id} is no longer leased to {lease.owner} (epoch {lease.epoch})")
        yield run


# --- runs ---------------------------------------------------------------------------------------------------------


def create_runs(runs: Sequence[Run], node_runs: Iterable[NodeRun]) -> None:
    """Insert accepted runs (pending) of one pipeline, with their node runs and first entries: all or none.

    Errors: `NotFound` when the pipeline was deleted.
    """
    if not runs:
        return
    with transaction.atomic():
        for run in runs:
            run.status = RunStatus.PENDING
        Run.objects.bulk_create(runs, batch_size=100)
        # The lock keeps a deletion waiting until this commits. The foreign key would not: PostgreSQL looks at it only at the commit.
        if not Pipeline.objects.live().select_for_update(no_key=True).filter(id=runs[0].pipeline_id).exists():
            raise NotFound("The pipeline was deleted.")
        _insert_node_runs(list(node_runs))
        data = dict(tracing.traced(status=RunStatus.PENDING))
        log.append([log.entry(run.id, EntryKind.RUN_CREATED, f"Run created (trigger: {run.trigger})", data=data) for run in runs])
        log.notify()


def _insert_node_runs(node_runs: Sequence[NodeRun]) -> None:
    """As `bulk_create` does, which takes ten seconds to write the statements for a thousand runs of fifty nodes, while all others wait."""
    fields = NodeRun._meta.concrete_fields
    table, columns = NodeRun._meta.db_table, [str(field.column) for field in fields]
    quote = connection.ops.quote_name
    statement = f"INSERT INTO {quote(table)} ({', '.join(map(quote, columns))}) VALUES ({', '.join(['%s'] * len(columns))})"  # noqa: S608 - names of ours
    with connection.cursor() as cursor:
        cursor.executemany(statement, [[field.get_db_prep_save(getattr(row, field.attname), connection) for field in fields] for row in node_runs])


def start_run(run_id: UUID, owner: str) -> Lease | None:
    """pending -> running: take the lease and raise the epoch. None when another worker, or a cancel, was first."""
    with transaction.atomic():
        run = Run.objects.filter(id=run_id, status=RunStatus.PENDING).only("id", "epoch", "started_at", "hooks", "not_before").first()
        if run is None:
            return None
        now = timezone.now()
        won = _change_run(
            run.id,
            RunStatus.PENDING,
            RunStatus.RUNNING,
            {"epoch": run.epoch},
            owner=owner,
            epoch=run.epoch + 1,
            started_at=run.started_at or now,
            not_before=None,
        )
        if not won:
            return None
        if run.not_before is not None:
            if run.not_before > now:  # the clock was set back since, and so much later than meant would its nodes look
                NodeRun.objects.filter(run=run, status=NodeStatus.PENDING, parked_until__gt=now).update(parked_until=now)
            return Lease(run.id, owner, run.epoch + 1, announced=False)
        if run.epoch == 0:
            notifications.note(run, "on_start")
        lease = Lease(run.id, owner, run.epoch + 1)
        log.append([started_entry(lease)], lease.epoch)
        return lease


def started_entry(lease: Lease) -> LogEntry:
    """That the run executes. Of a claim that was not announced, written with the first that there is to tell."""
    again = "" if lease.epoch == 1 else f" again (claim {lease.epoch})"
    return log.entry(lease.run_id, EntryKind.RUN_STARTED, f"Run started{again}", data={"status": RunStatus.RUNNING, "worker": lease.owner})


def park_run(lease: Lease, seconds: float, *, announced: bool) -> None:
    """running -> pending, not to be claimed before so many seconds are over: all that is left to do is to wait. Errors: `LeaseLost`.

    A run whose cancel was requested ends here instead. `announced`: its log says that it runs, so it is also to say that it waits.
    """
    with fenced(lease) as run:
        guard = {"owner": lease.owner, "epoch": lease.epoch}
        pools.give_back(run.id)
        if run.cancel_requested:
            cancel_open_nodes(run.id, "the run was cancelled", lease.epoch)
            _end_run(run, RunStatus.RUNNING, RunStatus.CANCELLED, "", guard)
            return
        until = timezone.now() + dt.timedelta(seconds=seconds)
        _change_run(run.id, RunStatus.RUNNING, RunStatus.PENDING, guard, owner="", not_before=until)
        if announced:
            message = "Run waits, and leaves its worker to others meanwhile"
            log.append([log.entry(run.id, EntryKind.RUN_WAITING, message, data={"status": RunStatus.PENDING})], lease.epoch)
        log.notify()


def finish_run(lease: Lease, status: RunStatus, error: str = "") -> None:
    """running -> success, failed or cancelled, and the lease ends. Errors: `LeaseLost`.

    A cancel that was requested before this commit wins over success.
    """
    with fenced(lease) as run:
        if status == RunStatus.SUCCESS and run.cancel_requested:
            status = RunStatus.CANCELLED
        if status != RunStatus.SUCCESS:
            cancel_open_nodes(run.id, "the run was cancelled" if status == RunStatus.CANCELLED else "the run failed", lease.epoch)
            pools.give_back(run.id)  # after a success there is none: each attempt's went with its end
        _end_run(run, RunStatus.RUNNING, status, "" if status == RunStatus.CANCELLED else error, {"owner": lease.owner, "epoch": lease.epoch})


def nothing_else() -> None:
    """What most callers have to say in the transaction of a change."""


def cancel_pending_run(run: Run, also: Callable[[], None] = nothing_else) -> bool:
    """pending -> cancelled. False when the run has left `pending` meanwhile. `also` is called in the same transaction, if it has not."""
    with transaction.atomic():
        if not Run.objects.select_for_update(no_key=True).filter(id=run.id, status=RunStatus.PENDING).exists():
            return False
        started = "" if run.started_at else " before it started"
        cancel_open_nodes(run.id, f"the run was cancelled{started}")  # first: the run's end is the last that is told of it
        ended = _end_run(run, RunStatus.PENDING, RunStatus.CANCELLED, "")
        if ended:
            also()
        return ended


def request_cancel(run: Run, *, force: bool, also: Callable[[], None] = nothing_else) -> bool:
    """Note on a running run that it is to be cancelled; asking again may add force. False when it is not running any more.

    `also` is called in the same transaction, if anything was noted.
    """
    with transaction.atomic():
        current = Run.objects.select_for_update(no_key=True).filter(id=run.id, status=RunStatus.RUNNING).first()
        if current is None:
            return False
        first, more = not current.cancel_requested, force and not current.cancel_force
        if first or more:
            Run.objects.filter(id=run.id, status=RunStatus.RUNNING).update(
                cancel_requested_at=current.cancel_requested_at or timezone.now(), cancel_force=current.cancel_force or force
            )
            message = "Cancel requested" + (" by force: executing nodes are stopped" if force else ": executing nodes finish, no new node starts")
            log.append([log.entry(run.id, EntryKind.RUN_CANCEL_REQUESTED, message, level="warning", data={"force": force})])
            log.notify()
            also()
        return True


def release_run(run: Run, reason: str, *, died: bool, max_deaths: int) -> RunStatus | None:
    """running -> pending, so that another worker takes it; a run that outlived `max_deaths` workers fails instead.

    Guarded by the lease that `run` was read with. Attempts that were executing end as lost and are followed by new ones.
    A run whose cancel was requested ends here: no worker is needed to do nothing. Returns the new status, None when the lease had moved on.
    """
    guard = {"owner": run.owner, "epoch": run.epoch}
    deaths = run.deaths + int(died)
    with transaction.atomic():
        current = Run.objects.select_for_update(no_key=True).leased(run.owner, run.epoch).filter(id=run.id).first()
        if current is None:
            return None
        _lose_executing_attempts(run.id, reason, run.epoch)
        pools.give_back(run.id)
        if current.cancel_requested:
            cancel_open_nodes(run.id, "the run was cancelled", run.epoch)
            return RunStatus.CANCELLED if _end_run(run, RunStatus.RUNNING, RunStatus.CANCELLED, "", guard) else None
        if died and deaths >= max_deaths:
            error = f"The run lost {deaths} workers, the last time because {reason}. It is not tried again: a node may exhaust the memory or crash."
            cancel_open_nodes(run.id, "the run failed", run.epoch)
            return RunStatus.FAILED if _end_run(run, RunStatus.RUNNING, RunStatus.FAILED, error, guard, deaths=deaths) else None
        if not _change_run(run.id, RunStatus.RUNNING, RunStatus.PENDING, guard, owner="", deaths=deaths):
            return None
        requeued = f"Run back in the queue: {reason}"
        log.append([log.entry(run.id, EntryKind.RUN_REQUEUED, requeued, level="warning", data={"status": RunStatus.PENDING})], run.epoch)
        log.notify()
        return RunStatus.PENDING


def _end_run(run: Run, before: RunStatus, after: RunStatus, error: str, guard: dict[str, Any] | None = None, **changes: Any) -> bool:
    now = timezone.now()
    error = log.clean(error)
    if not _change_run(run.id, before, after, guard or {}, owner="", error=error, finished_at=now, **changes):
        return False
    duration = milliseconds(run.started_at, now)
    kinds = {RunStatus.SUCCESS: EntryKind.RUN_COMPLETED, RunStatus.FAILED: EntryKind.RUN_FAILED, RunStatus.CANCELLED: EntryKind.RUN_CANCELLED}
    message = {
        RunStatus.SUCCESS: f"Run completed in {human_duration(duration or 0)}",
        RunStatus.FAILED: f"Run failed: {error}",
        RunStatus.CANCELLED: "Run cancelled",
    }[after]
    level = {RunStatus.SUCCESS: "info", RunStatus.FAILED: "error", RunStatus.CANCELLED: "warning"}[after]
    data = {"status": after, "duration_ms": duration, "error": error}
    log.append([log.entry(run.id, kinds[after], message, level=level, data=data)], guard["epoch"] if guard else None)
    event = {RunStatus.SUCCESS: "on_success", RunStatus.FAILED: "on_failure"}.get(after)
    if event:
        notifications.note(run, event)
    dependencies.note_end(run, after)
    tallies.run_ended(after, duration)
    log.notify()
    return True


def _change_run(run_id: UUID, before: RunStatus, after: RunStatus, guard: dict[str, Any], **changes: Any) -> bool:
    states.check_run(before, after)
    return Run.objects.filter(id=run_id, status=before, **guard).update(status=after, **changes) == 1


def current_conflict(run_id: UUID, wish: str) -> Conflict:
    """What to answer when a wish meets a run in the wrong state."""
    status = Run.objects.filter(id=run_id).values_list("status", flat=True).first()
    state = "has already ended" if status in TERMINAL else "is"
    return Conflict(f"The run {state} ({status}), so it cannot be {wish}.")


# --- node runs: call inside `fenced` --------------------------------------------------------------------------------


def start_node(node_run: NodeRun) -> LogEntry:
    """pending -> running. Returns the entry for the caller to append with others."""
    now = timezone.now()
    _change_node(node_run, NodeStatus.RUNNING, started_at=now, ready_at=node_run.ready_at or now)
    message = f"Starting node: {node_run.name} ({node_run.type})"
    return _node_entry(node_run, EntryKind.NODE_STARTED, message, {"status": NodeStatus.RUNNING})


def look_again(node_run: NodeRun) -> None:
    """pending -> running, of an attempt that parked: it goes on, and people were told when it started."""
    _change_node(node_run, NodeStatus.RUNNING)


def park_node(node_run: NodeRun, seconds: float, reason: str) -> LogEntry | None:
    """running -> pending, to look again in so many seconds. The attempt keeps its number and its start. An entry when the reason is new."""
    news = reason != node_run.waiting_for
    until = timezone.now() + dt.timedelta(seconds=seconds)
    _change_node(node_run, NodeStatus.PENDING, parked_until=until, waiting_for=reason)
    return _node_entry(node_run, EntryKind.NODE_WAITING, f"Waiting for {reason}", {"status": NodeStatus.PENDING}) if news else None


def complete_node(node_run: NodeRun, row_count: int, output: NodeOutput | None) -> LogEntry:
    """running -> success, with its output registered in the same transaction."""
    now = timezone.now()
    duration = milliseconds(node_run.started_at, now) or 0
    _change_node(node_run, NodeStatus.SUCCESS, finished_at=now, row_count=row_count)
    if output is not None:
        register_output(output)
    tallies.node_ended(node_run.type, NodeStatus.SUCCESS, duration)
    rate = round(row_count / (max(duration, 1) / 1000))
    message = f"Node completed: {row_count} rows in {human_duration(duration)} ({rate} rows/sec)"
    return _node_entry(node_run, EntryKind.NODE_COMPLETED, message, {"status": NodeStatus.SUCCESS, "row_count": row_count, "duration_ms": duration})


def fail_node(node_run: NodeRun, error: str, *, lost: bool = False) -> LogEntry:
    """running -> failed: this attempt is over. `lost`: it ended with its worker, so it does not count as a try."""
    now = timezone.now()
    error = log.clean(error)
    _change_node(node_run, NodeStatus.FAILED, finished_at=now, error=error, lost=lost)
    duration = milliseconds(node_run.started_at, now)
    tallies.node_ended(node_run.type, NodeStatus.FAILED, duration)
    data = {"status": NodeStatus.FAILED, "error": error, "duration_ms": duration}
    return _node_entry(node_run, EntryKind.NODE_FAILED, f"Node failed: {error}", data, level="error")


def note_failed_node(run: Run, node_run: NodeRun) -> None:
    """Tell whom it concerns that a node failed for good: no attempt follows."""
    node = {"id": node_run.node_id, "name": node_run.name, "type": node_run.type, "attempt": node_run.attempt, "error": node_run.error}
    notifications.note(run, "on_node_failure", node=node)


def cancel_node(node_run: NodeRun, reason: str) -> LogEntry:
    """pending or running -> cancelled."""
    now = timezone.now()
    _change_node(node_run, NodeStatus.CANCELLED, finished_at=now, error=reason)
    tallies.node_ended(node_run.type, NodeStatus.CANCELLED, milliseconds(node_run.started_at, now))
    return _cancelled_entry(node_run, reason)


def _cancelled_entry(node_run: NodeRun, reason: str) -> LogEntry:
    return _node_entry(node_run, EntryKind.NODE_CANCELLED, f"Node cancelled: {reason}", {"status": NodeStatus.CANCELLED}, level="warning")


def skip_node(node_run: NodeRun, reason: str, output: NodeOutput | None = None, **because: Any) -> LogEntry:
    """pending -> skipped: an earlier run's output stands for it, or it is not to run. `because`: the reason as data for the entry."""
    _change_node(
        node_run, NodeStatus.SKIPPED, finished_at=timezone.now(), row_count=output.row_count if output else None, error="" if output else reason
    )
    if output is not None:
        register_output(output)
    return _node_entry(node_run, EntryKind.NODE_SKIPPED, f"Node skipped: {reason}", {"status": NodeStatus.SKIPPED, **because})


def retry_node(failed: NodeRun, delay_seconds: float) -> tuple[NodeRun, LogEntry]:
    """A new attempt after a failed one, ready when the delay is over."""
    attempt = next_attempt(failed)
    attempt.ready_at = timezone.now() + dt.timedelta(seconds=delay_seconds)
    attempt.save(force_insert=True)
    message = f"Retrying in {human_duration(round(delay_seconds * 1000))} (attempt {attempt.attempt})"
    return attempt, _node_entry(attempt, EntryKind.NODE_RETRYING, message, {"status": NodeStatus.PENDING}, level="warning")


def next_attempt(earlier: NodeRun) -> NodeRun:
    """An unsaved pending attempt that follows `earlier`."""
    return NodeRun(
        run_id=earlier.run_id,
        node_id=earlier.node_id,
        name=earlier.name,
        type=earlier.type,
        position=earlier.position,
        attempt=earlier.attempt + 1,
        status=NodeStatus.PENDING,
    )


def register_output(output: NodeOutput) -> None:
    """Make a durable artifact the node's output; a later attempt replaces an earlier one's."""
    fields = ["artifact", "row_count", "byte_count", "schema", "preview", "profile", "branch", "lineage", "created_at"]
    NodeOutput.objects.bulk_create([output], update_conflicts=True, unique_fields=["run", "node_id"], update_fields=fields)


def cancel_open_nodes(run_id: UUID, reason: str, epoch: int | None = None) -> None:
    """Every node run that has not ended, of a run that ends -> cancelled: nothing stays open in a run that is over.

    `epoch`: the claim that ends with it, if there was one.
    """
    still_open = NodeRun.objects.filter(run_id=run_id, status__in=(NodeStatus.PENDING, NodeStatus.RUNNING))
    now = timezone.now()
    entries = []
    for node_run in still_open:
        tallies.node_ended(node_run.type, NodeStatus.CANCELLED, milliseconds(node_run.started_at, now))
        entries.append(_cancelled_entry(node_run, reason))
    still_open.update(status=NodeStatus.CANCELLED, finished_at=now, error=reason)
    log.append(entries, epoch)


def _lose_executing_attempts(run_id: UUID, reason: str, epoch: int) -> None:
    everything = list(NodeRun.objects.filter(run_id=run_id, status=NodeStatus.RUNNING))
    executing = [node_run for node_run in everything if node_run.parked_until is None]
    for looking in everything:
        if looking.parked_until is not None:  # a look leaves nothing behind: the next one goes on with the same wait
            _change_node(looking, NodeStatus.PENDING)
    log.append([fail_node(node_run, f"this attempt was lost, {reason}", lost=True) for node_run in executing], epoch)
    NodeRun.objects.bulk_create([next_attempt(node_run) for node_run in executing])


def _change_node(node_run: NodeRun, after: NodeStatus, **changes: Any) -> None:
    before = NodeStatus(node_run.status)
    states.check_node(before, after)
    if NodeRun.objects.filter(id=node_run.id, status=before).update(status=after, **changes) != 1:
        raise StaleTransition(f"node {node_run.node_id} (attempt {node_run.attempt}) is no longer {before}")
    node_run.status = after
    for name, value in changes.items():
        setattr(node_run, name, value)


def _node_entry(node_run: NodeRun, kind: EntryKind, message: str, data: dict[str, Any], *, level: str = "info") -> LogEntry:
    return log.entry(node_run.run_id, kind, message, level=level, node_id=node_run.node_id, attempt=node_run.attempt, data=data)
