"""`python -m tests.chaos.nursery`: starts workers quickly, by forking a process that has imported everything already.

A strike every half second would else meet little but starting workers: importing takes some two seconds of processor time. What
is forked runs `manage.py runworker` from its first line on. Commands come by standard input, a line each: `start LOG` and
`signal PID NUMBER`; answers go to standard output: `started PID`, and `ended PID` for each process once it has ended. At the end
of its input it kills what it started and ends too.
"""

import importlib
import os
import select
import signal
from pathlib import Path
from typing import NoReturn

import django
from django.core.management import execute_from_command_line


def main() -> None:
    django.setup()
    for name in ("runs.management.commands.runworker", "tests.chaos.probe"):
        importlib.import_module(name)
    _tell("ready")
    alive: set[int] = set()
    pending = b""
    while True:
        if select.select([0], [], [], 0.02)[0]:
            read = os.read(0, 65536)
            if not read:
                break
            *lines, pending = (pending + read).split(b"\n")
            for line in lines:
                _obey(line.decode(), alive)
        _bury(alive)
    for pid in alive:
        os.kill(pid, signal.SIGKILL)


def _obey(line: str, alive: set[int]) -> None:
    verb, _, rest = line.partition(" ")
    if verb == "start":
        pid = os.fork()
        if pid == 0:
            _work(Path(rest))
        alive.add(pid)
        _tell(f"started {pid}")
    elif verb == "signal":
        pid, number = map(int, rest.split())
        if pid in alive:  # not yet waited for: the number can be nobody else's
            os.kill(pid, number)


def _work(log: Path) -> NoReturn:
    """In the forked process."""
    os.setsid()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    status = 1
    try:
        execute_from_command_line(["manage.py", "runworker"])
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    finally:
        os._exit(status)  # as an interpreter does that ends: nothing of the parent's is to be flushed or run twice


def _bury(alive: set[int]) -> None:
    for pid in list(alive):
        if os.waitpid(pid, os.WNOHANG)[0]:
            alive.discard(pid)
            _tell(f"ended {pid}")


def _tell(line: str) -> None:
    os.write(1, f"{line}\n".encode())


if __name__ == "__main__":
    main()
