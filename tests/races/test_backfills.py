"""Backfills and others at the same moment."""

import datetime as dt
from functools import partial
from typing import Any

import pytest
from django.db import connection, transaction

from runs import backfills, queue, triggers
from runs.backfill_plans import Only
from runs.backfills import Plan
from runs.models import Run
from runs.transitions import Lease
from tests.factories import make_pipeline, register_worker
from tests.races.test_races import at_once

pytestmark = pytest.mark.django_db(transaction=True)


def plan(**arguments: object) -> Plan:
    return backfills.over_dates(make_pipeline(), dt.date(2024, 1, 1), dt.date(2024, 1, 20), **arguments)  # type: ignore[arg-type]


def test_backfills_of_what_is_missing_make_each_date_once() -> None:
    wanted = plan(only="missing")

    results = at_once(*[partial(backfills.start, wanted)] * 4)

    assert not [result for result in results if isinstance(result, Exception)], results
    dates = list(Run.objects.values_list("logical_date", flat=True))
    assert (len(dates), len(set(dates))) == (20, 20)


@pytest.mark.parametrize("only", ["all", "missing", "unfinished"])
def test_what_takes_long_is_done_while_nobody_waits(only: Only, monkeypatch: pytest.MonkeyPatch) -> None:
    """On SQLite every heartbeat waits for the transaction."""
    prepare, asked = triggers.prepare, []

    def watched(*arguments: Any) -> Any:
        asked.append(connection.in_atomic_block)
        return prepare(*arguments)

    monkeypatch.setattr(triggers, "prepare", watched)
    assert len(backfills.start(plan(only=only))[2]) == 20
    assert asked == [False]


def test_cancel_and_claims_at_once() -> None:
    _, backfill, _ = backfills.start(plan())
    workers = [register_worker() for _ in range(3)]

    results = at_once(
        partial(backfills.cancel, backfill.id), partial(backfills.cancel, backfill.id), *(partial(queue.claim, w.id, 4) for w in workers)
    )

    assert not [result for result in results if isinstance(result, Exception)], results
    claimed = {lease.run_id for leases in results[2:] for lease in leases}
    assert {run.id for run in Run.objects.filter(status="running")} == claimed
    assert Run.objects.filter(status="cancelled").count() == 20 - len(claimed)


def test_a_cancel_that_read_pending_meets_a_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    """The claim commits between the cancel's read and its transaction: that run goes on, the others are cancelled."""
    _, backfill, ids = backfills.start(plan())
    worker = register_worker()
    claims: list[Lease] = []

    class Intercepted:
        @staticmethod
        def atomic() -> Any:
            if not claims:
                claims.extend(at_once(lambda: queue.claim(worker.id, 1))[0])
            return transaction.atomic()

    monkeypatch.setattr(backfills, "transaction", Intercepted)
    backfills.cancel(backfill.id)

    assert [lease.run_id for lease in claims] == ids[:1]
    assert list(Run.objects.order_by("id").values_list("status", flat=True)) == ["running"] + ["cancelled"] * 19
