"""Entries that commit after others with a higher `seq`: the stream waits for them, and for nobody else."""

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from uuid import UUID

import psycopg
import pytest
from django.db import OperationalError, connection, transaction

from runs import log
from runs.events import tailer
from runs.events.source import PAGE, Pipelines, PostgresSource, open_source
from runs.models import LogEntry
from runs.states import EntryKind
from tests.factories import accept_run
from tests.programs import database_url, wait_for

pytestmark = pytest.mark.django_db(transaction=True)


class Writer:
    """A transaction of another process: it has written to the log, and says when it ends."""

    def __init__(self, run_id: UUID) -> None:
        self.connection = psycopg.connect(database_url())
        self._run_id = run_id

    def insert(self, count: int = 1) -> list[int]:
        found = self.connection.execute(
            "INSERT INTO runs_logentry (run_id, node_id, kind, level, message, timestamp) "
            "SELECT %s, '', 'log', 'info', 'late', now() FROM generate_series(1, %s) RETURNING seq",
            [self._run_id, count],
        ).fetchall()
        return [seq for (seq,) in found]


@pytest.fixture
def run_id() -> UUID:
    return accept_run().id


@pytest.fixture
def writer(run_id: UUID) -> Iterator[Callable[[], Writer]]:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one writer at a time: nobody is late")
    made: list[Writer] = []

    def make() -> Writer:
        made.append(Writer(run_id))
        return made[-1]

    yield make
    for one in made:
        one.connection.close()


def opened() -> PostgresSource:
    source = PostgresSource()
    assert source.open() is not None
    return source


def write(run_id: UUID, count: int = 1) -> list[int]:
    entries = [log.entry(run_id, EntryKind.LOG, f"line {number}") for number in range(count)]
    log.append(entries)
    return [entry.seq for entry in entries]


def news(source: PostgresSource) -> list[int]:
    """What two looks find: the first may only find out that something is missing."""
    return [row.seq for _ in range(2) for row in source.news()[0]]


def test_a_late_commit_comes_in_its_place(writer: Callable[[], Writer], run_id: UUID) -> None:
    source, late = opened(), writer()
    first = write(run_id)
    missing = late.insert()
    after = write(run_id, 3)

    assert news(source) == first
    assert news(source) == []
    late.connection.commit()
    assert news(source) == missing + after


def test_what_is_rolled_back_holds_nobody_up(writer: Callable[[], Writer], run_id: UUID) -> None:
    source, late = opened(), writer()
    late.insert(5)
    after = write(run_id, 3)
    assert news(source) == []

    late.connection.rollback()

    assert news(source) == after
    assert news(source) == []


def test_writers_that_come_later_are_not_waited_for(writer: Callable[[], Writer], run_id: UUID) -> None:
    source, first, second = opened(), writer(), writer()
    first.insert()
    seen = write(run_id)
    assert news(source) == []
    second_seqs = second.insert()
    behind = write(run_id)

    first.connection.rollback()
    assert news(source) == seen
    assert news(source) == []

    second.connection.commit()
    assert news(source) == second_seqs + behind


def test_of_several_late_ones_each_is_waited_for(writer: Callable[[], Writer], run_id: UUID) -> None:
    source, first, second = opened(), writer(), writer()
    a, b, c, d = first.insert(), write(run_id), second.insert(2), write(run_id)
    assert news(source) == []

    second.connection.commit()
    assert news(source) == []
    first.connection.commit()
    assert news(source) == a + b + c + d


def test_a_late_transaction_of_many_pages(writer: Callable[[], Writer], run_id: UUID) -> None:
    source, late = opened(), writer()
    many, after = late.insert(PAGE * 2 + 7), write(run_id)
    assert news(source) == []
    late.connection.commit()

    assert news(source) + news(source) == many + after


def test_numbers_that_nobody_will_use_are_passed_at_once(writer: Callable[[], Writer], run_id: UUID) -> None:
    source = opened()
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval(pg_get_serial_sequence('runs_logentry', 'seq')) FROM generate_series(1, 40)")

    after = write(run_id)

    assert news(source) == after


def test_readers_hold_nobody_up(writer: Callable[[], Writer], run_id: UUID) -> None:
    """A backup reads the log in one transaction for hours."""
    backup, late = writer(), writer()
    backup.connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    backup.connection.execute("SELECT count(*) FROM runs_logentry")
    source = opened()
    late.insert()
    after = write(run_id)
    late.connection.rollback()

    assert news(source) == after


