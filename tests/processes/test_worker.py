"""Real workers, real signals: what they finish stands, what they leave is taken over, and they stop as they are told."""

import signal
from functools import partial
from pathlib import Path

import pytest
from django.conf import settings

from pipelines.models import PipelineVersion
from runs import triggers
from runs.models import LogEntry, NodeOutput, NodeRun, Run, Worker
from runs.states import NodeStatus, RunStatus, Trigger
from tests.conftest import StartWorker
from tests.factories import accept_run, end_run, make_pipeline, sql_node
from tests.patience import within
from tests.programs import wait_for

# Some seconds of pure computation on any machine: long enough to be met in the middle, and it can be interrupted.
SLOW = "SELECT count(*) AS n FROM range(200000000) AS t(i) WHERE sqrt(i)::BIGINT % 7 = (SELECT max(x) FROM input)"
ENDLESS = "SELECT count(*) AS n FROM range(100000000000000) AS t(i) WHERE sqrt(i)::BIGINT % 7 = (SELECT max(x) FROM input)"


def chain(*queries: str) -> list[dict[str, object]]:
    return [sql_node(f"n{index}", query) for index, query in enumerate(queries)]


def accept_chain(*queries: str, **arguments: object) -> Run:
    edges = [(f"n{index}", f"n{index + 1}") for index in range(len(queries) - 1)]
    return accept_run(make_pipeline(chain(*queries), edges), **arguments)


def status_of(run: Run) -> str:
    return Run.objects.values_list("status", flat=True).get(id=run.id)


def is_over(run: Run) -> bool:
    return status_of(run) == "success"


def node_is(run: Run, node_id: str, status: NodeStatus) -> bool:
    return NodeRun.objects.filter(run=run, node_id=node_id, status=status).exists()


def assert_log_tells_each_start_once(run: Run) -> None:
    starts = LogEntry.objects.filter(run=run, kind="node.started").values_list("node_id", "attempt")
    assert len(starts) == len(set(starts))


@pytest.mark.slow
def test_a_drained_worker_executes_everything_and_ends(start_worker: StartWorker) -> None:
    runs = [accept_chain("SELECT 1 AS x", f"SELECT x + {n} AS x FROM input") for n in range(5)]

    worker = start_worker("--drain")

    assert worker.wait(60) == 0, worker.output
    assert {status_of(run) for run in runs} == {"success"}
    output = NodeOutput.objects.get(run=runs[3], node_id="n1")
    assert (output.row_count, output.schema[0]["name"]) == (1, "x")
    assert (Path(settings.ARTIFACTS) / output.artifact).is_file()
    assert not Worker.objects.exists()


def test_kill_9_in_the_middle_of_a_run(start_worker: StartWorker) -> None:
    """The run ends in success, and the node that had finished is not executed again."""
    run = accept_chain("SELECT 3 AS x", SLOW, "SELECT n FROM input")
    first = start_worker(BROKOLI_LEASE_SECONDS="2")
    first.wait_for(lambda: node_is(run, "n1", NodeStatus.RUNNING), what="the slow node to start")
    artifact = Path(settings.ARTIFACTS) / NodeOutput.objects.get(run=run, node_id="n0").artifact
    written = artifact.stat().st_mtime_ns

    first.kill()
    second = start_worker("--drain")

    assert second.wait(60) == 0, second.output
    assert status_of(run) == "success"
    run.refresh_from_db()
    assert (run.deaths, run.epoch) == (1, 2)
    attempts = NodeRun.objects.filter(run=run).order_by("position", "attempt").values_list("node_id", "attempt", "status", "lost")
    assert list(attempts) == [("n0", 1, "success", False), ("n1", 1, "failed", True), ("n1", 2, "success", False), ("n2", 1, "success", False)]
    assert artifact.stat().st_mtime_ns == written
    assert_log_tells_each_start_once(run)


