"""`manage.py enqueue_due_runs`: what every worker does each second, once: make the runs whose time has come, look at deadlines."""

import sys
from typing import Any

from django.core.management.base import BaseCommand

from brokoli_site.common.migrations import is_up_to_date
from brokoli_site.common.time import iso
from runs import scheduler, scheduler_looks, sla


class Command(BaseCommand):
    help = "Make the runs that schedules call for by now, and note missed deadlines. Workers do this by themselves; it never makes a run twice."

    def handle(self, *args: Any, **options: Any) -> None:
        if not is_up_to_date():
            self.stderr.write("brokoli: the database is not up to date; run `manage.py migrate` first.")
            sys.exit(2)
        scheduler.catch_up_with_saves()
        made = scheduler.look()
        scheduler_looks.note()
        for run in made:
            self.stdout.write(f"{run.pipeline.pipeline_id}: run {run.id} for {iso(run.interval_end)}")
        self.stdout.write(f"{len(made)} {'run was' if len(made) == 1 else 'runs were'} made.")
        missed = sla.look()
        if missed:
            self.stdout.write(f"{missed} {'deadline was' if missed == 1 else 'deadlines were'} missed.")
