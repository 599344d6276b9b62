"""Old runs go with all that is theirs, and nothing else does."""

import datetime as dt
import io
import os
import time
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import Model
from django.utils import timezone

from runs import retention, transitions, triggers
from runs.artifacts import ArtifactStore
from runs.models import LogEntry, NodeOutput, NodeRun, Notification, Run, UpstreamEnd
from runs.retention import Purged, collect_strays, preview, purge
from runs.states import NodeStatus, RunStatus
from tests.factories import accept_run, register_worker
from tests.history import lines, node_run, output, past_pipeline, saved_run

pytestmark = pytest.mark.django_db


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path)


def put(store: ArtifactStore, key: str) -> Path:
    path = store.path(key)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"PAR1 0000 PAR1")
    return path


def ended_run(store: ArtifactStore, days_ago: float, status: RunStatus = RunStatus.SUCCESS, **fields: Any) -> Run:
    """With a node run, an output, its file, five log entries and a notification."""
    pipeline = fields.pop("pipeline", None) or past_pipeline(f"p{Run.objects.count()}")
    run = saved_run(pipeline, status, at=timezone.now() - dt.timedelta(days=days_ago, seconds=100), **fields)
    node_run(run)
    output(run, artifact=f"{run.id}/0.1.parquet")
    put(store, f"{run.id}/0.1.parquet")
    lines(run, 5)
    now = timezone.now()
    facts = {"event": "on_success", "kind": "webhook", "hook": {}, "payload": {}, "next_attempt_at": now, "created_at": now}
    Notification.objects.create(pipeline=pipeline, run=run, status="sent", **facts)
    return run


def left(*models: type[Model]) -> list[int]:
    return [model._default_manager.count() for model in models]


PARTS = (Run, NodeRun, NodeOutput, LogEntry, Notification)


def test_only_what_ended_long_ago_goes_with_all_that_is_its_own(store: ArtifactStore) -> None:
    old, recent = ended_run(store, 31), ended_run(store, 29)
    never_ended = saved_run(past_pipeline("waiting"), RunStatus.PENDING, at=timezone.now() - dt.timedelta(days=400))
    running = saved_run(past_pipeline("running"), RunStatus.RUNNING, at=timezone.now() - dt.timedelta(days=400))

    assert preview(30, store) == Purged(1, 5, 1, 14)
    assert left(*PARTS) == [4, 2, 2, 10, 2]
    assert purge(30, store) == Purged(1, 5, 1, 14)

    assert set(Run.objects.values_list("id", flat=True)) == {recent.id, never_ended.id, running.id}
    assert left(*PARTS) == [3, 1, 1, 5, 1]
    assert store.run_ids() == [str(recent.id)]
    assert not store.run_folder(str(old.id)).exists()
    assert purge(30, store) == Purged()


def test_the_end_counts_and_not_the_beginning(store: ArtifactStore) -> None:
    run = ended_run(store, 60)
    Run.objects.filter(id=run.id).update(finished_at=timezone.now() - dt.timedelta(days=1))
    assert purge(30, store).runs == 0


@pytest.mark.parametrize("status", [RunStatus.SUCCESS, RunStatus.FAILED, RunStatus.CANCELLED])
def test_every_terminal_status_goes(store: ArtifactStore, status: RunStatus) -> None:
    ended_run(store, 31, status)
    assert purge(30, store).runs == 1


def test_a_run_that_is_being_resumed_stays_until_that_ends(store: ArtifactStore) -> None:
    pipeline = past_pipeline()
    failed = ended_run(store, 31, RunStatus.FAILED, pipeline=pipeline)
    resumed = triggers.resume(failed.id)
    assert purge(30, store).runs == 0
    lease = transitions.start_run(resumed.id, register_worker().id)
    assert lease
    assert purge(30, store).runs == 0
    transitions.finish_run(lease, RunStatus.FAILED, "x")
    assert purge(30, store).runs == 1
    resumed.refresh_from_db()
    assert resumed.resumed_from is None


