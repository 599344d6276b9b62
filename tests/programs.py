"""Brokoli's own programs as real processes, for tests that start, signal and kill them."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import psutil
import requests
from django.conf import settings
from django.db import connection

from tests.patience import within

T = TypeVar("T")
_MARK = "TEST_PROGRAM"
ROOT = Path(__file__).resolve().parent.parent


def wait_for(condition: Callable[[], T], seconds: float = 30.0, what: str = "") -> T:
    """What `condition` gives once it is true; it is asked every 20 ms. Errors: `AssertionError` when it is not `within(seconds)`."""
    begun = time.monotonic()
    while True:
        value = condition()
        if value:
            return value
        waited = time.monotonic() - begun
        if waited > within(seconds):
            raise AssertionError(f"waited {waited:.1f} s in vain{f' for {what}' if what else ''}; last seen: {value!r}")
        time.sleep(0.02)


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def database_url() -> str:
    """The URL of the database that this test uses, for other processes."""
    config = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{config['NAME']}"
    return f"postgres://{config['USER']}:{config['PASSWORD']}@{config['HOST']}:{config['PORT']}/{config['NAME']}"


def environment(**changes: str) -> dict[str, str]:
    """What a program of the test's own installation sees: its database and its home, nothing else of ours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BROKOLI_", "DJANGO_", "DATABASE_", "PYTEST_"))}
    ours = {"BROKOLI_HOME": str(settings.HOME), "DATABASE_URL": database_url(), "PYTHONUNBUFFERED": "1"}
    return kept | ours | changes


def _environment_of(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ() if process.status() != psutil.STATUS_ZOMBIE else {}
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return {}


class Program:
    """One `manage.py COMMAND` process with all its children, in a session of its own. Its words go to one file."""

    def __init__(self, arguments: list[str], output: Path, env: Mapping[str, str]) -> None:
        self.arguments = arguments
        self._output = output
        # Children that lost their parent are still found by this mark in their environment.
        self._mark = uuid.uuid4().hex
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "manage.py"), *arguments],
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**env, _MARK: self._mark},
                cwd=ROOT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def output(self) -> str:
        """All that it printed so far, on both streams."""
        return self._output.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process itself, not to its children."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """`kill -9`, of the process alone: its children find out by themselves."""
        self.process.kill()
        self.process.wait(timeout=10)

    def wait(self, seconds: float = 30.0) -> int:
        """Its exit status. Errors: `AssertionError` with its output when it does not end `within(seconds)`."""
        try:
            return self.process.wait(timeout=within(seconds))
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"`manage.py {' '.join(self.arguments)}` still runs after {seconds:g} s and more:\n{self.output}") from error

    def wait_for(self, condition: Callable[[], T], seconds: float = 30.0, what: str = "") -> T:
        """As `wait_for`, but a program that ends meanwhile fails the test at once, with its output."""

        def alive_or_done() -> T:
            value = condition()
            assert value or self.alive, f"`manage.py {' '.join(self.arguments)}` ended with {self.process.returncode}:\n{self.output}"
            return value

        return wait_for(alive_or_done, seconds, what)

    def processes(self) -> list[psutil.Process]:
        """It and its children that live, also those whose parent died."""
        return [process for process in psutil.process_iter() if _environment_of(process).get(_MARK) == self._mark]

    def clean_up(self) -> None:
        """`kill -9` of all that lives of it."""
        while processes := self.processes():  # one may start another while we look
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(processes, timeout=10)
        self.process.wait(timeout=10)


class Server(Program):
    """`manage.py serve`: the web server and its workers."""

    def __init__(self, port: int, arguments: list[str], output: Path, env: Mapping[str, str]) -> None:
        super().__init__(["serve", "--port", str(port), *arguments], output, env)
        self.port = port
        self.url = f"http://localhost:{port}"

    def wait_until_ready(self, seconds: float = 30.0) -> None:
        """Until it answers HTTP."""
        self.wait_for(self._answers, seconds, "the server to answer")

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/api/pipelines", timeout=5).status_code == 200
        except (requests.ConnectionError, requests.Timeout):
            return False
