"""The timeout of a whole run, by the real executor; nodes do what the test says."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from brokoli_site.common.errors import TransientNodeError
from pipelines.models import Pipeline, PipelineVersion
from pipelines.nodes.base import Stop
from runs import executor, queue, triggers
from runs.control import Control, Resources
from runs.engine import NodeTask
from runs.executor import Execution
from runs.log import NodeLog
from runs.models import LogEntry, NodeRun, Run
from runs.states import RunStatus
from tests.factories import accept_run, claim_one, make_pipeline, register_worker, sql_node
from tests.patience import within
from tests.races.test_database_away import ends_of, resources, work_until_empty  # noqa: F401 - a fixture

pytestmark = pytest.mark.django_db(transaction=True)


def timed_pipeline(timeout: float, *nodes: dict[str, Any], edges: list[tuple[str, str]] | None = None) -> Pipeline:
    pipeline = make_pipeline(list(nodes) or [sql_node("first", "SELECT 1 AS x")], edges)
    version = pipeline.versions.get()
    PipelineVersion.objects.filter(id=version.id).update(document=version.document | {"timeout": timeout})
    return pipeline


def work_until_told(task: NodeTask, log: NodeLog, stop: Stop) -> None:
    assert stop.wait(20), "nobody stopped the node"
    stop.check()


def test_when_it_is_over_executing_nodes_are_stopped_and_the_rest_never_starts(resources: Callable[..., Resources]) -> None:  # noqa: F811
    nodes = [sql_node(name, "SELECT 1 AS x", max_retries=5, retry_delay=10) for name in ("first", "aside", "second")]
    run = accept_run(timed_pipeline(0.6, *nodes, edges=[("first", "second")]))

    work_until_empty(resources(work_until_told))

    run.refresh_from_db()
    assert (run.status, run.error) == ("failed", "The run took longer than its timeout of 600ms and was stopped.")
    attempts = {node.node_id: (node.attempt, node.status, node.error) for node in run.node_runs.all()}
    assert attempts["first"] == attempts["aside"] == (1, "failed", run.error)
    assert attempts["second"][:2] == (1, "skipped")
    assert run.finished_at and run.started_at
    assert 0.6 <= (run.finished_at - run.started_at).total_seconds() < 0.6 + within(1)
    assert ends_of(run) == 1


def test_a_run_that_ends_in_time_is_left_alone(resources: Callable[..., Resources]) -> None:  # noqa: F811
    run = accept_run(timed_pipeline(60))

    work_until_empty(resources())

    run.refresh_from_db()
    assert run.status == "success"


def test_it_does_not_wait_for_a_retry(resources: Callable[..., Resources]) -> None:  # noqa: F811
    def fail(task: NodeTask, log: NodeLog, stop: Stop) -> None:
        raise TransientNodeError("no luck")

    run = accept_run(timed_pipeline(0.5, sql_node("first", "SELECT 1 AS x", max_retries=3, retry_delay=3_600_000)))

    work_until_empty(resources(fail))

    run.refresh_from_db()
    assert (run.status, "timeout of 500ms" in run.error) == ("failed", True)
    assert list(run.node_runs.order_by("attempt").values_list("status", flat=True)) == ["failed", "cancelled"]
    assert run.finished_at and run.started_at
    assert (run.finished_at - run.started_at).total_seconds() < 0.5 + within(1)


def test_it_counts_from_the_first_start_whichever_worker_that_was(resources: Callable[..., Resources]) -> None:  # noqa: F811
    executed = []
    run, dead = accept_run(timed_pipeline(60)), register_worker()
    claim_one(dead)
    Run.objects.filter(id=run.id).update(started_at=timezone.now() - dt.timedelta(seconds=61))
    queue.give_up(dead.id, beat=dead.beat, reason="it died", died=True, max_deaths=3)

    work_until_empty(resources(lambda task, log, stop: executed.append(task)))

    run.refresh_from_db()
    assert (run.status, "timeout of 1m00s" in run.error, executed) == ("failed", True, [])


@pytest.mark.parametrize(("ago", "left"), [(0, 60), (59, 1), (61, 0), (3600, 0), (-3600, 60)])
def test_a_step_of_the_clock_gives_no_more_than_the_timeout(ago: float, left: float) -> None:
    assert executor._seconds_left(60, timezone.now() - dt.timedelta(seconds=ago)) == pytest.approx(left, abs=0.5)


def test_without_one_there_is_no_end() -> None:
    assert executor._seconds_left(None, timezone.now()) == float("inf")


def test_a_cancel_wins_over_it(resources: Callable[..., Resources]) -> None:  # noqa: F811
    """Both are there when the walk looks: the run is cancelled, as it was asked for first."""
    run, worker = accept_run(timed_pipeline(0.1)), register_worker()
    lease = claim_one(worker)
    triggers.cancel(run.id)
    control = Control()
    control.tell(control.cancelled)

    outcome = Execution(lease, resources(), control).run()

    assert outcome.status == RunStatus.CANCELLED


def test_what_finished_all_the_same_stands(resources: Callable[..., Resources]) -> None:  # noqa: F811
    """A node that does not look at the clock ends well after the time: what it did is kept, what it led to is not done."""
    run = accept_run(timed_pipeline(1, sql_node("first", "SELECT 1 AS x"), sql_node("second", "SELECT 1 AS x"), edges=[("first", "second")]))
    told = []

    work_until_empty(resources(lambda task, log, stop: told.append(stop.wait(30))))

    assert told == [True]
    run.refresh_from_db()
    assert run.status == "failed"
    assert dict(NodeRun.objects.filter(run=run).values_list("node_id", "status")) == {"first": "success", "second": "cancelled"}
    assert LogEntry.objects.filter(run=run, kind="node.retrying").count() == 0