def test_an_end_that_was_not_passed_on_keeps_its_run(store: ArtifactStore) -> None:
    run = ended_run(store, 31)
    end = UpstreamEnd.objects.create(run=run, created_at=timezone.now())
    assert purge(30, store).runs == 0
    end.delete()
    assert purge(30, store).runs == 1


def test_an_artifact_stays_as_long_as_any_run_names_it(store: ArtifactStore) -> None:
    pipeline = past_pipeline()
    first = ended_run(store, 40, RunStatus.FAILED, pipeline=pipeline)
    second = ended_run(store, 35, RunStatus.SUCCESS, pipeline=pipeline, resumed_from=first)
    NodeOutput.objects.filter(run=second).update(artifact=f"{first.id}/0.1.parquet")
    store.delete_run(str(second.id))

    assert preview(38, store) == Purged(1, 5, 0, 0)
    assert purge(38, store) == Purged(1, 5, 0, 0)
    assert store.exists(f"{first.id}/0.1.parquet")
    assert preview(30, store) == purge(30, store) == Purged(1, 5, 1, 14)
    assert store.run_ids() == []


def test_an_artifact_of_a_run_that_stays_goes_only_when_nobody_names_it(store: ArtifactStore) -> None:
    """The later run ended long ago, the one whose folder it is stays."""
    pipeline = past_pipeline()
    keeper = ended_run(store, 1, pipeline=pipeline)
    named, freed = put(store, f"{keeper.id}/0.1.parquet"), put(store, f"{keeper.id}/1.1.parquet")
    draft = store.run_folder(str(keeper.id)) / ".2.1.parquet.x.draft"
    draft.write_bytes(b"")
    old = ended_run(store, 40, pipeline=pipeline)
    output(old, "other", artifact=f"{keeper.id}/1.1.parquet")
    NodeOutput.objects.filter(run=old, node_id="first").update(artifact=f"{keeper.id}/0.1.parquet")
    purge(30, store)
    assert (named.exists(), freed.exists(), draft.exists()) == (True, False, True)


