"""`manage.py enqueue_due_runs`: what every worker does each second, once: make the runs whose time has come, look at deadlines."""

import sys
from collections.abc import Iterator
from time import monotonic
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from brokoli_site.common.migrations import is_up_to_date
from brokoli_site.common.time import iso
from runs import scheduler, scheduler_looks, sla
from runs.models import Run, ScheduleState

_MOST_SECONDS = 50.0  # cron calls it each minute; what is left is the next call's


class Command(BaseCommand):
    help = "Make the runs that schedules call for by now, and note missed deadlines. Workers do this by themselves; it never makes a run twice."

    def handle(self, *args: Any, verbosity: int, **options: Any) -> None:
        if not is_up_to_date():
            self.stderr.write("brokoli: the database is not up to date; run `manage.py migrate` first.")
            sys.exit(2)
        scheduler.catch_up_with_saves()
        count = 0
        for run in _due_runs():
            count += 1
            if verbosity:
                self.stdout.write(f"{run.pipeline.pipeline_id}: run {run.id} for {iso(run.interval_end)}")
        scheduler_looks.note()
        missed = sla.look()
        if verbosity:
            self.stdout.write(f"{count} {'run was' if count == 1 else 'runs were'} made.")
            if missed:
                self.stdout.write(f"{missed} {'deadline was' if missed == 1 else 'deadlines were'} missed.")


def _due_runs() -> Iterator[Run]:
    """One look deals with some pipelines; look until nothing is due, or what is does not become less: others are at it."""
    until = monotonic() + _MOST_SECONDS
    before = -1
    while (due := ScheduleState.objects.ticking(timezone.now()).count()) and monotonic() < until:
        made = scheduler.look(seconds=until - monotonic())
        yield from made
        if not made and due == before:
            return
        before = due
