"""What every test may use."""

import atexit
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import hypothesis
import pytest
from django.conf import settings

from tests.contracts.workshop import kept_workshop, workshop  # noqa: F401 - fixtures for all
from tests.node_types import stub_types  # noqa: F401 - a fixture for all
from tests.programs import Program, Server, environment, free_port
from tests.servers import loopback_allowed, mariadb_database, mariadb_target, postgres_database, postgres_target  # noqa: F401 - fixtures for all

# The same cases each time: who sees one fail has changed what failed. Others are looked for by `make fuzz`, and three times as many.
hypothesis.settings.register_profile("fixed", derandomize=True)
hypothesis.settings.register_profile("fuzz", derandomize=False, max_examples=300)
hypothesis.settings.load_profile("fixed")


class StartWorker(Protocol):
    def __call__(self, *arguments: str, **variables: str) -> Program: ...


class StartServer(Protocol):
    def __call__(self, *arguments: str, **variables: str) -> Server: ...


def pytest_configure() -> None:
    # A shell starts what it runs in the background with SIGINT ignored, which programs hand on to those that they start: none would hear a Ctrl-C.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # When Python ends, DuckDB's binding counts, line by line, what the parameters of tests keep alive of it. Nothing else is said so late.
    atexit.register(lambda: os.dup2(os.open(os.devnull, os.O_WRONLY), 2))


def pytest_unconfigure() -> None:
    """The home that `tests/settings.py` made goes with the process that made it."""
    if settings.configured:
        shutil.rmtree(settings.HOME, ignore_errors=True)


@pytest.fixture
def start_program(transactional_db: None, tmp_path: Path) -> Iterator[StartWorker]:
    """`start_program("migrate", "--check", BROKOLI_LOG_LEVEL="DEBUG")` starts a command of manage.py on the test's own database.

    Whatever still runs at the end of the test is killed, before the database is emptied.
    """
    started: list[Program] = []

    def start(*arguments: str, **variables: str) -> Program:
        program = Program(list(arguments), tmp_path / f"program-{len(started)}.log", environment(**variables))
        started.append(program)
        return program

    yield start
    for program in started:
        program.clean_up()


@pytest.fixture
def start_worker(start_program: StartWorker) -> StartWorker:
    """`start_worker("--concurrency", "2", BROKOLI_LEASE_SECONDS="2")` starts `manage.py runworker`."""

    def start(*arguments: str, **variables: str) -> Program:
        return start_program("runworker", *arguments, **variables)

    return start


@pytest.fixture
def start_server(transactional_db: None, tmp_path: Path) -> Iterator[StartServer]:
    """`start_server("--workers", "2")` starts `manage.py serve` on a free port and waits until it answers at `.url`."""
    started: list[Server] = []

    def start(*arguments: str, **variables: str) -> Server:
        server = Server(free_port(), list(arguments), tmp_path / f"server-{len(started)}.log", environment(**variables))
        started.append(server)
        server.wait_until_ready()
        return server

    yield start
    for server in started:
        server.clean_up()
