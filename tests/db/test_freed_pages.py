"""Room that is freed in SQLite's file goes back to the file system, piece by piece."""

import contextlib
import datetime as dt
import io
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.utils import timezone

from runs import freed_pages
from runs.artifacts import ArtifactStore
from runs.freed_pages import give_back, make_shrinkable, rebuild
from runs.models import LogEntry, Run
from runs.retention import purge
from tests.history import lines, output, past_pipeline, saved_run

pytestmark = pytest.mark.django_db(transaction=True)

sqlite_only = pytest.mark.skipif("connection.vendor != 'sqlite'", reason="PostgreSQL's autovacuum does it")


def pragma(name: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA {name}")
        return int(cursor.fetchone()[0])


def file_bytes() -> int:
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return Path(connection.settings_dict["NAME"]).stat().st_size


def long_ago(store: ArtifactStore) -> Run:
    """With some megabytes of log, and an artifact."""
    run = saved_run(past_pipeline(f"p{Run.objects.count()}"), at=timezone.now() - dt.timedelta(days=40))
    for _ in range(2):
        lines(run, 2_000, message="A line that says something at length about the row {n}: " + "x" * 500)
    output(run)
    path = store.path(f"{run.id}/first.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"PAR1 0000 PAR1")
    return run


@sqlite_only
def test_a_database_is_made_so_that_it_can_shrink() -> None:
    assert pragma("auto_vacuum") == 2


@sqlite_only
@pytest.mark.slow
def test_a_purge_gives_back_what_it_freed(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    rebuild()
    before = file_bytes()
    run = long_ago(store)
    full = file_bytes()
    assert full > before + 2_000_000
    assert purge(30, store).runs == 1
    assert file_bytes() < before + max(freed_pages._KEPT_PAGES * 4096, full // freed_pages._KEPT_SHARE) + 200_000
    assert not store.run_folder(str(run.id)).exists()
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA integrity_check")
        assert cursor.fetchall() == [("ok",)]


@sqlite_only
def test_it_goes_in_small_steps_and_for_as_long_as_it_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    shrink = freed_pages._shrink

    def noted(pages: int) -> float:
        free = pragma("freelist_count")
        took = shrink(pages)
        assert pragma("freelist_count") == free - pages
        steps.append(pages)
        return took

    monkeypatch.setattr(freed_pages, "_shrink", noted)
    monkeypatch.setattr(freed_pages, "_LARGEST_STEP", 100)
    long_ago(ArtifactStore(tmp_path))
    LogEntry.objects.all().delete()
    assert give_back(seconds=0) == 0
    assert give_back() == sum(steps) * 4096
    assert len(steps) >= 5
    assert max(steps) <= 100
    assert give_back() == 0


@sqlite_only
def test_inside_a_transaction_it_waits_for_another_time(tmp_path: Path) -> None:
    long_ago(ArtifactStore(tmp_path))
    LogEntry.objects.all().delete()
    with transaction.atomic():
        assert give_back() == 0
        make_shrinkable()
    assert give_back() > 0


@sqlite_only
def test_while_somebody_else_writes_for_long_a_purge_ends_all_the_same(tmp_path: Path) -> None:
    """The runs are gone, and the room can wait."""
    long_ago(ArtifactStore(tmp_path))
    LogEntry.objects.all().delete()
    with connection.cursor() as cursor, contextlib.closing(sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)) as other:
        cursor.execute("PRAGMA busy_timeout = 50")
        other.execute("BEGIN IMMEDIATE")
        try:
            assert give_back() == 0
        finally:
            other.execute("ROLLBACK")
            connection.close()
    assert give_back() > 0


@sqlite_only
@pytest.mark.slow
def test_a_file_of_before_is_rebuilt_when_asked_for(tmp_path: Path) -> None:
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA auto_vacuum = 0")
        cursor.execute("VACUUM")
    try:
        assert pragma("auto_vacuum") == 0
        make_shrinkable()  # it is not empty
        assert pragma("auto_vacuum") == 0
        long_ago(ArtifactStore(tmp_path))
        full = file_bytes()
        purge(30, ArtifactStore(tmp_path))
        assert file_bytes() == full
        out = io.StringIO()
        call_command("purge_runs", rebuild=True, stdout=out)
        assert "rebuilt" in out.getvalue()
        assert (pragma("auto_vacuum"), pragma("freelist_count")) == (2, 0)
        assert file_bytes() < full - 1_500_000
    finally:
        rebuild()


def test_elsewhere_there_is_nothing_to_do(tmp_path: Path, request: Any) -> None:
    if connection.vendor == "sqlite":
        with pytest.raises(CommandError, match="--dry-run"):
            call_command("purge_runs", rebuild=True, dry_run=True, stdout=io.StringIO())
        return
    assert (give_back(), rebuild()) == (0, False)
    with pytest.raises(CommandError, match="SQLite"):
        call_command("purge_runs", rebuild=True, stdout=io.StringIO())
