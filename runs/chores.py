"""The chores of a worker, a line each."""

from functools import partial

from django.conf import settings
from django.utils.module_loading import import_string

from pipelines.assets import rows as asset_rows
from runs import added_chores, day_counts, delivery, idempotency, retention, scheduler, sla, tallies, upstream_ends
from runs.artifacts import ArtifactStore
from runs.delivery import Postman
from runs.scheduler_looks import Looks
from runs.ticker import Chore

# Short and often: the other chores wait meanwhile.
_PURGE_EVERY, _PURGE_SECONDS = 300.0, 3.0
_MAKE_SECONDS = 3.0
_COUNT_EVERY, _COUNT_SECONDS = 60.0, 2.0
_HOUR = 3600.0
_DAY = 24 * _HOUR


def of_worker(store: ArtifactStore, postman: Postman) -> tuple[Chore, ...]:
    """What a worker with this artifact store looks after."""
    return (
        Chore("send notifications", 1.0, postman.look, on_end=True),
        *(_of_clock() if settings.SCHEDULER == "workers" else ()),
        Chore("settle upstream ends", 1.0, upstream_ends.settle, on_end=True),
        Chore("write tallies", tallies.EVERY_SECONDS, tallies.flush),
        Chore("forget idempotency keys", _HOUR, idempotency.forget),
        Chore("forget notifications", _DAY, delivery.forget),
        Chore("catch up with lineage", 30.0, asset_rows.catch_up),
        Chore("count days", _COUNT_EVERY, lambda: day_counts.keep(seconds=_COUNT_SECONDS)),
        *(chore for name in added_chores.makers if (chore := import_string(name)()) is not None),
        # Last: all are due when a worker starts, and these may take their time.
        *((Chore("purge old runs", _PURGE_EVERY, lambda: _purge(store)),) if settings.SCHEDULER == "workers" else ()),
        Chore("collect strays", _DAY, lambda: retention.collect_strays(store)),
    )


def _of_clock() -> tuple[Chore, ...]:
    """What the system's cron does in their place where it looks at the clock: `manage.py enqueue_due_runs`."""
    return (
        Chore("make due runs", 1.0, partial(_make_due_runs, Looks())),
        Chore("catch up with saves", 60.0, scheduler.catch_up_with_saves),
        Chore("look at deadlines", 1.0, sla.look),
    )


def _make_due_runs(looks: Looks) -> None:
    scheduler.look(seconds=_MAKE_SECONDS)
    looks.note()


def _purge(store: ArtifactStore) -> None:
    if settings.RETENTION_DAYS:
        retention.purge(settings.RETENTION_DAYS, store, seconds=_PURGE_SECONDS, audited=False)
