"""The fork server: a process that starts jobs by forking itself, so that they need not wait for an interpreter and its imports.

It is executed by the worker with an environment that holds nothing of the worker's, keeps one thread, and ends when the worker
does. A message on its socket starts one job: the text is the job's folder; the descriptors are the job's control socket and the
writing ends of its stdout and stderr.
"""

import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import sys

from pipelines.processes import reach, rehearsal, supervisor, system

# What scripts are likely to want. `numpy` comes with `pandas`; neither is required.
_IMPORTED_AHEAD = (
    "pyarrow",
    "pyarrow.compute",
    "pyarrow.parquet",
    "pyarrow.ipc",
    "pandas",
    "numpy.random",
    "json",
    "datetime",
    "decimal",
    "traceback",
)
_LONGEST_MESSAGE = 4096


def main(descriptor: int) -> None:
    """Serve until the worker closes its end of the socket. Errors: `ImportError` without pyarrow."""
    for name in _IMPORTED_AHEAD:
        try:
            importlib.import_module(name)
        except ImportError:
            if name.startswith("pyarrow"):
                raise
    rehearsal.rehearse()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # its end is the end of its worker, not a signal to a group
    system.adopt_orphans()  # of supervisors that were killed
    reach.programs()
    gc.collect()
    gc.freeze()  # a collection in a child would otherwise write to, and so copy, every page
    _Server(socket.socket(fileno=descriptor)).serve()


class _Server:
    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._supervisors: set[int] = set()
        # A child's end wakes the loop.
        self._woken, waking = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(waking, warn_on_full_buffer=False)

    def serve(self) -> None:
        """Start jobs until the worker is gone, and go last."""
        open_channel = True
        while open_channel or self._supervisors:
            watched = [self._woken, self._channel.fileno()] if open_channel else [self._woken]
            ready, _, _ = select.select(watched, [], [])
            if self._woken in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._woken, 4096)
                self._reap()
            if self._channel.fileno() in ready:
                open_channel = self._start()

    def _start(self) -> bool:
        """False when the worker is gone."""
        try:
            message, descriptors, _, _ = socket.recv_fds(self._channel, _LONGEST_MESSAGE, 3)
        except ConnectionError:
            return False
        if not message:
            return False
        pid = os.fork()
        if pid == 0:
            self._become_supervisor(message.decode(), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        self._supervisors.add(pid)
        return True

    def _become_supervisor(self, folder: str, control: int, out: int, err: int) -> None:
        """Does not return."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            system.close_descriptors(keep=(control, out, err))
            supervisor.supervise(folder, control, out, err)
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)

    def _reap(self) -> None:
        """Collect what ended. What a killed supervisor left behind became our child and is killed; one that ends by itself leaves nothing."""
        orphaned = False
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                break
            orphaned = orphaned or status != 0 or pid not in self._supervisors
            self._supervisors.discard(pid)
        if orphaned:
            system.send(self._orphans(), signal.SIGKILL)

    def _orphans(self) -> list[int]:
        """Our children that are no supervisors."""
        return [pid for pid in system.children() if pid not in self._supervisors]
