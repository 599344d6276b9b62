"""What has ended is added up: across processes, through faults of the database, and once."""

import threading

import pytest
from django.db import OperationalError, connection, transaction

from runs import tallies
from runs.models import Tally
from runs.tallies import BOUNDS, NODE, Histogram, Key

KEY = Key(NODE, "sql", "success")


@pytest.fixture(autouse=True)
def _afresh() -> None:
    tallies._unwritten.take()


def observe(*milliseconds: int) -> None:
    with transaction.atomic():
        for each in milliseconds:
            tallies.node_ended("sql", "success", each)


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0.0, 0), (0.01, 0), (0.011, 1), (7200.0, len(BOUNDS) - 1), (7200.1, len(BOUNDS)), (1e9, len(BOUNDS))]
)
def test_a_bound_belongs_to_the_bucket_below_it(seconds: float, bucket: int) -> None:
    histogram = Histogram()
    histogram.observe(seconds)
    assert histogram.buckets.index(1) == bucket
    assert histogram.cumulative == [0] * bucket + [1] * (len(BOUNDS) + 1 - bucket)


@pytest.mark.django_db(transaction=True)
class TestFlush:
    def test_it_adds_to_what_is_there(self) -> None:
        observe(20, 70_000)
        assert tallies.flush() == 1
        observe(20)
        tallies.flush()
        assert tallies.flush() == 0
        found = tallies.read()[KEY]
        assert (found.count, round(found.total, 3)) == (3, 70.04)

    def test_what_cannot_be_written_is_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise OperationalError("database is locked")

        observe(20)
        with monkeypatch.context() as patch:
            patch.setattr(tallies, "_add", refuse)
            with pytest.raises(OperationalError):
                tallies.flush()
        observe(20)
        tallies.flush()
        assert tallies.read()[KEY].count == 2

    def test_processes_that_write_at_the_same_time_lose_nothing(self) -> None:
        """Each is its own `_Unwritten`; the first rows are made by all of them at once."""
        counted = {Key(NODE, name, "success"): Histogram() for name in ("sql", "code", "filter")}
        for histogram in counted.values():
            histogram.observe(1.0)
        barrier = threading.Barrier(6)
        errors: list[BaseException] = []

        def write() -> None:
            try:
                barrier.wait(10)
                for _ in range(5):
                    with transaction.atomic():
                        tallies._add(counted)
            except BaseException as error:
                errors.append(error)
                raise
            finally:
                connection.close()

        threads = [threading.Thread(target=write) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert errors == []
        assert {key: (found.count, found.total) for key, found in tallies.read().items()} == dict.fromkeys(counted, (30, 30.0))
        assert Tally.objects.count() == 3
