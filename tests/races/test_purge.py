"""A purge beside everything else: either it was first, or the other was; never a half of each."""

import datetime as dt
import threading
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from brokoli_site.common.errors import NotFound
from pipelines.models import Pipeline
from runs import delivery, log, queue, retention, triggers
from runs.artifacts import ArtifactStore
from runs.messages import Verdict
from runs.models import LogEntry, NodeOutput, NodeRun, Notification, Run
from runs.retention import purge
from runs.states import EntryKind, RunStatus
from tests.factories import accept_run, make_pipeline, register_worker
from tests.history import id_at, lines, node_run, output, past_pipeline, saved_run
from tests.races.test_races import at_once

pytestmark = pytest.mark.django_db(transaction=True)


def failed_long_ago(pipeline: Pipeline | None = None) -> Run:
    run = saved_run(pipeline or make_pipeline(), RunStatus.FAILED, at=timezone.now() - dt.timedelta(days=40))
    node_run(run)
    output(run, artifact=f"{run.id}/0.1.parquet")
    lines(run, 20)
    return run


def test_purge_and_resume_at_once(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    for _ in range(10):
        failed = failed_long_ago()
        purged, resumed = at_once(partial(purge, 30, store), partial(triggers.resume, failed.id))
        assert not isinstance(purged, Exception), purged
        if isinstance(resumed, Run):
            resumed.refresh_from_db()
            assert resumed.resumed_from_id == failed.id, "the resumed run lost what it goes on from"
            assert (purged.runs, NodeOutput.objects.filter(run=failed).exists()) == (0, True)
            triggers.cancel(resumed.id)
            Run.objects.filter(id=resumed.id).update(resumed_from=None)
        else:
            assert isinstance(resumed, NotFound), resumed
            assert purged.runs == 1
        purge(30, store)


def test_a_purge_that_looked_before_a_resume_looks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rival resumes after the purge has chosen its runs, and before it locks them."""
    failed = failed_long_ago()
    original = retention._Step.take
    made: list[Any] = []

    def take(step: retention._Step, ids: Any) -> int:
        if not made:
            made.extend(at_once(partial(triggers.resume, failed.id)))
        return original(step, ids)

    monkeypatch.setattr(retention._Step, "take", take)
    assert purge(30, ArtifactStore(tmp_path)).runs == 0
    assert isinstance(made[0], Run)
    assert LogEntry.objects.filter(run=failed).count() == 20


def test_a_resume_that_read_its_run_before_the_purge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = failed_long_ago()
    store = ArtifactStore(tmp_path)
    original = transaction.atomic
    purged: list[Any] = []

    def atomic(*args: Any, **kwargs: Any) -> Any:
        if not purged:
            purged.append(None)
            purged.extend(at_once(partial(purge, 30, store)))
        return original(*args, **kwargs)

    monkeypatch.setattr("runs.triggers.transaction", SimpleNamespace(atomic=atomic))
    with pytest.raises(NotFound):
        triggers.resume(failed.id)
    assert purged[1].runs == 1
    assert not Run.objects.exists()


def test_four_purges_delete_each_run_once(tmp_path: Path) -> None:
    pipeline = make_pipeline()
    for _ in range(30):
        failed_long_ago(pipeline)
    results = at_once(*[partial(purge, 30, ArtifactStore(tmp_path))] * 4)
    assert not [result for result in results if isinstance(result, Exception)], results
    assert sum(result.runs for result in results) + purge(30, ArtifactStore(tmp_path)).runs == 30
    assert not LogEntry.objects.exists()
    assert not NodeRun.objects.exists()


def test_a_purge_and_the_end_of_a_delivery(tmp_path: Path) -> None:
    """The sender's line goes into the log of a run that is there, or nowhere; neither waits for the other for ever."""
    for _ in range(10):
        run = failed_long_ago()
        now = timezone.now()
        facts: dict[str, Any] = {"event": "on_failure", "kind": "webhook", "payload": {}, "created_at": now, "next_attempt_at": now}
        made = Notification.objects.create(pipeline=run.pipeline, run=run, hook={"kind": "webhook", "url": "https://h.example", "extra": {}}, **facts)
        assert delivery.claim(made)
        results = at_once(partial(delivery.settle, made, Verdict(sent=True)), partial(purge, 30, ArtifactStore(tmp_path)))
        assert not [result for result in results if isinstance(result, Exception)], results
        purge(30, ArtifactStore(tmp_path))
        assert [Run.objects.count(), LogEntry.objects.count(), Notification.objects.count()] == [0, 0, 0]


def test_runs_go_on_while_a_purge_deletes(tmp_path: Path) -> None:
    """Nobody waits longer than a transaction of the purge takes, and no run that is going on is touched."""
    old = past_pipeline()
    version, moment = old.versions.get(), timezone.now() - dt.timedelta(days=40)
    runs = [Run(id=id_at(moment), pipeline=old, version=version, status="success", created_at=moment, finished_at=moment) for _ in range(60)]
    Run.objects.bulk_create(runs)
    for run in runs:
        LogEntry.objects.bulk_create([log.entry(run.id, EntryKind.LOG, "x" * 200) for _ in range(20)])
    pipeline = make_pipeline()
    worker = register_worker()
    over = threading.Event()
    waits: list[float] = []

    def work() -> int:
        done = 0
        while not over.is_set() or done == 0:
            started = time.monotonic()
            accept_run(pipeline)
            (lease,) = queue.claim(worker.id, 1)
            queue.finish(lease, RunStatus.SUCCESS)
            waits.append((time.monotonic() - started) / 3)
            done += 1
        return done

    def delete() -> Any:
        try:
            return purge(30, ArtifactStore(tmp_path))
        finally:
            over.set()

    done, purged = at_once(work, delete)
    assert not isinstance(done, Exception), done
    assert not isinstance(purged, Exception), purged
    assert purged.runs == 60
    assert Run.objects.count() == Run.objects.filter(pipeline=pipeline, status="success").count() == done
    assert sorted(waits)[len(waits) // 2] < 0.5, sorted(waits)
