"""When a scheduler last looked: noted by whoever looks, seldom enough to cost nothing, right through steps of the clock."""

import datetime as dt
import io

import pytest
import time_machine
from django.conf import settings
from django.core.management import call_command
from django.db import DatabaseError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from runs import chores, scheduler, scheduler_looks
from runs.artifacts import ArtifactStore
from runs.delivery import Postman
from runs.models import SchedulerLook
from runs.scheduler_looks import EVERY, Looks
from runs.ticker import Chore

pytestmark = pytest.mark.django_db

NOON = dt.datetime(2024, 1, 15, 12, tzinfo=dt.UTC)


def noted_at(moment: dt.datetime) -> int:
    """How many statements a note takes at that time."""
    with time_machine.travel(moment, tick=False), CaptureQueriesContext(connection) as queries:
        scheduler_looks.note()
    return len(queries)


def test_nobody_has_looked_yet() -> None:
    assert scheduler_looks.last() is None


def test_a_note_that_is_fresh_is_left_alone() -> None:
    noted_at(NOON)
    assert scheduler_looks.last() == NOON
    assert noted_at(NOON + EVERY / 2) == 1
    assert scheduler_looks.last() == NOON
    assert noted_at(NOON + EVERY) == 2
    assert scheduler_looks.last() == NOON + EVERY
    assert SchedulerLook.objects.count() == 1


@pytest.mark.parametrize("hours", [1, -1])
def test_a_clock_that_steps(hours: int) -> None:
    noted_at(NOON)
    stepped = NOON + dt.timedelta(hours=hours)
    noted_at(stepped)
    assert scheduler_looks.last() == stepped


def test_of_two_that_find_it_old_the_second_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    noted_at(NOON)
    later = NOON + dt.timedelta(minutes=1)

    def rival() -> dt.datetime:
        SchedulerLook.objects.update(looked_at=later)
        return NOON

    monkeypatch.setattr(scheduler_looks, "last", rival)
    noted_at(later + EVERY / 2)
    assert SchedulerLook.objects.get().looked_at == later


def test_a_process_asks_the_database_no_more_often_than_it_may_write() -> None:
    looks = Looks()
    looks.note()
    with CaptureQueriesContext(connection) as queries:
        for _ in range(50):
            looks.note()
    assert len(queries) == 0


def test_workers_and_the_command_note_their_looks() -> None:
    call_command("enqueue_due_runs", stdout=io.StringIO())
    assert scheduler_looks.last() is not None
    SchedulerLook.objects.all().delete()
    _chore().act()
    assert timezone.now() - (scheduler_looks.last() or NOON) < EVERY


def test_a_look_that_failed_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(**_: float) -> None:
        raise DatabaseError("gone")

    monkeypatch.setattr(scheduler, "look", away)
    with pytest.raises(DatabaseError, match="gone"):
        _chore().act()
    assert scheduler_looks.last() is None


def _chore() -> Chore:
    (chore,) = (chore for chore in chores.of_worker(ArtifactStore(settings.ARTIFACTS), Postman()) if chore.name == "make due runs")
    return chore
