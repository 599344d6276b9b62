"""Workers that meet at the end of a run: it starts who waits for it once."""

from collections.abc import Callable

import pytest

from runs import upstream_ends
from runs.control import Resources
from runs.models import Run, UpstreamEnd
from runs.states import RunStatus, Trigger
from tests.factories import accept_run, end_run, save_pipeline
from tests.races.test_database_away import resources, work_until_empty  # noqa: F401 - a fixture
from tests.races.test_races import at_once

pytestmark = pytest.mark.django_db(transaction=True)


def triggered(*names: str) -> list[dict[str, str]]:
    return [{"pipeline_id": name, "mode": "trigger"} for name in names]


def test_eight_workers_settle_each_end_once() -> None:
    orders = save_pipeline("Orders")
    downstreams = [save_pipeline(f"Report{number}", dependency_rules=triggered("orders")) for number in range(3)]
    ends = [end_run(accept_run(orders), RunStatus.SUCCESS) for _ in range(10)]

    while UpstreamEnd.objects.exists():
        results = at_once(*([upstream_ends.settle] * 8))
        assert not [result for result in results if isinstance(result, Exception)], results

    for downstream in downstreams:
        made = list(Run.objects.filter(pipeline=downstream).values_list("upstream_run_id", flat=True))
        assert sorted(made) == sorted(end.id for end in ends)


def test_ends_that_meet_at_one_pipeline_make_one_run_together() -> None:
    a, b = save_pipeline("A"), save_pipeline("B")
    both, reverse = save_pipeline("Both", dependency_rules=triggered("a", "b")), save_pipeline("Reverse", dependency_rules=triggered("b", "a"))
    for round_number in range(1, 6):
        end_run(accept_run(a), RunStatus.SUCCESS)
        end_run(accept_run(b), RunStatus.SUCCESS)

        results = at_once(*([upstream_ends.settle] * 4))

        assert not [result for result in results if isinstance(result, Exception)], results
        assert not UpstreamEnd.objects.exists()
        for downstream in (both, reverse):
            assert Run.objects.filter(pipeline=downstream, trigger=Trigger.UPSTREAM).count() == round_number


def test_a_worker_that_ends_when_nothing_is_left_waits_for_what_ends_call_for(
    resources: Callable[..., Resources],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    orders, report = save_pipeline("Orders"), save_pipeline("Report", dependency_rules=triggered("orders"))
    settle, busy = upstream_ends.settle, [True]

    def later() -> int:
        """At the second look, as when another chore takes its time."""
        return 0 if UpstreamEnd.objects.exists() and busy and busy.pop() else settle()

    monkeypatch.setattr(upstream_ends, "settle", later)
    accept_run(orders)

    work_until_empty(resources())

    assert list(Run.objects.filter(pipeline=report).values_list("status", flat=True)) == [RunStatus.SUCCESS]
