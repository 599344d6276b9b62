"""Workers that meet at the end of a run: it starts who waits for it once."""

import pytest

from runs import upstream_ends
from runs.models import Run, UpstreamEnd
from runs.states import RunStatus, Trigger
from tests.factories import accept_run, end_run, save_pipeline
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
