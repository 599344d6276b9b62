"""`manage.py runworker`: execute runs. Takes the place of Channels' command of the same name."""

import argparse
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from brokoli_site.common.migrations import is_up_to_date
from brokoli_site.common.private_paths import private_paths
from pipelines import sealing
from pipelines.nodes.files import DataFolders
from runs.artifacts import ArtifactStore
from runs.control import Resources
from runs.engine import DataEngine, EngineLimits
from runs.worker import WorkerOptions, WorkerProcess


class Command(BaseCommand):
    help = "Execute runs until told to stop: the first SIGTERM or Ctrl-C drains, the second stops at once."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--concurrency", type=int, default=settings.WORKER_CONCURRENCY, help="runs executed at the same time")
        parser.add_argument("--drain", action="store_true", help="end when no run is waiting or executing")

    def handle(self, *args: Any, concurrency: int, drain: bool, **options: Any) -> None:
        if not 1 <= concurrency <= 256:
            self.stderr.write("brokoli: --concurrency must be from 1 to 256.")
            sys.exit(2)
        if not is_up_to_date():
            self.stderr.write("brokoli: the database is not up to date; run `manage.py migrate` first.")
            sys.exit(2)
        if fault := sealing.fault():
            self.stderr.write(f"brokoli: {fault}")
            sys.exit(2)
        worker = WorkerProcess(
            WorkerOptions(concurrency, settings.LEASE_SECONDS, settings.MAX_DEATHS, settings.DRAIN_SECONDS, until_empty=drain),
            lambda: _resources(concurrency),
        )
        signal.signal(signal.SIGTERM, worker.stop)
        signal.signal(signal.SIGINT, worker.stop)
        sys.exit(worker.run())


def _resources(concurrency: int) -> Resources:
    store = ArtifactStore(settings.ARTIFACTS)
    folders = DataFolders(settings.DATA_DIRS, forbidden=private_paths())
    limits = EngineLimits(settings.MEMORY_LIMIT, settings.ENGINE_THREADS, settings.SPILL_LIMIT, concurrent_runs=concurrency)
    nodes = ThreadPoolExecutor(concurrency * settings.NODE_CONCURRENCY, thread_name_prefix="node")
    engine = DataEngine(store, folders, limits)
    engine.warm()
    return Resources(engine, store, nodes, settings.NODE_CONCURRENCY)