@pytest.mark.slow
def test_a_missing_artifact_runs_its_node_again(start_worker: StartWorker) -> None:
    run = accept_chain("SELECT 3 AS x", SLOW, "SELECT n FROM input")
    first = start_worker()
    first.wait_for(lambda: node_is(run, "n1", NodeStatus.RUNNING), what="the slow node to start")
    first.kill()
    (Path(settings.ARTIFACTS) / NodeOutput.objects.get(run=run, node_id="n0").artifact).unlink()

    second = start_worker("--drain")

    assert second.wait(60) == 0, second.output
    assert status_of(run) == "success"
    assert NodeRun.objects.filter(run=run, node_id="n0").count() == 2


@pytest.mark.slow
def test_what_a_killed_worker_left_on_the_disk_is_collected(start_worker: StartWorker) -> None:
    ended = end_run(accept_run(), RunStatus.SUCCESS)
    stray = Path(settings.ARTIFACTS) / str(ended.id) / "0.1.parquet"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"PAR1")

    worker = start_worker()

    worker.wait_for(lambda: not stray.exists(), what="the stray file to be deleted")


@pytest.mark.slow
def test_a_run_that_kills_its_worker_every_time_fails_and_the_queue_goes_on(start_worker: StartWorker) -> None:
    poison = accept_chain("SELECT 3 AS x", ENDLESS)
    for attempt in (1, 2):
        worker = start_worker("--concurrency", "1", BROKOLI_MAX_DEATHS="2")
        executing = NodeRun.objects.filter(run=poison, node_id="n1", attempt=attempt, status=NodeStatus.RUNNING)
        worker.wait_for(executing.exists, what="the endless node to start")
        worker.kill()
    healthy = accept_chain("SELECT 1 AS x")
    last = start_worker("--drain", BROKOLI_MAX_DEATHS="2")

    assert last.wait(60) == 0, last.output
    poison.refresh_from_db()
    assert poison.status == "failed"
    assert "lost 2 workers" in poison.error
    assert status_of(healthy) == "success"


@pytest.mark.slow
def test_a_stopped_worker_that_wakes_after_its_lease_writes_nothing(start_worker: StartWorker) -> None:
    run = accept_chain("SELECT 3 AS x", SLOW, "SELECT n FROM input")
    frozen = start_worker(BROKOLI_LEASE_SECONDS="2")
    frozen.wait_for(lambda: node_is(run, "n1", NodeStatus.RUNNING), what="the slow node to start")
    old_worker = Worker.objects.get().id
    frozen.signal(signal.SIGSTOP)
    second = start_worker("--drain", BROKOLI_LEASE_SECONDS="6")
    assert second.wait(60) == 0, second.output
    assert status_of(run) == "success"
    entries = LogEntry.objects.filter(run=run).count()

    frozen.signal(signal.SIGCONT)

    # It finds itself given up, says so, and begins anew under another name; only then has it had its chance to write.
    frozen.wait_for(lambda: Worker.objects.exclude(id=old_worker).exists(), what="the revived worker to begin anew")
    frozen.wait_for(lambda: "lease lost" in frozen.output, what="the revived worker to drop its run")
    assert LogEntry.objects.filter(run=run).count() == entries
    assert status_of(run) == "success"
    assert NodeRun.objects.filter(run=run, node_id="n2").count() == 1


def test_the_first_signal_drains(start_worker: StartWorker) -> None:
    """The executing node finishes, no other starts, and the run goes back unharmed."""
    run = accept_chain("SELECT 3 AS x", SLOW, "SELECT n FROM input")
    worker = start_worker()
    worker.wait_for(lambda: node_is(run, "n1", NodeStatus.RUNNING), what="the slow node to start")

    worker.signal(signal.SIGTERM)

    assert worker.wait(60) == 0, worker.output
    run.refresh_from_db()
    assert (run.status, run.deaths) == ("pending", 0)
    assert [attempt.status for attempt in run.node_runs.all()] == ["success", "success", "pending"]
    assert start_worker("--drain").wait(60) == 0
    assert status_of(run) == "success"


