"""The rows of a large installation, written in bulk into the database that `DATABASE_URL` names: `python -m bench.volume_rows 2000 300000 5000000`.

Pipelines are saved as the API saves them. Weekends are quiet, every 29th day is four times as busy, few pipelines run often and some never, some
always fail, some were deleted. The same numbers give the same rows, up to the moment that it is called.
"""

import datetime as dt
import itertools
import os
import random
import sys
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "brokoli_site.settings")
django.setup()  # before anything that has models

from django.db import connection, transaction  # noqa: E402
from django.db.models import Model  # noqa: E402
from django.utils import timezone  # noqa: E402

from pipelines import definitions  # noqa: E402
from pipelines.models import Pipeline  # noqa: E402
from runs import day_counts  # noqa: E402
from runs.models import LogEntry, NodeRun, Run  # noqa: E402

DAYS = 365
_SEED = 20240115
_WORDS = ("orders", "customers", "invoices", "flights", "sensors", "payments", "users", "tickets", "stock", "visits", "prices", "weather")
_STEPS = ("read", "clean", "join", "check", "aggregate", "rank", "mask", "enrich", "split", "write")
_CHUNK = 20_000


@dataclass(frozen=True)
class Volume:
    pipelines: int = 2_000
    runs: int = 300_000
    log: int = 5_000_000
    nodes: int = 10  # of each pipeline
    node_runs: int = 3  # of each run


@dataclass(frozen=True)
class PastRun:
    """What the rows of one run are made of. Times are seconds since 1970."""

    id: uuid.UUID
    pipeline: int  # its number
    status: str
    created: float
    seconds: float


def document(number: int, nodes: int) -> dict[str, Any]:
    """A chain of nodes with texts as people write them; every tenth pipeline is named in another script."""
    word = _WORDS[number % len(_WORDS)]
    name = f"{word.title()} {number}" if number % 10 else f"Überblick {word} {number} Ελλάδα"
    found: list[dict[str, Any]] = [{"id": "read", "type": "sql", "name": f"Read {word}", "config": {"query": "SELECT 1 AS id, 2.5 AS amount"}}]
    for step in range(1, nodes):
        query = f"SELECT id, amount + {step} AS amount, -- {_STEPS[step % len(_STEPS)]} the {word} of step {step}\n  amount > 10 AS large FROM input"
        found.append(
            {"id": f"step{step}", "type": "sql", "name": f"{_STEPS[step % len(_STEPS)].title()} {word} {number}", "config": {"query": query}}
        )
    return {
        "pipeline_id": f"{word}-{number}",
        "name": name,
        "description": f"Reads the {word} of region {number % 37}, keeps what is new and writes it for the reports.",
        "tags": [word, f"team-{number % 17}"],
        "schedule": "30 5 1 1 *" if number % 5 == 0 else "",
        "nodes": found,
        "edges": [{"from": one["id"], "to": other["id"]} for one, other in itertools.pairwise(found)],
    }


def past_runs(volume: Volume, now: float) -> Iterator[PastRun]:
    """Oldest first, the newest a moment ago."""
    chance = random.Random(_SEED)
    start = now - DAYS * 86_400
    weights = [
        (0.4 if (dt.datetime.fromtimestamp(start + day * 86_400, dt.UTC).weekday() > 4) else 1.2) * (4 if day % 29 == 3 else 1) for day in range(DAYS)
    ]
    moments = sorted(start + (day + chance.random()) * 86_400 for day in chance.choices(range(DAYS), weights, k=volume.runs))
    often = [0.0 if number % 20 == 19 else (1 + number) ** -0.6 for number in range(volume.pipelines)]
    numbers = chance.choices(range(volume.pipelines), often, k=volume.runs)
    for created, number in zip(moments, numbers, strict=True):
        draw = chance.random()
        status = "failed" if draw < (0.6 if number % 41 == 7 else 0.05) else "cancelled" if draw > 0.98 else "success"
        made = min(created, now - 600)
        key = (int(made * 1000) << 80) | (7 << 76) | (chance.getrandbits(12) << 64) | (2 << 62) | chance.getrandbits(62)
        yield PastRun(uuid.UUID(int=key), number, status, made, chance.expovariate(1 / 60))


