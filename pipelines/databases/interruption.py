"""Breaking off what blocks on a database: first it is asked to cancel, then the connection is shut under the driver."""

import contextlib
import os
import queue
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pipelines.nodes.base import Stop

T = TypeVar("T")
_CANCEL_SECONDS = 0.5  # that a server gets to answer a cancellation, before the connection is shut
_LOOK_SECONDS = 0.05


class Interruption:
    """What is done to one open connection when its node is told to stop."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._cancel: Callable[[], None] | None = None
        self._shut: Callable[[], None] | None = None

    def arm(self, cancel: Callable[[], None] | None, shut: Callable[[], None] | None) -> None:
        """From now on a stop calls `cancel`, which may block, and a moment later `shut`, which may not. Either may raise anything."""
        self._cancel, self._shut = cancel, shut
        # The thread that stops a node must not wait for a server that may be dead.
        self._stop.on_stop(lambda: threading.Thread(target=self._break_off, name="database-stop", daemon=True).start())

    def let_go(self) -> None:
        """Break off what is still going on, and wait no longer for it than half a second: the connection is no use afterwards."""
        if self._stop.reason is not None or self._cancel is None:
            return  # it is being done
        asked = threading.Thread(target=_quietly, args=(self._cancel,), name="database-cancel", daemon=True)
        asked.start()
        asked.join(_CANCEL_SECONDS)
        if asked.is_alive() and self._shut is not None:
            _quietly(self._shut)

    def disarm(self) -> None:
        """The connection is closed, or about to be."""
        with self._lock:
            self._closed.set()
            if isinstance(self._shut, Shutting):
                self._shut.close()

    def _break_off(self) -> None:
        while not self._closed.is_set():
            asked = None
            if self._cancel is not None:
                asked = threading.Thread(target=_quietly, args=(self._cancel,), name="database-cancel", daemon=True)
                asked.start()
            if self._closed.wait(_CANCEL_SECONDS):
                return
            if self._shut is not None:
                with self._lock:
                    if not self._closed.is_set():
                        _quietly(self._shut)
                return
            if asked is None:
                return
            # A query that began just after the cancellation has heard nothing of it: it is asked again.
            asked.join()


def _quietly(function: Callable[[], None]) -> None:
    # Any driver's error is as good as any other here: the node has been told to stop, and says so itself.
    with contextlib.suppress(Exception):
        function()


def connected(connect: Callable[[], T], stop: Stop, seconds: float, close: Callable[[T], None]) -> T:
    """What `connect` gives, in a thread of its own: drivers cannot be interrupted while they connect.

    When the node is told to stop meanwhile, or `seconds` pass, the connection is closed as soon as it is there.
    Errors: those of `connect`, the stop's reason, `TimeoutError`.
    """
    answers: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()
    lock, abandoned = threading.Lock(), threading.Event()

    def work() -> None:
        try:
            made = connect()
        except BaseException as error:
            answers.put((None, error))
            return
        with lock:
            answers.put((made, None))
            if not abandoned.is_set():
                return
        _quietly(lambda: close(made))

    threading.Thread(target=work, name="database-connect", daemon=True).start()
    try:
        return _answer(answers, stop, seconds)
    except BaseException:
        with lock:
            abandoned.set()
            with contextlib.suppress(queue.Empty):
                made, _ = answers.get_nowait()
                if made is not None:
                    _quietly(lambda: close(made))
        raise


def _answer(answers: "queue.SimpleQueue[tuple[T | None, BaseException | None]]", stop: Stop, seconds: float) -> T:
    left = seconds
    while True:
        stop.check()
        try:
            made, error = answers.get(timeout=_LOOK_SECONDS)
        except queue.Empty:
            left -= _LOOK_SECONDS
            if left <= 0:
                raise TimeoutError("timeout expired") from None
            continue
        if error is not None:
            raise error
        assert made is not None
        return made


@contextmanager
def own_sockets(address: str, port: int) -> Iterator[Callable[[int | None], Callable[[], None] | None]]:
    """Finds the socket that a driver, which does not give it away, opens to that address within the block.

    The function, asked after the connection was made and given the local port if the server told it, returns what shuts that
    connection: None where it cannot be told apart from others to the same server (behind a proxy), or the system does not list
    descriptors. Then the keep-alive of TCP is what remains.
    """
    before = set(_sockets_to(address, port))

    def shut(local_port: int | None) -> Callable[[], None] | None:
        found = _sockets_to(address, port)
        chosen = [number for number, local in found.items() if local == local_port] or [number for number in found if number not in before]
        if len(chosen) != 1:
            return None
        with contextlib.suppress(OSError):
            # A copy: its number stays ours, whatever the driver does with its own.
            kept = socket.socket(fileno=os.dup(chosen[0]))
            return Shutting(kept)
        return None

    yield shut


class Shutting:
    """Shuts a connection, through a copy of its descriptor that has to be closed."""

    def __init__(self, kept: socket.socket) -> None:
        self._kept = kept

    def __call__(self) -> None:
        self._kept.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._kept.close()


def _sockets_to(address: str, port: int) -> dict[int, int]:
    """The descriptors of our connections to that address, with their local ports."""
    found: dict[int, int] = {}
    with contextlib.suppress(OSError):
        for entry in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError, ValueError):
                number = int(entry.name)
                if not stat.S_ISSOCK(os.fstat(number).st_mode):
                    continue
                with socket.socket(fileno=os.dup(number)) as copy:
                    peer = copy.getpeername()
                    if isinstance(peer, tuple) and peer[:2] == (address, port):
                        found[number] = copy.getsockname()[1]
    return found