@pytest.mark.slow
def test_the_second_signal_stops_at_once(start_worker: StartWorker) -> None:
    run = accept_chain("SELECT 3 AS x", ENDLESS)
    worker = start_worker()
    worker.wait_for(lambda: node_is(run, "n1", NodeStatus.RUNNING), what="the endless node to start")

    worker.signal(signal.SIGINT)
    worker.wait_for(lambda: Worker.objects.filter(draining=True).exists() or "draining" in worker.output, what="the worker to drain")
    worker.signal(signal.SIGINT)

    assert worker.wait(15) == 1, worker.output
    run.refresh_from_db()
    assert (run.status, run.deaths) == ("pending", 0)
    assert NodeRun.objects.filter(run=run, node_id="n1").order_by("attempt").values_list("status", "lost")[0] == ("failed", True)


@pytest.mark.slow
def test_an_executing_node_finishes_before_a_cancelled_run_ends(start_worker: StartWorker) -> None:
    run = accept_chain("SELECT 3 AS x", SLOW, "SELECT n FROM input")
    worker = start_worker()
    worker.wait_for(lambda: node_is(run, "n1", NodeStatus.RUNNING), what="the slow node to start")

    triggers.cancel(run.id)

    worker.wait_for(lambda: status_of(run) == "cancelled", 60, "the run to end")
    assert [attempt.status for attempt in run.node_runs.all()] == ["success", "success", "cancelled"]


@pytest.mark.slow
def test_force_stops_the_executing_node(start_worker: StartWorker) -> None:
    run = accept_chain("SELECT 3 AS x", ENDLESS, "SELECT n FROM input")
    worker = start_worker()
    worker.wait_for(lambda: node_is(run, "n1", NodeStatus.RUNNING), what="the endless node to start")

    triggers.cancel(run.id, force=True)

    worker.wait_for(lambda: status_of(run) == "cancelled", 10, "the run to end")
    assert [attempt.status for attempt in run.node_runs.all()] == ["success", "cancelled", "cancelled"]


@pytest.mark.slow
def test_a_failed_node_skips_what_needs_it_and_the_rest_goes_on(start_worker: StartWorker) -> None:
    fails = "SELECT CAST(concat('nonsense', x) AS INTEGER) AS y FROM input"
    nodes = [*chain("SELECT 1 AS x", fails, "SELECT * FROM input"), sql_node("aside", "SELECT x * 2 AS x FROM input")]
    run = accept_run(make_pipeline(nodes, [("n0", "n1"), ("n1", "n2"), ("n0", "aside")]))

    assert start_worker("--drain").wait(60) == 0

    run.refresh_from_db()
    assert run.status == "failed"
    assert "Node 'N1' failed" in run.error
    assert "nonsense" in run.error
    statuses = dict(run.node_runs.values_list("node_id", "status"))
    assert statuses == {"n0": "success", "n1": "failed", "n2": "skipped", "aside": "success"}


@pytest.mark.slow
def test_a_node_that_takes_too_long_is_stopped_and_tried_again(start_worker: StartWorker) -> None:
    slow = sql_node("slow", ENDLESS.replace("(SELECT max(x) FROM input)", "3"), timeout=1, max_retries=1, retry_delay=10)
    run = accept_run(make_pipeline([slow], []))

    assert start_worker("--drain").wait(60) == 0

    run.refresh_from_db()
    assert run.status == "failed"
    assert "timeout" in run.error
    attempts = run.node_runs.order_by("attempt").values_list("attempt", "status", "lost")
    assert list(attempts) == [(1, "failed", False), (2, "failed", False)]
    assert list(LogEntry.objects.filter(run=run, kind="node.retrying").values_list("attempt", flat=True)) == [2]


@pytest.mark.slow
def test_a_run_that_takes_too_long_is_stopped_in_the_middle_of_its_query(start_worker: StartWorker) -> None:
    pipeline = make_pipeline(chain("SELECT 3 AS x", ENDLESS, "SELECT n FROM input"), [("n0", "n1"), ("n1", "n2")])
    version = pipeline.versions.get()
    PipelineVersion.objects.filter(id=version.id).update(document=version.document | {"timeout": 2})
    run = accept_run(pipeline)

    assert start_worker("--drain").wait(60) == 0

    run.refresh_from_db()
    assert (run.status, run.error) == ("failed", "The run took longer than its timeout of 2.0s and was stopped.")
    assert [attempt.status for attempt in run.node_runs.all()] == ["success", "failed", "skipped"]
    assert run.started_at and run.finished_at
    assert 2 <= (run.finished_at - run.started_at).total_seconds() < 2 + within(1)