class Table:
    """Rows of one model, written in bulk. What a row does not name is what a new object of the model has."""

    def __init__(self, model: type[Model], names: Sequence[str], example: Model, generated: str = "") -> None:

        self.model = model
        self._postgresql = connection.vendor == "postgresql"
        fields = [field for field in model._meta.concrete_fields if field.attname != generated]
        self._columns = [connection.ops.quote_name(str(field.column)) for field in fields]
        self._row = [field.get_db_prep_save(getattr(example, field.attname), connection) for field in fields]
        places = {field.attname: place for place, field in enumerate(fields)}
        self._places = [places[name] for name in names]

    def write(self, rows: Iterable[Sequence[Any]]) -> int:
        """Values in the order of the names. Returns how many rows there were."""

        count = 0
        filled = self._filled(rows)
        with connection.cursor() as cursor:
            while chunk := list(itertools.islice(filled, _CHUNK)):
                self._insert(cursor, chunk)
                count += len(chunk)
        return count

    def _filled(self, rows: Iterable[Sequence[Any]]) -> Iterator[list[Any]]:
        for values in rows:
            row = self._row.copy()
            for place, value in zip(self._places, values, strict=True):
                row[place] = value
            yield row

    def _insert(self, cursor: Any, chunk: list[list[Any]]) -> None:
        columns = ", ".join(self._columns)
        table = self.model._meta.db_table
        if self._postgresql:
            with cursor.cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
                for row in chunk:
                    copy.write_row(row)
        else:
            cursor.cursor.connection.executemany(f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' * len(self._columns))})", chunk)


def moment(seconds: float) -> Any:
    """A time as the driver takes it."""

    found = dt.datetime.fromtimestamp(seconds, dt.UTC)
    return found if connection.vendor == "postgresql" else found.strftime("%Y-%m-%d %H:%M:%S.%f")


def key(found: uuid.UUID) -> Any:

    return found if connection.vendor == "postgresql" else found.hex


def seed(volume: Volume, say: Any = lambda _: None) -> None:
    """Fill the database that Django is set up with."""

    if Pipeline.objects.exists():
        sys.exit("The database holds pipelines already.")
    started, now = time.perf_counter(), time.time()

    def step(what: str) -> None:
        say(f"{time.perf_counter() - started:6.1f} s  {what}")

    with transaction.atomic():
        pipelines = _save_pipelines(volume)
    step(f"{len(pipelines):,} pipelines")
    with transaction.atomic():
        _save_runs(volume, now, pipelines, step)
    Pipeline.objects.filter(id__in=[pipeline for pipeline, _ in pipelines[13::50]]).update(deleted_at=timezone.now())
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("VACUUM (ANALYZE)")  # as autovacuum would have done meanwhile
    with transaction.atomic():
        step(f"{day_counts.keep():,} days counted, as workers would have done meanwhile")


def _save_pipelines(volume: Volume) -> list[tuple[uuid.UUID, int]]:
    """(id, id of its version) of each."""

    found = [definitions.create(document(number, volume.nodes)) for number in range(volume.pipelines)]
    return [(one.pipeline.id, one.version.pk) for one in found]


def _save_runs(volume: Volume, now: float, pipelines: list[tuple[uuid.UUID, int]], step: Any) -> None:

    at = timezone.now()
    runs = list(past_runs(volume, now))
    example = Run(status="success", created_at=at, started_at=at, finished_at=at, epoch=1)
    table = Table(Run, ["id", "pipeline_id", "version_id", "status", "trigger", "error", "created_at", "started_at", "finished_at"], example)
    triggers = ("schedule", "schedule", "api", "backfill")
    keys = [(key(pipeline), version) for pipeline, version in pipelines]
    table.write(
        (
            key(run.id),
            *keys[run.pipeline],
            run.status,
            triggers[index % len(triggers)],
            "Node 'Clean orders' failed: the column 'amount' is missing." if run.status == "failed" else "",
            moment(run.created),
            moment(run.created + 0.2),
            moment(run.created + 0.2 + run.seconds),
        )
        for index, run in enumerate(runs)
    )
    step(f"{len(runs):,} runs")
    nodes = Table(
        NodeRun,
        ["id", "run_id", "node_id", "name", "position", "status", "ready_at", "started_at", "finished_at"],
        NodeRun(type="sql", row_count=1500, status="success"),
    )
    step(f"{nodes.write(_node_rows(runs, volume.node_runs)):,} node runs")
    log = Table(
        LogEntry, ["run_id", "node_id", "attempt", "kind", "message", "data", "timestamp"], LogEntry(level="info", timestamp=at), generated="seq"
    )
    step(f"{log.write(_log_rows(runs, volume)):,} log entries")


def _node_rows(runs: Sequence[PastRun], count: int) -> Iterator[tuple[Any, ...]]:
    for run in runs:
        each = run.seconds / max(count, 1)
        for place in range(count):
            status = run.status if run.status != "success" and place == count - 1 else "success"
            begun = run.created + 0.2 + place * each
            own = uuid.UUID(int=run.id.int ^ (place + 1))
            yield (
                key(own),
                key(run.id),
                f"step{place}" if place else "read",
                _STEPS[place % len(_STEPS)].title(),
                place,
                status,
                moment(begun),
                moment(begun),
                moment(begun + each),
            )


def _log_rows(runs: Sequence[PastRun], volume: Volume) -> Iterator[tuple[Any, ...]]:
    """The entries that every run has, and as many lines of its nodes as make the total."""

    postgresql = connection.vendor == "postgresql"
    ends = {"success": "run.completed", "failed": "run.failed", "cancelled": "run.cancelled"}
    data = {status: '{"status": "' + status + '", "duration_ms": 60000}' for status in (*ends, "pending", "running")}
    left = volume.log
    for index, run in enumerate(runs):
        count = left // (len(runs) - index)
        left -= count
        run_key, times = key(run.id), [moment(run.created), moment(run.created + 0.2), moment(run.created + 0.2 + run.seconds)]
        rows: list[tuple[Any, ...]] = [
            (run_key, "", None, "run.created", "Run created (trigger: schedule)", data["pending"], times[0]),
            (run_key, "", None, "run.started", "Run started", data["running"], times[1]),
        ]
        rows += [
            (run_key, f"step{place % 9 + 1}", 1, "log", f"Read part {place} of {count}: 1500 rows, 12 of them late", None, times[1])
            for place in range(max(count - 3, 0))
        ]
        rows.append((run_key, "", None, ends[run.status], "Run completed in 1m00s", data[run.status], times[2]))
        yield from rows[-count:] if count else ()
    assert postgresql or left == 0


def main(arguments: Sequence[str]) -> int:
    seed(Volume(*map(int, arguments)), lambda line: print(line, flush=True))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
