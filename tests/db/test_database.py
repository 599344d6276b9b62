"""The database that the tests run on is set up as the one that people run on."""

import pytest
from django.core.management import call_command
from django.db import connection

from brokoli_site.common.ids import new_id
from pipelines.models import Pipeline
from tests.conftest import StartWorker
from tests.programs import wait_for


@pytest.mark.django_db
def test_no_migration_is_missing() -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


@pytest.mark.django_db(transaction=True)
def test_sqlite_queues_its_writers_and_postgresql_is_new_enough() -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            assert cursor.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert connection.settings_dict["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
        else:
            cursor.execute("SHOW server_version_num")
            assert int(cursor.fetchone()[0]) >= 140000


def test_another_process_sees_what_this_one_committed(start_program: StartWorker) -> None:
    Pipeline.objects.create(id=new_id(), pipeline_id="seen", name="Seen", created_at="2024-01-15T06:00:00Z", updated_at="2024-01-15T06:00:00Z")

    program = start_program("shell", "--command", "from pipelines.models import Pipeline; print('found', Pipeline.objects.get().pipeline_id)")

    wait_for(lambda: not program.alive, what="the shell to end")
    assert "found seen" in program.output
