"""What wakes a sleeping worker, and what does not."""

import os
import threading
import time
from collections.abc import Iterator

import pytest
from django.utils import timezone

from runs import triggers
from runs.models import Run
from runs.wakeup import Wakeup
from tests.factories import accept_run, claim_one, register_worker

pytestmark = pytest.mark.django_db(transaction=True)

LONG = 30.0  # seconds that no wait of a worker that is woken takes


@pytest.fixture
def wakeup() -> Iterator[Wakeup]:
    with Wakeup() as found:
        found.wait(0)  # it has looked at the database once
        yield found


def slept(wakeup: Wakeup, seconds: float, *, for_runs: bool = True) -> float:
    start = time.monotonic()
    wakeup.wait(seconds, for_runs=for_runs)
    return time.monotonic() - start


def test_a_run_that_waits_for_a_worker_wakes(wakeup: Wakeup) -> None:
    accept_run()

    assert slept(wakeup, LONG) < LONG


def test_its_own_thread_or_signal_wakes(wakeup: Wakeup) -> None:
    wakeup.wake()

    assert slept(wakeup, LONG) < LONG


def test_a_cancel_wakes_even_a_worker_that_has_no_place_for_a_run(wakeup: Wakeup) -> None:
    run = accept_run()
    claim_one(register_worker())
    wakeup.wait(0)

    triggers.cancel(run.id)

    assert slept(wakeup, LONG, for_runs=False) < LONG


def test_what_other_commits_say_does_not_wake(wakeup: Wakeup) -> None:
    run = accept_run()
    claim_one(register_worker())
    wakeup.wait(0)

    Run.objects.filter(id=run.id).update(started_at=timezone.now())

    assert slept(wakeup, 0.2) >= 0.2


def test_a_signal_after_the_end_writes_nowhere() -> None:
    """Its descriptor may be another file's by then."""
    with Wakeup() as wakeup:
        number = wakeup._write
    read, write = os.pipe()
    try:
        assert number in (read, write), "the descriptor is to be used again"
        os.set_blocking(read, False)

        wakeup.wake()

        with pytest.raises(BlockingIOError):
            os.read(read, 1)
    finally:
        os.close(read)
        os.close(write)


def test_the_end_waits_for_a_wake_that_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    wakeup, entered, write = Wakeup(), threading.Event(), os.write

    def end() -> None:
        entered.wait(10)
        wakeup.__exit__(None, None, None)

    def slow_write(descriptor: int, data: bytes) -> int:
        entered.set()
        ending.join(0.2)
        return write(descriptor, data)

    ending = threading.Thread(target=end)
    ending.start()
    monkeypatch.setattr(os, "write", slow_write)
    wakeup.wake()
    ending.join(10)
    assert not ending.is_alive()
