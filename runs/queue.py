"""The queue: enqueue, claim, heartbeat, finish, reap. Rows are all that passes between web and workers."""

import os
import secrets
import socket
import time
from dataclasses import dataclass, field

from django.db import DatabaseError, InterfaceError, connection, transaction
from django.db.models import F
from django.utils import timezone

from brokoli_site.common import tracing
from runs import identity, limits, transitions
from runs.limits import Candidate, Places
from runs.models import LogEntry, Run, UpstreamEnd, Worker
from runs.states import EntryKind, RunStatus
from runs.tenure import clock
from runs.transitions import Lease


def register(concurrency: int, lease_seconds: int) -> Worker:
    """Announce this process as a worker."""
    hostname, pid = socket.gethostname(), os.getpid()
    now = timezone.now()
    return Worker.objects.create(
        id=f"{hostname[:40]}-{pid}-{secrets.token_hex(4)}",
        hostname=hostname[:255],
        pid=pid,
        process=identity.process_identity(pid),
        concurrency=concurrency,
        lease_seconds=lease_seconds,
        started_at=now,
        seen_at=now,
        beaten=clock(),
    )


def heartbeat(worker_id: str, *, draining: bool = False) -> bool:
    """Say that the worker lives. False when others have given it up: its leases are lost, and it must write nothing more."""
    return Worker.objects.filter(id=worker_id).update(beat=F("beat") + 1, seen_at=timezone.now(), beaten=clock(), draining=draining) == 1


def claim(worker_id: str, limit: int) -> list[Lease]:
    """Lease up to `limit` runs, by priority, then age. Rivals never get the same run, and do not wait for each other.

    A run whose pipeline has `max_active_runs` executing, or whose backfill `max_active`, is stepped over. Only those that start
    runs of the same limited pipeline or backfill wait for each other: each counts what the other started.
    """
    leases: list[Lease] = []
    refused: list[Candidate] = []
    for _ in range(limit + 1 if limit > 0 else 0):  # a round that refused a run is followed by one that steps over what is full by now
        # A plain read: an idle worker must not queue for the write lock.
        found = limits.candidates(limit - len(leases))
        if not found:
            break
        started, refused = _claim_once(worker_id, [*found, *refused], limit - len(leases))
        leases += started
        if not refused or len(leases) == limit:
            break
    return leases


def _claim_once(worker_id: str, expected: list[Candidate], limit: int) -> tuple[list[Lease], list[Candidate]]:
    """The leases of what could be started, and the runs that could not, because a limit is reached or was not `expected`."""
    with transaction.atomic():
        # Before the worker's own row: a heartbeat must not wait for what this may wait for.
        places = Places(expected)
        # A worker that was given up must not take anything: its runs would belong to nobody.
        if not Worker.objects.select_for_update(no_key=True).filter(id=worker_id).exists():
            return [], []
        ready = limits.candidates(limit, lock=True)
        taken = [candidate for candidate in ready if places.take(candidate)]
        leases = [transitions.start_run(candidate.run_id, worker_id) for candidate in taken]
        return [lease for lease in leases if lease is not None], [candidate for candidate in ready if candidate not in taken]


def trace_of(lease: Lease) -> str:
    """The `traceparent` of the request that made the run, as far as the database tells; "", without a query, where nothing is traced."""
    if not tracing.is_on():
        return ""
    created = LogEntry.objects.filter(run_id=lease.run_id, kind=EntryKind.RUN_CREATED).order_by("seq").values_list("data", flat=True)
    try:
        return str((created.first() or {}).get(tracing.HEADER, ""))
    except (DatabaseError, InterfaceError):
        connection.close()  # whoever executes the run waits for the database, and a trace is not worth it
        return ""


def is_empty() -> bool:
    """Whether no run waits or executes, and no end is left that may make one. One statement: between two, one may become the other."""
    ends = UpstreamEnd.objects.order_by().values_list("run_id")
    return not Run.objects.active().order_by().values_list("id").union(ends, all=True).exists()


def release(lease: Lease, reason: str) -> None:
    """Give a run back unharmed, for another worker to go on with: this one was told to stop."""
    run = Run.objects.leased(lease.owner, lease.epoch).filter(id=lease.run_id).first()
    if run is not None:
        transitions.release_run(run, reason, died=False, max_deaths=0)


def park(lease: Lease, seconds: float, *, announced: bool) -> None:
    """Give a run back that has nothing to do for so many seconds. Errors: `transitions.LeaseLost`."""
    transitions.park_run(lease, seconds, announced=announced)


def finish(lease: Lease, status: RunStatus, error: str = "") -> None:
    """End a run. Errors: `transitions.LeaseLost`."""
    transitions.finish_run(lease, status, error)


def unregister(worker_id: str) -> None:
    """The worker ends in order; what it still holds goes back to the queue."""
    give_up(worker_id, beat=None, reason="its worker stopped", died=False, max_deaths=0)


def give_up(worker_id: str, *, beat: int | None, reason: str, died: bool, max_deaths: int) -> int:
    """Take all runs from a worker and forget it, in one transaction. Returns how many runs.

    Guarded by the `beat` that was seen standing still: a worker that beat once more keeps everything.
    """
    with transaction.atomic():
        workers = Worker.objects.select_for_update().filter(id=worker_id)
        worker = (workers if beat is None else workers.filter(beat=beat)).first()
        if worker is None:
            return 0
        released = [transitions.release_run(run, reason, died=died, max_deaths=max_deaths) for run in Run.objects.owned_by(worker_id)]
        worker.delete()
        return sum(status is not None for status in released)  # a run that ended meanwhile was not ours to take


@dataclass
class Watch:
    """Reaping by looking twice: a worker is dead when its beat stood still for a whole lease of *our* monotonic clock.

    No wall clock is compared, so a step of an hour, here or there, neither reaps a healthy run nor hides a dead worker. On
    the same machine one look is enough: the process table tells who is gone, and the clock since the boot, which all have in
    common there, for how long a worker has been silent. So runs are taken over though no worker lives for a whole lease.
    """

    worker_id: str
    max_deaths: int
    _seen: dict[str, tuple[int, float]] = field(default_factory=dict)

    def reap(self) -> int:
        """Take the runs of workers that died. Returns how many runs went back to the queue (or failed)."""
        others = list(Worker.objects.besides(self.worker_id))
        self._seen = {worker.id: seen for worker in others if (seen := self._seen.get(worker.id)) is not None}
        reaped = 0
        for worker in others:
            reason = self._cause_of_death(worker)
            if reason:
                reaped += give_up(worker.id, beat=worker.beat, reason=reason, died=True, max_deaths=self.max_deaths)
        return reaped

    def _cause_of_death(self, worker: Worker) -> str:
        now = time.monotonic()
        beat, since = self._seen.get(worker.id, (-1, now))
        if beat != worker.beat:
            since = now
            self._seen[worker.id] = (worker.beat, now)
        silent = now - since
        if worker.beaten is not None and identity.is_neighbour(worker.process):
            silent = max(silent, clock() - worker.beaten)
        if silent >= worker.lease_seconds:
            return f"its worker {worker.id} was silent for {worker.lease_seconds} s"
        if identity.is_gone(worker.process):
            return f"its worker {worker.id} (process {worker.pid}) died"
        return ""
