"""Is it up, and is all of it up? Each part is looked at by itself, within a bounded time, also when the database is frozen.

`ok`, or `warning` (all works, and something should be done one day), `degraded` (something does not work, the rest does), `down` (nothing does).
"""

import sqlite3
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from shutil import disk_usage
from time import monotonic
from typing import Any, Literal

from django.conf import settings
from django.db import DatabaseError, InterfaceError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from brokoli_site.common import migrations
from brokoli_site.common.time import iso
from pipelines import sealing
from runs import scheduler_looks
from runs.models import ScheduleState
from system import figures, openlineage, workers
from system.flights import Flight, NoAnswer
from system.impatience import impatient_connection

Status = Literal["ok", "warning", "degraded", "down", "unknown"]

PATIENCE_SECONDS = 1.8  # of one question about health, in all
LATE_LOOK_SECONDS = 150  # longer than the minute of a system cron that makes due runs
LITTLE_SPACE = 256 * 1024**2
# Before, the WAL of a database with several connections could be reset under a reader: https://sqlite.org/wal.html#walresetbug
_SOUND_SQLITE = (3, 51, 3)


@dataclass(frozen=True, slots=True)
class Check:
    """One part. `message` is a sentence for people, "" when there is nothing to say; `facts` are for programs."""

    status: Status = "ok"
    message: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {"status": self.status, "message": self.message, **self.facts}


@dataclass(frozen=True, slots=True)
class Health:
    """All parts, by name: always the same ones."""

    checks: Mapping[str, Check]

    @property
    def status(self) -> Literal["ok", "degraded", "down"]:
        found = {check.status for check in self.checks.values()}
        return "down" if "down" in found else "degraded" if "degraded" in found else "ok"

    @property
    def status_code(self) -> int:
        return 503 if self.status == "down" else 200

    def as_json(self) -> dict[str, Any]:
        """Each part with all its facts; null where they are not known."""
        return {name: dict.fromkeys(_FACTS[name]) | check.as_json() for name, check in sorted(self.checks.items())}


_FACTS: Mapping[str, tuple[str, ...]] = {
    "artifacts": ("free_bytes", "total_bytes"),
    "database": ("vendor", "version"),
    "migrations": ("missing",),
    "openlineage": ("sent", "refused", "skipped", "entries_behind"),
    "queue": ("waiting", "running", "parked", "oldest_seconds"),
    "scheduler": ("last_look", "age_seconds"),
    "secrets": (),
    "workers": ("alive", "draining", "dead", "slots"),
}
_UNKNOWN = Check("unknown", "It cannot be looked at while the database does not answer.")
_SILENT = Check("down", "The database does not answer.")


def readiness() -> dict[str, Check]:
    """`database` and `migrations`: without them no request can be served. Answers within `PATIENCE_SECONDS`."""
    return _readiness(monotonic() + PATIENCE_SECONDS)


def answers() -> bool:
    """Whether the database can be read, also where it takes no writes, and has the tables that this version expects."""
    found = readiness()
    return found["database"] is not _SILENT and found["migrations"].status == "ok"


def health() -> Health:
    """Every part. Answers within `PATIENCE_SECONDS`."""
    until = monotonic() + PATIENCE_SECONDS
    found = _readiness(until)
    found |= _rest(until) if all(check.status in ("ok", "warning") for check in found.values()) else _nothing_known()
    try:
        found["artifacts"] = _ARTIFACTS.get(max(0.1, until - monotonic()))
    except NoAnswer:
        found["artifacts"] = Check("degraded", "The folder of the artifacts does not answer: is it on a file server that hangs?")
    return Health(found)


def forget() -> None:
    """Look anew at the next question."""
    for flight in (_READINESS, _REST, _ARTIFACTS):
        flight.forget()


def _readiness(until: float) -> dict[str, Check]:
    try:
        return dict(_READINESS.get(until - monotonic()))
    except NoAnswer:
        return {"database": _SILENT, "migrations": _UNKNOWN}


def _rest(until: float) -> dict[str, Check]:
    try:
        return dict(_REST.get(max(0.1, until - monotonic())))
    except (NoAnswer, DatabaseError, InterfaceError):
        return _nothing_known()


def _nothing_known() -> dict[str, Check]:
    return dict.fromkeys(_LOOKS, _UNKNOWN)


# --- the database ---


def _look_at_database() -> dict[str, Check]:
    try:
        with impatient_connection() as connection:
            connection.ensure_connection()
            database = _writes(connection)
            migrated = _migrations(connection)
    except (DatabaseError, InterfaceError):
        # Its words may name hosts and users; the log of whoever failed by it has them.
        return {"database": _SILENT, "migrations": _UNKNOWN}
    return {"database": database, "migrations": migrated}