def test_large_runs_go_in_many_short_transactions(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_TRANSACTION_SECONDS", 0.0)
    monkeypatch.setattr(retention, "_OUTPUTS", 10)
    run = ended_run(store, 31)
    lines(run, 2_000)
    for n in range(25):
        output(run, f"node{n}", artifact=f"{run.id}/{n}.2.parquet")
        put(store, f"{run.id}/{n}.2.parquet")
    small = ended_run(store, 32)
    told: list[Purged] = []

    assert purge(30, store, tell=told.append) == Purged(2, 2_010, 27, 27 * 14)
    assert len(told) > 5
    assert [step.runs for step in told] == sorted(step.runs for step in told)
    assert left(*PARTS) == [0] * 5
    assert store.run_ids() == []
    assert small.id != run.id


def test_a_purge_has_a_time_limit_and_goes_on_next_time(store: ArtifactStore) -> None:
    for days in (31, 32, 33):
        ended_run(store, days)
    assert purge(30, store, seconds=0.0) == Purged()
    assert purge(30, store).runs == 3


def test_runs_that_ended_at_the_same_moment_are_each_looked_at_once(store: ArtifactStore) -> None:
    pipeline = past_pipeline()
    runs = [ended_run(store, 31, pipeline=pipeline) for _ in range(45)]
    Run.objects.update(finished_at=timezone.now() - dt.timedelta(days=31))
    for run in runs[:25]:  # more than a page of them cannot go
        UpstreamEnd.objects.create(run=run, created_at=timezone.now())
    assert purge(30, store).runs == 20


# --- killed in the middle -----------------------------------------------------------------------------------------


class Killed(Exception):
    pass


def test_killed_between_the_commit_and_the_files(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    run = ended_run(store, 31)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(retention, "_TRANSACTION_SECONDS", 60.0)
        patched.setattr(retention, "_prune", lambda *_: (_ for _ in ()).throw(Killed()))
        purge(30, store)
    assert not Run.objects.exists()
    path = store.path(f"{run.id}/0.1.parquet")
    old = time.time() - 40 * 24 * 3600
    os.utime(path.parent, (old, old))

    assert collect_strays(store).files == 1
    assert store.run_ids() == []


def test_killed_in_the_middle_of_a_large_run(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_TRANSACTION_SECONDS", 0.0)
    monkeypatch.setattr(retention, "_LOG_ENTRIES", 5)
    monkeypatch.setattr(retention, "_OUTPUTS", 1)
    run = ended_run(store, 31)
    steps = 0

    def kill(_: Purged) -> None:
        nonlocal steps
        steps += 1
        if steps == 2:
            raise Killed

    with pytest.raises(Killed):
        purge(30, store, tell=kill)
    assert Run.objects.filter(id=run.id).exists()
    assert left(LogEntry, NodeOutput) == [0, 0]
    assert purge(30, store).runs == 1
    assert left(*PARTS) == [0] * 5
    assert store.run_ids() == []


def test_a_resume_of_what_is_half_purged_runs_everything_again(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_TRANSACTION_SECONDS", 0.0)
    monkeypatch.setattr(retention, "_OUTPUTS", 1)
    failed = ended_run(store, 31, RunStatus.FAILED)

    def stop(_: Purged) -> None:
        if not NodeOutput.objects.exists():
            raise Killed

    with pytest.raises(Killed):
        purge(30, store, tell=stop)
    resumed = triggers.resume(failed.id)
    assert purge(30, store).runs == 0
    assert [attempt.status for attempt in NodeRun.objects.filter(run=resumed)] == [NodeStatus.PENDING]


# --- the command --------------------------------------------------------------------------------------------------


def test_the_command_says_what_it_did(settings: Any, tmp_path: Path) -> None:
    settings.ARTIFACTS = tmp_path
    store = ArtifactStore(tmp_path)
    ended_run(store, 31)
    ended_run(store, 8)

    def said(*arguments: str) -> str:
        out = io.StringIO()
        call_command("purge_runs", *arguments, stdout=out)
        return out.getvalue()

    assert said("--dry-run") == "Would delete: runs: 1, log entries: 5, files: 1 (14 bytes). Nothing was deleted.\n"
    assert said("--dry-run", "--days", "7").startswith("Would delete: runs: 2,")
    assert said() == "Deleted: runs: 1, log entries: 5, files: 1 (14 bytes).\n"
    assert said("--days", "7") == "Deleted: runs: 1, log entries: 5, files: 1 (14 bytes).\n"
    assert said("--days", "100000000") == "Deleted: runs: 0, log entries: 0, files: 0 (0 bytes).\n"
    with pytest.raises(CommandError, match="1 or more"):
        said("--days", "0")


def test_the_search_for_old_runs_walks_its_index(store: ArtifactStore) -> None:
    accept_run()
    runs = retention.purgeable(timezone.now()).order_by("finished_at", "id").values_list("id")[:20]
    if connection.vendor == "sqlite":
        assert "run_finished" in runs.explain()


def test_the_command_does_as_the_setting_says(store: ArtifactStore, tmp_path: Path, settings: Any, capsys: pytest.CaptureFixture[str]) -> None:
    settings.ARTIFACTS = tmp_path
    ended_run(store, 8)
    for settings.RETENTION_DAYS, left in ((0, 1), (9, 1), (7, 0)):
        call_command("purge_runs", "--retention", verbosity=0)
        assert Run.objects.count() == left
    assert capsys.readouterr().out == ""
    settings.RETENTION_DAYS = 0
    call_command("purge_runs", "--retention")
    assert "kept for ever" in capsys.readouterr().out
    with pytest.raises(CommandError):
        call_command("purge_runs", "--retention", "--days", "3")