def test_the_stream_begins_when_all_before_it_is_settled(writer: Callable[[], Writer], run_id: UUID) -> None:
    late, source = writer(), PostgresSource()
    missing = late.insert()
    write(run_id)
    newest = LogEntry.objects.order_by("-seq").values_list("seq", flat=True)[0]
    assert newest > missing[0]
    assert source.open() is None
    after = write(run_id)
    assert source.open() is None

    late.connection.commit()

    assert source.open() == newest
    assert news(source) == after


def test_an_empty_log_has_a_beginning_too(writer: Callable[[], Writer], run_id: UUID) -> None:
    LogEntry.objects.all().delete()
    late, source = writer(), PostgresSource()
    missing = late.insert()
    assert source.open() is None
    late.connection.commit()

    assert source.open() == missing[0]


def test_writers_of_every_kind_at_once(run_id: UUID) -> None:
    """Some commit late, some never, in any order: what was committed comes once, in order."""
    source = open_source()
    start = source.open()
    assert start is not None
    chance = random.Random(7)

    def keep_writing(seed: int) -> None:
        dice = random.Random(seed)
        try:
            for _ in range(40):
                with transaction.atomic():
                    write(run_id, dice.randint(1, 5))
                    time.sleep(dice.random() * 0.004)
                    if dice.random() < 0.3:
                        transaction.set_rollback(True)
        finally:
            connection.close()

    threads = [threading.Thread(target=keep_writing, args=(chance.random(),)) for _ in range(5)]
    for thread in threads:
        thread.start()
    found: list[int] = []
    while any(thread.is_alive() for thread in threads):
        found += [row.seq for row in source.news()[0]]
    while rows := source.news()[0] or source.news()[0]:
        found += [row.seq for row in rows]

    assert found == list(LogEntry.objects.filter(seq__gt=start).order_by("seq").values_list("seq", flat=True))
    assert len(found) > 100


# --- the database goes away in the middle of a look ----------------------------------------------------------------------


class Failing:
    """Wraps each query of a connection: the one of this number, counted from now, fails."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self, execute: Callable[..., object], *query: object) -> object:
        self.left -= 1
        if self.left == 0:
            raise OperationalError("server closed the connection unexpectedly")
        return execute(*query)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_look_that_fails_half_way_is_no_look(writer: Callable[[], Writer], run_id: UUID, number: int) -> None:
    source, late = opened(), writer()
    first, missing, after = write(run_id), late.insert(), write(run_id, 2)
    fault, found = Failing(number), list[int]()
    with connection.execute_wrapper(fault):
        for _ in range(4):
            try:
                found += [row.seq for row in source.news()[0]]
            except OperationalError:
                continue
    assert fault.left <= 0
    assert found == first

    late.connection.commit()
    assert news(source) == missing + after


class PipelinesAway(Pipelines):
    """The database goes away once, after the entries were read and before it was asked of which pipelines they are."""

    failed = False

    def of(self, runs: Iterable[UUID]) -> dict[UUID, str]:
        if not self.failed:
            self.failed = True
            raise OperationalError("server closed the connection unexpectedly")
        return super().of(runs)


def test_what_was_read_when_the_database_went_away_is_sent_when_it_is_back(run_id: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tailer, "_RETRY_SECONDS", 0.01)
    pipelines = PipelinesAway()

    async def follow() -> tuple[list[int], list[int]]:
        news = asyncio.Event()
        following = tailer._Following(asyncio.get_running_loop(), pipelines)
        following.ring.listeners.add(news)
        written, end = list[int](), False
        try:
            while not end:
                await asyncio.wait_for(news.wait(), 10)
                news.clear()
                if following.ring.ready and not written:
                    written = await asyncio.to_thread(write_before_and_after, run_id, pipelines)
                end = bool(written) and following.ring.frontier >= written[-1]
            batches = [following.ring.batch(0), following.ring.batch(1)]
            return written, [event.seq for batch in batches if batch for event in batch.events]
        finally:
            following.stop()
            await asyncio.to_thread(following.join)

    written, sent = asyncio.run(follow())

    assert pipelines.failed
    assert sent == written


def write_before_and_after(run_id: UUID, pipelines: PipelinesAway) -> list[int]:
    try:
        first = write(run_id)
        wait_for(lambda: pipelines.failed, what="the database to go away")
        return first + write(run_id)
    finally:
        connection.close()