def _writes(connection: BaseDatabaseWrapper) -> Check:
    """Whether it can be written to: without that no run can be accepted."""
    facts = {"vendor": connection.vendor, "version": _version(connection)}
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SHOW transaction_read_only")
            (answer,) = cursor.fetchone()
            if answer == "on":
                return Check("down", "The database is read-only: is it a standby?", facts)
            return Check("ok", "", facts)
        try:
            cursor.execute("BEGIN IMMEDIATE")
            cursor.execute("ROLLBACK")
        except DatabaseError:
            return Check("down", "Somebody else holds the database's write lock, so nothing can be accepted.", facts)
    if sqlite3.sqlite_version_info < _SOUND_SQLITE:
        sound = ".".join(map(str, _SOUND_SQLITE))
        text = f"This SQLite is older than {sound}, which mends a rare fault of databases with several connections; Python brings its own SQLite."
        return Check("warning", text, facts)
    return Check("ok", "", facts)


def _version(connection: BaseDatabaseWrapper) -> str:
    return sqlite3.sqlite_version if connection.vendor == "sqlite" else ".".join(map(str, connection.get_database_version()))


def _migrations(connection: BaseDatabaseWrapper) -> Check:
    missing = migrations.missing(connection)
    if missing:
        return Check("down", "The database is not up to date: run `manage.py migrate`.", {"missing": missing})
    return Check("ok", "", {"missing": []})


# --- what works on it ---


def _look_at_the_rest() -> dict[str, Check]:
    with impatient_connection():
        return {name: look() for name, look in _LOOKS.items()}


def _scheduler() -> Check:
    looked = scheduler_looks.last()
    age = None if looked is None else max(0.0, (timezone.now() - looked).total_seconds())
    facts = {"last_look": iso(looked), "age_seconds": None if age is None else round(age, 1)}
    if age is not None and age <= LATE_LOOK_SECONDS:
        return Check("ok", "", facts)
    if not ScheduleState.objects.filter(next_tick_at__isnull=False).exists():
        return Check("ok", "No pipeline has a schedule.", facts)
    since = "Nobody has ever looked" if age is None else f"Nobody has looked for {round(age)} s"
    return Check("degraded", f"{since} which runs are due: workers do, and `manage.py enqueue_due_runs`.", facts)


def _workers() -> Check:
    found = workers.registered()
    alive = [seen.worker for seen in found if seen.alive]
    able = [worker for worker in alive if not worker.draining]
    facts = {
        "alive": len(alive),
        "draining": len(alive) - len(able),
        "dead": len(found) - len(alive),
        "slots": sum(worker.concurrency for worker in able),
    }
    if able:
        return Check("ok", "", facts)
    return Check("degraded", "No worker takes runs: start one with `manage.py runworker`.", facts)


def _queue() -> Check:
    queue = figures.queue()
    return Check(
        "ok",
        "",
        {"waiting": queue.waiting, "running": queue.running, "parked": queue.parked, "oldest_seconds": round(queue.oldest_seconds, 1)},
    )


def _secrets() -> Check:
    fault = sealing.fault()
    return Check("degraded", fault) if fault else Check()


def _openlineage() -> Check:
    """Runs go on without a collector, so one that is away is a warning."""
    if not settings.OPENLINEAGE_URL:
        return Check("ok", "No collector is set.")
    told = openlineage.state()
    facts = {"sent": told.sent, "refused": told.refused, "skipped": told.skipped, "entries_behind": told.entries_behind}
    return Check("warning", f"The OpenLineage collector could not be told: {told.problem}", facts) if told.failures else Check("ok", "", facts)


_LOOKS: dict[str, Callable[[], Check]] = {
    "scheduler": _scheduler,
    "workers": _workers,
    "queue": _queue,
    "secrets": _secrets,
    "openlineage": _openlineage,
}


# --- the artifacts ---


def _look_at_artifacts() -> Check:
    try:
        usage = disk_usage(settings.ARTIFACTS)
        facts = {"free_bytes": usage.free, "total_bytes": usage.total}
        with tempfile.TemporaryFile(dir=settings.ARTIFACTS) as file:
            file.write(b"x" * 4096)
            file.flush()
    except OSError as error:
        return Check("degraded", f"The folder of the artifacts cannot be written to ({error.strerror}).")
    if usage.free < LITTLE_SPACE:
        return Check("degraded", "The disk of the artifacts is almost full.", facts)
    return Check("ok", "", facts)


_READINESS = Flight("look at the database", _look_at_database)
_REST = Flight("look at what works", _look_at_the_rest)
_ARTIFACTS = Flight("look at the artifacts", _look_at_artifacts)
