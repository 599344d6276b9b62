"""Answers within a bounded time, whatever they are waited for."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import pytest

from system import flights
from system.flights import Flight, NoAnswer
from tests.patience import within
from tests.programs import wait_for


def test_what_is_fresh_is_not_asked_again() -> None:
    numbers = itertools.count(1)
    flight = Flight("look", lambda: next(numbers), fresh_seconds=60)
    assert [flight.get(5), flight.get(5)] == [1, 1]
    flight.forget()
    assert flight.get(5) == 2


def test_many_who_ask_at_once_are_one() -> None:
    open_door, asked = threading.Event(), []

    def ask() -> int:
        asked.append(1)
        open_door.wait(10)
        return len(asked)

    flight = Flight("look", ask, fresh_seconds=60)
    with ThreadPoolExecutor(20) as pool:
        answers = [pool.submit(flight.get, 10) for _ in range(20)]
        wait_for(lambda: asked)
        open_door.set()
        assert {answer.result() for answer in answers} == {1}


def test_an_error_is_everybodys_until_it_is_old() -> None:
    def fail() -> None:
        raise ValueError("no")

    flight = Flight("look", fail, fresh_seconds=60)
    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            flight.get(5)


def test_who_waits_in_vain_waits_no_longer_than_it_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flights, "_GIVEN_UP_AFTER", 0.0)
    door, threads = threading.Event(), []

    def hang() -> int:
        threads.append(threading.current_thread())
        door.wait(30)
        return 7

    flight = Flight("look", hang, fresh_seconds=60)
    began = monotonic()
    for _ in range(10):
        with pytest.raises(NoAnswer, match="look: no answer within"):
            flight.get(0.02)
    assert monotonic() - began < within(5)
    assert len(threads) == 1 + flights._MOST_LEFT_BEHIND
    assert all(thread.daemon for thread in threads)
    door.set()
    assert flight.get(5) == 7


def test_a_thread_that_hangs_is_not_given_up_at_once() -> None:
    door, asked = threading.Event(), []

    def hang() -> None:
        asked.append(1)
        door.wait(30)

    flight = Flight("look", hang)
    for _ in range(3):
        with pytest.raises(NoAnswer):
            flight.get(0)
    wait_for(lambda: asked)
    assert asked == [1]
    door.set()
