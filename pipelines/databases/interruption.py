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

from brokoli_site.common.errors import NodeError
from pipelines.nodes.base import Stop

T = TypeVar("T")
_CANCEL_SECONDS = 0.5  # that a server gets to answer a cancellation, before the connection is shut
_CLOSE_SECONDS = 2.0  # that a node waits for a thread that is still in the driver
_LOOK_SECONDS = 0.05


class Interruption:
    """What is done to one open connection when its node is told to stop, and how it is closed while other threads may still use it.

    The data engine reads in threads of its own, which go on for a while after who wanted the rows has failed; and a cancellation may
    be under way. A driver that is closed under either may crash the process.
    """

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._cancel: Callable[[], None] | None = None
        self._shut: Callable[[], None] | None = None
        self._in_use = threading.Lock()  # held by who asks the driver for rows
        self._asking = threading.Lock()  # held while the server is asked to cancel
        self._answered = threading.Event()  # it was asked once
        self._lock = threading.Lock()
        self._begun = False
        self._closing = False  # no more rows are read
        self._closed = threading.Event()  # the connection is, or is about to be

    def arm(self, cancel: Callable[[], None] | None, shut: Callable[[], None] | None) -> None:
        """From now on a stop calls `cancel`, which may block, and a moment later `shut`, which may not. Either may raise anything."""
        self._cancel, self._shut = cancel, shut
        # The thread that stops a node must not wait for a server that may be dead.
        self._stop.on_stop(self._begin)

    def reading(self, batches: Iterator[T]) -> Iterator[T]:
        """The batches, of which none is asked for once `close` began. Errors: those of `batches`, and then `NodeError`."""
        while True:
            with self._in_use:
                if self._closing:
                    raise NodeError("The database was closed before all rows were read.")
                found = next(batches, None)
            if found is None:
                return
            yield found

    def close(self, end: Callable[[], None], *, unread: bool = False) -> None:
        """Call `end`, which closes the connection, once no thread is in the driver: a query that is being read is broken off first.

        `unread`: rows may be on their way though nobody asks for them just now. The node waits a few seconds at most; where a driver
        takes longer to return, the connection is closed when it has.
        """
        self._closing = True
        if unread or self._in_use.locked():
            self._begin()
        is_left = self._in_use.acquire(timeout=_CLOSE_SECONDS)
        if self._begun:
            self._answered.wait(_CANCEL_SECONDS)
        with self._lock:
            self._closed.set()
        if is_left and self._asking.acquire(timeout=_CANCEL_SECONDS):
            self._end(end)
        else:
            threading.Thread(target=self._end_later, args=(end, is_left), name="database-close", daemon=True).start()

    def _end_later(self, end: Callable[[], None], is_left: bool) -> None:
        if not is_left:
            self._in_use.acquire()
        self._asking.acquire()
        self._end(end)

    def _end(self, end: Callable[[], None]) -> None:
        """With both locks held."""
        try:
            end()
        finally:
            if isinstance(self._shut, Shutting):
                self._shut.close()
            self._asking.release()
            self._in_use.release()

    def _begin(self) -> None:
        with self._lock:
            if self._begun or self._closed.is_set():
                return
            self._begun = True
        threading.Thread(target=self._break_off, name="database-stop", daemon=True).start()

    def _break_off(self) -> None:
        while not self._closed.is_set():
            asked = threading.Thread(target=self._ask, name="database-cancel", daemon=True)
            asked.start()
            if self._closed.wait(_CANCEL_SECONDS):
                return
            if self._shut is not None:
                with self._lock:
                    if not self._closed.is_set():
                        _quietly(self._shut)
                return
            # A query that began just after the cancellation has heard nothing of it: it is asked again.
            asked.join()

    def _ask(self) -> None:
        with self._asking:
            if self._cancel is not None and not self._closed.is_set():
                _quietly(self._cancel)
        self._answered.set()


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
