"""`/metrics`: what Prometheus asks for.

What this process did itself (requests, its memory) it counts itself. All else is read off the rows when somebody asks, within a bounded
time and by a bounded number of queries, and is the same from every web server: take the `max` over them, not the sum.
"""

import datetime as dt
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from django.db import DatabaseError, InterfaceError
from prometheus_client import CollectorRegistry, Histogram, PlatformCollector, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from brokoli_site.common.version import VERSION
from runs import scheduler_looks, tallies
from runs.events import tailer
from runs.states import TERMINAL
from runs.tallies import Key
from system import figures, workers
from system.figures import Events, Queue
from system.flights import Flight, NoAnswer
from system.impatience import impatient_connection

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
RIGHT = "runs.view"
_PATIENCE_SECONDS = 3.0  # less than Prometheus's own
_FRESH_SECONDS = 2.0

disable_created_metrics()  # type: ignore[no-untyped-call]  # a further series for each, which Prometheus has no use for
registry = CollectorRegistry(auto_describe=False)
ProcessCollector(registry=registry)
PlatformCollector(registry=registry)
requests = Histogram(
    "brokoli_http_request_duration_seconds",
    "Time to the head of the answer, by route.",
    ["method", "route", "status"],
    registry=registry,
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)


@dataclass(frozen=True, slots=True)
class _Figures:
    """What the rows said."""

    queue: Queue
    events: Events
    oldest_write_seconds: float
    notifications: int
    workers: Mapping[str, int]
    slots: int
    looked_at: dt.datetime | None
    tallies: Mapping[Key, tallies.Histogram]


def exposition() -> bytes:
    """All metrics as Prometheus reads them. Answers also while the database does not: without what only that knows, and says so."""
    return generate_latest(registry)


def forget() -> None:
    """Read the rows anew at the next question."""
    _FIGURES.forget()


def read_figures() -> _Figures:
    """Nine queries at most, and a write of what this process has counted."""
    with suppress(DatabaseError, InterfaceError):  # what cannot be written is kept; that is no reason not to tell the rest
        tallies.flush()
    registered = workers.registered()
    alive = [seen.worker for seen in registered if seen.alive]
    able = [worker for worker in alive if not worker.draining]
    return _Figures(
        queue=figures.queue(),
        events=figures.events(),
        oldest_write_seconds=figures.oldest_write_seconds(),
        notifications=figures.notifications_waiting(),
        workers={"alive": len(able), "draining": len(alive) - len(able), "dead": len(registered) - len(alive)},
        slots=sum(worker.concurrency for worker in able),
        looked_at=scheduler_looks.last(),
        tallies=tallies.read(),
    )


def _read_impatiently() -> _Figures:
    with impatient_connection():
        return read_figures()


class _Rows(Collector):
    """What is read off the rows."""

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("brokoli", "The version that answers.", {"version": VERSION})
        yield GaugeMetricFamily("brokoli_event_clients", "WebSockets of the event stream on this server.", tailer.clients())
        try:
            found = _FIGURES.get(_PATIENCE_SECONDS)
        except (NoAnswer, DatabaseError, InterfaceError):
            yield GaugeMetricFamily("brokoli_database_up", "Whether the database answered; without it there is no more to tell.", 0)
            return
        yield GaugeMetricFamily("brokoli_database_up", "Whether the database answered; without it there is no more to tell.", 1)
        yield from _now(found)
        yield from _ended(found.tallies)


def _now(found: _Figures) -> Iterator[Metric]:
    runs = {"waiting": found.queue.waiting, "parked": found.queue.parked, "running": found.queue.running}
    yield _gauges("brokoli_runs", "Runs that have not ended: waiting for a worker, parked until their time, running.", "state", runs)
    yield GaugeMetricFamily("brokoli_queue_oldest_seconds", "For how long the longest waiting run has waited.", found.queue.oldest_seconds)
    yield _gauges("brokoli_workers", "Workers: alive and taking runs, draining, dead and not yet given up.", "state", found.workers)
    yield GaugeMetricFamily("brokoli_worker_slots", "Runs that the workers that take runs execute at the same time.", found.slots)
    if found.looked_at is not None:
        name = "brokoli_scheduler_last_look_timestamp_seconds"
        yield GaugeMetricFamily(name, "When a scheduler last looked which runs are due, some seconds late.", found.looked_at.timestamp())
    yield GaugeMetricFamily("brokoli_events_newest_seq", "Number of the newest entry of the event log.", found.events.newest_seq)
    if found.events.newest_at is not None:
        name = "brokoli_events_newest_timestamp_seconds"
        yield GaugeMetricFamily(name, "Time of the newest entry of the event log.", found.events.newest_at.timestamp())
    text = "For how long the oldest transaction that has written is open: the event stream is that late. 0 on SQLite."
    yield GaugeMetricFamily("brokoli_events_lag_seconds", text, found.oldest_write_seconds)
    yield GaugeMetricFamily("brokoli_notifications_waiting", "Messages that wait to be sent, for the first time or again.", found.notifications)


def _ended(counted: Mapping[Key, tallies.Histogram]) -> Iterator[Metric]:
    """Counters: what is added to `Tally`, and never taken away."""
    ended = CounterMetricFamily("brokoli_runs_ended", "Runs that have ended, by status.", labels=["status"])
    for status in sorted(TERMINAL):
        of_status = [counted.get(Key(name, "", status)) for name in (tallies.RUN, tallies.UNSTARTED)]
        ended.add_metric([status], sum(histogram.count for histogram in of_status if histogram))
    yield ended
    run_text = "From the first start of a run to its end."
    runs = HistogramMetricFamily("brokoli_run_duration_seconds", run_text, labels=["status"])
    node_text = "From the first start of an attempt of a node to its end, by node type. Time for which it was parked counts."
    nodes = HistogramMetricFamily("brokoli_node_duration_seconds", node_text, labels=["type", "status"])
    for key, histogram in sorted(counted.items()):
        if key.name == tallies.RUN:
            runs.add_metric([key.status], _buckets(histogram), histogram.total)
        elif key.name == tallies.NODE:
            nodes.add_metric([key.label, key.status], _buckets(histogram), histogram.total)
    yield runs
    yield nodes


def _buckets(histogram: tallies.Histogram) -> list[tuple[str, float]]:
    bounds = [*map(str, tallies.BOUNDS), "+Inf"]
    return [(bound, float(count)) for bound, count in zip(bounds, histogram.cumulative, strict=True)]


def _gauges(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family


_FIGURES = Flight("read the figures", _read_impatiently, fresh_seconds=_FRESH_SECONDS)
registry.register(_Rows())
