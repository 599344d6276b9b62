"""Gates that hold or not, and runs that are made because another pipeline's run ended."""

import datetime as dt
from collections.abc import Sequence
from typing import Any

import pytest
from django.db import DataError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from pipelines import definitions
from pipelines.models import Pipeline
from runs import dependencies, log, triggers, upstream_ends
from runs.dependencies import DependencyUnmet
from runs.models import LogEntry, Run, UpstreamEnd
from runs.states import RunStatus, Trigger
from tests.factories import accept_run, end_run, save_pipeline

pytestmark = pytest.mark.django_db


def ended(pipeline: Pipeline, status: RunStatus = RunStatus.SUCCESS, ago: int = 0, **arguments: Any) -> Run:
    """A run that ended so many seconds ago."""
    run = end_run(triggers.run(pipeline, ignore_dependencies=True, **arguments), status)
    if ago:
        run.finished_at = timezone.now() - dt.timedelta(seconds=ago)
        Run.objects.filter(id=run.id).update(finished_at=run.finished_at)
    return run


def lines(run: Run) -> list[str]:
    """What was logged of a run after its end."""
    return list(LogEntry.objects.filter(run=run, kind="log").values_list("message", flat=True))


def rule(upstream: str, **keys: Any) -> dict[str, Any]:
    return {"dependency_rules": [{"pipeline_id": upstream, **keys}]}


SUCCESS, FAILED, CANCELLED = RunStatus.SUCCESS, RunStatus.FAILED, RunStatus.CANCELLED


@pytest.mark.parametrize(
    ("keys", "ends", "words"),
    [
        ({}, [], "must have succeeded; no run of it has ended yet"),
        ({}, [(SUCCESS, 0)], ""),
        ({}, [(FAILED, 0), (SUCCESS, 0)], ""),
        ({}, [(SUCCESS, 10_800), (FAILED, 10_800)], "must have succeeded; its last run failed 3h00m ago (run "),
        ({}, [(SUCCESS, 0), (CANCELLED, 60)], "its last run was cancelled 1m00s ago"),
        ({"state": "failed"}, [(FAILED, 0)], ""),
        ({"state": "failed"}, [(SUCCESS, 0)], "must have failed; its last run succeeded"),
        ({"state": "completed"}, [(FAILED, 0)], ""),
        ({"state": "completed"}, [(CANCELLED, 0)], "must have completed"),
        ({"within_seconds": 3600}, [(SUCCESS, 3500)], ""),
        ({"within_seconds": 3600}, [(SUCCESS, 3700)], "must have succeeded within 1h00m; its last run succeeded 1h01m ago (run "),
    ],
)
def test_gates(keys: dict[str, Any], ends: list[tuple[RunStatus, int]], words: str) -> None:
    orders, report = save_pipeline("Orders"), save_pipeline("Report", **rule("orders", **keys) if keys else {"depends_on": ["orders"]})
    for status, ago in ends:
        ended(orders, status, ago)
    accept_run(orders)  # a run that is under way says nothing yet
    if not words:
        assert triggers.run(report).status == "pending"
        return
    with pytest.raises(DependencyUnmet) as caught:
        triggers.run(report)
    assert words in caught.value.message and caught.value.message.startswith("Pipeline 'Orders' must have")
    assert triggers.run(report, ignore_dependencies=True).status == "pending"


