"""`manage.py purge_runs`: delete the runs that ended long ago, with their logs, outputs and artifacts."""

import argparse
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.db import connection

from brokoli_site.common.commands import AuditedCommand
from brokoli_site.common.migrations import is_up_to_date
from runs import freed_pages, retention
from runs.artifacts import ArtifactStore
from runs.retention import Purged


class Command(AuditedCommand):
    help = "Delete runs that ended more than N days ago, with their logs, outputs and artifacts. Safe while runs execute, and to interrupt."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        age = parser.add_mutually_exclusive_group()
        age.add_argument("--days", type=int, default=30, help="runs that ended more than this many days ago (default: 30)")
        age.add_argument("--retention", action="store_true", dest="retention_setting", help="as BROKOLI_RETENTION_DAYS says; 0: nothing")
        parser.add_argument("--dry-run", action="store_true", help="only say what would be deleted")

        parser.add_argument(
            "--rebuild", action="store_true", help="then write SQLite's file anew, without free room; others wait, and it takes as much room again"
        )

    def handle(self, *args: Any, days: int, retention_setting: bool, dry_run: bool, rebuild: bool, verbosity: int, **options: Any) -> None:
        if retention_setting and not settings.RETENTION_DAYS:
            self._say("Nothing was deleted: BROKOLI_RETENTION_DAYS is 0, runs are kept for ever.", verbosity)
            return
        days = settings.RETENTION_DAYS if retention_setting else days
        if days < 1:
            raise CommandError("--days must be 1 or more.")
        if not is_up_to_date():
            raise CommandError("The database is not up to date: run `manage.py migrate` first.")
        if rebuild and dry_run:
            raise CommandError("--rebuild writes, --dry-run does not: give one of them.")
        if rebuild and connection.vendor != "sqlite":
            raise CommandError("--rebuild is for SQLite. PostgreSQL reuses the room; `VACUUM FULL` gives it back.")
        store = ArtifactStore(settings.ARTIFACTS)
        if dry_run:
            self._say(f"Would delete: {summary(retention.preview(days, store))}. Nothing was deleted.", verbosity)
            return
        try:
            purged = retention.purge(days, store, tell=self._progress)
        except KeyboardInterrupt:
            raise CommandError("Interrupted. What was said to be deleted is; call it again for the rest.") from None
        finally:
            if self._on_terminal():
                self.stderr.write("")
        self._say(f"Deleted: {summary(purged)}.", verbosity)
        if rebuild and freed_pages.rebuild():
            self._say("The database file was rebuilt.", verbosity)

    def _say(self, text: str, verbosity: int) -> None:
        if verbosity:
            self.stdout.write(text)

    def _progress(self, purged: Purged) -> None:
        if self._on_terminal():
            self.stderr.write(f"\r{purged.runs:,} runs, {purged.log_entries:,} log entries, {purged.files:,} files", ending="")
            self.stderr.flush()

    def _on_terminal(self) -> bool:
        return sys.stderr.isatty()


def summary(purged: Purged) -> str:
    """`runs: 3, log entries: 120, files: 6 (1.2 MB)`"""
    return f"runs: {purged.runs:,}, log entries: {purged.log_entries:,}, files: {purged.files:,} ({_size(purged.byte_count)})"


def _size(byte_count: int) -> str:
    size, units = float(byte_count), ["bytes", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        units.pop(0)
    return f"{size:.0f} bytes" if units[0] == "bytes" else f"{size:.1f} {units[0]}"
