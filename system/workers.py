"""The workers as people see them: which there are, which live, and what they execute."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field

from django.utils import timezone

from runs import identity
from runs.models import Run, Worker
from runs.states import RunStatus
from runs.tenure import clock

MOST = 200  # workers that are shown
_PATIENCE = 2  # leases: clocks of other machines may differ a little


@dataclass(frozen=True, slots=True)
class Seen:
    """A worker and whether it lives, as far as can be told from here."""

    worker: Worker
    alive: bool
    run_ids: Sequence[str] = field(default=())


def is_alive(worker: Worker, now: dt.datetime) -> bool:
    """Whether it beat within its lease.

    Of a worker of this machine the process table and the clock since the boot tell, which never step; of others the time of the last beat,
    so a clock that is far off can make one look dead that lives. Nothing is decided by this.
    """
    if identity.is_gone(worker.process):
        return False
    if worker.beaten is not None and identity.is_neighbour(worker.process):
        return clock() - worker.beaten < worker.lease_seconds
    return now - worker.seen_at < dt.timedelta(seconds=_PATIENCE * worker.lease_seconds)


def registered() -> list[Seen]:
    """The workers that nobody has given up yet, newest first, without what they execute. One query."""
    now = timezone.now()
    return [Seen(worker, is_alive(worker, now)) for worker in Worker.objects.order_by("-started_at", "id")[:MOST]]


def with_runs() -> list[Seen]:
    """`registered`, with what each executes: two queries. No worker executes more runs than its concurrency, which is bounded."""
    found = registered()
    executing = Run.objects.filter(status=RunStatus.RUNNING, owner__in=[seen.worker.id for seen in found])
    run_ids: dict[str, list[str]] = {}
    for owner, run_id in executing.order_by("owner", "id").values_list("owner", "id"):
        run_ids.setdefault(owner, []).append(str(run_id))
    return [Seen(seen.worker, seen.alive, run_ids.get(seen.worker.id, ())) for seen in found]
