"""A node that writes ten thousand log lines a second: its lines are stored in batches and capped, and its worker goes on beating."""

import math
from collections.abc import Callable

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from pipelines.nodes.base import Stop
from runs.control import Resources
from runs.engine import NodeTask
from runs.log import MAX_LINES, NodeLog, append
from runs.models import LogEntry
from runs.tenure import clock
from tests.factories import accept_run
from tests.patience import within
from tests.races.test_database_away import resources, work_until_empty  # noqa: F401 - a fixture

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.slow
def test_ten_thousand_lines_a_second(resources: Callable[..., Resources]) -> None:  # noqa: F811
    written: dict[str, int] = {}
    lease_seconds = math.ceil(within(3))

    def flood(task: NodeTask, log: NodeLog, stop: Stop) -> None:
        ends, lines = clock() + 1.7 * lease_seconds, 0
        while clock() < ends or lines <= MAX_LINES:
            for _ in range(100):
                log.info(f"line {lines}")
                lines += 1
            stop.wait(0.01)
            stop.check()  # refuses once the lease has run out for want of a beat
        written[task.node.id] = lines

    run = accept_run()
    work_until_empty(resources(flood), lease_seconds)

    run.refresh_from_db()
    assert (run.status, run.epoch) == ("success", 1)
    assert written
    for node_id, count in written.items():
        lines = LogEntry.objects.filter(run=run, node_id=node_id, kind="log").order_by("seq").values_list("message", flat=True)
        assert len(lines) == MAX_LINES + 1
        assert (lines[0], lines[MAX_LINES - 1]) == ("line 0", f"line {MAX_LINES - 1}")
        assert lines[MAX_LINES] == f"dropped {count - MAX_LINES} log lines: a node may write {MAX_LINES} an attempt"


def test_a_batch_of_lines_is_few_statements() -> None:
    run = accept_run()
    lines = NodeLog(run.id, "first", 1)
    for line in range(1_000):
        lines.info(f"line {line}")
    with CaptureQueriesContext(connection) as captured:
        append(lines.drain())
    assert len([query for query in captured.captured_queries if query["sql"].startswith("INSERT")]) <= 10
