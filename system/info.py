"""What this installation is and how busy: its version, its database, its workers and its queue."""

from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import Count

from brokoli_site.common.time import iso
from brokoli_site.common.version import VERSION
from pipelines.models import Pipeline
from runs import scheduler_looks
from runs.models import Run
from runs.states import RunStatus
from system.workers import registered

_MEGABYTE = 1024 * 1024


def info() -> dict[str, Any]:
    """A fixed number of queries."""
    size = database_bytes()
    active = dict(Run.objects.active().order_by().values_list("status").annotate(Count("id")))
    alive = [seen.worker for seen in registered() if seen.alive]
    return {
        "version": VERSION,
        "db_size": size,
        "db_size_mb": f"{size / _MEGABYTE:.2f} MB",
        "pipelines": Pipeline.objects.live().count(),
        "active_runs": active.get(RunStatus.RUNNING, 0),
        # Without a worker nothing runs; the setting says what the next one takes.
        "max_concurrent_runs": sum(worker.concurrency for worker in alive if not worker.draining) or settings.WORKER_CONCURRENCY,
        "workers": len(alive),
        "queued_runs": active.get(RunStatus.PENDING, 0),
        "database": connection.vendor,
        "scheduler_last_tick": iso(scheduler_looks.last()),
    }


def database_bytes() -> int:
    """What the database takes on disk; of SQLite's files the main one. One query."""
    question = (
        "SELECT pg_database_size(current_database())"
        if connection.vendor == "postgresql"
        else "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
    )
    with connection.cursor() as cursor:
        cursor.execute(question)
        (size,) = cursor.fetchone()
    return int(size)