@pytest.mark.slow
def test_a_mistake_is_not_tried_again(start_worker: StartWorker) -> None:
    run = accept_run(make_pipeline([sql_node("wrong", "SELECT CAST('five' AS INTEGER) AS x", max_retries=3)], []))

    assert start_worker("--drain").wait(60) == 0

    assert status_of(run) == "failed"
    assert run.node_runs.count() == 1


@pytest.mark.slow
def test_a_cancel_ends_a_waiting_retry_at_once(start_worker: StartWorker) -> None:
    slow = sql_node("slow", ENDLESS.replace("(SELECT max(x) FROM input)", "3"), timeout=1, max_retries=3, retry_delay=60_000)
    run = accept_run(make_pipeline([slow], []))
    worker = start_worker()
    worker.wait_for(lambda: run.node_runs.count() == 2, what="the retry to wait")

    triggers.cancel(run.id)

    worker.wait_for(lambda: status_of(run) == "cancelled", 10, "the run to end")
    assert list(run.node_runs.order_by("attempt").values_list("status", flat=True)) == ["failed", "cancelled"]


@pytest.mark.slow
def test_resume_reuses_what_succeeded(start_worker: StartWorker) -> None:
    pipeline = make_pipeline(
        chain("SELECT 4 AS x", "SELECT CAST('${param.number}' AS INTEGER) + x AS y FROM input", "SELECT * FROM input"), [("n0", "n1"), ("n1", "n2")]
    )
    failed = accept_run(pipeline, params={"number": "five"})
    assert start_worker("--drain").wait(60) == 0
    assert status_of(failed) == "failed"

    resumed = triggers.resume(failed.id)
    Run.objects.filter(id=resumed.id).update(params={"number": "5"})  # as if the world outside had been mended
    assert start_worker("--drain").wait(60) == 0

    resumed.refresh_from_db()
    assert (resumed.status, resumed.trigger) == ("success", Trigger.RESUME)
    assert dict(resumed.node_runs.values_list("node_id", "status")) == {"n0": "skipped", "n1": "success", "n2": "success"}
    assert NodeOutput.objects.get(run=resumed, node_id="n0").artifact == NodeOutput.objects.get(run=failed, node_id="n0").artifact
    assert NodeOutput.objects.get(run=resumed, node_id="n2").preview is not None
    assert RunStatus(resumed.status) == RunStatus.SUCCESS


@pytest.mark.slow
@pytest.mark.parametrize("concurrency", ["0", "257"])
def test_a_senseless_concurrency_is_refused(start_worker: StartWorker, concurrency: str) -> None:
    worker = start_worker("--concurrency", concurrency)

    assert worker.wait(30) == 2
    assert "--concurrency must be from 1 to 256" in worker.output


@pytest.mark.slow
def test_a_database_that_was_never_set_up_is_said_plainly(start_worker: StartWorker, tmp_path: Path) -> None:
    worker = start_worker(BROKOLI_HOME=str(tmp_path / "new"), DATABASE_URL="")

    assert worker.wait(30) == 2
    assert "run `manage.py migrate` first" in worker.output
    assert "Traceback" not in worker.output


def test_an_idle_worker_wakes_for_a_new_run(start_worker: StartWorker) -> None:
    """It does not wait for its next poll, a second away. How many milliseconds it takes is a figure of `make bench`."""
    pipeline = make_pipeline(chain("SELECT 1 AS x"), [])
    worker = start_worker()
    worker.wait_for(Worker.objects.exists, what="the worker to register")
    delays = []
    for _ in range(10):
        run = accept_run(pipeline)
        wait_for(partial(is_over, run), what="the run to end")
        run.refresh_from_db()
        assert run.started_at is not None
        delays.append((run.started_at - run.created_at).total_seconds())

    assert sorted(delays)[len(delays) // 2] < min(within(0.25), 0.45), delays