def test_every_unmet_gate_is_named_in_two_queries(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    upstreams = [save_pipeline(f"P{number}") for number in range(4)]
    ended(upstreams[1])
    report = save_pipeline("Report", depends_on=[f"p{number}" for number in range(4)])
    with pytest.raises(DependencyUnmet) as caught:
        triggers.run(report)
    assert ["P0" in caught.value.message, "P1" in caught.value.message, "P3" in caught.value.message] == [True, False, True]
    with django_assert_num_queries(2):
        assert [standing.holds for standing in dependencies.standings(report.id)] == [False, True, False, False]


def test_a_pipeline_without_dependencies_is_not_asked_about_them() -> None:
    pipeline = save_pipeline("Alone")
    with CaptureQueriesContext(connection) as captured:
        triggers.run(pipeline)
    assert not [query["sql"] for query in captured if "dependency" in query["sql"]]


def test_an_end_starts_who_waits_for_it_once() -> None:
    orders = save_pipeline("Orders")
    report, other = (
        save_pipeline("Report", **rule("orders", mode="trigger")),
        save_pipeline("Other", **rule("orders", mode="trigger", state="failed")),
    )
    run = ended(orders, params={"date": "2024-01-15", "secret": "x"}, logical_date=dt.date(2024, 1, 15))

    assert upstream_ends.settle() == 1
    assert upstream_ends.settle() == 0
    started = Run.objects.get(trigger=Trigger.UPSTREAM)
    assert (started.pipeline_id, started.upstream_run_id, started.params, started.logical_date) == (
        report.id,
        run.id,
        {"date": "2024-01-15"},
        dt.date(2024, 1, 15),
    )
    assert lines(run) == [f"Started 'Report' (run {started.id})"]

    ended(orders, FAILED)
    upstream_ends.settle()
    assert Run.objects.filter(pipeline=other, trigger=Trigger.UPSTREAM).count() == 1
    ended(orders, CANCELLED)
    assert not UpstreamEnd.objects.exists()


def test_an_end_that_nobody_waits_for_leaves_nothing() -> None:
    orders = save_pipeline("Orders")
    save_pipeline("Report", depends_on=["orders"])
    ended(orders)
    assert not UpstreamEnd.objects.exists()


def test_chains_and_ends_of_all_kinds() -> None:
    a = save_pipeline("A")
    b = save_pipeline("B", **rule("a", mode="trigger", state="completed"))
    save_pipeline("C", **rule("b", mode="trigger", state="failed"))
    ended(a, FAILED)
    ended(a, SUCCESS)
    upstream_ends.settle()
    runs = list(Run.objects.filter(pipeline=b))
    assert len(runs) == 2
    for run in runs:
        end_run(run, FAILED)
    upstream_ends.settle()
    assert Run.objects.filter(pipeline__name="C").count() == 2


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"enabled": False}, "it is disabled"),
        ({"nodes": []}, "The pipeline has no nodes"),
        ({"depends_on": ["gate"]}, "Pipeline 'Gate' must have succeeded; no run of it has ended yet"),
        ({"parameters": {"region": {"type": "string", "required": True}}}, "region"),
    ],
)
def test_what_cannot_start_is_told_and_forgotten(keys: dict[str, Any], words: str) -> None:
    orders = save_pipeline("Orders")
    save_pipeline("Gate")
    save_pipeline("Bad", **rule("orders", mode="trigger"), **keys)
    good = save_pipeline("Good", **rule("orders", mode="trigger"))
    run = ended(orders)
    assert upstream_ends.settle() == 1
    assert list(Run.objects.filter(trigger=Trigger.UPSTREAM).values_list("pipeline_id", flat=True)) == [good.id]
    first, second = lines(run)
    assert first.startswith("Did not start 'Bad': ") and words in first, first
    assert second.startswith("Started 'Good'")


def test_an_end_that_waited_too_long() -> None:
    orders = save_pipeline("Orders")
    save_pipeline("Report", **rule("orders", mode="trigger", within_seconds=60))
    run = ended(orders, ago=120)
    upstream_ends.settle()
    assert lines(run) == ["Did not start 'Report': the end is 2m00s ago, and the rule allows 1m00s"]


