"""A Redis that hints at news, as it may be on the wire: one that answers, and one that accepts and then says nothing. No database."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import pytest
import redis

from runs import hints
from runs.hints import HintedWatch, Subscriber
from tests.patience import within


class Unhinted:
    seconds = 0.02

    def changed(self) -> bool:
        return True

    def close(self) -> None: ...


@pytest.fixture(autouse=True)
def _with_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hints, "redis", redis)


class Redis(threading.Thread):
    """As much of one as a subscriber needs: it takes every command, and publishes when it is told to."""

    def __init__(self, listener: socket.socket) -> None:
        super().__init__()
        self._listener = listener
        self.subscribed, self.publish = threading.Event(), threading.Event()

    def run(self) -> None:
        connection, _ = self._listener.accept()
        with connection, connection.makefile("rb") as lines:
            while line := lines.readline():
                words = [self._word(lines) for _ in range(int(line[1:]))]
                if words[0].upper() == b"HELLO":
                    connection.sendall(b"%1\r\n$5\r\nproto\r\n:3\r\n")
                elif words[0].upper() == b"SUBSCRIBE":
                    connection.sendall(b">3\r\n$9\r\nsubscribe\r\n$%d\r\n%s\r\n:1\r\n" % (len(words[1]), words[1]))
                    self.subscribed.set()
                    self.publish.wait(10)
                    connection.sendall(b">3\r\n$7\r\nmessage\r\n$%d\r\n%s\r\n$0\r\n\r\n" % (len(words[1]), words[1]))
                else:
                    connection.sendall(b"+OK\r\n")

    @staticmethod
    def _word(lines: BinaryIO) -> bytes:
        length = int(lines.readline()[1:])
        return lines.read(length + 2)[:-2]


@contextmanager
def listening() -> Iterator[tuple[socket.socket, str]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener, f"redis://127.0.0.1:{listener.getsockname()[1]}/0"


def test_a_redis_that_accepts_and_says_nothing_holds_up_no_look() -> None:
    with listening() as (_, url):
        watch, begun = HintedWatch(url, Unhinted()), time.monotonic()
        assert watch.changed()
        assert time.monotonic() - begun < within(2)  # redis-py's own patience is longer
        assert watch.seconds == Unhinted.seconds
        watch.close()


def test_a_redis_without_news_is_no_fault_and_its_news_is_heard_at_once() -> None:
    with listening() as (listener, url):
        server = Redis(listener)
        server.start()
        subscriber = Subscriber(url)
        subscriber.wait(0.5)  # longer than an answer may take
        server.publish.set()
        begun = time.monotonic()
        subscriber.wait(10)
        assert time.monotonic() - begun < within(5)
        subscriber.close()
        server.join(10)