def test_two_triggers_wait_for_both_ends_anew_each_time() -> None:
    a, b = save_pipeline("A"), save_pipeline("B")
    both = save_pipeline("Both", dependency_rules=[{"pipeline_id": name, "mode": "trigger"} for name in ("a", "b")])
    for pipeline, count in ((a, 0), (a, 0), (b, 1), (b, 1), (a, 2), (a, 2), (b, 3)):
        run = ended(pipeline)
        upstream_ends.settle()
        assert Run.objects.filter(pipeline=both).count() == count, lines(run)
    assert LogEntry.objects.filter(message="Did not start 'Both': it waits for 'B' to have succeeded too, since it was started last").exists()


def test_both_ends_before_anybody_looks_make_one_run() -> None:
    a, b = save_pipeline("A"), save_pipeline("B")
    save_pipeline("Both", dependency_rules=[{"pipeline_id": name, "mode": "trigger"} for name in ("a", "b")])
    ended(a)
    ended(b)
    assert upstream_ends.settle() == 2
    assert Run.objects.filter(trigger=Trigger.UPSTREAM).count() == 1


def test_a_worker_that_dies_before_the_commit_leaves_the_end_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    orders = save_pipeline("Orders")
    save_pipeline("Report", **rule("orders", mode="trigger"))
    run = ended(orders)

    append = log.append

    def die_at_the_end(entries: Sequence[LogEntry], *arguments: Any) -> None:
        if any(entry.message.startswith("Started") for entry in entries):
            assert Run.objects.filter(trigger=Trigger.UPSTREAM).exists()
            raise KeyboardInterrupt
        append(entries, *arguments)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(log, "append", die_at_the_end)
        upstream_ends.settle()
    assert not Run.objects.filter(trigger=Trigger.UPSTREAM).exists()
    assert lines(run) == []

    assert upstream_ends.settle() == 1
    assert Run.objects.filter(trigger=Trigger.UPSTREAM).count() == 1


def test_a_bug_does_not_keep_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    orders = save_pipeline("Orders")
    save_pipeline("Report", **rule("orders", mode="trigger"))
    run = ended(orders)
    monkeypatch.setattr(triggers, "run", lambda *arguments, **keys: 1 / 0)
    assert upstream_ends.settle() == 1
    assert "the server has a bug (ZeroDivisionError)" in lines(run)[0]


def test_a_definition_that_cannot_even_be_checked_keeps_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    orders, good = save_pipeline("Orders"), save_pipeline("Good", **rule("orders", mode="trigger"))
    run = ended(orders)
    monkeypatch.setattr(triggers, "warm", lambda pipeline: 1 / 0)
    assert upstream_ends.settle() == 1
    assert Run.objects.filter(pipeline=good, upstream_run=run).exists()


def test_an_end_that_the_database_refuses_stands_in_nobodys_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream_ends, "_AT_ONCE", 1)
    bad, orders = save_pipeline("Bad"), save_pipeline("Orders")
    report = save_pipeline("Report", **rule("bad", mode="trigger"))
    good = save_pipeline("Good", **rule("orders", mode="trigger"))
    refused, accepted = ended(bad), ended(orders)
    accept = triggers.run

    def run(pipeline: Pipeline, **arguments: Any) -> Run:
        if pipeline.id == report.id:
            raise DataError("refused")
        return accept(pipeline, **arguments)

    monkeypatch.setattr(triggers, "run", run)
    for _ in range(2):
        upstream_ends.settle()
    assert Run.objects.filter(pipeline=good, upstream_run=accepted).exists()
    assert list(UpstreamEnd.objects.values_list("run_id", flat=True)) == [refused.id]

    monkeypatch.setattr(triggers, "run", accept)
    assert upstream_ends.settle() == 1
    assert Run.objects.filter(pipeline=report, upstream_run=refused).exists()


def test_a_rule_that_went_before_the_end_was_looked_at() -> None:
    orders = save_pipeline("Orders")
    report = save_pipeline("Report", **rule("orders", mode="trigger"))
    ended(orders)
    definitions.patch(report.id, {"dependency_rules": None})
    assert upstream_ends.settle() == 1
    assert not Run.objects.filter(pipeline=report).exists()
